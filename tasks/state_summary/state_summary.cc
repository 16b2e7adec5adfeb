// SPDX-License-Identifier: Apache-2.0
//
// The state of K variables after a history of assignments: multi-query recall
// with forgetting, asked of everything at once. It stands for the summary that
// must be up to date: what was said first and taken back does not belong there.
// The form with few updates, as in Zoology's `forgetting_mqar` (arXiv
// 2312.04927), is the task mqar's; here the sequence is full of them.
//
// K different keys from [1, V/2) are given values from [V/2, V), then U times a
// key gets another value; at the end each key is asked for once:
//
//   position  0  1  2  3 | 4  5  6  7 | 8 9 | 10 11      K = 2, U = 2, L = 12
//   token     k1 v1 k2 v2| k2 v3 k2 v4| _ _ | k2 k1
//   target               |            |     | v4 v1
//
// Each update takes a key uniformly, and a value uniformly among those that no
// key holds: no two keys have the same value at the same time, so who knows all
// final values but not whose they are is right once in K. A value may come back
// later, to the same key too. Keys are asked for in random order; answers never
// follow. At least two blanks stand before the questions, which keeps the last
// assignment out of what the last three tokens tell.
//
// With updates = -1 there are as many as there is room for, L / 2 or so: twice
// the length is twice the history, and the same state.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int64_t kLeastBlanks = 2;

class StateSummary : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t keys = options.Int("keys");
    const int64_t updates = std::max<int64_t>(options.Int("updates"), 0);
    const int64_t vocabulary = options.Int("vocab");
    const int64_t least = 3 * keys + 2 * updates + kLeastBlanks;
    if (length < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "state_summary: keys=", keys, " and ", updates,
          " updates need length >= ", least,
          " (two tokens an assignment, two blanks, one a query), not ",
          length));
    }
    // One value more than keys, or no key could ever get another one.
    if (vocabulary / 2 <= keys) {
      return absl::InvalidArgumentError(absl::StrCat(
          "state_summary: keys=", keys, " need vocab >= ", 2 * (keys + 1),
          " (keys are different tokens in 1..vocab/2-1), not ", vocabulary));
    }
    return std::unique_ptr<Task>(new StateSummary(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  // Whether all keys were right, and the fraction of keys that were given a
  // value they had and lost.
  std::vector<std::string> DetailNames() const override {
    return {"exact", "stale"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override;

  double ChanceScore() const override { return 1.0 / values(); }
  double ContextGuessScore() const override { return 1.0 / keys_; }

  LeakFloors Floors() const override {
    // A bag knows what values there are. One of them is held at the end by one
    // of K keys at most, and the bag cannot tell by which. The last three
    // tokens are queries and blanks.
    return {ChanceScore(), ContextGuessScore(), ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    if (token == 0) return "_";
    return token < first_value() ? absl::StrCat("k", token)
                                 : absl::StrCat("v", token - first_value());
  }

 private:
  explicit StateSummary(const Options& options)
      : length_(options.Int("length")),
        keys_(options.Int("keys")),
        vocabulary_(options.Int("vocab")),
        updates_(options.Int("updates") >= 0
                     ? options.Int("updates")
                     : (length_ - 3 * keys_ - kLeastBlanks) / 2),
        random_("state_summary") {}

  int64_t first_value() const { return vocabulary_ / 2; }
  int64_t values() const { return vocabulary_ - first_value(); }
  int64_t assignments() const { return keys_ + updates_; }

  const int64_t length_;
  const int64_t keys_;
  const int64_t vocabulary_;
  const int64_t updates_;
  const TaskRandom random_;
};

void StateSummary::Generate(Split split, uint64_t seed, uint64_t index,
                            Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  example->tokens.assign(length_, 0);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  example->notes.clear();

  std::vector<uint64_t> keys(keys_);
  DrawDistinct(first_value() - 1, absl::MakeSpan(keys), &random);
  // Value number i < K is what key number i holds, the rest are free.
  std::vector<int32_t> held(values());
  std::iota(held.begin(), held.end(), static_cast<int32_t>(first_value()));
  std::vector<int32_t> origin(keys_);
  for (int64_t step = 0; step < assignments(); ++step) {
    const bool first = step < keys_;
    const int64_t key = first ? step : random.Below(keys_);
    // When keys are new, those before it are the only ones that hold values.
    const int64_t taken = first ? step : keys_;
    std::swap(held[key], held[taken + random.Below(values() - taken)]);
    const int64_t t = 2 * step;
    origin[key] = static_cast<int32_t>(t + 1);
    example->tokens[t] = static_cast<int32_t>(1 + keys[key]);
    example->tokens[t + 1] = held[key];
    example->roles[t] = example->roles[t + 1] = TokenRole::kContext;
  }

  std::vector<int32_t> order(keys_);
  std::iota(order.begin(), order.end(), 0);
  Shuffle(absl::MakeSpan(order), &random);
  for (int64_t i = 0; i < keys_; ++i) {
    const int32_t key = order[i];
    const int64_t query = length_ - keys_ + i;
    example->tokens[query] = static_cast<int32_t>(1 + keys[key]);
    example->targets[query] = held[key];
    example->roles[query] = TokenRole::kQuery;
    example->origins[query] = origin[key];
  }
}

std::vector<double> StateSummary::Details(
    const Example& example, absl::Span<const int32_t> predictions) const {
  absl::flat_hash_set<std::pair<int32_t, int32_t>> said;
  for (int64_t t = 0; t < 2 * assignments(); t += 2) {
    said.insert({example.tokens[t], example.tokens[t + 1]});
  }
  int64_t right = 0, stale = 0;
  for (int64_t i = 0; i < keys_; ++i) {
    const int64_t query = length_ - keys_ + i;
    if (predictions[i] == example.targets[query]) {
      ++right;
    } else if (said.contains({example.tokens[query], predictions[i]})) {
      ++stale;
    }
  }
  return {right == keys_ ? 1.0 : 0.0, static_cast<double>(stale) / keys_};
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "state_summary";
  descriptor.group = "summarization proxies";
  descriptor.summary =
      "the final value of every key after a history of re-assignments";
  descriptor.paper = "arXiv 2312.04927";
  descriptor.options = {
      OptionSpec::Int("length", 64, 5, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("keys", 10, 1, 1 << 18,
                      "keys, each assigned, and asked for at the end"),
      OptionSpec::Int("updates", -1, -1, 1 << 19,
                      "re-assignments; -1: as many as the length has room for"),
      OptionSpec::Int("vocab", 64, 4, 1 << 20,
                      "tokens: 0, then keys, the upper half values"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"}, {"keys", "10"}, {"updates", "-1"}, {"vocab", "64"}},
       {},
       {{"steps", "500"}, {"test_doublings", "4"}}},
      {"smoke", {{"length", "16"}, {"keys", "2"}, {"vocab", "16"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), StateSummary::Make});

}  // namespace
}  // namespace mneme
