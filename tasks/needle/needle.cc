// SPDX-License-Identifier: Apache-2.0
//
// Needles in a haystack, in all shapes of Hsieh et al., "RULER: What's the Real
// Context Size of Your Long-Context Language Models?", arXiv 2404.06654, as a
// task of tokens.
//
// `keys` different keys, each with `values` values of its own, are hidden in a
// haystack; at the end the values of `queries` of the keys are asked for. Keys
// and values can be several tokens long.
//
//   _ _ _ _ k1 a _ _ k2 b _ _ | = k2 = k1        2 keys, 2 queries
//                                  b    a
//   _ _ k1 k2 a b _ _ _ | = k1 k2 ?2              1 key of two tokens, with a
//                              a  b               value of two
//   _ _ k a _ _ _ k b _ | = k ?2                  1 key with two values
//                           a b
//
// The first token of the first value is wanted at the query's last token, and
// each further one at a slot with a token of its own. No answer ever enters the
// input, so no slot sees what another was to say. Values of one key are wanted
// in the order in which the haystack has them.
//
// The haystack is a row of places, each as long as a needle; what is left over
// is filler at its end. Needles stand at different depths of a grid
// (depth_grid.h), drawn uniformly. Everywhere else is filler:
//   repeat   a sentence of filler_vocab tokens, again and again (RULER's noise)
//   random   tokens drawn uniformly (in place of RULER's essays)
//   needles  more needles, with keys that nobody asks for, and any values
//
// Scored is, as published, the fraction of the values asked for that are found;
// each must be said as a whole, among the values of its key. RULER looks for
// them anywhere in the answer's text, since text has no slots that belong to a
// query. Its depths are 40 from 0% to 100%; those of one length are here the
// middles of 40 equal parts. Its random state is set anew for every sample, so
// that choices repeat themselves from sample to sample; here all draws are new.
//
// RULER's shapes under its own names are the profiles published/ruler-*, at
// 4,096 tokens (sequence lengths then double, to 131,072). Its English words
// and seven-digit numbers are single tokens of 1,024; its 32-digit UUIDs are 8
// tokens of 64. It trains no model, so the profiles fix no training.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
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
#include "tasks/depth_grid.h"
#include "tasks/haystack.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

constexpr int32_t kEndToken = 0;        // "|", the haystack is over
constexpr int32_t kQueryToken = 1;      // "=", a key follows
constexpr int32_t kFirstSlotToken = 2;  // of the second token of an answer

// A string of `tokens` tokens from an alphabet, taken for a number in base
// `alphabet`: the first token is its last digit.
struct Strings {
  int64_t tokens;
  int64_t alphabet;

  // At most this many, so that 64 random bits make a fair draw of one.
  static constexpr double kMost = 0x1p48;

  double Count() const { return std::pow(alphabet, tokens); }
  uint64_t count() const { return static_cast<uint64_t>(Count()); }
};

