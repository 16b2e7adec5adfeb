// SPDX-License-Identifier: Apache-2.0
//
// Fuzzy in-context recall of MAD: Poli, Thomas, Nguyen et al., "Mechanistic
// Design and Scaling of Hybrid Architectures", arXiv 2403.17844.
//
// In-context recall (mad/pair_recall.h) where keys and values are motifs of
// several tokens, so that a model must find out where one begins:
//
//   position  0 1 2 3 4 5 6 7 8 9 10       L = 11
//   token     _ A B r s C t A B r s        keys "A B" and "C", values "rs", "t"
//   target                    r s
//
// A motif is 1..m different tokens, of keys or of values, its length and then
// its tokens uniform; in validation and test keys have the full length m. Pairs
// follow each other until there is no room for another before the last, the
// probe, whose pair is put among the others at a random place. All tokens of
// the value of a key that occurred before are scored, each at the token before
// it, so that models must be causal. The sequence is padded on its left to
// length L.
//
// `train_targets=all` scores every next token in training, as the original
// does, padding not excepted. Two things of the original are not repeated: now
// and then it has no room left for the probe's pair, and asks what was never
// said; and its last token, at which nothing is asked, stands beyond the L.

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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

constexpr int32_t kPad = 0;
constexpr int64_t kLongestMotif = 3;

struct Motif {
  std::array<int32_t, kLongestMotif> tokens;
  int32_t size = 0;

  // `size` different tokens of first ... first + count - 1.
  static Motif Draw(int32_t size, int32_t first, int64_t count,
                    Random* random) {
    Motif motif;
    const auto begin = motif.tokens.begin();
    while (motif.size < size) {
      const int32_t token = first + random->Below(count);
      const auto end = begin + motif.size;
      if (std::find(begin, end, token) == end) {
        motif.tokens[motif.size++] = token;
      }
    }
    return motif;
  }

  // Different for different motifs: tokens are below 2^20 and none of them 0.
  uint64_t Code() const {
    uint64_t code = 0;
    for (int64_t i = 0; i < size; ++i) code = code << 20 | tokens[i];
    return code;
  }
};

struct Pair {
  Motif key, value;
  uint64_t code = 0;          // of the key
  int32_t before = kNowhere;  // the last pair of the same key
  int32_t size() const { return key.size + value.size; }
};

// The last of a growing list of pairs to have a key. A hash table with linear
// probing, which holds nothing but indices of pairs.
class LastPairs {
 public:
  // Precondition: *pairs will be no more than `most`.
  LastPairs(const std::vector<Pair>* pairs, int64_t most) : pairs_(*pairs) {
    while ((int64_t{1} << bits_) < 2 * most) ++bits_;
    slots_.assign(int64_t{1} << bits_, kNowhere);
  }

  // The entry of a key: kNowhere, or the index of its last pair, to be changed
  // when there is another.
  int32_t& operator[](uint64_t code) {
    const uint64_t mask = slots_.size() - 1;
    uint64_t slot = code * 0x9e3779b97f4a7c15 >> (64 - bits_);
    while (slots_[slot] != kNowhere && pairs_[slots_[slot]].code != code) {
      slot = (slot + 1) & mask;
    }
    return slots_[slot];
  }

 private:
  const std::vector<Pair>& pairs_;
  int bits_ = 1;
  std::vector<int32_t> slots_;
};

