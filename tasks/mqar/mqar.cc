// SPDX-License-Identifier: Apache-2.0
//
// Multi-query associative recall: Arora, Eyuboglu et al., "Zoology: Measuring
// and improving recall in efficient language models", arXiv 2312.04927; its
// generator is `multiquery_ar`.
//
// K different keys from [1, V/2) and K different values from [V/2, V) stand as
// pairs in the context; later each key is asked for once, at a place of its
// own:
//
//   position  0  1  2  3 | 4  5 | 6  7 | 8  9 | ...     K = 2, L = 16
//   token     k1 v1 k2 v2| 0  0 | k2 0 | 0  0 | k1 ...
//   target               |      | v2   |      | v1
//
// The L - 2K tokens after the context are S = (L - 2K) / 2 slots of two tokens.
// Keys take slots one after the other, in the order of the context, each among
// the free slots i = 1..S with probability proportional to i^(alpha - 1): with
// alpha = 0.01, as published, most are asked for soon after the context, the
// first pairs soonest; alpha = 1 makes all slots equally likely. With L = 4K
// every slot holds a key.
//
// A key stands on its slot's first token, and the value is wanted there, as the
// prediction of the next token, but never follows: the second token is filler,
// like all of a free slot. Filler is 0, or uniform on [0, V), which can look
// like a live key and is not scored.
//
// One more condition of the original, V > L, is not asked for: nothing depends
// on it, and a small vocabulary at V = L = 64 is what makes the quick profile
// quick.
//
// published/zoology is the cell L = 64, K = 4, d = 64 of that paper's figure 2
// with its training: a fixed set of 100,000 examples, the same batches in every
// epoch, the best of four learning rates, and two doubtful habits: the learning
// rate and the moment to stop are chosen on the test data. Of its other cells,
//
//   L, K       --set
//   128, 8     length=128 pairs=8
//   256, 16    length=256 pairs=16 batch=256 steps=25024 eval_every=391
//   512, 64    length=512 pairs=64 batch=128 steps=50048 eval_every=782
//
// and d = 128, 256, 512 are model.width. A profile is the same for all
// mechanisms, and that paper's models are not. It gives
//
//   softmax    model.positions=true (and has biases, and dropout of 0.1 on the
//              attention weights, which softmax here has not)
//   rwkv4      model.init=uniform model.init_layers=12: its layers escape the
//              common initialisation, and believe in a model of twelve layers
//   base_conv  variant.layout=zoology
//
// Not to be had as profiles are the recall of Based (arXiv 2402.18668: trained
// on a mixture of lengths, tested on seven, layers of two kinds) and of ReBased
// (2402.10644: layers of two kinds, learning rates that are no geometric
// series).

#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/task.h"
#include "tasks/task_random.h"
#include "tasks/weighted_draw.h"

namespace mneme {
namespace {

std::vector<double> SlotWeights(int64_t slots, double alpha) {
  std::vector<double> weights(slots);
  for (int64_t i = 0; i < slots; ++i) {
    weights[i] = std::pow(static_cast<double>(i + 1), alpha - 1);
  }
  return weights;
}

class Mqar : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t pairs = options.Int("pairs");
    const int64_t vocabulary = options.Int("vocab");
    if (length % 2 != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mqar: length=", length, " is odd; slots are two tokens wide"));
    }
    if (length < 4 * pairs) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mqar: pairs=", pairs, " need length >= ", 4 * pairs,
          " (two tokens a pair in the context, two a query), not ", length));
    }
    if (vocabulary / 2 - 1 < pairs) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mqar: pairs=", pairs, " need vocab >= ", 2 * (pairs + 1),
          " (keys are different tokens in 1..vocab/2-1), not ", vocabulary));
    }
    return std::unique_ptr<Task>(new Mqar(options));
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double ChanceScore() const override {
    return 1.0 / (vocabulary_ - first_value());
  }
  double ContextGuessScore() const override { return 1.0 / pairs_; }

 private:
  explicit Mqar(const Options& options)
      : length_(options.Int("length")),
        pairs_(options.Int("pairs")),
        vocabulary_(options.Int("vocab")),
        random_filler_(options.Choice("filler") == "random"),
        random_("mqar"),
        draw_slots_(SlotWeights(length_ / 2 - pairs_, options.Real("alpha"))) {}

  int64_t first_value() const { return vocabulary_ / 2; }

  const int64_t length_;
  const int64_t pairs_;
  const int64_t vocabulary_;
  const bool random_filler_;
  const TaskRandom random_;
  const WeightedDraw draw_slots_;
};