class Needle : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options);

  int64_t vocabulary() const override {
    return first_value_token() + values_of_.alphabet;
  }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    GenerateRange(split, seed, index, 0, length_, example);
  }
  bool GeneratesRanges() const override { return true; }
  void GenerateRange(Split split, uint64_t seed, uint64_t index, int64_t first,
                     int64_t count, Example* example) const override;

  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override;
  // "exact": all values of all queries; "tokens": single tokens, each where it
  // is wanted.
  std::vector<std::string> DetailNames() const override {
    return {"exact", "tokens"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override;

  double ChanceScore() const override { return OneOf(1 / values_of_.Count()); }
  double ContextGuessScore() const override;
  LeakFloors Floors() const override;
  std::string TokenText(int32_t token) const override;

 private:
  Needle(const Options& options, const DepthGrid& grid)
      : length_(options.Int("length")),
        keys_(options.Int("keys")),
        values_(options.Int("values")),
        queries_(options.Int("queries")),
        key_of_{options.Int("key_tokens"), options.Int("key_vocab")},
        values_of_{options.Int("value_tokens"), options.Int("value_vocab")},
        of_needles_(options.Choice("filler") == "needles"),
        grid_(grid),
        random_("needle"),
        filler_vocabulary_(options.Int("filler_vocab")),
        filler_(FirstFillerToken(answer()), filler_vocabulary_,
                options.Choice("filler") == "random") {}

  static int32_t FirstFillerToken(int64_t answer) {
    return static_cast<int32_t>(kFirstSlotToken + answer - 1);
  }

  // Tokens of the answer to a query, and of a query with the slots after it.
  int64_t answer() const { return values_ * values_of_.tokens; }
  int64_t question() const { return key_of_.tokens + answer(); }
  int64_t needle_tokens() const { return key_of_.tokens + values_of_.tokens; }
  // Where the haystack ends.
  int64_t end() const { return length_ - 1 - queries_ * question(); }
  int64_t first_key_token() const {
    return FirstFillerToken(answer()) + filler_vocabulary_;
  }
  int64_t first_value_token() const {
    return first_key_token() + key_of_.alphabet;
  }

  // How likely a value is found among guesses at all values of its key, each of
  // which is that value with probability p.
  double OneOf(double p) const {
    return 1 - std::pow(1 - p, static_cast<double>(values_));
  }

  int32_t KeyToken(uint64_t key, int64_t i) const {
    return Digit(key, key_of_, i) + static_cast<int32_t>(first_key_token());
  }
  int32_t ValueToken(uint64_t value, int64_t i) const {
    return Digit(value, values_of_, i) +
           static_cast<int32_t>(first_value_token());
  }
  static int32_t Digit(uint64_t string, const Strings& strings, int64_t i) {
    for (; i > 0; --i) string /= strings.alphabet;
    return static_cast<int32_t>(string % strings.alphabet);
  }

  void WriteNeedle(int64_t place, uint64_t key, uint64_t value,
                   RangeWriter* out) const;
  void WriteOtherNeedles(Split split, uint64_t seed, uint64_t index,
                         absl::Span<const uint64_t> keys,
                         RangeWriter* out) const;

  // Of the answers to all queries, in order: the fraction of values found.
  double Found(absl::Span<const int32_t> wanted,
               absl::Span<const int32_t> predictions) const;

  const int64_t length_;
  const int64_t keys_;
  const int64_t values_;
  const int64_t queries_;
  const Strings key_of_;
  const Strings values_of_;
  const bool of_needles_;
  const DepthGrid grid_;
  const TaskRandom random_;
  const int64_t filler_vocabulary_;
  const Filler filler_;
};

absl::StatusOr<std::unique_ptr<Task>> Needle::Make(const Options& options) {
  const int64_t length = options.Int("length");
  const int64_t keys = options.Int("keys");
  const int64_t values = options.Int("values");
  const int64_t queries = options.Int("queries");
  const int64_t depths = options.Int("depths");
  const Strings key = {options.Int("key_tokens"), options.Int("key_vocab")};
  const Strings value = {options.Int("value_tokens"),
                         options.Int("value_vocab")};
  const auto refuse = [](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("needle: ", parts...));
  };
  if (queries > keys) {
    return refuse("queries=", queries,
                  " ask for different keys, and keys=", keys);
  }
  if (keys * values > depths) {
    return refuse("keys=", keys, " with values=", values, " each are ",
                  keys * values,
                  " needles at different depths, and depths=", depths);
  }
  if (key.Count() > Strings::kMost) {
    return refuse("key_vocab^key_tokens = ", key.alphabet, "^", key.tokens,
                  " is more than 2^48");
  }
  if (value.Count() > Strings::kMost) {
    return refuse("value_vocab^value_tokens = ", value.alphabet, "^",
                  value.tokens, " is more than 2^48");
  }
  // Other needles need a key that is none of those.
  const bool of_needles = options.Choice("filler") == "needles";
  const int64_t least_keys = of_needles ? keys + 1 : keys;
  if (key.Count() < static_cast<double>(least_keys)) {
    return refuse("keys=", keys, " need ", least_keys,
                  " different keys, and key_vocab^key_tokens = ", key.alphabet,
                  "^", key.tokens);
  }
  if (value.Count() < static_cast<double>(keys * values)) {
    return refuse(
        "keys=", keys, " with values=", values, " each need ", keys * values,
        " different values, and value_vocab^value_tokens = ", value.alphabet,
        "^", value.tokens);
  }
  const int64_t end =
      length - 1 - queries * (key.tokens + values * value.tokens);
  const absl::StatusOr<DepthGrid> grid = DepthGrid::Create(
      "needle", depths, end / (key.tokens + value.tokens), length);
  if (!grid.ok()) return grid.status();
  return std::unique_ptr<Task>(new Needle(options, *grid));
}

