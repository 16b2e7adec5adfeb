// SPDX-License-Identifier: Apache-2.0
//
// Chapters in the wrong order: ZeroSCROLLS' BookSumSort (Shaham et al., arXiv
// 2305.14196) without the language. C chapters, each a different label, a date
// and words, stand in random order; the answer is the labels in the order of
// the dates:
//
//   token   c5 d7 w1 w3 c2 d3 w3 w2 c9 d4 w1 w1 | = ?1 ?2 ?3      C = 3
//   target                                          c2 c9 c5
//
// A chapter starts with its label; its date follows at once, or, with date =
// anywhere, stands somewhere in the chapter, and all its other tokens are words
// that mean nothing. Labels and dates are drawn anew for each example, so what
// counts is which of two dates is earlier, and no date has a place of its own
// unless all dates occur (dates = chapters). Chapters are equally long; blanks
// fill up behind the last.
//
// Score as published: the concordance index, the fraction of pairs of chapters
// that are named in the right order; a label counts at its first place, and a
// pair of which one is missing is wrong. Details: the whole order right, and
// the fraction of slots that are.
//
// How many chapters the published books have varies; 16 is our choice.

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
#include "tasks/answer_slots.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

class Reorder : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t chapters = options.Int("chapters");
    const int64_t least = 2 * chapters + QuestionLength(chapters);
    if (length < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "reorder: chapters=", chapters, " need length >= ", least,
          " (label, date and slot each, two marks), not ", length));
    }
    for (const char* name : {"labels", "dates"}) {
      if (options.Int(name) >= chapters) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "reorder: chapters=", chapters, " need as many different ", name,
          ", not ", name, "=", options.Int(name)));
    }
    return std::unique_ptr<Task>(new Reorder(options));
  }

  int64_t vocabulary() const override { return first_word() + words_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override;
  std::vector<std::string> DetailNames() const override {
    return {"exact", "in_place"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override {
    const double in_place = Task::Score(example, predictions);
    return {in_place == 1 ? 1.0 : 0.0, in_place};
  }

  // Different labels in any order: both of a pair are among them with
  // probability C / n (C - 1) / (n - 1), and then right every other time.
  double ChanceScore() const override {
    return 0.5 * chapters_ / labels_ * (chapters_ - 1) / (labels_ - 1);
  }
  double ContextGuessScore() const override { return 0.5; }

  LeakFloors Floors() const override {
    // A bag knows labels and dates, but not whose they are. The last three
    // tokens are those of the question, the same in all examples.
    return {ChanceScore(), ContextGuessScore(), ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    if (token < first_label()) return SlotTaskTokenText(token, chapters_, "");
    if (token < first_date()) return absl::StrCat("c", token - first_label());
    if (token < first_word()) return absl::StrCat("d", token - first_date());
    return absl::StrCat("w", token - first_word());
  }

 private:
  explicit Reorder(const Options& options)
      : length_(options.Int("length")),
        chapters_(options.Int("chapters")),
        labels_(options.Int("labels")),
        dates_(options.Int("dates")),
        words_(options.Int("words")),
        date_anywhere_(options.Choice("date") == "anywhere"),
        chapter_length_((length_ - QuestionLength(chapters_)) / chapters_),
        random_("reorder") {}

  int32_t first_label() const { return FirstFreeToken(chapters_); }
  int64_t first_date() const { return first_label() + labels_; }
  int64_t first_word() const { return first_date() + dates_; }

  const int64_t length_;
  const int64_t chapters_;
  const int64_t labels_;
  const int64_t dates_;
  const int64_t words_;
  const bool date_anywhere_;
  const int64_t chapter_length_;
  const TaskRandom random_;
};

void Reorder::Generate(Split split, uint64_t seed, uint64_t index,
                       Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  // Chapter i of the context has label i and date i.
  std::vector<uint64_t> labels(chapters_), dates(chapters_);
  DrawDistinct(labels_, absl::MakeSpan(labels), &random);
  DrawDistinct(dates_, absl::MakeSpan(dates), &random);
  std::vector<int64_t> order(chapters_);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return dates[a] < dates[b]; });
  std::vector<int32_t> answers(chapters_);
  for (int64_t i = 0; i < chapters_; ++i) {
    answers[i] = static_cast<int32_t>(first_label() + labels[order[i]]);
  }
  AskAtTheEnd(length_, answers, example);

  const int64_t text = chapters_ * chapter_length_;
  const int64_t slots = length_ - chapters_;
  std::fill(example->roles.begin(), example->roles.begin() + slots,
            TokenRole::kFiller);
  for (int64_t t = 0; t < text; ++t) {
    example->tokens[t] =
        static_cast<int32_t>(first_word() + random.Below(words_));
  }
  example->origins.assign(length_, kNowhere);
  for (int64_t i = 0; i < chapters_; ++i) {
    const int64_t label = i * chapter_length_;
    const int64_t date =
        label + 1 + (date_anywhere_ ? random.Below(chapter_length_ - 1) : 0);
    example->tokens[label] = static_cast<int32_t>(first_label() + labels[i]);
    example->tokens[date] = static_cast<int32_t>(first_date() + dates[i]);
    example->roles[label] = example->roles[date] = TokenRole::kContext;
    example->origins[slots + i] =
        static_cast<int32_t>(order[i] * chapter_length_);
  }
}

double Reorder::Score(const Example& example,
                      absl::Span<const int32_t> predictions) const {
  // The first place of each label among the predictions.
  const int64_t nowhere = chapters_;
  std::vector<int64_t> said(labels_, nowhere);
  for (int64_t i = chapters_ - 1; i >= 0; --i) {
    const int64_t label = predictions[i] - first_label();
    if (0 <= label && label < labels_) said[label] = i;
  }
  const absl::Span<const int32_t> wanted =
      absl::MakeConstSpan(example.targets).last(chapters_);
  int64_t concordant = 0;
  for (int64_t i = 0; i < chapters_; ++i) {
    for (int64_t j = i + 1; j < chapters_; ++j) {
      const int64_t later = said[wanted[j] - first_label()];
      concordant += later != nowhere && said[wanted[i] - first_label()] < later;
    }
  }
  return concordant / (0.5 * chapters_ * (chapters_ - 1));
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "reorder";
  descriptor.group = "summarization proxies";
  descriptor.summary = "put shuffled chapters into the order of their dates";
  descriptor.paper = "arXiv 2305.14196";
  descriptor.options = {
      OptionSpec::Int("length", 64, 8, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("chapters", 4, 2, 1 << 10, "chapters, all asked for"),
      OptionSpec::Int("labels", 16, 2, 1 << 16,
                      "labels that chapters can have"),
      OptionSpec::Int("dates", 8, 2, 1 << 16, "dates that chapters can have"),
      OptionSpec::Int("words", 16, 1, 1 << 16, "words of the chapters' text"),
      OptionSpec::Choice("date", "first", {"first", "anywhere"},
                         "where in its chapter the date stands"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"chapters", "4"},
        {"labels", "16"},
        {"dates", "8"},
        {"words", "16"},
        {"date", "first"}},
       // The third date of four is not the extreme of anything.
       {{"mlp_factor", "2"}}},
      {"smoke",
       {{"length", "24"},
        {"chapters", "3"},
        {"labels", "8"},
        {"dates", "8"},
        {"words", "8"}}},
      // ZeroSCROLLS asks trained language models. Model and training are ours.
      {"published/zeroscrolls",
       {{"length", "8192"},
        {"chapters", "16"},
        {"labels", "64"},
        {"dates", "1024"},
        {"words", "256"},
        {"date", "anywhere"}},
       {{"width", "128"}, {"layers", "2"}},
       {{"steps", "5000"}, {"batch", "16"}, {"eval_every", "500"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Reorder::Make});

}  // namespace
}  // namespace mneme
