// SPDX-License-Identifier: Apache-2.0
//
// Compression of MAD: Poli, Thomas, Nguyen et al., "Mechanistic Design and
// Scaling of Hybrid Architectures", arXiv 2403.17844.
//
// L - 1 tokens, each uniform on V - 1 kinds, and a mark; from the hidden state
// at the mark alone, all of them are to be said again:
//
//   position  0 1 2 3 4 5       L = 6
//   token     c a a d b |       the mark is 0
//   target    c a a d b
//
// The answers are read off one vector, to which only the number of the position
// asked for is added (Task::AnswersFromLastToken): the sequence must have been
// packed into it, of which later tokens are no help, so that models need not be
// causal.
//
// The original scores the mark too, which is always the same; `score_mark`
// does so, for comparing.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/tensor/random.h"
#include "tasks/mad/mad.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int32_t kMark = 0;

class Compression : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    return std::unique_ptr<Task>(new Compression(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;
  bool AnswersFromLastToken() const override { return true; }

  double ChanceScore() const override { return WithMark(1.0 / kinds()); }
  // A token drawn from the sequence: it is the one asked for, or of the same
  // kind.
  double ContextGuessScore() const override {
    return WithMark((1 + (content() - 1.0) / kinds()) / content());
  }
  // Tokens are in random order, so that who knows which there are can at best
  // say the most frequent. The last three tokens are the mark and the last two
  // of the content, which are known where they are asked for.
  LeakFloors Floors() const override {
    const double known = std::min<int64_t>(2, content());
    return {ChanceScore(),
            WithMark(ExpectedLargestShares(kinds(), content()).back()),
            WithMark((known + (content() - known) / kinds()) / content())};
  }

  std::string TokenText(int32_t token) const override {
    return token == kMark ? "|" : LetterText(token - 1, 'a', "c");
  }

 private:
  explicit Compression(const Options& options)
      : length_(options.Int("length")),
        vocabulary_(options.Int("vocab")),
        score_mark_(options.Bool("score_mark")),
        random_("compression") {}

  int64_t kinds() const { return vocabulary_ - 1; }
  int64_t content() const { return length_ - 1; }

  // The score of who has `score` of the content and says the mark.
  double WithMark(double score) const {
    return score_mark_ ? (score * content() + 1) / length_ : score;
  }

  const int64_t length_;
  const int64_t vocabulary_;
  const bool score_mark_;
  const TaskRandom random_;
};

void Compression::Generate(Split split, uint64_t seed, uint64_t index,
                           Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  example->tokens.resize(length_);
  example->roles.assign(length_, TokenRole::kQuery);
  example->origins.clear();
  example->notes.clear();
  for (int64_t t = 0; t < content(); ++t) {
    example->tokens[t] = 1 + random.Below(kinds());
  }
  example->tokens[content()] = kMark;
  example->targets = example->tokens;
  if (score_mark_) return;
  example->targets[content()] = kUnscored;
  example->roles[content()] = TokenRole::kContext;
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "compression";
  descriptor.group = "copying and compression";
  descriptor.summary = "say the whole sequence, from its last hidden state";
  descriptor.paper = "arXiv 2403.17844";
  descriptor.options = {
      OptionSpec::Int("length", 16, 2, 1 << 24,
                      "tokens in a sequence, the mark included"),
      OptionSpec::Int("vocab", 16, 3, 1 << 20,
                      "tokens: the mark, the others content"),
      OptionSpec::Bool("score_mark", false,
                       "score the mark as well, as published"),
  };
  descriptor.profiles = {
      {"quick", {{"length", "16"}, {"vocab", "16"}}},
      {"smoke", {{"length", "8"}, {"vocab", "8"}}},
      PublishedMad({{"length", "32"}, {"vocab", "16"}, {"score_mark", "true"}}),
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Compression::Make});

}  // namespace
}  // namespace mneme
