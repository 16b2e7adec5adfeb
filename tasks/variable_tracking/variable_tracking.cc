// SPDX-License-Identifier: Apache-2.0
//
// Variable tracking of Hsieh et al., "RULER: What's the Real Context Size of
// Your Long-Context Language Models?", arXiv 2404.06654, as a task of tokens.
//
// In a haystack a variable is given a value, a second one that of the first, a
// third that of the second, and so on for `hops` hops; at the end all variables
// are asked for that hold the value.
//
//   _ _ _ x3 v9 _ _ _ x1 x3 _ _ _ x7 x1 _ | = v9 ?2 ?3      1 chain, 2 hops
//                                             x3 x1 x7
//
// An assignment is the variable and where its value comes from. Its variables
// are wanted in the order of the chain, the first at the value that is asked
// for, each further one at a slot with a token of its own; none ever enters the
// input. Scored is, as published, the fraction of the variables that are named,
// in whatever order; naming one twice gains nothing.
//
// With several `chains`, of which one is asked for, the assignments of all of
// them lie in one haystack: at different depths of a grid (depth_grid.h), drawn
// uniformly, in each chain in the order of its hops. The published form has one
// chain, so that naming each variable there is is enough: one needs to know
// which tokens are variables, and no more. Several chains take tracking.
//
// The haystack is a row of places of two tokens. Elsewhere is filler: a
// sentence said again and again, as published, or random tokens.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/depth_grid.h"
#include "tasks/haystack.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int32_t kEndToken = 0;        // "|", the haystack is over
constexpr int32_t kAskToken = 1;        // "=", a value follows
constexpr int32_t kFirstSlotToken = 2;  // of the second variable
constexpr int64_t kAssignment = 2;      // tokens

class VariableTracking : public SetTask {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options);

  int64_t vocabulary() const override {
    return first_value_token() + value_vocabulary_;
  }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    GenerateRange(split, seed, index, 0, length_, example);
  }
  bool GeneratesRanges() const override { return true; }
  void GenerateRange(Split split, uint64_t seed, uint64_t index, int64_t first,
                     int64_t count, Example* example) const override;

  double ChanceScore() const override { return Guessing(variables_); }
  double ContextGuessScore() const override {
    return Guessing(chains_ * in_chain_);
  }
  // Whatever the value asked for, variables are new in each example, and the
  // question's marks keep the haystack out of the last three tokens: guesses
  // can only be different ones. A bag has the variables of all chains, those
  // that were passed on twice; which chain they are of it does not say.
  LeakFloors Floors() const override {
    const double unseen =
        static_cast<double>(in_chain_) / static_cast<double>(variables_);
    return {unseen, 1.0 / static_cast<double>(chains_), unseen};
  }

  std::string TokenText(int32_t token) const override;

 private:
  VariableTracking(const Options& options, const DepthGrid& grid)
      : length_(options.Int("length")),
        chains_(options.Int("chains")),
        in_chain_(options.Int("hops") + 1),
        variables_(options.Int("variable_vocab")),
        value_vocabulary_(options.Int("value_vocab")),
        filler_vocabulary_(options.Int("filler_vocab")),
        grid_(grid),
        random_("variable_tracking"),
        filler_(static_cast<int32_t>(first_filler_token()), filler_vocabulary_,
                options.Choice("filler") == "random") {}

  int64_t first_filler_token() const { return kFirstSlotToken + in_chain_ - 1; }
  int64_t first_variable_token() const {
    return first_filler_token() + filler_vocabulary_;
  }
  int64_t first_value_token() const {
    return first_variable_token() + variables_;
  }

  // How likely a variable is among in_chain_ guesses at so many.
  double Guessing(int64_t variables) const {
    return 1 - std::pow(1 - 1 / static_cast<double>(variables),
                        static_cast<double>(in_chain_));
  }

  const int64_t length_;
  const int64_t chains_;
  const int64_t in_chain_;  // variables of a chain
  const int64_t variables_;
  const int64_t value_vocabulary_;
  const int64_t filler_vocabulary_;
  const DepthGrid grid_;
  const TaskRandom random_;
  const Filler filler_;
};

absl::StatusOr<std::unique_ptr<Task>> VariableTracking::Make(
    const Options& options) {
  const int64_t length = options.Int("length");
  const int64_t chains = options.Int("chains");
  const int64_t in_chain = options.Int("hops") + 1;
  const auto refuse = [&](const auto&... parts) {
    return absl::InvalidArgumentError(
        absl::StrCat("variable_tracking: ", parts...));
  };
  if (chains * in_chain > options.Int("depths")) {
    return refuse(
        "chains=", chains, " of hops=", in_chain - 1, " are ",
        chains * in_chain,
        " assignments at different depths, and depths=", options.Int("depths"));
  }
  if (chains * in_chain > options.Int("variable_vocab")) {
    return refuse("chains=", chains, " of hops=", in_chain - 1, " have ",
                  chains * in_chain,
                  " different variables, and variable_vocab=",
                  options.Int("variable_vocab"));
  }
  if (chains > options.Int("value_vocab")) {
    return refuse("chains=", chains, " have different values, and value_vocab=",
                  options.Int("value_vocab"));
  }
  // Two marks and the value stand before the slots.
  const absl::StatusOr<DepthGrid> grid =
      DepthGrid::Create("variable_tracking", options.Int("depths"),
                        (length - 2 - in_chain) / kAssignment, length);
  if (!grid.ok()) return grid.status();
  return std::unique_ptr<Task>(new VariableTracking(options, *grid));
}