void Needle::WriteNeedle(int64_t place, uint64_t key, uint64_t value,
                         RangeWriter* out) const {
  int64_t position = place * needle_tokens();
  for (int64_t i = 0; i < key_of_.tokens; ++i) {
    out->Write(position++, KeyToken(key, i), TokenRole::kContext);
  }
  for (int64_t i = 0; i < values_of_.tokens; ++i) {
    out->Write(position++, ValueToken(value, i), TokenRole::kContext);
  }
}

void Needle::WriteOtherNeedles(Split split, uint64_t seed, uint64_t index,
                               absl::Span<const uint64_t> keys,
                               RangeWriter* out) const {
  std::vector<uint64_t> taken(keys.begin(), keys.end());
  std::sort(taken.begin(), taken.end());
  const uint64_t free_keys = key_of_.count() - keys.size();
  const uint64_t values = values_of_.count();
  const int64_t last = std::min(
      (out->last() + needle_tokens() - 1) / needle_tokens(), grid_.places());
  for (int64_t place = out->first() / needle_tokens(); place < last; ++place) {
    const std::array<uint64_t, 4> numbers =
        random_.AtPlace(split, seed, index, place);
    uint64_t key = Scaled(numbers[0], free_keys);
    for (const uint64_t other : taken) key += key >= other;
    WriteNeedle(place, key, Scaled(numbers[1], values), out);
  }
}

void Needle::GenerateRange(Split split, uint64_t seed, uint64_t index,
                           int64_t first, int64_t count,
                           Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const int64_t needles = keys_ * values_;
  std::vector<uint64_t> drawn(keys_ + 2 * needles);
  const absl::Span<uint64_t> all(drawn);
  const absl::Span<uint64_t> keys = all.subspan(0, keys_);
  const absl::Span<uint64_t> values = all.subspan(keys_, needles);
  const absl::Span<uint64_t> depths = all.subspan(keys_ + needles, needles);
  DrawDistinct(key_of_.count(), keys, &random);
  DrawDistinct(values_of_.count(), values, &random);
  DrawDistinct(grid_.depths(), depths, &random);

  RangeWriter out(first, count, example);
  filler_.Write(random_, split, seed, index, &out);
  if (of_needles_) WriteOtherNeedles(split, seed, index, keys, &out);
  for (int64_t key = 0; key < keys_; ++key) {
    const absl::Span<uint64_t> own = depths.subspan(key * values_, values_);
    std::sort(own.begin(), own.end());
    for (int64_t i = 0; i < values_; ++i) {
      WriteNeedle(grid_.PlaceOf(own[i]), keys[key], values[key * values_ + i],
                  &out);
    }
  }

  // Keys and their depths are in random order, so the first ones will do.
  out.Write(end(), kEndToken, TokenRole::kQuery);
  for (int64_t query = 0; query < queries_; ++query) {
    int64_t position = end() + 1 + query * question();
    out.Write(position++, kQueryToken, TokenRole::kQuery);
    for (int64_t i = 0; i + 1 < key_of_.tokens; ++i) {
      out.Write(position++, KeyToken(keys[query], i), TokenRole::kQuery);
    }
    for (int64_t a = 0; a < answer(); ++a) {
      const int32_t token = a == 0
                                ? KeyToken(keys[query], key_of_.tokens - 1)
                                : static_cast<int32_t>(kFirstSlotToken + a - 1);
      const int64_t value = query * values_ + a / values_of_.tokens;
      const int64_t i = a % values_of_.tokens;
      out.Ask(
          position++, token, ValueToken(values[value], i),
          grid_.PlaceOf(depths[value]) * needle_tokens() + key_of_.tokens + i);
    }
  }
}

