// SPDX-License-Identifier: Apache-2.0
//
// What share of the reviews is positive: ZeroSCROLLS' SpaceDigest (Shaham et
// al., arXiv 2305.14196) without the language. R polar tokens, each of a word
// that is positive or negative in all examples, stand at random places among
// neutral ones; the answer is the percentage of positive ones among the polar:
//
//   token   w3 +2 w1 -5 +1 w7 w7 +2 w4 | = ?1        R = 4
//   target                                75%
//
// Which words are positive is for the model to learn; that is the same always.
// The share p is uniform on 0, 1 / B, ..., 1, so R is a multiple of B, and each
// share is a token to answer with. R grows with the length: a model that counts
// positive tokens and forgets to divide is wrong at any other length.
//
// Score as published: 2^(-10 |p - p^|), half for an error of a tenth, 0 for an
// answer that is no percentage. Details say how often p was exactly right.
//
// Published are 50 reviews of one hotel, here 50 polar tokens among as many
// neutral ones as reviews are long; hotels have more good reviews than bad ones
// while p is uniform here.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/answer_slots.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int64_t kSlots = 1;

class Percentage : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t bins = options.Int("bins");
    const int64_t vocabulary = options.Int("vocab");
    const int64_t least = bins + QuestionLength(kSlots);
    if (length < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "percentage: bins=", bins, " need length >= ", least,
          " (a polar token a bin, and the question), not ", length));
    }
    const int64_t least_vocabulary = FirstFreeToken(kSlots) + bins + 1 + 3;
    if (vocabulary < least_vocabulary) {
      return absl::InvalidArgumentError(absl::StrCat(
          "percentage: bins=", bins, " need vocab >= ", least_vocabulary,
          " (3 marks, a slot, bins + 1 answers, three kinds of words), not ",
          vocabulary));
    }
    return std::unique_ptr<Task>(new Percentage(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override {
    const int64_t bin = predictions[0] - first_answer();
    if (bin < 0 || bin > bins_) return 0;
    return Credit(bin, example.targets.back() - first_answer());
  }
  std::vector<std::string> DetailNames() const override { return {"exact"}; }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override {
    return {predictions[0] == example.targets.back() ? 1.0 : 0.0};
  }

  double ChanceScore() const override {
    double sum = 0;
    for (int64_t bin = 0; bin <= bins_; ++bin) sum += ScoreOfSaying(bin);
    return sum / (bins_ + 1);
  }
  // No percentage stands in the context.
  double ContextGuessScore() const override { return ChanceScore(); }

  LeakFloors Floors() const override {
    // Always to say one half is better than to guess. Counting is what is asked
    // for, and a bag counts.
    const double half = ScoreOfSaying(bins_ / 2);
    return {half, /*bag=*/1, half};
  }

  std::string TokenText(int32_t token) const override {
    if (token < first_answer()) return SlotTaskTokenText(token, kSlots, "");
    if (token <= first_answer() + bins_) {
      return absl::StrFormat("%.4g%%",
                             100.0 * (token - first_answer()) / bins_);
    }
    if (token < negative()) return absl::StrCat("+", token - positive() + 1);
    if (token < neutral()) return absl::StrCat("-", token - negative() + 1);
    return absl::StrCat("w", token - neutral() + 1);
  }

 private:
  explicit Percentage(const Options& options)
      : length_(options.Int("length")),
        bins_(options.Int("bins")),
        vocabulary_(options.Int("vocab")),
        places_(length_ - QuestionLength(kSlots)),
        polar_(bins_ *
               std::max<int64_t>(1, static_cast<int64_t>(options.Real("polar") *
                                                         places_ / bins_))),
        random_("percentage") {}

  int32_t first_answer() const { return FirstFreeToken(kSlots); }
  // First words of each kind. Neutral are a third of them, or a bit more.
  int64_t positive() const { return first_answer() + bins_ + 1; }
  int64_t polar_words() const { return (vocabulary_ - positive()) / 3; }
  int64_t negative() const { return positive() + polar_words(); }
  int64_t neutral() const { return negative() + polar_words(); }

  // Of one bin's answer where another one's is right.
  double Credit(int64_t said, int64_t right) const {
    return std::exp2(-10.0 * std::abs(said - right) / bins_);
  }
  // Expected, of always giving a bin's answer.
  double ScoreOfSaying(int64_t bin) const {
    double sum = 0;
    for (int64_t right = 0; right <= bins_; ++right) sum += Credit(bin, right);
    return sum / (bins_ + 1);
  }

  const int64_t length_;
  const int64_t bins_;
  const int64_t vocabulary_;
  const int64_t places_;
  const int64_t polar_;  // tokens
  const TaskRandom random_;
};

void Percentage::Generate(Split split, uint64_t seed, uint64_t index,
                          Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const int64_t bin = random.Below(bins_ + 1);
  const int64_t positives = polar_ / bins_ * bin;
  const int32_t answer = static_cast<int32_t>(first_answer() + bin);
  AskAtTheEnd(length_, {answer}, example);
  for (int64_t i = 0; i < places_; ++i) {
    const bool is_polar = i < polar_;
    const int64_t first =
        i < positives ? positive() : (is_polar ? negative() : neutral());
    const int64_t words = is_polar ? polar_words() : vocabulary_ - neutral();
    example->tokens[i] = static_cast<int32_t>(first + random.Below(words));
  }
  Shuffle(absl::MakeSpan(example->tokens).first(places_), &random);
  for (int64_t t = 0; t < places_; ++t) {
    if (example->tokens[t] >= neutral()) {
      example->roles[t] = TokenRole::kFiller;
    }
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "percentage";
  descriptor.group = "summarization proxies";
  descriptor.summary = "the percentage of positive words among the polar ones";
  descriptor.paper = "arXiv 2305.14196";
  descriptor.options = {
      OptionSpec::Int("length", 64, 5, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("bins", 10, 2, 1000,
                      "steps from 0 to 100%, each an answer; the polar tokens "
                      "are a multiple of them"),
      OptionSpec::Real("polar", 0.5, 0, 1,
                       "fraction of the tokens that are polar, rounded down to "
                       "a multiple of bins, but not to 0"),
      OptionSpec::Int("vocab", 64, 10, 1 << 20,
                      "tokens: 3 marks, a slot, the answers, then positive, "
                      "negative and neutral words, a third each"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"}, {"bins", "20"}, {"polar", "0.7"}, {"vocab", "64"}}},
      {"smoke",
       {{"length", "16"}, {"bins", "4"}, {"polar", "0.5"}, {"vocab", "24"}}},
      // ZeroSCROLLS asks trained language models. Model and training are ours.
      {"published/zeroscrolls",
       {{"length", "8192"},
        {"bins", "50"},
        {"polar", "0.007"},
        {"vocab", "8192"}},
       {{"width", "128"}, {"layers", "2"}},
       {{"steps", "5000"}, {"batch", "16"}, {"eval_every", "500"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Percentage::Make});

}  // namespace
}  // namespace mneme