void VariableTracking::GenerateRange(Split split, uint64_t seed, uint64_t index,
                                     int64_t first, int64_t count,
                                     Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const int64_t assignments = chains_ * in_chain_;
  std::vector<uint64_t> drawn(2 * assignments + chains_);
  const absl::Span<uint64_t> all(drawn);
  const absl::Span<uint64_t> variables = all.subspan(0, assignments);
  const absl::Span<uint64_t> depths = all.subspan(assignments, assignments);
  const absl::Span<uint64_t> values = all.subspan(2 * assignments, chains_);
  DrawDistinct(variables_, variables, &random);
  DrawDistinct(grid_.depths(), depths, &random);
  DrawDistinct(value_vocabulary_, values, &random);

  RangeWriter out(first, count, example);
  filler_.Write(random_, split, seed, index, &out);
  const auto variable = [&](int64_t i) {
    return static_cast<int32_t>(first_variable_token() + variables[i]);
  };
  for (int64_t chain = 0; chain < chains_; ++chain) {
    const int64_t begin = chain * in_chain_;
    const absl::Span<uint64_t> own = depths.subspan(begin, in_chain_);
    std::sort(own.begin(), own.end());
    for (int64_t i = 0; i < in_chain_; ++i) {
      const int64_t position = grid_.PlaceOf(own[i]) * kAssignment;
      const int32_t source =
          i == 0 ? static_cast<int32_t>(first_value_token() + values[chain])
                 : variable(begin + i - 1);
      out.Write(position, variable(begin + i), TokenRole::kContext);
      out.Write(position + 1, source, TokenRole::kContext);
    }
  }

  // The first chain is as good as any.
  const int64_t question = length_ - in_chain_;
  out.Write(question - 2, kEndToken, TokenRole::kQuery);
  out.Write(question - 1, kAskToken, TokenRole::kQuery);
  for (int64_t i = 0; i < in_chain_; ++i) {
    const int32_t token = static_cast<int32_t>(
        i == 0 ? first_value_token() + values[0] : kFirstSlotToken + i - 1);
    // Where it is assigned, though the next hop names it once more.
    out.Ask(question + i, token, variable(i),
            grid_.PlaceOf(depths[i]) * kAssignment);
  }
}

std::string VariableTracking::TokenText(int32_t token) const {
  if (token == kEndToken) return "|";
  if (token == kAskToken) return "=";
  if (token < first_filler_token()) {
    return absl::StrCat("?", token - kFirstSlotToken + 2);
  }
  if (token >= first_value_token()) {
    return absl::StrCat("v", token - first_value_token());
  }
  if (token >= first_variable_token()) {
    return absl::StrCat("x", token - first_variable_token());
  }
  if (filler_vocabulary_ == 1) return "_";
  return absl::StrCat("_", token - first_filler_token());
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "variable_tracking";
  descriptor.group = "needle retrieval";
  descriptor.summary =
      "name all variables that hold a value through a chain of assignments";
  descriptor.paper = "arXiv 2404.06654";
  descriptor.options = {
      OptionSpec::Int("length", 128, 4, 1 << 21, "tokens in a sequence"),
      OptionSpec::Int("chains", 1, 1, 1024,
                      "chains of assignments; one is asked for"),
      OptionSpec::Int("hops", 4, 0, 64,
                      "assignments of a variable to the next, in a chain"),
      OptionSpec::Int("variable_vocab", 32, 1, 1 << 16, "variables there are"),
      OptionSpec::Int("value_vocab", 16, 1, 1 << 16, "values there are"),
      OptionSpec::Choice("filler", "repeat", {"repeat", "random"},
                         "haystack: a sentence repeated, or random tokens"),
      OptionSpec::Int("filler_vocab", 4, 1, 1 << 16, "alphabet of filler"),
      OptionSpec::Int("depths", 40, 1, 1 << 16,
                      "depths of the haystack at which assignments stand"),
  };
  descriptor.profiles = {
      // Two hops: two layers of attention without positions take much longer
      // over four.
      {"quick",
       {{"length", "96"},
        {"chains", "1"},
        {"hops", "2"},
        {"variable_vocab", "16"},
        {"value_vocab", "16"},
        {"filler", "repeat"},
        {"filler_vocab", "4"},
        {"depths", "40"}},
       {},
       {{"steps", "400"}}},
      {"smoke",
       {{"length", "24"},
        {"chains", "2"},
        {"hops", "1"},
        {"variable_vocab", "6"},
        {"value_vocab", "2"},
        {"filler_vocab", "2"},
        {"depths", "10"}}},
      // The sentence is "The grass is green. The sky is blue. ..."; 500 samples
      // at each of 4K ... 128K. RULER trains no model.
      {"published/ruler-vt",
       {{"length", "4096"},
        {"chains", "1"},
        {"hops", "4"},
        {"variable_vocab", "1024"},
        {"value_vocab", "1024"},
        {"filler", "repeat"},
        {"filler_vocab", "24"},
        {"depths", "40"}},
       {},
       {{"test_examples", "500"}, {"test_doublings", "5"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), VariableTracking::Make});

}  // namespace
}  // namespace mneme
