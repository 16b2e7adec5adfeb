// SPDX-License-Identifier: Apache-2.0
//
// Set disjointness: Arora, Timalsina et al., "Just read twice: closing the
// recall gap for recurrent language models", arXiv 2407.05483. Two sets share
// one element, which is wanted at the end:
//
//   token   _ _ $ a1 a2 a3 | b1 b2 b3 b4 b5 = = =       b4 = a2
//   target                                      a2
//
// It is the communication problem behind the paper's title: a memory that is
// read once must hold the first set whole, so it is easier if the shorter set
// comes first; read twice, it is as easy in either order. The option `order`
// fixes which comes first, or draws it.
//
// All elements are distinct but for the shared one, which is uniform in the
// first set and stands at a uniform place of the second. Blanks fill the front,
// so that the answer is always wanted at the last token.
//
// A bag of tokens solves the task, as one token counts two: what is measured is
// not the order of tokens but how many of them are kept. The last three tokens
// must not tell: after one question mark, as published, they hold two elements
// of the second set, and if that has one element only (which it has in two of
// the published test sizes) the answer stands there. Three marks hide them.
//
// The quick profile uses almost all of its elements in every sequence: with
// twice as many to choose from, softmax attention needs longer to find out.
//
// Published sizes (short, long), each in both orders: training on (4, 16) (8,
// 32) (16, 64) (4, 128) (16, 256) (4, 256); test on (1, 32) (4, 32) (4, 128)
// (16, 256) (4, 256) (16, 512) (4, 512) (8, 768) (16, 768) (4, 768). The paper
// also chooses by test data; here validation has the training sizes.

#include <algorithm>
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

constexpr int32_t kBlank = 0;
constexpr int32_t kFirstSet = 1;
constexpr int32_t kSecondSet = 2;
constexpr int32_t kQuestion = 3;
constexpr int32_t kFirstElement = 4;

struct Sizes {
  int64_t short_size, long_size;
};

std::vector<Sizes> PublishedTrainingSizes() {
  return {{4, 16}, {8, 32}, {16, 64}, {4, 128}, {16, 256}, {4, 256}};
}

std::vector<Sizes> PublishedTestSizes() {
  return {{1, 32},   {4, 32},  {4, 128}, {16, 256}, {4, 256},
          {16, 512}, {4, 512}, {8, 768}, {16, 768}, {4, 768}};
}

class SetDisjointness : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options);

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double ChanceScore() const override { return 1.0 / elements(); }
  // The answer is in the short set.
  double ContextGuessScore() const override {
    double sum = 0;
    for (const Sizes& sizes : test_) sum += 1.0 / sizes.short_size;
    return sum / test_.size();
  }

  LeakFloors Floors() const override {
    return {ChanceScore(), 1, marks_ < 3 ? LastElementScore() : ChanceScore()};
  }

  std::string TokenText(int32_t token) const override {
    if (token >= kFirstElement) return absl::StrCat(token - kFirstElement);
    return std::string(1, "_$|="[token]);
  }

 private:
  enum class Order { kShortFirst, kLongFirst, kMixed };

  SetDisjointness(const Options& options, std::vector<Sizes> training,
                  std::vector<Sizes> test)
      : length_(options.Int("length")),
        marks_(options.Int("marks")),
        vocabulary_(options.Int("vocab")),
        order_(options.Choice("order") == "short_first"  ? Order::kShortFirst
               : options.Choice("order") == "long_first" ? Order::kLongFirst
                                                         : Order::kMixed),
        training_(std::move(training)),
        test_(std::move(test)),
        random_("set_disjointness") {}

  int64_t elements() const { return vocabulary_ - kFirstElement; }

  // Of saying the last element before the question.
  double LastElementScore() const {
    double most = 0;
    for (const std::vector<Sizes>* sizes : {&training_, &test_}) {
      double sum = 0;
      for (const Sizes& s : *sizes) {
        const double after_short = 1.0 / s.long_size;
        const double after_long = 1.0 / s.short_size;
        sum += order_ == Order::kShortFirst  ? after_short
               : order_ == Order::kLongFirst ? after_long
                                             : (after_short + after_long) / 2;
      }
      most = std::max(most, sum / sizes->size());
    }
    return most;
  }

  const int64_t length_;
  const int64_t marks_;
  const int64_t vocabulary_;
  const Order order_;
  const std::vector<Sizes> training_;  // one is drawn for each example
  const std::vector<Sizes> test_;
  const TaskRandom random_;
};

