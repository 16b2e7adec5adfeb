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
// Further forms:
//
// - forgetting: U updates follow the pairs, each giving a new value to a key
//   that is drawn anew from the K; the last value is wanted.
//
//   token     k1 v1 k2 v2 | k1 v3 | k2 0 | k1 0      K = 2, U = 1
//   target                |       | v2   | v3
//
// - compositional: keys are two tokens, the cells of a g x g grid with K = g^2:
//   g first and g second tokens, each cell once, in random order. Neither token
//   alone tells the value, which is wanted at the second.
//
//   token     a1 b2 v1 a2 b2 v2 a1 b1 v3 a2 b1 v4 | a1 b1 | a2 b2     K = 4
//   target                                        |    v3 |    v2
//
// - stacked: key and value share a position. They are one token, of which there
//   is one for each possible pair, V + (key - 1) * values + value counted from
//   0, so that the vocabulary grows by (V/2 - 1) * ceil(V/2). Where a whole
//   pair is one token, recall needs no short convolution to bring key and value
//   together; but each pair's embedding must be learned.
//
//   token     k1v1 k2v2 | k2 0 | 0 0 | k1 0      K = 2
//   target              | v2   |     | v1
//
// Where an odd number of tokens is left for the slots, the last is filler.
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

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/mqar/mqar_shape.h"
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
    MqarShape shape;
    shape.form = MqarFormNamed(options.Choice("form"));
    shape.length = options.Int("length");
    shape.pairs = options.Int("pairs");
    shape.updates = options.Int("updates");
    shape.vocabulary = options.Int("vocab");
    const absl::Status status = shape.Check();
    if (!status.ok()) return status;
    return std::unique_ptr<Task>(new Mqar(shape, options));
  }

  int64_t vocabulary() const override { return shape_.all_tokens(); }
  int64_t length() const override { return shape_.length; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double ChanceScore() const override { return 1.0 / shape_.values(); }
  double ContextGuessScore() const override { return 1.0 / shape_.pairs; }

  // The first slot's query sees the last pair, and of stacked pairs the last
  // two; the other queries see none. Of S slots that are all as likely, the
  // last pair has the first one time in S. Where the first slot is the
  // likeliest it goes to an earlier pair rather than to a later one, so that
  // the last of K has it one time in K at most, and so have the last two on
  // average.
  LeakFloors Floors() const override {
    LeakFloors floors = Task::Floors();
    const double seen = shape_.form == MqarForm::kStacked ? 2 : 1;
    const double there = alpha_ == 1  ? 1.0 / shape_.slots()
                         : alpha_ < 1 ? 1.0 / shape_.pairs
                                      : 1;
    floors.ngram = std::min(1.0, ChanceScore() + seen * there / shape_.pairs);
    return floors;
  }

  std::string TokenText(int32_t token) const override {
    return shape_.TokenText(token);
  }

 private:
  Mqar(const MqarShape& shape, const Options& options)
      : shape_(shape),
        random_filler_(options.Choice("filler") == "random"),
        alpha_(options.Real("alpha")),
        random_("mqar"),
        draw_slots_(SlotWeights(shape.slots(), alpha_)) {}

  const MqarShape shape_;
  const bool random_filler_;
  const double alpha_;
  const TaskRandom random_;
  const WeightedDraw draw_slots_;
};

void Mqar::Generate(Split split, uint64_t seed, uint64_t index,
                    Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const int64_t pairs = shape_.pairs;
  const int64_t entries = shape_.entries();
  const int64_t drawn_keys = shape_.drawn_keys();
  std::vector<uint64_t> drawn(drawn_keys + entries + pairs);
  const absl::Span<uint64_t> all(drawn);
  const absl::Span<uint64_t> keys = all.subspan(0, drawn_keys);
  const absl::Span<uint64_t> values = all.subspan(drawn_keys, entries);
  const absl::Span<uint64_t> slots = all.subspan(drawn_keys + entries);
  DrawDistinct(shape_.keys(), keys, &random);
  DrawDistinct(shape_.values(), values, &random);
  draw_slots_(slots, &random);

  const int64_t length = shape_.length;
  const int64_t context = shape_.context();
  example->tokens.assign(length, 0);
  example->targets.assign(length, kUnscored);
  example->roles.assign(length, TokenRole::kFiller);
  example->origins.assign(length, kNowhere);
  example->notes.clear();
  if (random_filler_) {
    for (int64_t t = context; t < length; ++t) {
      example->tokens[t] = random.Below(shape_.vocabulary);
    }
  }
  std::fill_n(example->roles.begin(), context, TokenRole::kContext);

  const bool composed = shape_.form == MqarForm::kCompositional;
  const bool stacked = shape_.form == MqarForm::kStacked;
  const int64_t grid = shape_.grid();
  std::vector<uint64_t> cells(composed ? pairs : 0);
  std::iota(cells.begin(), cells.end(), uint64_t{0});
  Shuffle(absl::MakeSpan(cells), &random);
  int32_t* const tokens = example->tokens.data();
  for (int64_t entry = 0; entry < entries; ++entry) {
    // An update is said like a pair, and changes what its query wants.
    const int64_t pair = entry < pairs ? entry : random.Below(pairs);
    const int32_t value = shape_.first_value() + values[entry];
    const int64_t query = context + 2 * slots[pair];
    int64_t at = entry * shape_.entry_width();
    int64_t asked = query;
    if (composed) {
      const int32_t first = 1 + keys[cells[pair] / grid];
      const int32_t second = 1 + keys[grid + cells[pair] % grid];
      tokens[at++] = tokens[query] = first;
      tokens[at++] = tokens[++asked] = second;
      tokens[at] = value;
      example->roles[query] = TokenRole::kQuery;
    } else {
      const int32_t key = 1 + keys[pair];
      tokens[query] = key;
      if (stacked) {
        tokens[at] = shape_.Stacked(key, value);
      } else {
        tokens[at++] = key;
        tokens[at] = value;
      }
    }
    example->targets[asked] = value;
    example->roles[asked] = TokenRole::kQuery;
    example->origins[asked] = at;
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
      OptionSpec::Choice(
          "form", "plain", {"plain", "forgetting", "compositional", "stacked"},
          "pairs of tokens; later updates; two-token keys of which pairs is "
          "the square; or pairs that are one token"),
      OptionSpec::Int("updates", 0, 0, 1 << 18,
                      "form=forgetting: new values for keys of the context"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"pairs", "8"},
        {"vocab", "64"},
        {"alpha", "1"},
        {"filler", "zero"}},
       {},
       {{"test_doublings", "4"}}},
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