double Needle::Found(absl::Span<const int32_t> wanted,
                     absl::Span<const int32_t> predictions) const {
  const auto value = [&](absl::Span<const int32_t> tokens, int64_t query,
                         int64_t i) {
    return tokens.subspan(query * answer() + i * values_of_.tokens,
                          values_of_.tokens);
  };
  int64_t found = 0;
  for (int64_t query = 0; query < queries_; ++query) {
    for (int64_t i = 0; i < values_; ++i) {
      for (int64_t j = 0; j < values_; ++j) {
        if (value(wanted, query, i) != value(predictions, query, j)) continue;
        ++found;
        break;
      }
    }
  }
  return static_cast<double>(found) / static_cast<double>(queries_ * values_);
}

double Needle::Score(const Example& example,
                     absl::Span<const int32_t> predictions) const {
  return Found(WantedTokens(example), predictions);
}

std::vector<double> Needle::Details(
    const Example& example, absl::Span<const int32_t> predictions) const {
  return {Found(WantedTokens(example), predictions) == 1 ? 1.0 : 0.0,
          Task::Score(example, predictions)};
}

double Needle::ContextGuessScore() const {
  const double needles = static_cast<double>(keys_ * values_);
  if (!of_needles_) return OneOf(1 / needles);
  // Other needles can have the same value.
  const double places = static_cast<double>(grid_.places());
  return OneOf((1 + (places - needles) / values_of_.Count()) / places);
}

// What the question is, and the slot, says nothing of the values, which are
// new in each example; the marks before a query keep the haystack out of the
// last three tokens. Different guesses at each value of a key are as good as
// one guess at the only one.
//
// A bag has all values. With one key in plain filler they are the answer, and
// with more keys nothing says whose they are. Of needles it can say the most
// frequent one: among n tokens of an alphabet of V the most frequent is
// expected m = n / V + sqrt(2 (n / V) log V) + log(V) / 3 times at most (the
// counts are binomial, hence sub-gamma: Boucheron, Lugosi and Massart,
// "Concentration inequalities", corollary 2.6), so that a token is guessed with
// probability m / n. That bound holds for the first token of a longer value,
// too, since the bag does not know the order of its tokens.
LeakFloors Needle::Floors() const {
  const auto at_most_1 = [&](double of_one) {
    return std::min(1.0, of_one * static_cast<double>(values_));
  };
  const double unseen = at_most_1(1 / values_of_.Count());
  const double alphabet = static_cast<double>(values_of_.alphabet);
  const double needles =
      static_cast<double>(of_needles_ ? grid_.places() : keys_ * values_);
  const double tokens = needles * static_cast<double>(values_of_.tokens);
  const double mean = tokens / alphabet;
  const double most =
      mean + std::sqrt(2 * mean * std::log(alphabet)) + std::log(alphabet) / 3;
  double bag = of_needles_ ? 1.0 : 1 / needles;
  if (of_needles_ || values_of_.tokens > 1) bag = std::min(bag, most / tokens);
  return {unseen, std::max(unseen, at_most_1(bag)), unseen};
}

std::string Needle::TokenText(int32_t token) const {
  if (token == kEndToken) return "|";
  if (token == kQueryToken) return "=";
  if (token < FirstFillerToken(answer())) {
    return absl::StrCat("?", token - kFirstSlotToken + 2);
  }
  if (token >= first_value_token()) {
    return absl::StrCat("v", token - first_value_token());
  }
  if (token >= first_key_token()) {
    return absl::StrCat("k", token - first_key_token());
  }
  if (filler_vocabulary_ == 1) return "_";
  return absl::StrCat("_", token - FirstFillerToken(answer()));
}

