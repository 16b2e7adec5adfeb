// SPDX-License-Identifier: Apache-2.0
//
// Copying strings: Jelassi, Brandfonbrener, Kakade and Malach, "Repeat After
// Me: Transformers are Better than State Space Models at Copying", arXiv
// 2402.01032. A string x of uniform letters is read and then said again:
//
//   token   $  b  e  e  |  b  e  e  .  *  *  *         $x|x. and padding
//   target              b  e  e  .
//
// The copy is teacher-forced: each letter is wanted one token before it stands,
// so a model that sees what follows reads the answer off, and is refused.
//
// Training sequences are packed, as in the paper: strings of lengths uniform in
// min_string ... the longest follow each other until one does not fit; its
// beginning fills the rest and is not scored. Validation and test sequences
// hold one string, by default of the longest length, and padding; so a run at
// twice the `length` is a test on strings twice as long. The longest string is
// given as a part of the length for that reason.
//
// The score is the paper's: the fraction of strings whose letters are all
// right, by teacher forcing; the final "." is trained but does not count. The
// detail "characters" is the fraction of letters.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int32_t kPadding = 0;  // "*"
constexpr int32_t kBegin = 1;    // "$"
constexpr int32_t kMiddle = 2;   // "|"
constexpr int32_t kEnd = 3;      // "."
constexpr int32_t kFirstLetter = 4;

// Tokens of $x|x. for n letters.
constexpr int64_t TokensOf(int64_t n) { return 2 * n + 3; }