class FuzzyRecall : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    std::unique_ptr<FuzzyRecall> task(new FuzzyRecall(options));
    if (task->keys_ < task->key_motif_ || task->values_ < task->value_motif_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "fuzzy_recall: vocab=", task->vocabulary_, " has ", task->keys_,
          " keys and ", task->values_,
          " values, too few for motifs of different tokens: key_motif=",
          task->key_motif_, ", value_motif=", task->value_motif_));
    }
    const int64_t needed = 3 * task->longest_pair();
    if (task->length_ < needed) {
      return absl::InvalidArgumentError(absl::StrCat(
          "fuzzy_recall: key_motif=", task->key_motif_,
          " and value_motif=", task->value_motif_, " need length >= ", needed,
          " (three of the longest pairs), not ", task->length_));
    }
    return task;
  }

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t length() const override { return length_; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  // Of the values' answers, how many are right in every token.
  std::vector<std::string> DetailNames() const override { return {"values"}; }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override;

  double ChanceScore() const override { return 1.0 / values_; }
  double ContextGuessScore() const override {
    return std::max(EstimateGuesses().any, ChanceScore());
  }
  // Tokens of a motif are different, so that who sees two of them chooses among
  // fewer.
  LeakFloors Floors() const override {
    const Guesses guesses = EstimateGuesses();
    return {ChanceScore(), std::max(guesses.most_frequent, guesses.any),
            guesses.in_view};
  }

  std::string TokenText(int32_t token) const override {
    if (token == kPad) return "_";
    if (token <= keys_) return LetterText(token - 1, 'A', "K");
    return LetterText(token - 1 - keys_, 'a', "v");
  }

 private:
  // What one scores who says a token drawn from the values so far, the most
  // frequent of them, or the answer where it stands within three tokens, and
  // otherwise guesses.
  struct Guesses {
    double any = 0, most_frequent = 0, in_view = 0;
  };

  explicit FuzzyRecall(const Options& options)
      : length_(options.Int("length")),
        vocabulary_(options.Int("vocab")),
        key_motif_(options.Int("key_motif")),
        value_motif_(options.Int("value_motif")),
        train_on_all_(TrainsOnAllTargets(options)),
        keys_((vocabulary_ - 1) / 2),
        values_(vocabulary_ - 1 - keys_),
        random_("fuzzy_recall") {}

  int64_t longest_pair() const { return key_motif_ + value_motif_; }
  std::vector<Pair> DrawPairs(Split split, Random* random) const;
  Guesses EstimateGuesses() const;

  const int64_t length_;
  const int64_t vocabulary_;
  const int32_t key_motif_;
  const int32_t value_motif_;
  const bool train_on_all_;
  const int64_t keys_;
  const int64_t values_;
  const TaskRandom random_;
};

std::vector<Pair> FuzzyRecall::DrawPairs(Split split, Random* random) const {
  const auto draw = [&] {
    Pair pair;
    pair.key =
        Motif::Draw(split == Split::kTrain
                        ? 1 + static_cast<int32_t>(random->Below(key_motif_))
                        : key_motif_,
                    1, keys_, random);
    pair.value = Motif::Draw(1 + random->Below(value_motif_), 1 + keys_,
                             values_, random);
    pair.code = pair.key.Code();
    return pair;
  };
  const Pair probe = draw();
  // Pairs may begin before the end; the one that begins first after probe_at
  // certainly does.
  const int64_t end = length_ - probe.size() - longest_pair();
  const int64_t probe_at = random->Below(end - longest_pair() + 1);

  std::vector<Pair> pairs;
  pairs.reserve(length_ / 2);
  LastPairs last(&pairs, length_ / 2);
  int64_t size = 0;
  const auto add = [&](const Pair& pair) {
    int32_t& entry = last[pair.code];
    pairs.push_back(pair);
    if (entry != kNowhere) {
      pairs.back().before = entry;
      pairs.back().value = pairs[entry].value;
    }
    entry = static_cast<int32_t>(pairs.size()) - 1;
    size += pairs.back().size();
  };
  bool probe_said = false;
  while (size < end) {
    Pair pair = size >= probe_at && !probe_said ? probe : draw();
    if (pair.code == probe.code) {
      pair.value = probe.value;
      probe_said = true;
    }
    add(pair);
  }
  add(probe);
  return pairs;
}

