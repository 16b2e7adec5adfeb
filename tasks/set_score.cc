// SPDX-License-Identifier: Apache-2.0

#include "tasks/set_score.h"

#include <algorithm>
#include <cstddef>

namespace mneme {
namespace {

std::vector<int32_t> SortedSet(absl::Span<const int32_t> tokens) {
  std::vector<int32_t> set(tokens.begin(), tokens.end());
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  return set;
}

size_t CountCommon(const std::vector<int32_t>& a,
                   const std::vector<int32_t>& b) {
  size_t common = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    common += *i == *j;
    const bool next_i = *i <= *j;
    const bool next_j = *j <= *i;
    if (next_i) ++i;
    if (next_j) ++j;
  }
  return common;
}

}  // namespace

SetScore ScoreSet(absl::Span<const int32_t> predicted,
                  absl::Span<const int32_t> wanted) {
  const std::vector<int32_t> predicted_set = SortedSet(predicted);
  const std::vector<int32_t> wanted_set = SortedSet(wanted);
  if (predicted_set.empty() && wanted_set.empty()) return {1, 1, 1, true};
  const double common =
      static_cast<double>(CountCommon(predicted_set, wanted_set));
  const double predicted_size = static_cast<double>(predicted_set.size());
  const double wanted_size = static_cast<double>(wanted_set.size());
  SetScore score;
  if (!predicted_set.empty()) score.precision = common / predicted_size;
  if (!wanted_set.empty()) score.recall = common / wanted_size;
  score.f1 = 2 * common / (predicted_size + wanted_size);
  score.exact = predicted_set == wanted_set;
  return score;
}

std::vector<int32_t> WantedTokens(const Example& example) {
  std::vector<int32_t> wanted;
  for (const int32_t target : example.targets) {
    if (target != kUnscored) wanted.push_back(target);
  }
  return wanted;
}

double SetTask::Score(const Example& example,
                      absl::Span<const int32_t> predictions) const {
  return ScoreSet(predictions, WantedTokens(example)).recall;
}

std::vector<std::string> SetTask::DetailNames() const {
  return {"precision", "f1", "exact"};
}

std::vector<double> SetTask::Details(
    const Example& example, absl::Span<const int32_t> predictions) const {
  const SetScore score = ScoreSet(predictions, WantedTokens(example));
  return {score.precision, score.f1, score.exact ? 1.0 : 0.0};
}

}  // namespace mneme
