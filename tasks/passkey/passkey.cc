// SPDX-License-Identifier: Apache-2.0
//
// Passkey retrieval: Mohtashami and Jaggi, "Landmark Attention", arXiv
// 2305.16300, as Munkhdalai, Faruqui and Gopal trained it at 5,000 tokens and
// tested it to a million: "Leave No Context Behind: Efficient Infinite Context
// Transformers with Infini-attention", arXiv 2404.07143.
//
// A mark and the passkey stand somewhere in a haystack in which one sentence is
// said again and again; at the end the passkey is asked for.
//
//   _ _ _ _ _ ! 7 2 _ _ _ _ _ _ | = ?1 ?2      2 digits
//                                    7  2
//
// Each digit is wanted at a slot with a token of its own, and never enters the
// input. The passkey stands at a depth of a grid (depth_grid.h): any, or one of
// "start", "middle" and "end", the first, the middle and the last depth, as
// results are published. The haystack is a row of places as long as what
// stands at one, and of filler where they leave tokens over, at its end.
//
// In the published text the passkey is said twice ("The pass key is 9054.
// Remember it. 9054 is the pass key."): `times` says it, mark and all, so many
// times in a row. Scored is the fraction of digits found, the published token
// accuracy.
//
// The sentence being always the same, a recurrent state that it does not change
// any more is one that can carry the passkey to any length; whether training at
// a short length finds such a state is what this task asks. A single passkey in
// known filler is all a bag of tokens needs to tell it from the rest.

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
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int32_t kEndToken = 0;   // "|", the haystack is over
constexpr int32_t kAskToken = 1;   // "=", slots follow
constexpr int32_t kMarkToken = 2;  // "!", the passkey follows
constexpr int32_t kFirstSlotToken = 3;

class Passkey : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const int64_t length = options.Int("length");
    const int64_t digits = options.Int("digits");
    const absl::StatusOr<DepthGrid> grid = DepthGrid::Create(
        "passkey", options.Int("depths"),
        (length - 2 - digits) / (options.Int("times") * (1 + digits)), length);
    if (!grid.ok()) return grid.status();
    return std::unique_ptr<Task>(new Passkey(options, *grid));
  }

  int64_t vocabulary() const override {
    return first_digit_token() + digit_vocabulary_;
  }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    GenerateRange(split, seed, index, 0, length_, example);
  }
  bool GeneratesRanges() const override { return true; }
  void GenerateRange(Split split, uint64_t seed, uint64_t index, int64_t first,
                     int64_t count, Example* example) const override;

  std::vector<std::string> DetailNames() const override { return {"exact"}; }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override {
    return {Score(example, predictions) == 1 ? 1.0 : 0.0};
  }

  double ChanceScore() const override {
    return 1.0 / static_cast<double>(digit_vocabulary_);
  }
  // One of the digits of the passkey: the right one, or one that is the same.
  double ContextGuessScore() const override {
    const double digits = static_cast<double>(digits_);
    return (1 + (digits - 1) * ChanceScore()) / digits;
  }
  // The question says nothing of the passkey. A bag has its digits: the only
  // one, or the most frequent of n independent ones out of V, which occurs
  // n / V + sqrt(2 (n / V) log V) + log(V) / 3 times at most in the mean
  // (Boucheron, Lugosi and Massart, "Concentration inequalities", corollary
  // 2.6).
  LeakFloors Floors() const override {
    const double digits = static_cast<double>(digits_);
    const double alphabet = static_cast<double>(digit_vocabulary_);
    const double mean = digits / alphabet;
    const double most = mean + std::sqrt(2 * mean * std::log(alphabet)) +
                        std::log(alphabet) / 3;
    return {ChanceScore(),
            std::max(ContextGuessScore(), std::min(1.0, most / digits)),
            ChanceScore()};
  }

  std::string TokenText(int32_t token) const override;

 private:
  Passkey(const Options& options, const DepthGrid& grid)
      : length_(options.Int("length")),
        digits_(options.Int("digits")),
        times_(options.Int("times")),
        digit_vocabulary_(options.Int("digit_vocab")),
        sentence_(options.Int("sentence")),
        place_(options.Choice("place")),
        grid_(grid),
        random_("passkey"),
        filler_(static_cast<int32_t>(first_filler_token()), sentence_,
                /*random=*/false) {}

  int64_t first_filler_token() const { return kFirstSlotToken + digits_; }
  int64_t first_digit_token() const { return first_filler_token() + sentence_; }

  int64_t Depth(Random* random) const {
    if (place_ == "start") return 0;
    if (place_ == "middle") return grid_.depths() / 2;
    if (place_ == "end") return grid_.depths() - 1;
    return static_cast<int64_t>(random->Below(grid_.depths()));
  }

  const int64_t length_;
  const int64_t digits_;
  const int64_t times_;
  const int64_t digit_vocabulary_;
  const int64_t sentence_;
  const std::string place_;
  const DepthGrid grid_;
  const TaskRandom random_;
  const Filler filler_;
};

