// SPDX-License-Identifier: Apache-2.0

#include "harness/reference_memory.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace mneme {
namespace {

constexpr int64_t kBytesPerPair = 8;
constexpr size_t kMostExamples = 256;
constexpr int64_t kNever = INT64_MAX;

}  // namespace

void ReferenceSheet::Add(const Example& example,
                         absl::Span<const int64_t> positions) {
  if (example.origins.empty() || entries_.size() == kMostExamples) return;
  std::vector<int32_t> said;  // where pairs that are asked for stand
  for (const int32_t origin : example.origins) {
    if (origin != kNowhere) said.push_back(origin);
  }
  std::sort(said.begin(), said.end());
  said.erase(std::unique(said.begin(), said.end()), said.end());

  Entry entry = {example, {}};
  for (size_t t = 0; t < example.targets.size(); ++t) {
    if (example.targets[t] == kUnscored) continue;
    const int32_t origin = example.origins[t];
    Question question = {example.targets[t], kNever, kNever};
    if (origin != kNowhere) {
      const int64_t position = positions.empty()
                                   ? static_cast<int64_t>(t)
                                   : positions[entry.questions.size()];
      question.window = position - origin + 1;
      question.pairs = std::lower_bound(said.begin(), said.end(), position) -
                       std::lower_bound(said.begin(), said.end(), origin);
      largest_window_ = std::max(largest_window_, question.window);
      most_pairs_ = std::max(most_pairs_, question.pairs);
    }
    entry.questions.push_back(question);
  }
  entries_.push_back(std::move(entry));
}

// When some answers are found, and the others guessed.
template <typename Found>
double ReferenceSheet::ExpectedScore(const Entry& entry,
                                     const Found& found) const {
  std::vector<int32_t> predictions;
  for (const Question& question : entry.questions) {
    // No token of a vocabulary is negative: not found is wrong.
    predictions.push_back(found(question) ? question.target : kUnscored);
  }
  const double score = task_->Score(entry.example, predictions);
  return score + (1 - score) * guess_;
}

ReferenceScore ReferenceSheet::At(int64_t bytes) const {
  ReferenceScore mean;
  mean.bytes = bytes;
  for (const Entry& entry : entries_) {
    mean.window += ExpectedScore(entry, [&](const Question& q) {
      return q.window <= bytes / bytes_per_token_;
    });
    mean.table += ExpectedScore(entry, [&](const Question& q) {
      return q.pairs <= bytes / kBytesPerPair;
    });
  }
  mean.window /= static_cast<double>(entries_.size());
  mean.table /= static_cast<double>(entries_.size());
  return mean;
}

std::vector<ReferenceScore> ReferenceSheet::Curve() const {
  std::vector<ReferenceScore> curve;
  if (empty()) return curve;
  const int64_t enough =
      std::max(largest_window_ * bytes_per_token_, most_pairs_ * kBytesPerPair);
  for (int64_t bytes = 32;; bytes *= 2) {
    curve.push_back(At(bytes));
    if (bytes >= enough) return curve;
  }
}

ReferenceSheet ReferencesOf(const Task& task, uint64_t seed, int64_t examples,
                            int64_t bytes_per_token) {
  ReferenceSheet sheet(&task, bytes_per_token);
  Example example;
  const int64_t kept = std::min<int64_t>(examples, kMostExamples);
  for (int64_t index = 0; index < kept; ++index) {
    task.Generate(Split::kTest, seed, index, &example);
    sheet.Add(example, {});
  }
  return sheet;
}

}  // namespace mneme
