// SPDX-License-Identifier: Apache-2.0

#include "tasks/task_testing.h"

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace mneme {

absl::StatusOr<std::unique_ptr<Task>> TryMakeTask(const std::string& name,
                                                  const OptionValues& values) {
  const absl::StatusOr<const TaskPlugin*> plugin = Tasks().Find(name);
  if (!plugin.ok()) return plugin.status();
  const absl::StatusOr<Options> options =
      Options::Parse((*plugin)->descriptor.options, values);
  if (!options.ok()) return options.status();
  return (*plugin)->make(*options);
}

std::unique_ptr<Task> MakeTaskOrFail(const std::string& name,
                                     const OptionValues& values) {
  auto task = TryMakeTask(name, values);
  EXPECT_TRUE(task.ok()) << task.status();
  return *std::move(task);
}

std::string Refusal(const std::string& name, const OptionValues& values) {
  const absl::Status status = TryMakeTask(name, values).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

std::string ProfilesText(const std::string& name) {
  const TaskDescriptor& descriptor = (*Tasks().Find(name))->descriptor;
  std::string text;
  for (const TaskProfile& profile : descriptor.profiles) {
    absl::StrAppend(&text, profile.name, ":");
    const auto options = Options::Parse(descriptor.options, profile.values);
    EXPECT_TRUE(options.ok()) << options.status();
    for (const auto& [option, value] : options->ToValues()) {
      absl::StrAppend(&text, " ", option, "=", value);
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

Example TrainExample(const Task& task, uint64_t index) {
  Example example;
  task.Generate(Split::kTrain, /*seed=*/0, index, &example);
  return example;
}

void ExpectRangesArePartsOfTheExample(const Task& task) {
  constexpr uint64_t kIndex = 3;
  const Example whole = TrainExample(task, kIndex);
  Example part;
  for (const int64_t count : {1, 2, 7, 64}) {
    for (int64_t first = 0; first + count <= task.length(); ++first) {
      const auto cut = [&](const auto& all) {
        return std::decay_t<decltype(all)>(all.begin() + first,
                                           all.begin() + first + count);
      };
      task.GenerateRange(Split::kTrain, 0, kIndex, first, count, &part);
      ASSERT_EQ(part.tokens, cut(whole.tokens)) << "from " << first;
      ASSERT_EQ(part.targets, cut(whole.targets)) << "from " << first;
      ASSERT_EQ(part.roles, cut(whole.roles)) << "from " << first;
      ASSERT_EQ(part.origins, cut(whole.origins)) << "from " << first;
    }
  }
}

void ExpectFits(absl::Span<const double> probabilities,
                absl::Span<const int64_t> counts) {
  ASSERT_EQ(probabilities.size(), counts.size());
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double statistic = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = total * probabilities[i];
    ASSERT_GE(expected, 5) << "too few draws for a chi-square test";
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  const boost::math::chi_squared distribution(counts.size() - 1.0);
  EXPECT_LT(statistic, quantile(complement(distribution, 1e-6)));
}

void ExpectUniform(absl::Span<const int64_t> counts) {
  ExpectFits(std::vector<double>(counts.size(), 1.0 / counts.size()), counts);
}

void ExpectGuessScores(const Task& task, uint64_t examples, double expected,
                       const Guess& guess) {
  double sum = 0, squares = 0;
  for (uint64_t index = 0; index < examples; ++index) {
    const Example example = TrainExample(task, index);
    const double score = task.Score(example, guess(example));
    sum += score;
    squares += score * score;
  }
  const double n = static_cast<double>(examples);
  const double mean = sum / n;
  const double variance = std::max(squares / n - mean * mean, 0.0);
  EXPECT_NEAR(mean, expected, 5 * std::sqrt(variance / n) + 1e-9);
}

}  // namespace mneme