absl::StatusOr<std::unique_ptr<Task>> SetDisjointness::Make(
    const Options& options) {
  const int64_t length = options.Int("length");
  const int64_t marks = options.Int("marks");
  const int64_t vocabulary = options.Int("vocab");
  const int64_t room = length - 2 - marks;
  const int64_t short_size = options.Int("short");
  const bool published = options.Choice("sizes") == "published";
  if (!published && 2 * short_size > room) {
    return absl::InvalidArgumentError(
        absl::StrCat("set_disjointness: short=", short_size,
                     " needs length >= ", 2 * short_size + 2 + marks,
                     " (two sets, two tokens before them, marks=", marks,
                     "), not ", length));
  }
  const std::vector<Sizes> filling = {{short_size, room - short_size}};
  std::vector<Sizes> training = published ? PublishedTrainingSizes() : filling;
  std::vector<Sizes> test = published ? PublishedTestSizes() : filling;
  for (const std::vector<Sizes>* all : {&training, &test}) {
    for (const Sizes& sizes : *all) {
      const int64_t tokens = sizes.short_size + sizes.long_size;
      if (tokens > room) {
        return absl::InvalidArgumentError(absl::StrCat(
            "set_disjointness: sets of ", sizes.short_size, " and ",
            sizes.long_size, " need length >= ", tokens + 2 + marks,
            " (two tokens before them, marks=", marks, "), not ", length));
      }
      if (tokens - 1 > vocabulary - kFirstElement) {
        return absl::InvalidArgumentError(absl::StrCat(
            "set_disjointness: sets of ", sizes.short_size, " and ",
            sizes.long_size, " need vocab >= ", tokens - 1 + kFirstElement,
            " (all elements differ but one), not ", vocabulary));
      }
    }
  }
  return std::unique_ptr<Task>(
      new SetDisjointness(options, std::move(training), std::move(test)));
}

void SetDisjointness::Generate(Split split, uint64_t seed, uint64_t index,
                               Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const std::vector<Sizes>& all = split == Split::kTest ? test_ : training_;
  const Sizes& sizes = all[random.Below(all.size())];
  const bool short_first = order_ == Order::kMixed
                               ? random.Below(2) == 0
                               : order_ == Order::kShortFirst;
  const int64_t first = short_first ? sizes.short_size : sizes.long_size;
  const int64_t second = short_first ? sizes.long_size : sizes.short_size;

  example->tokens.assign(length_, kBlank);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  example->notes.clear();

  // The first set and, after it, the second but for what they share.
  std::vector<uint64_t> drawn(first + second - 1);
  DrawDistinct(elements(), absl::MakeSpan(drawn), &random);
  const uint64_t shared = drawn[random.Below(first)];
  const int64_t shared_place = random.Below(second);

  const int64_t begin = length_ - marks_ - first - second - 2;
  std::fill(example->roles.begin() + begin, example->roles.end() - marks_,
            TokenRole::kContext);
  int32_t* out = example->tokens.data() + begin;
  *out++ = kFirstSet;
  for (int64_t i = 0; i < first; ++i) {
    *out++ = static_cast<int32_t>(kFirstElement + drawn[i]);
  }
  *out++ = kSecondSet;
  const int64_t second_begin = begin + first + 2;
  for (int64_t i = 0, next = first; i < second; ++i) {
    const uint64_t element = i == shared_place ? shared : drawn[next++];
    *out++ = static_cast<int32_t>(kFirstElement + element);
  }
  std::fill(out, out + marks_, kQuestion);
  std::fill(example->roles.end() - marks_, example->roles.end(),
            TokenRole::kQuery);
  example->targets.back() = static_cast<int32_t>(kFirstElement + shared);
  example->origins.back() = static_cast<int32_t>(second_begin + shared_place);
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "set_disjointness";
  descriptor.group = "summarization proxies";
  descriptor.summary = "the one element that a short and a long set share";
  descriptor.paper = "arXiv 2407.05483";
  descriptor.options = {
      OptionSpec::Int("length", 64, 5, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("short", 8, 1, 1 << 18,
                      "elements of the short set; the long one takes the rest "
                      "of the length"),
      OptionSpec::Int("vocab", 64, 5, 1 << 20,
                      "tokens: four marks, then elements"),
      OptionSpec::Choice("order", "mixed",
                         {"mixed", "short_first", "long_first"},
                         "which set comes first"),
      OptionSpec::Choice("sizes", "fill", {"fill", "published"},
                         "the sizes of the sets: one pair, or drawn from the "
                         "published ones, other ones for the test"),
      OptionSpec::Int("marks", 3, 1, 64,
                      "question marks at the end; 1 as published"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"}, {"short", "8"}, {"vocab", "64"}, {"order", "mixed"}}},
      {"smoke", {{"length", "16"}, {"short", "3"}, {"vocab", "24"}}},
      // 12 sizes x 20,000 examples, 48 epochs of batches of 128; the better of
      // two rates by validation. The paper's third, --set learning_rate=8e-4
      // with rates=1, continues no geometric series. Its layers alternate
      // its mixer with a short convolution; there is no MLP and no position.
      // Its models with prefix attention see the sets both ways.
      {"published/just_read_twice",
       {{"length", "787"},
        {"vocab", "2048"},
        {"order", "mixed"},
        {"sizes", "published"},
        {"marks", "1"}},
       {{"layers", "4"},
        {"heads", "2"},
        {"width", "128"},
        {"mlp_factor", "0"},
        {"embedding_deviation", "0.02"}},
       {{"steps", "90000"},
        {"batch", "128"},
        {"train_examples", "240000"},
        {"learning_rate", "0.0001"},
        {"rates", "2"},
        {"rate_factor", "5"},
        {"warmup", "0"},
        {"clip_norm", "0"},
        {"weight_decay", "0.1"},
        {"eval_every", "1875"},
        {"validation_examples", "2000"},
        {"test_examples", "20000"},
        {"stop_accuracy", "0.99"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), SetDisjointness::Make});

}  // namespace
}  // namespace mneme
