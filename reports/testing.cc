// SPDX-License-Identifier: Apache-2.0

#include "reports/testing.h"

#include <cmath>

namespace mneme {
namespace {

void AddSetting(google::protobuf::RepeatedPtrField<Setting>* settings,
                const std::string& name, const std::string& value) {
  Setting* setting = settings->Add();
  setting->set_name(name);
  setting->set_value(value);
}

ResultRecord BareCell(const std::string& variant, uint64_t seed) {
  ResultRecord cell;
  cell.set_schema(1);
  cell.set_variant(variant);
  cell.set_task("mqar");
  cell.set_profile("quick");
  cell.set_seed(seed);
  return cell;
}

}  // namespace

ResultRecord OkCell(const std::string& variant, double accuracy,
                    uint64_t seed) {
  ResultRecord cell = BareCell(variant, seed);
  cell.set_status(STATUS_OK);
  cell.set_family("attention");
  cell.set_variant_version(1);
  cell.set_task_version(1);
  AddSetting(cell.mutable_variant_options(), "heads", "2");
  AddSetting(cell.mutable_task_options(), "length", "64");
  AddSetting(cell.mutable_task_options(), "filler", "zero");
  AddSetting(cell.mutable_model_options(), "short_conv", "true");
  AddSetting(cell.mutable_train_options(), "learning_rate", "0.003");

  Metrics& metrics = *cell.mutable_metrics();
  metrics.set_accuracy(accuracy);
  metrics.set_accuracy_stderr(std::sqrt(accuracy * (1 - accuracy) / 1000));
  metrics.set_test_examples(1000);
  metrics.set_loss(1 - accuracy);
  metrics.set_validation_accuracy(accuracy);
  metrics.set_steps(200);
  metrics.set_chance_accuracy(1.0 / 32);
  metrics.set_context_guess_accuracy(1.0 / 8);
  for (const int step : {100, 200}) {
    CurvePoint& point = *metrics.add_curve();
    point.set_step(step);
    point.set_validation_accuracy(accuracy * step / 200);
    point.set_validation_loss(1 - accuracy);
    point.set_train_loss(1 - accuracy);
    point.set_learning_rate(0.003);
  }
  if (accuracy >= 0.9) {
    metrics.set_steps_to_90(200);
    cell.mutable_timing()->set_seconds_to_90(2.5);
  }
  cell.mutable_timing()->set_train_seconds(2.5);
  cell.mutable_timing()->set_train_tokens_per_second(150000);
  cell.mutable_timing()->set_threads(1);

  Environment& environment = *cell.mutable_environment();
  environment.set_machine("Example CPU @ 2.0GHz");
  environment.set_cores(2);
  environment.set_simd_target("AVX2");
  environment.set_compiler("gcc 12.2.0");
  environment.set_build_mode("opt");
  environment.set_commit("0123456789ab");
  environment.set_date("2025-11-22T04:05:06Z");
  cell.set_parameters(37312);
  cell.set_state_bytes(16640);
  cell.set_state_tokens(64);
  return cell;
}

ResultRecord DivergedCell(const std::string& variant, uint64_t seed) {
  ResultRecord cell = OkCell(variant, 0.0, seed);
  cell.set_status(STATUS_DIVERGED);
  cell.set_status_step(120);
  cell.set_status_message("the loss became NaN");
  return cell;
}

ResultRecord FailedCell(const std::string& variant, const std::string& message,
                        uint64_t seed) {
  ResultRecord cell = BareCell(variant, seed);
  cell.set_status(STATUS_FAILED);
  cell.set_status_message(message);
  return cell;
}

}  // namespace mneme
