// SPDX-License-Identifier: Apache-2.0
//
// The word problem of a finite group: Merrill, Petty and Sabharwal, "The
// Illusion of State in State-Space Models", arXiv 2404.08819. The sequence is
// a word of uniform elements, and at each token the product so far is wanted:
//
//   token   g1    g2      g3         ...
//   target  g1    g1 g2   g1 g2 g3   ...
//
// For groups that are not solvable (A5, S5) this is complete for NC^1: no
// circuit of constant depth solves it, hence no fixed number of layers of
// attention, or of a linear recurrence whose gates are diagonal, at all
// lengths. Z60 is abelian and A4xZ5 solvable; they have the same order as A5
// and tell whether a failure is due to the group or to its size.
//
// Inputs and answers are the same tokens, the group's elements; there are no
// others. Products never stand in the input. The score is the fraction of
// tokens tagged right; the paper's stopping criterion, that all of a word are,
// is the detail "sequence", and the detail "last" asks for the whole word's
// product alone.
//
// The paper draws a set of words of one length without repetition, takes 80%
// for training, and adds all words of two elements; here words are streamed,
// and a word's own prefixes teach the short ones.

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/group_word/finite_group.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

class GroupWord : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    return std::unique_ptr<Task>(new GroupWord(options));
  }

  int64_t vocabulary() const override { return group_.order; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  std::vector<std::string> DetailNames() const override {
    return {"sequence", "last"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override;

  double ChanceScore() const override { return 1.0 / group_.order; }
  double ContextGuessScore() const override { return 1.0 / group_.order; }

  LeakFloors Floors() const override {
    // The product of a uniform word is uniform, wherever it ends. Three tokens
    // tell the first three products. A bag tells a product up to the order of
    // its factors, hence up to an element of the commutator subgroup, and more
    // while there are few factors: certainly the first, at best every one of
    // the first four, whose 24 orders cannot reach all of A5.
    const int32_t unknown = CommutatorSubgroupOrder(group_);
    return {ChanceScore(), WithFirst(4, 1.0 / unknown),
            WithFirst(3, ChanceScore())};
  }

  std::string TokenText(int32_t token) const override {
    return group_.names[token];
  }

 private:
  explicit GroupWord(const Options& options)
      : length_(options.Int("length")),
        group_(MakeFiniteGroup(options.Choice("group"))),
        random_("group_word") {}

  // The score of knowing the first n products and of others a part.
  double WithFirst(int64_t n, double others) const {
    const double known = static_cast<double>(std::min(n, length_));
    const double all = static_cast<double>(length_);
    return (known + (all - known) * others) / all;
  }

  const int64_t length_;
  const FiniteGroup group_;
  const TaskRandom random_;
};

void GroupWord::Generate(Split split, uint64_t seed, uint64_t index,
                         Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  example->tokens.resize(length_);
  example->targets.resize(length_);
  example->roles.assign(length_, TokenRole::kQuery);
  example->origins.clear();
  example->notes.clear();
  int32_t product = 0;
  for (int64_t t = 0; t < length_; ++t) {
    const auto factor = static_cast<int32_t>(random.Below(group_.order));
    product = group_.Product(product, factor);
    example->tokens[t] = factor;
    example->targets[t] = product;
  }
}

std::vector<double> GroupWord::Details(
    const Example& example, absl::Span<const int32_t> predictions) const {
  const bool all = absl::MakeConstSpan(example.targets) == predictions;
  const bool last = example.targets.back() == predictions.back();
  return {all ? 1.0 : 0.0, last ? 1.0 : 0.0};
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "group_word";
  descriptor.group = "state and language";
  descriptor.summary = "the product so far of a word of group elements";
  descriptor.paper = "arXiv 2404.08819";
  descriptor.options = {
      OptionSpec::Int("length", 16, 1, 1 << 20, "elements of a word"),
      OptionSpec::Choice("group", "A5", FiniteGroupNames(),
                         "what is multiplied"),
  };
  // The paper's code: width 512, 8 heads, GELU, AdamW at 1e-4 with decay 0.01,
  // batches of 32, at most 500 epochs, until 99% of sequences are right. It
  // turns the number of layers and the length; 4 and 20 are in the middle of
  // what it tried. It normalises after the residual sum, here before, and how
  // many words of each length it drew is not verified: steps are the harness's
  // own affair.
  const OptionValues model = {{"layers", "4"},     {"heads", "8"},
                              {"width", "512"},    {"mlp_factor", "4"},
                              {"short_conv", "0"}, {"positions", "true"}};
  const OptionValues train = {
      {"steps", "100000"},   {"batch", "32"},    {"learning_rate", "0.0001"},
      {"warmup", "0"},       {"clip_norm", "0"}, {"weight_decay", "0.01"},
      {"eval_every", "1000"}};
  descriptor.profiles = {
      {"quick", {{"length", "16"}, {"group", "A5"}}},
      {"smoke", {{"length", "6"}, {"group", "A5"}}},
  };
  for (const std::string& group : FiniteGroupNames()) {
    std::string name = "published/illusion_of_state";
    if (group != "A5") {
      name += "_";
      for (const char c : group) name += static_cast<char>(std::tolower(c));
    }
    descriptor.profiles.push_back(
        {name, {{"length", "20"}, {"group", group}}, model, train});
  }
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), GroupWord::Make});

}  // namespace
}  // namespace mneme
