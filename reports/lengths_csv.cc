// SPDX-License-Identifier: Apache-2.0

#include "reports/lengths_csv.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "reports/csv_fields.h"

namespace mneme {
namespace {

constexpr double kDepths = 40;  // parts that records cut a sequence into

// One line; what is empty does not apply.
struct Number {
  std::string length;
  std::string measure;
  std::string first, last;
  std::string answers;
  std::string value;
  std::string bytes;
  std::string reason;
};

std::vector<CsvField> FieldsOf(const ResultRecord& cell, const Number& number) {
  return {{"variant", cell.variant()}, {"task", cell.task()},
          {"profile", cell.profile()}, {"seed", absl::StrCat(cell.seed())},
          {"length", number.length},   {"measure", number.measure},
          {"first", number.first},     {"last", number.last},
          {"answers", number.answers}, {"value", number.value},
          {"bytes", number.bytes},     {"reason", number.reason}};
}

std::vector<Number> NumbersOf(const LengthScore& score) {
  std::vector<Number> numbers;
  const auto add = [&](const std::string& measure, std::string value) {
    Number& number = numbers.emplace_back();
    number.length = absl::StrCat(score.length());
    number.measure = measure;
    number.value = std::move(value);
    return &number;
  };
  if (!score.unsupported().empty()) {
    add("unsupported", "")->reason = score.unsupported();
    return numbers;
  }
  add("accuracy", CsvReal(score.accuracy()));
  add("accuracy_stderr", CsvReal(score.accuracy_stderr()));
  if (score.has_loss()) add("loss", CsvReal(score.loss()));
  if (score.streamed()) add("state_bytes", absl::StrCat(score.state_bytes()));
  if (score.has_reference()) {
    add("window", CsvReal(score.reference().window()));
    add("table", CsvReal(score.reference().table()));
  }
  for (const NamedScore& detail : score.details()) {
    add(absl::StrCat("detail.", detail.name()), CsvReal(detail.value()));
  }
  for (const DepthScore& part : score.depths()) {
    Number* number = add("depth", CsvReal(part.accuracy()));
    number->first = absl::StrCat(part.depth() / kDepths);
    number->last = absl::StrCat((part.depth() + 1) / kDepths);
    number->answers = absl::StrCat(part.answers());
  }
  for (const PositionLoss& part : score.loss_by_position()) {
    Number* number = add("position_loss", CsvReal(part.loss()));
    number->first = absl::StrCat(part.first());
    number->last = absl::StrCat(part.last());
    number->answers = absl::StrCat(part.answers());
  }
  return numbers;
}

std::vector<Number> NumbersOf(const LengthTiming& timing) {
  const std::string length = absl::StrCat(timing.length());
  Number seconds, memory;
  seconds.length = memory.length = length;
  seconds.measure = "seconds";
  seconds.value = CsvReal(timing.seconds());
  memory.measure = "peak_memory_bytes";
  memory.value = absl::StrCat(timing.peak_memory_bytes());
  return {seconds, memory};
}

std::vector<Number> NumbersOf(const ReferencePoint& point) {
  Number window, table;
  window.bytes = table.bytes = absl::StrCat(point.bytes());
  window.measure = "window";
  window.value = CsvReal(point.window());
  table.measure = "table";
  table.value = CsvReal(point.table());
  return {window, table};
}

}  // namespace

std::string RenderLengthsCsv(const Leaderboard& leaderboard) {
  std::string csv = CsvNames(FieldsOf(ResultRecord(), {}));
  for (const ResultRecord& cell : leaderboard.cells) {
    if (cell.status() != STATUS_OK) continue;
    const auto append = [&](const auto& parts) {
      for (const auto& part : parts) {
        for (const Number& number : NumbersOf(part)) {
          absl::StrAppend(&csv, CsvLine(FieldsOf(cell, number)));
        }
      }
    };
    append(cell.metrics().lengths());
    append(cell.timing().lengths());
    append(cell.metrics().references());
  }
  return csv;
}

}  // namespace mneme