void Mqar::Generate(Split split, uint64_t seed, uint64_t index,
                    Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  std::vector<uint64_t> drawn(3 * pairs_);
  const absl::Span<uint64_t> all(drawn);
  const absl::Span<uint64_t> keys = all.subspan(0, pairs_);
  const absl::Span<uint64_t> values = all.subspan(pairs_, pairs_);
  const absl::Span<uint64_t> slots = all.subspan(2 * pairs_, pairs_);
  DrawDistinct(first_value() - 1, keys, &random);
  DrawDistinct(vocabulary_ - first_value(), values, &random);
  draw_slots_(slots, &random);

  const int64_t context = 2 * pairs_;
  example->tokens.assign(length_, 0);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  if (random_filler_) {
    for (int64_t t = context; t < length_; ++t) {
      example->tokens[t] = random.Below(vocabulary_);
    }
  }
  for (int64_t pair = 0; pair < pairs_; ++pair) {
    const int32_t key = 1 + keys[pair];
    const int32_t value = first_value() + values[pair];
    example->tokens[2 * pair] = key;
    example->tokens[2 * pair + 1] = value;
    example->roles[2 * pair] = TokenRole::kContext;
    example->roles[2 * pair + 1] = TokenRole::kContext;
    const int64_t query = context + 2 * slots[pair];
    example->tokens[query] = key;
    example->targets[query] = value;
    example->roles[query] = TokenRole::kQuery;
    example->origins[query] = 2 * pair + 1;
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "mqar";
  descriptor.group = "associative recall";
  descriptor.summary = "recall the value of each of K keys from the context";
  descriptor.paper = "arXiv 2312.04927";
  descriptor.version = 2;
  descriptor.options = {
      OptionSpec::Int("length", 64, 4, 1 << 20,
                      "tokens in a sequence; even, at least 4 * pairs"),
      OptionSpec::Int("pairs", 8, 1, 1 << 18,
                      "key-value pairs, each asked for once"),
      OptionSpec::Int("vocab", 64, 4, 1 << 20,
                      "tokens: 0, then keys, the upper half values"),
      OptionSpec::Real("alpha", 1, 0, 2,
                       "slot i is drawn with weight i^(alpha-1); 1 is uniform, "
                       "0.01 as published"),
      OptionSpec::Choice("filler", "zero", {"zero", "random"},
                         "tokens between the queries"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"pairs", "8"},
        {"vocab", "64"},
        {"alpha", "1"},
        {"filler", "zero"}}},
      {"smoke", {{"length", "16"}, {"pairs", "2"}, {"vocab", "16"}}},
      {"published/zoology",
       {{"length", "64"},
        {"pairs", "4"},
        {"vocab", "8192"},
        {"alpha", "0.01"},
        {"filler", "zero"}},
       // 64 epochs of 100,000 examples, 196 batches each, the last a small one.
       {{"layers", "2"},
        {"heads", "1"},
        {"width", "64"},
        {"short_conv", "0"},
        {"mlp", "norm"},
        {"norm_bias", "true"},
        {"embedding_dropout", "0.1"},
        {"embedding_deviation", "0.02"},
        {"init", "normal"}},
       {{"steps", "12544"},
        {"batch", "512"},
        {"train_examples", "100000"},
        {"order", "fixed"},
        {"learning_rate", "0.0001"},
        {"rates", "4"},
        {"rate_factor", "4.641588833612779"},
        {"schedule", "epoch_cosine"},
        {"warmup", "0"},
        {"clip_norm", "0"},
        {"weight_decay", "0.1"},
        {"parameter_groups", "false"},
        {"eval_every", "196"},
        {"validation_examples", "3000"},
        {"test_examples", "3000"},
        {"select", "test"},
        {"stop_accuracy", "0.99"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Mqar::Make});

}  // namespace
}  // namespace mneme
