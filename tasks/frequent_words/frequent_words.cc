// SPDX-License-Identifier: Apache-2.0
//
// Frequent words extraction: Hsieh et al., "RULER: What's the Real Context Size
// of Your Long-Context Language Models?", arXiv 2404.06654, its FWE. Words
// occur as often as Zipf's law has it,
//
//   count(rank r) = floor(N r^-alpha / zeta(alpha)),   r = 1 ... R,
//
// in random order. The most frequent one is noise, the same token "..." in all
// examples; the next three are asked for:
//
//   token   ... w5 ... ... w2 w5 ... w8 w2 w5 ... | = ?1 ?2 ?3
//   target                                           w5 w2 w8
//
// N is the largest number with which the words fit; blanks among them, a
// handful, take the room that is left. Which word has which rank is drawn anew
// for each example; ranks whose count is 0 are not there. alpha is 2 as
// published, and R, the vocabulary of RULER's text, a fiftieth of the length:
// ranks = 0. Then longer sequences have rarer words too.
//
// The answer is a set. Its score is RULER's: the fraction of the words asked
// for that are named; Details add precision, F1 and whether the set is right.
// For training, slots want the words by rank, the most frequent first.
//
// RULER shuffles the words of every sample with a generator that it seeds anew
// each time, so a rank stands at the same places in all samples of a length:
// order = fixed does so too. By default each example has an order of its own. A
// coded word of RULER is six letters, several tokens; here it is one.
//
// Like common_words this is counting, and a bag of tokens solves it; other than
// there, counts differ between the answers, so the slots can be told apart.

#include <algorithm>
#include <boost/math/special_functions/zeta.hpp>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
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

constexpr int64_t kTokensPerRank = 50;

// Of ranks 1 ... ranks, without those that do not occur.
std::vector<int64_t> ZipfCounts(int64_t n, int64_t ranks, double alpha) {
  const double scale = static_cast<double>(n) / boost::math::zeta(alpha);
  std::vector<int64_t> counts;
  for (int64_t rank = 1; rank <= ranks; ++rank) {
    const double share = scale * std::pow(static_cast<double>(rank), -alpha);
    if (share < 1) break;
    counts.push_back(static_cast<int64_t>(share));
  }
  return counts;
}

// The counts of the largest text of at most so many words.
std::vector<int64_t> FittingCounts(int64_t words, int64_t ranks, double alpha) {
  const auto total = [&](int64_t n) {
    const std::vector<int64_t> counts = ZipfCounts(n, ranks, alpha);
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  };
  // The counts of N sum to N at most, but to less if alpha is near 1, where
  // zeta is large: look for the first power of two that is too many.
  int64_t fits = words, too_many = 2 * words;
  while (total(too_many) <= words) too_many *= 2;
  while (too_many - fits > 1) {
    const int64_t n = fits + (too_many - fits) / 2;
    (total(n) <= words ? fits : too_many) = n;
  }
  return ZipfCounts(fits, ranks, alpha);
}

class FrequentWords : public SetTask {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t answers = options.Int("answers");
    const int64_t vocabulary = options.Int("vocab");
    if (length <= QuestionLength(answers)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "frequent_words: answers=", answers, " need length > ",
          QuestionLength(answers), " for the question, not ", length));
    }
    // Noise, the answers, and a word that is none.
    const int64_t least_vocabulary = FirstFreeToken(answers) + answers + 2;
    if (vocabulary < least_vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat("frequent_words: answers=", answers,
                       " need vocab >= ", least_vocabulary,
                       " (3 marks, a slot and a word for each, noise, "
                       "another word), not ",
                       vocabulary));
    }
    int64_t ranks = options.Int("ranks");
    const bool by_length = ranks == 0;
    if (by_length) ranks = length / kTokensPerRank;
    if (ranks < answers + 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "frequent_words: answers=", answers, " need at least ", answers + 2,
          " ranks (noise, answers, another word), not ", ranks,
          by_length ? " (ranks=0: length / 50)" : ""));
    }
    ranks = std::min(ranks, vocabulary - FirstFreeToken(answers));
    std::vector<int64_t> counts = FittingCounts(
        length - QuestionLength(answers), ranks, options.Real("alpha"));
    counts.resize(std::max<size_t>(counts.size(), answers + 2));
    for (int64_t rank = 2; rank <= answers + 1; ++rank) {
      if (counts[rank - 1] > counts[rank]) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "frequent_words: at length=", length, " the words of rank ", rank,
          " and ", rank + 1, " both occur ", counts[rank],
          " times; more length or less alpha tells them apart"));
    }
    while (counts.back() == 0) counts.pop_back();
    return std::unique_ptr<Task>(new FrequentWords(options, std::move(counts)));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  // Of as many different words as there are slots, each is an answer with this
  // probability. Everyone knows that noise is none.
  double ChanceScore() const override {
    return static_cast<double>(answers_) / words();
  }
  double ContextGuessScore() const override {
    return static_cast<double>(answers_) / (counts_.size() - 1);
  }

  LeakFloors Floors() const override {
    // Counting is what is asked for, and a bag counts. All words are alike, so
    // who cannot count is left with chance, in whatever slot.
    return {ChanceScore(), /*bag=*/1, ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    if (token == noise()) return "...";
    return SlotTaskTokenText(token > noise() ? token - 1 : token, answers_,
                             "w");
  }

 private:
  FrequentWords(const Options& options, std::vector<int64_t> counts)
      : length_(options.Int("length")),
        answers_(options.Int("answers")),
        vocabulary_(options.Int("vocab")),
        fixed_order_(options.Choice("order") == "fixed"),
        counts_(std::move(counts)),
        random_("frequent_words"),
        order_stream_(StreamId("frequent_words/order")) {}

  int32_t noise() const { return FirstFreeToken(answers_); }
  int64_t words() const { return vocabulary_ - noise() - 1; }

  const int64_t length_;
  const int64_t answers_;
  const int64_t vocabulary_;
  const bool fixed_order_;
  const std::vector<int64_t> counts_;  // by rank, from 1 on
  const TaskRandom random_;
  const uint64_t order_stream_;
};

