// SPDX-License-Identifier: Apache-2.0
//
// How many different passages are there: LongBench's PassageCount (Bai et al.,
// arXiv 2308.14508), which repeats some paragraphs, shuffles all, and asks how
// many are left when repetitions are removed. N segments of s words, each after
// a mark, stand at random places among blanks:
//
//   token   # w3 w7 _ # w1 w1 # w3 w7 _ _ | = ?1        N = 3, s = 2
//   target                                    2
//
// The answer D is uniform on 1 ... N. D segments, all different and uniform
// among the W^s that W words make, stand there once; each of the other N - D
// repeats one of them, taken uniformly. The score is 1 for the right number and
// 0 otherwise, as published; Details say how often it was missed by one at
// most.
//
// Sizes of the published paragraphs differ, so there is no profile with them.
//
// Segments share words when W is small. Then only who compares segments as a
// whole can tell; with many words, to count different words is almost enough,
// and a bag of tokens does that.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/answer_slots.h"
#include "tasks/scatter.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int64_t kSlots = 1;

// Segments are drawn by number. Longer ones than numbers of so many bits tell
// apart get words at random behind those that the number gives.
constexpr uint64_t kMostNumbered = uint64_t{1} << 62;

struct Numbering {
  int64_t words = 0;      // that a number gives
  uint64_t segments = 1;  // numbers that there are
};

Numbering NumberSegments(uint64_t words, int64_t width) {
  Numbering numbering;
  while (numbering.words < width &&
         numbering.segments <= kMostNumbered / words) {
    numbering.segments *= words;
    ++numbering.words;
  }
  return numbering;
}

class DistinctCount : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t segments = options.Int("segments");
    const int64_t width = options.Int("segment");
    const int64_t words = options.Int("words");
    const int64_t least = segments * (1 + width) + QuestionLength(kSlots);
    if (length < least) {
      return absl::InvalidArgumentError(
          absl::StrCat("distinct_count: segments=", segments, " of ", width,
                       " words need length >= ", least,
                       " with their marks and the question, not ", length));
    }
    const uint64_t different = NumberSegments(words, width).segments;
    if (different < static_cast<uint64_t>(segments)) {
      return absl::InvalidArgumentError(
          absl::StrCat("distinct_count: words=", words, " make ", different,
                       " different segments of ", width,
                       ", and segments=", segments, " may all have to differ"));
    }
    return std::unique_ptr<Task>(new DistinctCount(options));
  }

  int64_t vocabulary() const override { return first_word() + words_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  std::vector<std::string> DetailNames() const override {
    return {"within_one"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override {
    const int64_t said = predictions[0] - first_number() + 1;
    const int64_t right = example.targets.back() - first_number() + 1;
    const bool is_number = 1 <= said && said <= segments_;
    return {is_number && std::abs(said - right) <= 1 ? 1.0 : 0.0};
  }

  double ChanceScore() const override { return 1.0 / segments_; }
  // No number stands in the context.
  double ContextGuessScore() const override { return ChanceScore(); }

  LeakFloors Floors() const override {
    // Words that occur nowhere else tell segments apart, and a bag counts them.
    return {ChanceScore(), /*bag=*/1, ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    if (token < first_number()) return SlotTaskTokenText(token, kSlots, "");
    if (token < mark()) return absl::StrCat(token - first_number() + 1);
    if (token == mark()) return "#";
    return absl::StrCat("w", token - first_word() + 1);
  }

 private:
  explicit DistinctCount(const Options& options)
      : length_(options.Int("length")),
        segments_(options.Int("segments")),
        width_(options.Int("segment")),
        words_(options.Int("words")),
        numbering_(NumberSegments(words_, width_)),
        random_("distinct_count") {}

  int32_t first_number() const { return FirstFreeToken(kSlots); }
  int64_t mark() const { return first_number() + segments_; }
  int64_t first_word() const { return mark() + 1; }

  const int64_t length_;
  const int64_t segments_;
  const int64_t width_;
  const int64_t words_;
  const Numbering numbering_;
  const TaskRandom random_;
};

void DistinctCount::Generate(Split split, uint64_t seed, uint64_t index,
                             Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const int64_t distinct = 1 + random.Below(segments_);
  const int32_t answer = static_cast<int32_t>(first_number() + distinct - 1);
  AskAtTheEnd(length_, {answer}, example);

  std::vector<uint64_t> numbers(distinct);
  DrawDistinct(numbering_.segments, absl::MakeSpan(numbers), &random);
  // The words of the different segments, one after the other. A number's digits
  // to base W are words.
  std::vector<int32_t> words(distinct * width_);
  for (int64_t i = 0; i < distinct; ++i) {
    uint64_t rest = numbers[i];
    for (int64_t j = 0; j < width_; ++j) {
      const bool numbered = j < numbering_.words;
      words[i * width_ + j] = static_cast<int32_t>(
          first_word() + (numbered ? rest % words_ : random.Below(words_)));
      rest /= words_;
    }
  }
  std::vector<int64_t> segments(segments_);
  for (int64_t i = 0; i < segments_; ++i) {
    segments[i] = i < distinct ? i : random.Below(distinct);
  }
  Shuffle(absl::MakeSpan(segments), &random);

  const int64_t places = length_ - QuestionLength(kSlots);
  std::fill_n(example->roles.begin(), places, TokenRole::kFiller);
  const std::vector<int64_t> starts =
      ScatterRuns(segments_, 1 + width_, places, &random);
  for (int64_t i = 0; i < segments_; ++i) {
    const int64_t t = starts[i];
    std::fill_n(example->roles.begin() + t, 1 + width_, TokenRole::kContext);
    example->tokens[t] = static_cast<int32_t>(mark());
    std::copy_n(words.begin() + segments[i] * width_, width_,
                example->tokens.begin() + t + 1);
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "distinct_count";
  descriptor.group = "summarization proxies";
  descriptor.summary = "how many different segments there are";
  descriptor.paper = "arXiv 2308.14508";
  descriptor.options = {
      OptionSpec::Int("length", 64, 6, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("segments", 6, 2, 1 << 16,
                      "segments, repetitions included"),
      OptionSpec::Int("segment", 2, 1, 1 << 16, "words of a segment"),
      OptionSpec::Int("words", 16, 2, 1 << 20, "different words"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"segments", "6"},
        {"segment", "2"},
        {"words", "16"}}},
      {"smoke",
       {{"length", "16"}, {"segments", "4"}, {"segment", "2"}, {"words", "8"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), DistinctCount::Make});

}  // namespace
}  // namespace mneme
