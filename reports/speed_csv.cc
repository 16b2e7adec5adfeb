// SPDX-License-Identifier: Apache-2.0

#include "reports/speed_csv.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "harness/throughput.pb.h"
#include "reports/csv_fields.h"
#include "reports/format.h"

namespace mneme {
namespace {

std::vector<CsvField> FieldsOf(const ThroughputRecord& record,
                               const ThroughputMeasurement& m) {
  const auto if_true = [](bool condition, std::string text) {
    return condition ? std::move(text) : std::string();
  };
  const bool timed = m.error().empty();
  const bool counted = timed && m.limit_milliseconds() > 0;
  const auto count = [&](int64_t value) {
    return if_true(timed, absl::StrCat(value));
  };
  const auto real = [&](double value) {
    return if_true(timed, CsvReal(value));
  };
  const auto of_limit = [&](double value) {
    return if_true(counted, CsvReal(value));
  };
  return {
      {"variant", record.variant()},
      {"family", record.family()},
      {"options",
       FormatSettings(std::vector<Setting>(record.variant_options().begin(),
                                           record.variant_options().end()))},
      {"contender", m.contender()},
      {"phase", m.phase()},
      {"form", m.form()},
      {"batch", absl::StrCat(m.batch())},
      {"length", absl::StrCat(m.length())},
      {"heads", absl::StrCat(m.heads())},
      {"head_dim", absl::StrCat(m.head_dim())},
      {"threads", absl::StrCat(m.threads())},
      {"error", m.error()},
      {"milliseconds", real(m.milliseconds())},
      {"milliseconds_min", real(m.milliseconds_min())},
      {"cv", real(m.cv())},
      {"repetitions", count(m.repetitions())},
      {"rejected", count(m.rejected())},
      {"noisy", if_true(timed, m.noisy() ? "true" : "false")},
      {"tokens_per_second", real(m.tokens_per_second())},
      {"gflops", of_limit(m.gflops())},
      {"gigabytes_per_second", of_limit(m.gigabytes_per_second())},
      {"level", if_true(counted, m.level())},
      {"state_bytes", count(m.state_bytes())},
      {"peak_memory_bytes", count(m.peak_memory_bytes())},
      {"limit_milliseconds", of_limit(m.limit_milliseconds())},
      {"bound", if_true(counted, m.bound())},
      {"fraction_of_limit", of_limit(m.fraction_of_limit())},
      {"growth_exponent",
       if_true(m.has_growth_exponent(), CsvReal(m.growth_exponent()))},
      {"backbone_fraction",
       if_true(m.has_backbone_fraction(), CsvReal(m.backbone_fraction()))},
      {"machine", record.environment().machine()},
      {"simd_target", record.environment().simd_target()},
      {"compiler", record.environment().compiler()},
      {"commit", record.environment().commit()},
      {"date", record.environment().date()},
  };
}

}  // namespace

std::string RenderSpeedCsv(const Leaderboard& leaderboard) {
  // Names come from an empty record, so that none has to be written twice.
  std::string csv =
      CsvNames(FieldsOf(ThroughputRecord(), ThroughputMeasurement()));
  for (const Speed& speed : leaderboard.speeds) {
    for (const ThroughputRecord& record : speed.records) {
      for (const ThroughputMeasurement& m : record.measurements()) {
        absl::StrAppend(&csv, CsvLine(FieldsOf(record, m)));
      }
    }
  }
  return csv;
}

}  // namespace mneme
