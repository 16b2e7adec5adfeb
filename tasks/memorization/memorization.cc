// SPDX-License-Identifier: Apache-2.0
//
// Memorization of MAD: Poli, Thomas, Nguyen et al., "Mechanistic Design and
// Scaling of Hybrid Architectures", arXiv 2403.17844.
//
// Facts that are the same in all sequences, so that they must be learned in
// weights and not be looked up in the context. Keys, drawn uniformly, alternate
// with a question mark at which the key's value is wanted; no value is ever
// part of a sequence:
//
//   position  0 1 2 3 4 5       L = 6
//   token     B ? A ? B ?       ? is 0, then keys, then values
//   target      r   s   r
//
// Each of the K = (V - 1) / 2 keys has a value of its own. The map is one of
// the task's options, `map`: the same for all seeds, in training and test.
//
// What is measured is how many facts a mechanism stores while it learns, and
// that it hands a token on to its neighbour; a table of the last two tokens
// solves it.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/mad/mad.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int32_t kAsk = 0;

class Memorization : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    if (length % 2 != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("memorization: length=", length,
                       " is odd; each key is followed by a question"));
    }
    return std::unique_ptr<Task>(new Memorization(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  // The context says nothing of values.
  double ChanceScore() const override { return 1.0 / values(); }
  double ContextGuessScore() const override { return ChanceScore(); }

  // All keys are as likely, and so are all the values that keys have. A bag
  // shows which keys were asked for up to now, but not which was last: at best,
  // the one that was most often. The key before the question says it all.
  LeakFloors Floors() const override {
    const std::vector<double> shares =
        ExpectedLargestShares(keys(), length_ / 2);
    const double bag =
        std::accumulate(shares.begin(), shares.end(), 0.0) / shares.size();
    return {1.0 / keys(), bag, 1};
  }

  std::string TokenText(int32_t token) const override {
    if (token == kAsk) return "?";
    if (token <= keys()) return absl::StrCat("k", token);
    return absl::StrCat("v", token - keys());
  }

 private:
  explicit Memorization(const Options& options)
      : length_(options.Int("length")),
        vocabulary_(options.Int("vocab")),
        random_("memorization"),
        value_of_(keys()) {
    Random random(options.Int("map"), StreamId("memorization/map"));
    std::vector<uint64_t> drawn(keys());
    DrawDistinct(values(), absl::MakeSpan(drawn), &random);
    for (int64_t key = 0; key < keys(); ++key) {
      value_of_[key] = 1 + keys() + drawn[key];
    }
  }

  int64_t keys() const { return (vocabulary_ - 1) / 2; }
  int64_t values() const { return vocabulary_ - 1 - keys(); }

  const int64_t length_;
  const int64_t vocabulary_;
  const TaskRandom random_;
  std::vector<int32_t> value_of_;  // by key, from 0
};

void Memorization::Generate(Split split, uint64_t seed, uint64_t index,
                            Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  example->tokens.assign(length_, kAsk);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kQuery);
  example->origins.clear();
  example->notes.clear();
  for (int64_t t = 0; t < length_; t += 2) {
    const int32_t key = random.Below(keys());
    example->tokens[t] = 1 + key;
    example->roles[t] = TokenRole::kContext;
    example->targets[t + 1] = value_of_[key];
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "memorization";
  descriptor.group = "associative recall";
  descriptor.summary = "say the value that a key has in all sequences";
  descriptor.paper = "arXiv 2403.17844";
  descriptor.options = {
      OptionSpec::Int("length", 64, 2, 1 << 24,
                      "tokens in a sequence; even, keys and questions"),
      OptionSpec::Int("vocab", 128, 5, 1 << 20,
                      "tokens: the question, of the others half keys, half "
                      "values"),
      OptionSpec::Int("map", 0, 0, 1 << 30, "which map of keys to values"),
  };
  descriptor.profiles = {
      {"quick", {{"length", "64"}, {"vocab", "128"}}},
      {"smoke", {{"length", "16"}, {"vocab", "16"}}},
      PublishedMad({{"length", "32"}, {"vocab", "256"}}, /*examples=*/256),
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Memorization::Make});

}  // namespace
}  // namespace mneme
