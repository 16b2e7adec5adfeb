// SPDX-License-Identifier: Apache-2.0

#include "reports/csv_writer.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace mneme {
namespace {

using Field = std::pair<absl::string_view, std::string>;

std::string Quoted(absl::string_view text) {
  if (text.find_first_of(",\"\r\n") == absl::string_view::npos) {
    return std::string(text);
  }
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

// As many digits as it takes to read the same number back.
std::string Real(double value) { return absl::StrFormat("%.17g", value); }

std::vector<Field> FieldsOf(const ResultRecord& cell) {
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
      {"accuracy", if_ok(Real(metrics.accuracy()))},
      {"accuracy_stderr", if_ok(Real(metrics.accuracy_stderr()))},
      {"loss", if_ok(Real(metrics.loss()))},
      {"validation_accuracy", if_ok(Real(metrics.validation_accuracy()))},
      {"test_examples", if_ok(absl::StrCat(metrics.test_examples()))},
      {"steps", if_ok(absl::StrCat(metrics.steps()))},
      {"steps_to_90", metrics.has_steps_to_90()
                          ? if_ok(absl::StrCat(metrics.steps_to_90()))
                          : ""},
      {"seconds_to_90",
       timing.has_seconds_to_90() ? if_ok(Real(timing.seconds_to_90())) : ""},
      {"chance_accuracy", if_ok(Real(metrics.chance_accuracy()))},
      {"context_guess_accuracy", if_ok(Real(metrics.context_guess_accuracy()))},
      {"state_bytes",
       cell.has_state_bytes() ? if_ok(absl::StrCat(cell.state_bytes())) : ""},
      {"state_tokens",
       cell.has_state_bytes() ? if_ok(absl::StrCat(cell.state_tokens())) : ""},
      {"parameters", if_ok(absl::StrCat(cell.parameters()))},
      {"train_tokens_per_second",
       if_ok(Real(timing.train_tokens_per_second()))},
      {"train_seconds", if_ok(Real(timing.train_seconds()))},
      {"machine", environment.machine()},
      {"simd_target", environment.simd_target()},
      {"compiler", environment.compiler()},
      {"commit", environment.commit()},
      {"date", environment.date()},
  };
}

}  // namespace

std::string RenderCsv(const Leaderboard& leaderboard) {
  // The names come from an empty cell, so that none has to be written twice.
  std::string csv =
      absl::StrCat(absl::StrJoin(FieldsOf(ResultRecord()), ",",
                                 [](std::string* out, const Field& field) {
                                   absl::StrAppend(out, field.first);
                                 }),
                   "\n");
  for (const ResultRecord& cell : leaderboard.cells) {
    absl::StrAppend(&csv,
                    absl::StrJoin(FieldsOf(cell), ",",
                                  [](std::string* out, const Field& field) {
                                    absl::StrAppend(out, Quoted(field.second));
                                  }),
                    "\n");
  }
  return csv;
}

}  // namespace mneme