void FrequentWords::Generate(Split split, uint64_t seed, uint64_t index,
                             Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  std::vector<uint64_t> drawn(counts_.size() - 1);
  DrawDistinct(words(), absl::MakeSpan(drawn), &random);
  std::vector<int32_t> by_rank = {noise()};
  for (const uint64_t word : drawn) {
    by_rank.push_back(static_cast<int32_t>(noise() + 1 + word));
  }
  AskAtTheEnd(length_, absl::MakeConstSpan(by_rank).subspan(1, answers_),
              example);

  int32_t* to = example->tokens.data();
  for (size_t i = 0; i < counts_.size(); ++i) {
    to = std::fill_n(to, counts_[i], by_rank[i]);
  }
  const int64_t places = length_ - QuestionLength(answers_);
  Random same_for_all(/*seed=*/0, order_stream_);
  Shuffle(absl::MakeSpan(example->tokens).first(places),
          fixed_order_ ? &same_for_all : &random);
  for (int64_t t = 0; t < places; ++t) {
    if (example->tokens[t] == kBlankToken || example->tokens[t] == noise()) {
      example->roles[t] = TokenRole::kFiller;
    }
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "frequent_words";
  descriptor.group = "summarization proxies";
  descriptor.summary =
      "name the most frequent words of a text that obeys Zipf's law";
  descriptor.paper = "arXiv 2404.06654";
  descriptor.options = {
      OptionSpec::Int("length", 128, 6, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("answers", 3, 1, 1 << 10,
                      "words asked for: ranks 2 ... answers + 1"),
      OptionSpec::Int("ranks", 8, 0, 1 << 20,
                      "different words at most, noise included; 0: length / "
                      "50"),
      OptionSpec::Real("alpha", 2, 1.1, 10,
                       "exponent of Zipf's law; larger is steeper"),
      OptionSpec::Int("vocab", 32, 8, 1 << 20,
                      "tokens: 3 marks, a slot for each answer, noise, words"),
      OptionSpec::Choice("order", "fresh", {"fresh", "fixed"},
                         "of the words: each example's own, or one for all as "
                         "in RULER"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "128"},
        {"answers", "3"},
        {"ranks", "8"},
        {"alpha", "2"},
        {"vocab", "32"}},
       // To find the third of three counts takes more than a mean.
       {{"mlp_factor", "2"}}},
      {"smoke",
       {{"length", "48"},
        {"answers", "2"},
        {"ranks", "5"},
        {"alpha", "2"},
        {"vocab", "32"}}},
      // RULER asks trained language models. Model and training are ours, and so
      // is the number of words to draw from: its words are random letters.
      {"published/ruler",
       {{"length", "4096"},
        {"answers", "3"},
        {"ranks", "0"},
        {"alpha", "2"},
        {"vocab", "8192"},
        {"order", "fixed"}},
       {{"width", "128"}, {"layers", "2"}},
       {{"steps", "5000"}, {"batch", "16"}, {"eval_every", "500"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), FrequentWords::Make});

}  // namespace
}  // namespace mneme