void Passkey::GenerateRange(Split split, uint64_t seed, uint64_t index,
                            int64_t first, int64_t count,
                            Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  RangeWriter out(first, count, example);
  filler_.Write(random_, split, seed, index, &out);

  const int64_t once = 1 + digits_;
  const int64_t passkey = grid_.PlaceOf(Depth(&random)) * times_ * once;
  const int64_t slots = length_ - digits_;
  out.Write(slots - 2, kEndToken, TokenRole::kQuery);
  out.Write(slots - 1, kAskToken, TokenRole::kQuery);
  for (int64_t time = 0; time < times_; ++time) {
    out.Write(passkey + time * once, kMarkToken, TokenRole::kContext);
  }
  for (int64_t i = 0; i < digits_; ++i) {
    const int32_t digit = static_cast<int32_t>(first_digit_token() +
                                               random.Below(digit_vocabulary_));
    for (int64_t time = 0; time < times_; ++time) {
      out.Write(passkey + time * once + 1 + i, digit, TokenRole::kContext);
    }
    out.Ask(slots + i, static_cast<int32_t>(kFirstSlotToken + i), digit,
            passkey + (times_ - 1) * once + 1 + i);
  }
}

std::string Passkey::TokenText(int32_t token) const {
  if (token == kEndToken) return "|";
  if (token == kAskToken) return "=";
  if (token == kMarkToken) return "!";
  if (token < first_filler_token()) {
    return absl::StrCat("?", token - kFirstSlotToken + 1);
  }
  if (token >= first_digit_token()) {
    return absl::StrCat(token - first_digit_token());
  }
  if (sentence_ == 1) return "_";
  return absl::StrCat("_", token - first_filler_token());
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "passkey";
  descriptor.group = "needle retrieval";
  descriptor.summary =
      "say the passkey that was hidden in a sentence repeated without end";
  descriptor.paper = "arXiv 2404.07143";
  descriptor.options = {
      OptionSpec::Int("length", 128, 4, 1 << 21, "tokens in a sequence"),
      OptionSpec::Int("digits", 1, 1, 64, "tokens of the passkey"),
      OptionSpec::Int("digit_vocab", 16, 2, 1 << 16, "different digits"),
      OptionSpec::Int("times", 1, 1, 8,
                      "times the passkey is said, one after the other"),
      OptionSpec::Int("sentence", 4, 1, 1 << 16,
                      "tokens of the sentence that the haystack repeats"),
      OptionSpec::Choice("place", "any", {"any", "start", "middle", "end"},
                         "depth of the passkey: drawn uniformly, or always "
                         "the first, the middle, the last"),
      OptionSpec::Int("depths", 40, 1, 1 << 16,
                      "depths of the haystack at which it can stand"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "128"},
        {"digits", "1"},
        {"digit_vocab", "16"},
        {"times", "1"},
        {"sentence", "4"},
        {"place", "any"},
        {"depths", "40"}},
       {},
       {{"steps", "800"}, {"batch", "32"}, {"test_doublings", "6"}}},
      // Trained as quick is, and tested at up to 1,048,576 tokens, on eight
      // examples a length from 32,768 on.
      {"million",
       {{"length", "128"},
        {"digits", "1"},
        {"digit_vocab", "16"},
        {"times", "1"},
        {"sentence", "4"},
        {"place", "any"},
        {"depths", "40"}},
       {},
       {{"steps", "800"},
        {"batch", "32"},
        {"test_doublings", "13"},
        {"length_tokens", "262144"}}},
      {"smoke",
       {{"length", "16"},
        {"digits", "1"},
        {"digit_vocab", "4"},
        {"sentence", "2"},
        {"depths", "6"}}},
      // "The grass is green. The sky is blue. The sun is yellow. Here we go.
      // There and back again." is 24 tokens with its stops. Fine-tuned for 400
      // steps of 5,000 tokens and tested to a million, which is about 256 times
      // that.
      {"published/infini",
       {{"length", "5000"},
        {"digits", "5"},
        {"digit_vocab", "10"},
        {"times", "2"},
        {"sentence", "24"},
        {"place", "any"},
        {"depths", "40"}},
       {},
       {{"steps", "400"}, {"test_doublings", "8"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Passkey::Make});

}  // namespace
}  // namespace mneme
