// SPDX-License-Identifier: Apache-2.0

#include "reports/testing.h"

#include <algorithm>
#include <cmath>

namespace mneme {
namespace {

void AddSetting(google::protobuf::RepeatedPtrField<Setting>* settings,
                const std::string& name, const std::string& value) {
  Setting* setting = settings->Add();
  setting->set_name(name);
  setting->set_value(value);
}

void SetEnvironment(Environment& environment) {
  environment.set_machine("Example CPU @ 2.0GHz");
  environment.set_cores(2);
  environment.set_simd_target("AVX2");
  environment.set_compiler("gcc 12.2.0");
  environment.set_build_mode("opt");
  environment.set_commit("0123456789ab");
  environment.set_date("2025-11-22T04:05:06Z");
}

void SetMeasurement(Measurement* measurement, double mean, double deviation) {
  measurement->set_mean(mean);
  measurement->set_low(mean - deviation);
  measurement->set_high(mean + deviation);
}

ProbeRecord BareProbe(const std::string& variant) {
  ProbeRecord probe;
  probe.set_schema(1);
  probe.set_variant(variant);
  return probe;
}

ProbeRecord MeasuredProbe(const std::string& variant) {
  ProbeRecord probe = BareProbe(variant);
  probe.set_family("attention");
  probe.set_variant_version(1);
  AddSetting(probe.mutable_variant_options(), "heads", "2");
  probe.set_trials(10);
  probe.set_seconds(1.5);
  SetEnvironment(*probe.mutable_environment());
  return probe;
}

ThroughputMeasurement Measured(const std::string& phase, int64_t batch,
                               int64_t length, int64_t heads, int64_t head_dim,
                               double tokens_per_second) {
  ThroughputMeasurement m;
  m.set_contender("mneme");
  m.set_phase(phase);
  m.set_form(phase == "decode" ? "recurrent" : "chunked");
  m.set_batch(batch);
  m.set_length(length);
  m.set_heads(heads);
  m.set_head_dim(head_dim);
  m.set_threads(1);
  const double tokens =
      static_cast<double>(phase == "decode" ? batch : batch * length);
  m.set_milliseconds(1e3 * tokens / tokens_per_second);
  m.set_milliseconds_min(0.99 * m.milliseconds());
  m.set_cv(0.01);
  m.set_repetitions(9);
  m.set_tokens_per_second(tokens_per_second);
  if (phase != "train") {
    m.set_gflops(50);
    m.set_gigabytes_per_second(2);
    m.set_level("L2");
    m.set_state_bytes(16384);
    m.set_limit_milliseconds(0.5 * m.milliseconds());
    m.set_bound("compute");
    m.set_fraction_of_limit(0.5);
  }
  m.set_peak_memory_bytes(1 << 24);
  return m;
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

  SetEnvironment(*cell.mutable_environment());
  cell.set_parameters(37312);
  cell.set_state_bytes(16640);
  cell.set_state_tokens(64);
  return cell;
}

ResultRecord LengthsCell(const std::string& variant, double accuracy,
                         uint64_t seed, int64_t supported) {
  constexpr int32_t kParts = 40;
  ResultRecord cell = OkCell(variant, accuracy, seed);
  cell.set_task("needle");
  double at_length = accuracy;
  for (int64_t length = 64; length <= 512; length *= 2, at_length *= 0.75) {
    LengthScore& score = *cell.mutable_metrics()->add_lengths();
    score.set_length(length);
    if (length > supported) {
      score.set_unsupported("its filter is of a fixed length");
      continue;
    }
    score.set_examples(100);
    score.set_accuracy(at_length);
    score.set_loss(1 - at_length);
    score.set_streamed(length > 64);
    score.mutable_reference()->set_bytes(4096);
    score.mutable_reference()->set_window(16.0 / static_cast<double>(length));
    score.mutable_reference()->set_table(1);
    for (int32_t depth = 0; depth < kParts; ++depth) {
      DepthScore& part = *score.add_depths();
      part.set_depth(depth);
      part.set_answers(4);
      part.set_accuracy(at_length * (0.5 + 0.5 * depth / kParts));
    }
    for (int64_t first = 0; first < length; first = first * 2 + (first == 0)) {
      PositionLoss& part = *score.add_loss_by_position();
      part.set_first(first);
      part.set_last(first == 0 ? 1 : 2 * first);
      part.set_answers(100 * (part.last() - part.first()));
      part.set_loss(2 / (1 + at_length * static_cast<double>(first)));
    }
    NamedScore& recall = *score.add_details();
    recall.set_name("recall");
    recall.set_value(at_length);
  }
  for (int64_t bytes = 1024; bytes <= 65536; bytes *= 2) {
    ReferencePoint& point = *cell.mutable_metrics()->add_references();
    point.set_bytes(bytes);
    point.set_window(static_cast<double>(bytes) / 65536);
    point.set_table(std::min(1.0, static_cast<double>(bytes) / 16384));
  }
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

ProbeRecord CapacityProbe(const std::string& variant, double pairs_per_dim) {
  constexpr double kMostPerDim = 8;
  ProbeRecord probe = MeasuredProbe(variant);
  for (const int64_t key_dim : {16, 64}) {
    CapacityCurve& curve = *probe.add_capacity();
    curve.set_key_dim(key_dim);
    curve.set_state_bytes(256 * key_dim);
    const double held = pairs_per_dim * static_cast<double>(key_dim);
    for (double per_dim = 0.125; per_dim <= kMostPerDim; per_dim *= 2) {
      CapacityPoint& point = *curve.add_points();
      point.set_pairs(std::lround(per_dim * static_cast<double>(key_dim)));
      const double load = per_dim / pairs_per_dim;
      const double recall = 1 / (1 + load * load / 9);  // 0.9 at a load of 1
      const double deviation = 0.1 * recall * (1 - recall);
      SetMeasurement(point.mutable_recall(), recall, deviation);
      SetMeasurement(point.mutable_cosine(), recall, deviation);
    }
    if (pairs_per_dim <= kMostPerDim) {
      SetMeasurement(curve.mutable_pairs_at_90(), held, 0.05 * held);
    }
  }
  return probe;
}

ProbeRecord ApproximationProbe(const std::string& variant,
                               const std::string& knob) {
  ProbeRecord probe = MeasuredProbe(variant);
  ApproximationCurve& curve = *probe.add_approximation();
  curve.set_knob(knob);
  curve.set_exact("softmax");
  curve.set_setting("1,024 tokens");
  for (const int64_t size : {16, 64, 256}) {
    ApproximationPoint& point = *curve.add_points();
    point.set_size(size);
    const double error = 1 / static_cast<double>(size);
    SetMeasurement(point.mutable_error(), error, 0.1 * error);
  }
  return probe;
}

ProbeRecord UnsupportedProbe(const std::string& variant,
                             const std::string& reason) {
  ProbeRecord probe = MeasuredProbe(variant);
  probe.set_unsupported(reason);
  return probe;
}

ProbeRecord FailedProbe(const std::string& variant,
                        const std::string& message) {
  ProbeRecord probe = BareProbe(variant);
  probe.set_failure(message);
  return probe;
}

ThroughputRecord SpeedRecord(const std::string& variant,
                             double tokens_per_second) {
  ThroughputRecord record;
  record.set_schema(1);
  record.set_variant(variant);
  record.set_family("attention");
  record.set_variant_version(1);
  AddSetting(record.mutable_variant_options(), "heads", "2");
  for (int64_t length = 1024; length <= 8192; length *= 2) {
    *record.add_measurements() =
        Measured("prefill", 1, length, 8, 64, tokens_per_second);
    record.mutable_measurements()->rbegin()->set_growth_exponent(1);
  }
  *record.add_measurements() =
      Measured("decode", 1, 4096, 8, 64, tokens_per_second / 10);
  *record.add_measurements() =
      Measured("backward", 1, 2048, 8, 64, tokens_per_second / 10);
  ThroughputMeasurement& train = *record.add_measurements();
  train = Measured("train", 64, 64, 2, 32, tokens_per_second / 10);
  train.set_backbone_fraction(0.1);
  ThroughputMeasurement& backbone = *record.add_measurements();
  backbone = Measured("train", 64, 64, 2, 32, tokens_per_second);
  backbone.set_contender("backbone");
  MachineCeilings& ceilings = *record.add_ceilings();
  ceilings.set_threads(1);
  ceilings.set_flops(1e11);
  ceilings.set_exps(5e9);
  for (const double gigabytes : {200, 100, 50, 10}) {
    ceilings.add_level_bytes_per_second(1e9 * gigabytes);
  }
  for (const double gigabytes : {400, 200, 80, 15}) {
    ceilings.add_level_read_write_bytes_per_second(1e9 * gigabytes);
  }
  for (const int64_t kib : {48, 1024, 32768, 0}) {
    ceilings.add_level_capacity(1024 * kib);
  }
  SetEnvironment(*record.mutable_environment());
  record.set_seconds(3);
  return record;
}

ThroughputMeasurement NotTimed(const std::string& contender,
                               const std::string& error) {
  ThroughputMeasurement m;
  m.set_contender(contender);
  m.set_phase("prefill");
  m.set_form("chunked");
  m.set_batch(1);
  m.set_length(2048);
  m.set_heads(8);
  m.set_head_dim(64);
  m.set_threads(1);
  m.set_error(error);
  return m;
}

}  // namespace mneme