class StringCopy : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t least = options.Int("min_string");
    const int64_t most = Longest(options);
    if (most < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "string_copy: the longest string, longest * length = ", most,
          " letters, is shorter than min_string=", least));
    }
    if (TokensOf(most) > length) {
      return absl::InvalidArgumentError(absl::StrCat(
          "string_copy: a string of longest * length = ", most,
          " letters needs length >= ", TokensOf(most), ", not ", length));
    }
    return std::unique_ptr<Task>(new StringCopy(options));
  }

  int64_t vocabulary() const override { return kFirstLetter + letters_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override {
    return Count(example, predictions).strings;
  }
  std::vector<std::string> DetailNames() const override {
    return {"characters"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override {
    return {Count(example, predictions).characters};
  }

  double ChanceScore() const override {
    return OverLengths([&](int64_t n) {
      return std::pow(1.0 / static_cast<double>(letters_), n);
    });
  }
  // Any letter of the string, for each of its letters: there are n at most.
  double ContextGuessScore() const override {
    return OverLengths([&](int64_t n) {
      return std::pow(1.0 / static_cast<double>(std::min(n, letters_)), n);
    });
  }

  LeakFloors Floors() const override {
    // Who knows at best how often each of the V letters occurs has one guess
    // for all strings that are rearrangements of each other. There are V^n
    // strings and (n + V - 1 choose n) such classes.
    const auto classes = [&](int64_t n) {
      const double v = static_cast<double>(letters_);
      return std::exp(std::lgamma(n + v) - std::lgamma(n + 1.0) -
                      std::lgamma(v) - n * std::log(v));
    };
    // Of a string of one or two letters, the next one is among the last three
    // tokens; of longer ones it never is, and letters are independent.
    const auto visible = [&](int64_t n) {
      return n <= 2 ? 1 : std::pow(1.0 / static_cast<double>(letters_), n);
    };
    return {ChanceScore(), std::min(1.0, OverLengths(classes)),
            OverLengths(visible)};
  }

  std::string TokenText(int32_t token) const override {
    return std::string(1, "*$|.abcdefghijklmnopqrstuvwxyz"[token]);
  }

 private:
  explicit StringCopy(const Options& options)
      : length_(options.Int("length")),
        letters_(options.Int("letters")),
        least_(options.Int("min_string")),
        most_(Longest(options)),
        packed_(options.Bool("packed")),
        longest_in_tests_(options.Choice("test_strings") == "longest"),
        random_("string_copy") {}

  static int64_t Longest(const Options& options) {
    // Not one less for 0.3 * 10 being below 3.
    return static_cast<int64_t>(options.Real("longest") *
                                    static_cast<double>(options.Int("length")) +
                                1e-9);
  }

  // The mean over the lengths of test strings.
  template <typename F>
  double OverLengths(const F& f) const {
    const int64_t least = longest_in_tests_ ? most_ : least_;
    double sum = 0;
    for (int64_t n = least; n <= most_; ++n) sum += f(n);
    return sum / static_cast<double>(most_ - least + 1);
  }

  struct Fractions {
    double strings = 0, characters = 0;
  };
  static Fractions Count(const Example& example,
                         absl::Span<const int32_t> predictions);

  const int64_t length_;
  const int64_t letters_;
  const int64_t least_, most_;  // letters in a string
  const bool packed_;
  const bool longest_in_tests_;
  const TaskRandom random_;
};

void StringCopy::Generate(Split split, uint64_t seed, uint64_t index,
                          Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  example->tokens.assign(length_, kPadding);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  example->notes.clear();
  const bool training = split == Split::kTrain;
  int64_t begin = 0;
  do {
    const int64_t n = !training && longest_in_tests_
                          ? most_
                          : least_ + random.Below(most_ - least_ + 1);
    const int64_t end = begin + TokensOf(n);
    const int64_t middle = begin + n + 1;
    // What does not fit is cut off.
    const auto put = [&](int64_t t, int32_t token) {
      if (t >= length_) return;
      example->tokens[t] = token;
      example->roles[t] = TokenRole::kContext;
    };
    put(begin, kBegin);
    put(middle, kMiddle);
    put(end - 1, kEnd);
    for (int64_t i = 0; i < n; ++i) {
      const auto letter =
          static_cast<int32_t>(kFirstLetter + random.Below(letters_));
      put(begin + 1 + i, letter);
      put(middle + 1 + i, letter);
    }
    if (end <= length_) {
      for (int64_t t = middle; t < end - 1; ++t) {
        example->targets[t] = example->tokens[t + 1];
        example->roles[t] = TokenRole::kQuery;
        if (t < end - 2) {
          example->origins[t] = static_cast<int32_t>(t - middle + begin + 1);
        }
      }
    }
    begin = end;
  } while (training && packed_ && begin < length_);
}

StringCopy::Fractions StringCopy::Count(const Example& example,
                                        absl::Span<const int32_t> predictions) {
  int64_t strings = 0, right_strings = 0, letters = 0, right_letters = 0;
  bool right = true;
  size_t scored = 0;
  for (const int32_t target : example.targets) {
    if (target == kUnscored) continue;
    const bool hit = predictions[scored++] == target;
    if (target == kEnd) {
      ++strings;
      right_strings += right;
      right = true;
    } else {
      ++letters;
      right_letters += hit;
      right = right && hit;
    }
  }
  return {static_cast<double>(right_strings) / static_cast<double>(strings),
          static_cast<double>(right_letters) / static_cast<double>(letters)};
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "string_copy";
  descriptor.group = "copying and compression";
  descriptor.summary = "say a string of letters again, all of it";
  descriptor.paper = "arXiv 2402.01032";
  descriptor.requires_causal = true;
  descriptor.options = {
      OptionSpec::Int("length", 64, 5, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("letters", 26, 2, 26, "of the alphabet"),
      OptionSpec::Int("min_string", 8, 1, 1 << 19,
                      "letters in the shortest string"),
      OptionSpec::Real("longest", 0.45, 0, 0.5,
                       "letters in the longest string, as part of the length"),
      OptionSpec::Bool("packed", true,
                       "training sequences hold as many strings as they can"),
      OptionSpec::Choice("test_strings", "longest", {"longest", "random"},
                         "lengths of strings in validation and test"),
  };
  descriptor.profiles = {
      {"quick", {{"length", "64"}, {"min_string", "4"}, {"longest", "0.25"}}},
      {"smoke", {{"length", "16"}, {"min_string", "2"}, {"longest", "0.25"}}},
      // The defaults of the paper's code: strings of 8 to 50 letters in
      // contexts of 220 tokens, batches of 64, AdamW at 1e-5. Its transformers
      // and Mamba have about 160 million parameters: 12 and 24 layers of width
      // 1024, and its best positions are Hard-ALiBi; sizes, steps, warm-up and
      // decay are not verified.
      {"published/repeat_after_me",
       {{"length", "220"},
        {"letters", "26"},
        {"min_string", "8"},
        {"longest", "0.2273"},
        {"packed", "true"},
        {"test_strings", "longest"}},
       {{"layers", "12"},
        {"heads", "16"},
        {"width", "1024"},
        {"mlp_factor", "4"},
        {"short_conv", "0"}},
       {{"steps", "100000"},
        {"batch", "64"},
        {"learning_rate", "0.00001"},
        {"eval_every", "1000"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), StringCopy::Make});

}  // namespace
}  // namespace mneme
