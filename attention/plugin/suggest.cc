// SPDX-License-Identifier: Apache-2.0

#include "attention/plugin/suggest.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mneme {
namespace {

// Optimal string alignment distance: the number of insertions, deletions,
// replacements and swaps of neighbours that turn a into b, where no letter is
// edited twice. O(|a| |b|) time, three rows of memory.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> two_up(b.size() + 1);
  std::vector<size_t> up(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    two_up.swap(up);
    up.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({up[j] + 1, row[j - 1] + 1,
                         up[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], two_up[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

}  // namespace

std::string NearestName(absl::string_view name,
                        const std::vector<std::string>& known) {
  const std::string lower = absl::AsciiStrToLower(name);
  std::string nearest;
  size_t nearest_distance = 0;
  for (const std::string& candidate : known) {
    const size_t longer = std::max(lower.size(), candidate.size());
    const size_t distance =
        EditDistance(lower, absl::AsciiStrToLower(candidate));
    if (distance > std::max<size_t>(2, longer / 3) || distance >= longer) {
      continue;
    }
    if (nearest.empty() || distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

absl::Status UnknownName(absl::string_view what, absl::string_view name,
                         const std::vector<std::string>& known) {
  const std::string nearest = NearestName(name, known);
  return absl::NotFoundError(absl::StrCat(
      "unknown ", what, " \"", absl::Utf8SafeCEscape(name), "\"; ",
      nearest.empty() ? "" : absl::StrCat("did you mean \"", nearest, "\"? "),
      "known: ", known.empty() ? "none" : absl::StrJoin(known, ", ")));
}

}  // namespace mneme
