// SPDX-License-Identifier: Apache-2.0

#include "reports/columns.h"

#include "absl/strings/str_cat.h"
#include "reports/format.h"

namespace mneme {
namespace {

using Value = absl::optional<double>;

std::string RankText(const Row& row) {
  if (!row.rank.has_value()) return "";
  if (row.rank->first == row.rank->last) return absl::StrCat(row.rank->first);
  return absl::StrCat(row.rank->first, "-", row.rank->last);
}

std::string StepsText(const Row& row) {
  if (!row.complete()) return "";
  if (row.steps_to_90.has_value()) return FormatCount(*row.steps_to_90);
  if (row.reached_90 == 0) return "never";
  return absl::StrCat(row.reached_90, " of ", row.wanted, " seeds");
}

std::string IntervalText(const Row& row) {
  if (!row.accuracy.has_value()) return "";
  return absl::StrCat(FormatScore(row.accuracy->low), "-",
                      FormatScore(row.accuracy->high));
}

Value ToReal(const absl::optional<int64_t>& count) {
  return count.has_value() ? Value(static_cast<double>(*count)) : Value();
}

std::string CountText(const Value& count) {
  return count.has_value() ? FormatCount(*count) : "";
}

// Steps that were never reached are more than any that were.
constexpr double kNever = 1e18;

std::vector<Column> MakeColumns() {
  return {
      {"rank", "rank", Better::kNeither,
       "Place by test accuracy. Two numbers are the best and the worst place "
       "the data allow: variants that cannot be told apart at 95% confidence, "
       "after Holm's correction for the number of comparisons, share places.",
       true, 0, RankText,
       [](const Row& row) {
         return row.rank.has_value() ? Value(row.rank->first) : Value();
       }},
      {"variant", "variant", Better::kNeither,
       "The attention or memory mechanism that mixes positions in every block "
       "of the model. All else is the same for all.",
       false, 0, [](const Row& row) { return row.variant; }, nullptr},
      {"family", "family", Better::kNeither,
       "The kind of mechanism the variant belongs to.", false, 6,
       [](const Row& row) { return row.family; }, nullptr},
      {"accuracy", "accuracy", Better::kHigher,
       "Mean score over test examples that no run has trained or been "
       "selected on; over several seeds, the mean of the seeds.",
       true, 0,
       [](const Row& row) {
         return row.accuracy.has_value() ? FormatScore(row.accuracy->mean) : "";
       },
       [](const Row& row) {
         return row.accuracy.has_value() ? Value(row.accuracy->mean) : Value();
       }},
      {"interval", "95% interval", Better::kNeither,
       "Where the accuracy lies with 95% confidence. With one seed it covers "
       "the choice of test examples alone (Clopper-Pearson), not the luck of "
       "one training run; with several it is Student's t interval over seeds.",
       true, 5, IntervalText, nullptr},
      {"steps_to_90", "steps to 90%", Better::kLower,
       "Optimiser steps until the validation accuracy was first at least 0.9; "
       "the median over seeds.",
       true, 1, StepsText,
       [](const Row& row) -> Value {
         if (!row.complete()) return absl::nullopt;
         return row.steps_to_90.has_value() ? row.steps_to_90 : Value(kNever);
       }},
      {"state_bytes", "state", Better::kLower,
       "Memory that one sequence carries from token to token while decoding: "
       "all layers, in float32, measured by serialising it where it is largest "
       "within a sequence.",
       true, 2,
       [](const Row& row) {
         return row.state_bytes.has_value() ? FormatBytes(*row.state_bytes)
                                            : "";
       },
       [](const Row& row) { return ToReal(row.state_bytes); }},
      {"parameters", "parameters", Better::kLower,
       "Trained numbers in the whole model.", true, 4,
       [](const Row& row) { return CountText(ToReal(row.parameters)); },
       [](const Row& row) { return ToReal(row.parameters); }},
      {"train_tokens_per_second", "tokens/s", Better::kHigher,
       "Tokens trained on per second, in optimiser steps alone, by one thread "
       "beside other cells; the median over seeds. Good for a rough look: "
       "compare speeds with a benchmark that has the machine to itself.",
       true, 3,
       [](const Row& row) { return CountText(row.train_tokens_per_second); },
       [](const Row& row) { return row.train_tokens_per_second; }},
      {"seeds", "seeds", Better::kNeither,
       "Seeds that finished, of those that were asked for. A variant with a "
       "seed missing has no accuracy and no rank.",
       true, 7,
       [](const Row& row) {
         return absl::StrCat(row.finished, "/", row.wanted);
       },
       [](const Row& row) { return Value(row.finished); }},
  };
}

}  // namespace

const std::vector<Column>& Columns() {
  static const auto& columns = *new std::vector<Column>(MakeColumns());
  return columns;
}

std::string BetterText(Better better) {
  switch (better) {
    case Better::kHigher:
      return "higher is better";
    case Better::kLower:
      return "lower is better";
    case Better::kNeither:
      return "";
  }
  return "";
}

std::string BetterArrow(Better better) {
  switch (better) {
    case Better::kHigher:
      return "↑";
    case Better::kLower:
      return "↓";
    case Better::kNeither:
      return "";
  }
  return "";
}

}  // namespace mneme