// RULER's shape at its shortest length: 500 samples at each of 4K ... 128K.
TaskProfile Published(const std::string& shape, const OptionValues& differs) {
  TaskProfile profile;
  profile.name = absl::StrCat("published/ruler-", shape);
  profile.values = {
      {"length", "4096"},       {"keys", "1"},           {"values", "1"},
      {"queries", "1"},         {"key_tokens", "1"},     {"key_vocab", "1024"},
      {"value_tokens", "1"},    {"value_vocab", "1024"}, {"filler", "random"},
      {"filler_vocab", "1024"}, {"depths", "40"}};
  profile.values.insert(profile.values.end(), differs.begin(), differs.end());
  profile.train = {{"test_examples", "500"}, {"test_doublings", "5"}};
  return profile;
}

std::vector<TaskProfile> Profiles() {
  const std::pair<std::string, std::string> uuid_tokens = {"value_tokens", "8"};
  const std::pair<std::string, std::string> uuid_vocab = {"value_vocab", "64"};
  return {
      {"quick",
       {{"length", "96"},
        {"keys", "4"},
        {"values", "1"},
        {"queries", "4"},
        {"key_tokens", "1"},
        {"key_vocab", "8"},
        {"value_tokens", "1"},
        {"value_vocab", "16"},
        {"filler", "random"},
        {"filler_vocab", "4"},
        {"depths", "40"}},
       {},
       {{"steps", "400"}, {"test_doublings", "5"}}},
      {"smoke",
       {{"length", "16"},
        {"keys", "2"},
        {"queries", "1"},
        {"key_vocab", "4"},
        {"value_vocab", "4"},
        {"filler_vocab", "2"},
        {"depths", "5"}}},
      // The sentence is "The grass is green. The sky is blue. ...".
      Published("niah_single_1",
                {{"filler", "repeat"}, {"filler_vocab", "24"}}),
      Published("niah_single_2", {}),
      Published("niah_single_3", {uuid_tokens, uuid_vocab}),
      Published("niah_multikey_1", {{"keys", "4"}}),
      Published("niah_multikey_2", {{"filler", "needles"}}),
      Published("niah_multikey_3", {{"filler", "needles"},
                                    {"key_tokens", "8"},
                                    {"key_vocab", "64"},
                                    uuid_tokens,
                                    uuid_vocab}),
      Published("niah_multivalue", {{"values", "4"}}),
      Published("niah_multiquery", {{"keys", "4"}, {"queries", "4"}}),
  };
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "needle";
  descriptor.group = "needle retrieval";
  descriptor.summary = "find the values of keys that are hidden in a haystack";
  descriptor.paper = "arXiv 2404.06654";
  descriptor.options = {
      OptionSpec::Int("length", 96, 4, 1 << 21, "tokens in a sequence"),
      OptionSpec::Int("keys", 4, 1, 1024, "different keys that are hidden"),
      OptionSpec::Int("values", 1, 1, 64, "values of each key"),
      OptionSpec::Int("queries", 4, 1, 1024, "keys that are asked for"),
      OptionSpec::Int("key_tokens", 1, 1, 8, "tokens of a key"),
      OptionSpec::Int("key_vocab", 8, 2, 1 << 16, "alphabet of keys"),
      OptionSpec::Int("value_tokens", 1, 1, 8, "tokens of a value"),
      OptionSpec::Int("value_vocab", 16, 2, 1 << 16, "alphabet of values"),
      OptionSpec::Choice("filler", "random", {"repeat", "random", "needles"},
                         "haystack: a sentence repeated, random tokens, or "
                         "other needles"),
      OptionSpec::Int("filler_vocab", 4, 1, 1 << 16, "alphabet of filler"),
      OptionSpec::Int("depths", 40, 1, 1 << 16,
                      "depths of the haystack at which needles stand"),
  };
  descriptor.profiles = Profiles();
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Needle::Make});

}  // namespace
}  // namespace mneme
