// SPDX-License-Identifier: Apache-2.0

#include "reports/csv_writer.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "reports/csv_fields.h"

namespace mneme {
namespace {

std::vector<CsvField> FieldsOf(const ResultRecord& cell) {
  const Metrics& metrics = cell.metrics();
  const Timing& timing = cell.timing();
  const Environment& environment = cell.environment();
  const bool ok = cell.status() == STATUS_OK;
  const auto if_ok = [ok](std::string text) {
    return ok ? std::move(text) : std::string();
  };
  return {
      {"variant", cell.variant()},
      {"family", cell.family()},
      {"task", cell.task()},
      {"profile", cell.profile()},
      {"seed", absl::StrCat(cell.seed())},
      {"status", StatusName(cell.status())},
      {"status_message", cell.status_message()},
      {"status_step", ok ? "" : absl::StrCat(cell.status_step())},
      {"accuracy", if_ok(CsvReal(metrics.accuracy()))},
      {"accuracy_stderr", if_ok(CsvReal(metrics.accuracy_stderr()))},
      {"loss", if_ok(CsvReal(metrics.loss()))},
      {"validation_accuracy", if_ok(CsvReal(metrics.validation_accuracy()))},
      {"test_examples", if_ok(absl::StrCat(metrics.test_examples()))},
      {"steps", if_ok(absl::StrCat(metrics.steps()))},
      {"steps_to_90", metrics.has_steps_to_90()
                          ? if_ok(absl::StrCat(metrics.steps_to_90()))
                          : ""},
      {"seconds_to_90", timing.has_seconds_to_90()
                            ? if_ok(CsvReal(timing.seconds_to_90()))
                            : ""},
      {"chance_accuracy", if_ok(CsvReal(metrics.chance_accuracy()))},
      {"context_guess_accuracy",
       if_ok(CsvReal(metrics.context_guess_accuracy()))},
      {"state_bytes",
       cell.has_state_bytes() ? if_ok(absl::StrCat(cell.state_bytes())) : ""},
      {"state_tokens",
       cell.has_state_bytes() ? if_ok(absl::StrCat(cell.state_tokens())) : ""},
      {"parameters", if_ok(absl::StrCat(cell.parameters()))},
      {"train_tokens_per_second",
       if_ok(CsvReal(timing.train_tokens_per_second()))},
      {"train_seconds", if_ok(CsvReal(timing.train_seconds()))},
      {"machine", environment.machine()},
      {"simd_target", environment.simd_target()},
      {"compiler", environment.compiler()},
      {"commit", environment.commit()},
      {"date", environment.date()},
  };
}

// A point of a curve: of at most one of the two, or of none.
struct ProbePoint {
  const CapacityCurve* capacity = nullptr;
  const ApproximationCurve* approximation = nullptr;
  int index = 0;
};

void AppendMeasurement(absl::string_view name, absl::string_view low,
                       absl::string_view high, const Measurement* measurement,
                       std::vector<CsvField>& fields) {
  const bool there = measurement != nullptr;
  fields.emplace_back(name, there ? CsvReal(measurement->mean()) : "");
  fields.emplace_back(low, there ? CsvReal(measurement->low()) : "");
  fields.emplace_back(high, there ? CsvReal(measurement->high()) : "");
}

std::vector<CsvField> FieldsOf(const ProbeRecord& record,
                               const ProbePoint& point) {
  const CapacityCurve* capacity = point.capacity;
  const ApproximationCurve* approximation = point.approximation;
  const CapacityPoint* held =
      capacity == nullptr ? nullptr : &capacity->points(point.index);
  const ApproximationPoint* near =
      approximation == nullptr ? nullptr : &approximation->points(point.index);
  std::vector<CsvField> fields = {
      {"variant", record.variant()},
      {"family", record.family()},
      {"seed", record.failure().empty() ? absl::StrCat(record.seed()) : ""},
      {"trials", record.trials() > 0 ? absl::StrCat(record.trials()) : ""},
      {"unsupported", record.unsupported()},
      {"failure", record.failure()},
      {"probe", held != nullptr   ? "capacity"
                : near != nullptr ? "approximation"
                                  : ""},
      {"key_dim", held != nullptr ? absl::StrCat(capacity->key_dim()) : ""},
      {"keys", held != nullptr ? SetupOf(*capacity).keys : ""},
      {"passes",
       held != nullptr ? absl::StrCat(SetupOf(*capacity).passes) : ""},
      {"knob", held != nullptr   ? "pairs"
               : near != nullptr ? approximation->knob()
                                 : ""},
      {"exact", near != nullptr ? approximation->exact() : ""},
      {"setting", near != nullptr ? approximation->setting() : ""},
      {"size", held != nullptr   ? absl::StrCat(held->pairs())
               : near != nullptr ? absl::StrCat(near->size())
                                 : ""},
  };
  AppendMeasurement("recall", "recall_low", "recall_high",
                    held == nullptr ? nullptr : &held->recall(), fields);
  AppendMeasurement("cosine", "cosine_low", "cosine_high",
                    held == nullptr ? nullptr : &held->cosine(), fields);
  AppendMeasurement("error", "error_low", "error_high",
                    near == nullptr ? nullptr : &near->error(), fields);
  AppendMeasurement("pairs_at_90", "pairs_at_90_low", "pairs_at_90_high",
                    held != nullptr && capacity->has_pairs_at_90()
                        ? &capacity->pairs_at_90()
                        : nullptr,
                    fields);
  fields.emplace_back("state_bytes", held != nullptr
                                         ? absl::StrCat(capacity->state_bytes())
                                         : "");
  fields.emplace_back("commit", record.environment().commit());
  fields.emplace_back("date", record.environment().date());
  return fields;
}

}  // namespace

// Names come from empty records, so that none has to be written twice.

std::string RenderCsv(const Leaderboard& leaderboard) {
  std::string csv = CsvNames(FieldsOf(ResultRecord()));
  for (const ResultRecord& cell : leaderboard.cells) {
    absl::StrAppend(&csv, CsvLine(FieldsOf(cell)));
  }
  return csv;
}

std::string RenderProbesCsv(const Leaderboard& leaderboard) {
  std::string csv = CsvNames(FieldsOf(ProbeRecord(), {}));
  for (const Probe& probe : leaderboard.probes) {
    const ProbeRecord& record = probe.record;
    for (const CapacityCurve& curve : record.capacity()) {
      for (int i = 0; i < curve.points_size(); ++i) {
        absl::StrAppend(&csv, CsvLine(FieldsOf(record, {&curve, {}, i})));
      }
    }
    for (const ApproximationCurve& curve : record.approximation()) {
      for (int i = 0; i < curve.points_size(); ++i) {
        absl::StrAppend(&csv, CsvLine(FieldsOf(record, {{}, &curve, i})));
      }
    }
    if (record.capacity_size() + record.approximation_size() == 0) {
      absl::StrAppend(&csv, CsvLine(FieldsOf(record, {})));
    }
  }
  return csv;
}

}  // namespace mneme