void FuzzyRecall::Generate(Split split, uint64_t seed, uint64_t index,
                           Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const std::vector<Pair> pairs = DrawPairs(split, &random);

  example->tokens.assign(length_, kPad);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  example->notes.clear();
  int64_t t = length_;
  for (const Pair& pair : pairs) t -= pair.size();
  std::vector<int32_t> value_at;  // of each pair
  value_at.reserve(pairs.size());
  for (const Pair& pair : pairs) {
    std::fill_n(example->roles.begin() + t, pair.size(), TokenRole::kContext);
    std::copy_n(pair.key.tokens.begin(), pair.key.size,
                example->tokens.begin() + t);
    t += pair.key.size;
    value_at.push_back(t);
    for (int32_t i = 0; i < pair.value.size; ++i, ++t) {
      example->tokens[t] = pair.value.tokens[i];
      if (pair.before == kNowhere) continue;
      example->targets[t - 1] = example->tokens[t];
      example->roles[t - 1] = TokenRole::kQuery;
      example->origins[t - 1] = value_at[pair.before] + i;
    }
  }
  if (split == Split::kTrain && train_on_all_) {
    std::copy(example->tokens.begin() + 1, example->tokens.end(),
              example->targets.begin());
    std::fill(example->roles.begin(), example->roles.end() - 1,
              TokenRole::kQuery);
  }
}

std::vector<double> FuzzyRecall::Details(
    const Example& example, absl::Span<const int32_t> predictions) const {
  int64_t values = 0, right = 0, scored = 0;
  bool all_right = true;
  for (size_t t = 0; t < example.targets.size(); ++t) {
    // The last token of a value is never scored, so that it ends the answer.
    if (example.targets[t] == kUnscored) continue;
    all_right &= predictions[scored++] == example.targets[t];
    if (t + 1 < example.targets.size() && example.targets[t + 1] != kUnscored) {
      continue;
    }
    ++values;
    right += all_right;
    all_right = true;
  }
  return {static_cast<double>(right) / values};
}

FuzzyRecall::Guesses FuzzyRecall::EstimateGuesses() const {
  const int64_t examples = std::clamp<int64_t>((1 << 18) / length_, 4, 2000);
  Guesses sum;
  Example example;
  for (int64_t index = 0; index < examples; ++index) {
    Generate(Split::kValidation, /*seed=*/0, index, &example);
    std::vector<int64_t> counts(vocabulary_, 0);
    int64_t total = 0, asked = 0;
    int32_t most = 0;
    Guesses of_example;
    for (int64_t t = 0; t < length_; ++t) {
      const int32_t token = example.tokens[t];
      if (token > keys_) {
        ++total;
        if (++counts[token] > counts[most]) most = token;
      }
      const int32_t target = example.targets[t];
      if (target == kUnscored) continue;
      ++asked;
      of_example.any += static_cast<double>(counts[target]) / total;
      of_example.most_frequent += target == most;
      of_example.in_view +=
          example.origins[t] >= t - 2 ? 1 : 1.0 / (values_ - value_motif_ + 1);
    }
    sum.any += of_example.any / asked;
    sum.most_frequent += of_example.most_frequent / asked;
    sum.in_view += of_example.in_view / asked;
  }
  return {sum.any / examples, sum.most_frequent / examples,
          sum.in_view / examples};
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "fuzzy_recall";
  descriptor.group = "associative recall";
  descriptor.summary =
      "say the value that a key had before, both of several "
      "tokens";
  descriptor.paper = "arXiv 2403.17844";
  descriptor.requires_causal = true;
  descriptor.options = {
      OptionSpec::Int("length", 64, 6, 1 << 24,
                      "tokens in a sequence; at least three of the longest "
                      "pairs"),
      OptionSpec::Int("vocab", 16, 3, 1 << 20,
                      "tokens: padding, of the others half keys, half values"),
      OptionSpec::Int("key_motif", 3, 1, kLongestMotif,
                      "tokens in a key; up to as many in training"),
      OptionSpec::Int("value_motif", 3, 1, kLongestMotif,
                      "most tokens in a value"),
      TrainTargetsOption(),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"vocab", "16"},
        {"key_motif", "2"},
        {"value_motif", "2"}}},
      {"smoke",
       {{"length", "18"},
        {"vocab", "9"},
        {"key_motif", "2"},
        {"value_motif", "2"}}},
      PublishedMad({{"length", "128"},
                    {"vocab", "16"},
                    {"key_motif", "3"},
                    {"value_motif", "3"},
                    {"train_targets", "all"}}),
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), FuzzyRecall::Make});

}  // namespace
}  // namespace mneme
