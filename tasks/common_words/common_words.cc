// SPDX-License-Identifier: Apache-2.0
//
// Common words extraction: Hsieh et al., "RULER: What's the Real Context Size
// of Your Long-Context Language Models?", arXiv 2404.06654, its CWE. Of many
// different words in random order, c stand there often and the others seldom;
// which are the common ones?
//
//   token   w7 w2 w7 w9 w2 w4 w7 w2 w5 | = ?1 ?2     c = 2, common words x3,
//   target                                w2 w7      others x1
//
// Common and other words are drawn anew for each example. The others are as
// many as fit; where the vocabulary has no more of them, and where there is not
// room for one more, blanks stand among the words. So twice the length is as
// many common words among more others.
//
// The answer is a set. Its score is RULER's: the fraction of the common words
// that are named; Details add precision, F1 and whether the set is right.
// For training, slots want the words in ascending order of their ids.
//
// RULER as published: 10 common words 30 times, others 3 times (below 4096
// tokens 6 times and once). It shuffles the words of every sample with a
// generator that it seeds anew each time, so the same places of the list hold
// answers in all samples of a length: order = fixed does so too, and a model
// can learn which places to read. By default each example has an order of its
// own. RULER's numbered list and its worked example are left out, and a word is
// a token, not several: 4096 tokens are a longer list here.
//
// No token means more than the others do, and no place: this is counting. A bag
// of tokens solves it.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/answer_slots.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

class CommonWords : public SetTask {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t common = options.Int("common");
    const int64_t common_repeats = options.Int("common_repeats");
    const int64_t other_repeats = options.Int("other_repeats");
    const int64_t vocabulary = options.Int("vocab");
    if (common_repeats <= other_repeats) {
      return absl::InvalidArgumentError(
          absl::StrCat("common_words: common_repeats=", common_repeats,
                       " must be more than other_repeats=", other_repeats));
    }
    const int64_t least =
        common * common_repeats + other_repeats + QuestionLength(common);
    if (length < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "common_words: common=", common, " words ", common_repeats,
          " times and another ", other_repeats, " times need length >= ", least,
          " with the question, not ", length));
    }
    const int64_t least_vocabulary = FirstFreeToken(common) + common + 1;
    if (vocabulary < least_vocabulary) {
      return absl::InvalidArgumentError(absl::StrCat(
          "common_words: common=", common, " need vocab >= ", least_vocabulary,
          " (3 marks, a slot and a word for each, another word), not ",
          vocabulary));
    }
    return std::unique_ptr<Task>(new CommonWords(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  // Of as many different words as there are slots, each is common with this
  // probability.
  double ChanceScore() const override {
    return static_cast<double>(common_) / words_;
  }
  double ContextGuessScore() const override {
    return static_cast<double>(common_) / (common_ + others_);
  }

  LeakFloors Floors() const override {
    // Counting is what is asked for, and a bag counts. All words are alike, so
    // who cannot count is left with chance, in whatever slot.
    return {ChanceScore(), /*bag=*/1, ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    return SlotTaskTokenText(token, common_, "w");
  }

 private:
  explicit CommonWords(const Options& options)
      : length_(options.Int("length")),
        common_(options.Int("common")),
        common_repeats_(options.Int("common_repeats")),
        other_repeats_(options.Int("other_repeats")),
        vocabulary_(options.Int("vocab")),
        fixed_order_(options.Choice("order") == "fixed"),
        words_(vocabulary_ - FirstFreeToken(common_)),
        places_(length_ - QuestionLength(common_)),
        others_(std::min((places_ - common_ * common_repeats_) / other_repeats_,
                         words_ - common_)),
        random_("common_words"),
        order_stream_(StreamId("common_words/order")) {}

  const int64_t length_;
  const int64_t common_;
  const int64_t common_repeats_;
  const int64_t other_repeats_;
  const int64_t vocabulary_;
  const bool fixed_order_;
  const int64_t words_;   // that there are
  const int64_t places_;  // in the context
  const int64_t others_;  // words in the context
  const TaskRandom random_;
  const uint64_t order_stream_;
};

void CommonWords::Generate(Split split, uint64_t seed, uint64_t index,
                           Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  // The common words first.
  std::vector<uint64_t> drawn(common_ + others_);
  DrawDistinct(words_, absl::MakeSpan(drawn), &random);
  std::vector<int32_t> words(drawn.size());
  for (size_t i = 0; i < drawn.size(); ++i) {
    words[i] = static_cast<int32_t>(FirstFreeToken(common_) + drawn[i]);
  }
  std::sort(words.begin(), words.begin() + common_);
  AskAtTheEnd(length_, absl::MakeConstSpan(words).first(common_), example);

  int32_t* to = example->tokens.data();
  for (int64_t i = 0; i < common_ + others_; ++i) {
    to = std::fill_n(to, i < common_ ? common_repeats_ : other_repeats_,
                     words[i]);
  }
  Random same_for_all(/*seed=*/0, order_stream_);
  Shuffle(absl::MakeSpan(example->tokens).first(places_),
          fixed_order_ ? &same_for_all : &random);
  for (int64_t t = 0; t < places_; ++t) {
    if (example->tokens[t] == kBlankToken) {
      example->roles[t] = TokenRole::kFiller;
    }
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "common_words";
  descriptor.group = "summarization proxies";
  descriptor.summary = "name the words that occur often among many that do not";
  descriptor.paper = "arXiv 2404.06654";
  descriptor.options = {
      OptionSpec::Int("length", 64, 7, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("common", 3, 1, 1 << 10, "common words, all asked for"),
      OptionSpec::Int("common_repeats", 8, 2, 1 << 16,
                      "times that each common word stands there"),
      OptionSpec::Int("other_repeats", 2, 1, 1 << 16,
                      "times that each other word does"),
      OptionSpec::Int("vocab", 40, 6, 1 << 20,
                      "tokens: 3 marks, a slot for each answer, words"),
      OptionSpec::Choice("order", "fresh", {"fresh", "fixed"},
                         "of the words: each example's own, or one for all as "
                         "in RULER"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"common", "3"},
        {"common_repeats", "8"},
        {"other_repeats", "2"},
        {"vocab", "40"}}},
      {"smoke",
       {{"length", "24"},
        {"common", "2"},
        {"common_repeats", "4"},
        {"other_repeats", "1"},
        {"vocab", "32"}}},
      // RULER asks trained language models. Model and training are ours, and so
      // is the size of the vocabulary.
      {"published/ruler",
       {{"length", "4096"},
        {"common", "10"},
        {"common_repeats", "30"},
        {"other_repeats", "3"},
        {"vocab", "8192"},
        {"order", "fixed"}},
       {{"width", "128"}, {"layers", "2"}},
       {{"steps", "5000"}, {"batch", "16"}, {"eval_every", "500"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), CommonWords::Make});

}  // namespace
}  // namespace mneme
