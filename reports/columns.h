// SPDX-License-Identifier: Apache-2.0
//
// The columns of a ranking, declared once for the terminal, the page and
// Markdown: what each is called, what it means, which way is good, and how a
// row shows it.

#ifndef MNEME_REPORTS_COLUMNS_H_
#define MNEME_REPORTS_COLUMNS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "reports/boards.h"

namespace mneme {

enum class Better { kNeither, kHigher, kLower };

struct Column {
  std::string id;     // stable: in links, and in scripts of others
  std::string title;  // "state"
  Better better = Better::kNeither;
  std::string definition;  // a sentence or two, for the page
  bool numeric = true;
  // On a narrow terminal the column with the highest number goes first; 0
  // stays.
  int dispensable = 0;
  // "" where the row has no such value.
  std::function<std::string(const Row&)> text;
  // What to sort by; absent sorts last either way. Unset for columns of text.
  std::function<absl::optional<double>(const Row&)> value;
};

// Rank, variant, family, accuracy, interval, steps to 90%, state, parameters,
// tokens/s, seeds: in the order in which they are shown.
const std::vector<Column>& Columns();

// "higher is better", "lower is better" or "".
std::string BetterText(Better better);

// An arrow that points up or down, in UTF-8, or "".
std::string BetterArrow(Better better);

}  // namespace mneme

#endif  // MNEME_REPORTS_COLUMNS_H_
