// SPDX-License-Identifier: Apache-2.0

#include "harness/reference_memory.h"

#include <algorithm>
#include <cstddef>

namespace mneme {
namespace {

constexpr int64_t kBytesPerPair = 8;
constexpr int kFirstPower = 5, kLastPower = 30;

// One scored position of an example.
struct Question {
  int32_t target;
  // How many tokens a window must hold to contain the answer, itself included.
  int64_t window;
  // How many pairs a table must hold: those said from this one on.
  int64_t pairs;
};

std::vector<Question> Questions(const Example& example) {
  std::vector<int32_t> origins;  // of all pairs asked for, sorted
  for (const int32_t origin : example.origins) {
    if (origin != kNowhere) origins.push_back(origin);
  }
  std::sort(origins.begin(), origins.end());
  origins.erase(std::unique(origins.begin(), origins.end()), origins.end());
  std::vector<Question> questions;
  for (size_t t = 0; t < example.targets.size(); ++t) {
    if (example.targets[t] == kUnscored) continue;
    const int32_t origin = example.origins[t];
    Question question = {example.targets[t], INT64_MAX, INT64_MAX};
    if (origin != kNowhere) {
      question.window = static_cast<int64_t>(t) - origin + 1;
      // Pairs said before the question, from the wanted one on.
      const auto wanted =
          std::lower_bound(origins.begin(), origins.end(), origin);
      const auto now = std::lower_bound(origins.begin(), origins.end(),
                                        static_cast<int32_t>(t));
      question.pairs = now - wanted;
    }
    questions.push_back(question);
  }
  return questions;
}

// The example's score when some answers are found, the others guessed.
template <typename Found>
double ExpectedScore(const Task& task, const Example& example,
                     const std::vector<Question>& questions,
                     const Found& found) {
  std::vector<int32_t> predictions;
  for (const Question& question : questions) {
    // No token of a vocabulary is negative: not found is wrong.
    predictions.push_back(found(question) ? question.target : kUnscored);
  }
  const double score = task.Score(example, predictions);
  return score + (1 - score) * task.ContextGuessScore();
}

}  // namespace

std::vector<ReferenceScore> ReferenceMemories(const Task& task, uint64_t seed,
                                              int64_t examples,
                                              int64_t bytes_per_token) {
  std::vector<ReferenceScore> points;
  for (int power = kFirstPower; power <= kLastPower; ++power) {
    points.push_back({int64_t{1} << power, 0, 0});
  }
  Example example;
  int64_t largest_window = 0, most_pairs = 0;
  bool any = false;
  for (int64_t index = 0; index < examples; ++index) {
    task.Generate(Split::kTest, seed, index, &example);
    if (example.origins.empty()) return {};
    const std::vector<Question> questions = Questions(example);
    for (const Question& question : questions) {
      if (question.window == INT64_MAX) continue;
      any = true;
      largest_window = std::max(largest_window, question.window);
      most_pairs = std::max(most_pairs, question.pairs);
    }
    for (ReferenceScore& point : points) {
      point.window +=
          ExpectedScore(task, example, questions, [&](const Question& q) {
            return q.window <= point.bytes / bytes_per_token;
          });
      point.table +=
          ExpectedScore(task, example, questions, [&](const Question& q) {
            return q.pairs <= point.bytes / kBytesPerPair;
          });
    }
  }
  if (!any) return {};
  const int64_t enough =
      std::max(largest_window * bytes_per_token, most_pairs * kBytesPerPair);
  const auto end = std::find_if(
      points.begin(), points.end(),
      [enough](const ReferenceScore& p) { return p.bytes >= enough; });
  if (end != points.end()) points.erase(end + 1, points.end());
  for (ReferenceScore& point : points) {
    point.window /= static_cast<double>(examples);
    point.table /= static_cast<double>(examples);
  }
  return points;
}

}  // namespace mneme
