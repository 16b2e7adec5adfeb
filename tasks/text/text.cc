// SPDX-License-Identifier: Apache-2.0
//
// Byte-level language modelling of real text: at every position, say the next
// byte (Graves, "Generating sequences with recurrent neural networks",
// arXiv 1308.0850, which gives bits per character of Wikipedia). What is
// recorded is the loss in nats for each byte, over all positions and by
// position; bits per byte are nats / ln 2.
//
//   text      ... T h e   c a t   s a t ...
//   token         T h e _ c a t _              length bytes of a window
//   target        h e _ c a t _ s              the byte after each
//
// The text is a file or a folder of the user's, cut by position
// (text_corpus.h): the first 90% of each file's bytes are training text, the
// next 5% validation text, the last 5% test text.
//
//   - A training window starts anywhere in the training text, with equal
//     probability.
//   - Validation and test windows stand side by side: each byte but a split's
//     first is asked for in one window, except at most length - 1 at the end.
//     Their order is spread over the text: the first n of W windows stand about
//     W / n apart, so that a test of fewer than all still sees every part of
//     the text. They are the same from every seed. After the last one they
//     start over: set test_examples to their number at most.
//   - A window knows nothing of what stands before it. Bytes at its start are
//     therefore harder; the loss by position says how much.

#include <algorithm>
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
#include "tasks/task.h"
#include "tasks/task_random.h"
#include "tasks/text_corpus.h"

namespace mneme {
namespace {

constexpr int64_t kBytes = 256;

class Text : public Task {
 public:
  Text(std::shared_ptr<const TextCorpus> corpus, int64_t length)
      : corpus_(std::move(corpus)), length_(length) {}

  int64_t vocabulary() const override { return kBytes; }
  int64_t length() const override { return length_; }
  std::string DataIdentity() const override { return corpus_->Identity(); }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    GenerateRange(split, seed, index, 0, length_, example);
  }

  bool GeneratesRanges() const override { return true; }

  void GenerateRange(Split split, uint64_t seed, uint64_t index, int64_t first,
                     int64_t count, Example* example) const override {
    example->roles.assign(count, TokenRole::kQuery);
    example->origins.clear();
    example->notes.clear();
    example->tokens.resize(count);
    example->targets.resize(count);
    if (count == 0) return;
    const int64_t place = Start(split, seed, index) + first;
    corpus_->Read(split, place, absl::MakeSpan(example->tokens));
    corpus_->Read(split, place + 1, absl::MakeSpan(example->targets));
  }

  // Guessing among all bytes; among those that the text uses.
  double ChanceScore() const override { return 1.0 / kBytes; }
  double ContextGuessScore() const override {
    return 1.0 / corpus_->distinct_bytes();
  }

  // Who knows the position alone can say the most frequent byte. But the last
  // three bytes tell much of the next one, and which bytes there are tells in
  // what kind of text one is: that is the structure of text, which is what is
  // asked for, and a text of one line repeated is told by either completely.
  // On the default text a bag scores .15, as positions do, and three bytes .41.
  LeakFloors Floors() const override {
    double largest = 0;
    for (const Split split :
         {Split::kTrain, Split::kValidation, Split::kTest}) {
      largest = std::max(largest, corpus_->LargestFrequency(split));
    }
    return {/*position=*/largest, /*bag=*/1, /*ngram=*/1};
  }

  std::string TokenText(int32_t token) const override {
    return TextTokenText(token);
  }

 private:
  // Where an example's window starts in its split.
  int64_t Start(Split split, uint64_t seed, uint64_t index) const {
    const int64_t starts = corpus_->bytes(split) - length_;
    if (split == Split::kTrain) {
      return random_.ForExample(split, seed, index).Below(starts);
    }
    const uint64_t windows = (starts - 1) / length_ + 1;
    return static_cast<int64_t>(index % windows * Stride(windows) % windows) *
           length_;
  }

  // From one window to the next: prime to their number, so that all are read,
  // and near the golden section of it, which spreads any first few evenly.
  static uint64_t Stride(uint64_t windows) {
    uint64_t stride = static_cast<uint64_t>(0.6180339887498949 * windows) + 1;
    while (std::gcd(stride, windows) != 1) ++stride;
    return stride;
  }

  std::shared_ptr<const TextCorpus> corpus_;
  int64_t length_;
  TaskRandom random_{"text"};
};

absl::StatusOr<std::unique_ptr<Task>> MakeText(const Options& options) {
  auto corpus = OpenText(options);
  if (!corpus.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("text: ", corpus.status().message()));
  }
  const int64_t length = options.Int("length");
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    if ((*corpus)->bytes(split) > length) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("text: length=", length, " needs ", length + 1,
                     " bytes of ", SplitName(split),
                     " text (90% of the bytes are training, 5% "
                     "validation, 5% test); ",
                     (*corpus)->name(), " has ", (*corpus)->bytes(split)));
  }
  return std::make_unique<Text>(*std::move(corpus), length);
}

std::vector<OptionSpec> Specs() {
  std::vector<OptionSpec> specs = {
      OptionSpec::Int("length", 128, 1, int64_t{1} << 24, "bytes in a window")};
  for (OptionSpec& spec : TextOptions()) specs.push_back(std::move(spec));
  return specs;
}

const bool registered = RegisterTask(TaskPlugin{
    TaskDescriptor{/*name=*/"text",
                   /*group=*/"real text",
                   /*summary=*/"say the next byte of a text of yours",
                   /*paper=*/"arXiv 1308.0850",
                   /*version=*/1,
                   /*requires_causal=*/true,
                   /*options=*/Specs(),
                   /*profiles=*/
                   {
                       // Of the default text there are 522 validation and 522
                       // test windows.
                       {"quick",
                        {},
                        {},
                        {{"steps", "400"},
                         {"validation_examples", "256"},
                         {"test_examples", "512"}}},
                       {"smoke", {{"length", "16"}}},
                   }},
    MakeText});

}  // namespace
}  // namespace mneme
