// SPDX-License-Identifier: Apache-2.0
//
// Selective copying, as in MAD: Poli, Thomas, Nguyen et al., "Mechanistic
// Design and Scaling of Hybrid Architectures", arXiv 2403.17844; from Gu and
// Dao, "Mamba", arXiv 2312.00752.
//
// M tokens of content, each uniform on V - 2 kinds, stand scattered among
// blanks. After the copy mark they are to be said again in order, without the
// blanks, at M blanks where nothing else shows the way:
//
//   position  0 1 2 3 4 5 6 | 7 | 8 9 10        M = 3, L = 11
//   token     _ b _ _ a _ b | | | _ _ _         _ is 0, the mark is 1
//   target                  |   | b a b
//
// A model must tell content from blanks, hold it in order, and know how many
// answers it gave: none of the answers enters the input.
//
// `places` says where content stands. `uniform`: every choice of M of the
// L - M - 1 places is equally likely. `insertions`, as published: each blank is
// inserted before a content token that is drawn uniformly, so that the gaps are
// multinomial, close to their mean, and no blank is ever between the last
// content token and the mark. Only the profile of the paper has
// that.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
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

constexpr int32_t kBlank = 0;
constexpr int32_t kMark = 1;
constexpr int32_t kFirstContent = 2;

class SelectiveCopy : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t tokens = options.Int("tokens");
    if (length < 2 * tokens + 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "selective_copy: tokens=", tokens, " need length >= ", 2 * tokens + 1,
          " (each stands once and is said once, after a mark), not ", length));
    }
    return std::unique_ptr<Task>(new SelectiveCopy(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double ChanceScore() const override { return 1.0 / kinds(); }
  // A content token drawn from the context: it is the one asked for, or of the
  // same kind.
  double ContextGuessScore() const override {
    return (1 + (tokens_ - 1.0) / kinds()) / tokens_;
  }
  // Content is in random order, so that who knows which there is can at best
  // say the most frequent throughout. The last three tokens at an answer are
  // the mark and blanks, and before the mark at most the last content token: an
  // answer only if it is the first.
  LeakFloors Floors() const override {
    return {ChanceScore(), ExpectedLargestShares(kinds(), tokens_).back(),
            tokens_ == 1 ? 1 : ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    if (token == kBlank) return "_";
    if (token == kMark) return "|";
    return LetterText(token - kFirstContent, 'a', "c");
  }

 private:
  explicit SelectiveCopy(const Options& options)
      : length_(options.Int("length")),
        tokens_(options.Int("tokens")),
        vocabulary_(options.Int("vocab")),
        insertions_(options.Choice("places") == "insertions"),
        random_("selective_copy") {}

  int64_t kinds() const { return vocabulary_ - kFirstContent; }

  // Fills places with where content stands, in order.
  void DrawPlaces(absl::Span<uint64_t> places, Random* random) const;

  const int64_t length_;
  const int64_t tokens_;
  const int64_t vocabulary_;
  const bool insertions_;
  const TaskRandom random_;
};

void SelectiveCopy::DrawPlaces(absl::Span<uint64_t> places,
                               Random* random) const {
  const int64_t context = length_ - tokens_ - 1;
  if (!insertions_) {
    DrawDistinct(context, places, random);
    absl::c_sort(places);
    return;
  }
  absl::c_fill(places, 0);
  for (int64_t blank = tokens_; blank < context; ++blank) {
    ++places[random->Below(tokens_)];
  }
  // From blanks before each content token to its place.
  uint64_t place = 0;
  for (uint64_t& blanks : places) {
    place += blanks;
    blanks = place++;
  }
}

void SelectiveCopy::Generate(Split split, uint64_t seed, uint64_t index,
                             Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  std::vector<uint64_t> places(tokens_);
  DrawPlaces(absl::MakeSpan(places), &random);

  example->tokens.assign(length_, kBlank);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  example->notes.clear();
  const int64_t first_answer = length_ - tokens_;
  example->tokens[first_answer - 1] = kMark;
  example->roles[first_answer - 1] = TokenRole::kContext;
  for (int64_t i = 0; i < tokens_; ++i) {
    const int32_t token = kFirstContent + random.Below(kinds());
    example->tokens[places[i]] = token;
    example->roles[places[i]] = TokenRole::kContext;
    example->targets[first_answer + i] = token;
    example->roles[first_answer + i] = TokenRole::kQuery;
    example->origins[first_answer + i] = places[i];
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "selective_copy";
  descriptor.group = "copying and compression";
  descriptor.summary = "say the content again, in order, without the blanks";
  descriptor.paper = "arXiv 2403.17844";
  descriptor.options = {
      OptionSpec::Int("length", 64, 3, 1 << 24,
                      "tokens in a sequence; at least 2 * tokens + 1"),
      OptionSpec::Int("tokens", 8, 1, 4096, "content tokens to say again"),
      OptionSpec::Int("vocab", 16, 4, 1 << 20,
                      "tokens: blank, mark, the others content"),
      OptionSpec::Choice("places", "uniform", {"uniform", "insertions"},
                         "where content stands: anywhere, or with the blanks "
                         "evenly spread before each, as published"),
  };
  descriptor.profiles = {
      // Without positions, attention must count: 0.49 after 800 steps of 64,
      // and 0.97 with them after these.
      {"quick",
       {{"length", "64"},
        {"tokens", "8"},
        {"vocab", "16"},
        {"places", "uniform"}},
       {{"positions", "true"}},
       {{"steps", "500"}, {"batch", "32"}, {"learning_rate", "0.005"}}},
      {"smoke", {{"length", "16"}, {"tokens", "3"}, {"vocab", "8"}}},
      PublishedMad({{"length", "256"},
                    {"tokens", "16"},
                    {"vocab", "16"},
                    {"places", "insertions"}}),
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), SelectiveCopy::Make});

}  // namespace
}  // namespace mneme
