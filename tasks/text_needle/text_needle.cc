// SPDX-License-Identifier: Apache-2.0
//
// Needles hidden in real text (text_corpus.h): `needles` pairs of a key and a
// value stand at different depths of a haystack of text, which goes on behind
// each; at the end the values of `queries` of the keys are asked for. RULER's
// single 2 and multi-key 1 hide theirs in essays likewise (Hsieh et al.,
// "RULER: What's the Real Context Size of Your Long-Context Language Models?",
// arXiv 2404.06654).
//
//   needle=token    T h e k2 d _ c a k1 b t _ s ... | k1 k2
//                                                     b  d
//   needle=line     T h e \n # q x e = K \n _ c a t ... | \n # q x e =
//                                                                    K
//
//   - As tokens, keys and values are tokens of their own, 256 and up: who finds
//     them need not read the text. As lines they are bytes like all others: the
//     key three small letters, the value a capital. Text that happens to hold
//     such a line is not looked for.
//   - The value is wanted at the last token of a question, and never enters the
//     input. Keys, and values, of one sequence are all different.
//   - The haystack is a row of places, each as long as a needle, and depths are
//     a grid on it (depth_grid.h). A sequence's text starts anywhere in the
//     text of its split, which starts over where it is too short.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/depth_grid.h"
#include "tasks/haystack.h"
#include "tasks/task.h"
#include "tasks/task_random.h"
#include "tasks/text_corpus.h"

namespace mneme {
namespace {

constexpr int32_t kBytes = 256;
constexpr int64_t kLetters = 26;
constexpr int64_t kLeastText = 64;  // bytes of a split

struct Sizes {
  int64_t length, needles, queries, keys, values;
  bool lines;

  // The length of a needle, of what precedes its value, which is also the
  // question, and of the haystack.
  int64_t needle() const { return lines ? 8 : 2; }
  int64_t question() const { return lines ? 6 : 1; }
  int64_t haystack() const { return length - queries * question(); }
};

class TextNeedle : public Task {
 public:
  TextNeedle(std::shared_ptr<const TextCorpus> corpus, const Sizes& sizes,
             const DepthGrid& grid)
      : corpus_(std::move(corpus)), sizes_(sizes), grid_(grid) {}

  int64_t vocabulary() const override {
    return sizes_.lines ? kBytes : kBytes + sizes_.keys + sizes_.values;
  }
  int64_t length() const override { return sizes_.length; }
  std::string DataIdentity() const override { return corpus_->Identity(); }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    GenerateRange(split, seed, index, 0, sizes_.length, example);
  }

  bool GeneratesRanges() const override { return true; }

  void GenerateRange(Split split, uint64_t seed, uint64_t index, int64_t first,
                     int64_t count, Example* example) const override {
    Random random = random_.ForExample(split, seed, index);
    const int64_t text = random.Below(corpus_->bytes(split));
    Numbers depths(sizes_.needles), keys(sizes_.needles),
        values(sizes_.needles), asked(sizes_.queries);
    DrawDistinct(grid_.depths(), absl::MakeSpan(depths), &random);
    DrawDistinct(sizes_.keys, absl::MakeSpan(keys), &random);
    DrawDistinct(sizes_.values, absl::MakeSpan(values), &random);
    DrawDistinct(sizes_.needles, absl::MakeSpan(asked), &random);
    std::sort(depths.begin(), depths.end());

    RangeWriter out(first, count, example);
    int64_t position = 0;  // of the sequence
    int64_t read = text;   // position in the text
    for (int64_t i = 0; i < sizes_.needles; ++i) {
      const int64_t start = StartOf(depths[i]);
      WriteText(split, position, start, read, first, count, example);
      read += start - position;
      WriteKey(start, keys[i], TokenRole::kContext, &out);
      const int64_t value = start + sizes_.question();
      out.Write(value, ValueToken(values[i]), TokenRole::kContext);
      if (sizes_.lines) out.Write(value + 1, '\n', TokenRole::kContext);
      position = start + sizes_.needle();
    }
    WriteText(split, position, sizes_.haystack(), read, first, count, example);
    for (int64_t i = 0; i < sizes_.queries; ++i) {
      const uint64_t needle = asked[i];
      const int64_t start = sizes_.haystack() + i * sizes_.question();
      const int32_t last =
          WriteKey(start, keys[needle], TokenRole::kQuery, &out);
      out.Ask(start + sizes_.question() - 1, last, ValueToken(values[needle]),
              StartOf(depths[needle]) + sizes_.question());
    }
  }

  // Among all values, and among those that are hidden.
  double ChanceScore() const override { return 1.0 / sizes_.values; }
  double ContextGuessScore() const override { return 1.0 / sizes_.needles; }

  // A bag has the values, but not whose they are. Only the needle of the last
  // depth can stand within the last three tokens, and be the one asked for.
  LeakFloors Floors() const override {
    LeakFloors floors = Task::Floors();
    const int64_t value = StartOf(grid_.depths() - 1) + sizes_.question();
    double seeing = 0;  // queries
    for (int64_t i = 0; i < sizes_.queries; ++i) {
      seeing += sizes_.haystack() + (i + 1) * sizes_.question() - 3 <= value;
    }
    floors.ngram =
        std::min(1.0, ChanceScore() + seeing / sizes_.queries / grid_.depths());
    return floors;
  }

  std::string TokenText(int32_t token) const override {
    if (token < kBytes) return TextTokenText(token);
    const int64_t key = token - kBytes;
    return key < sizes_.keys ? absl::StrCat("k", key)
                             : absl::StrCat("v", key - sizes_.keys);
  }

 private:
  using Numbers = absl::InlinedVector<uint64_t, 16>;

  int64_t StartOf(int64_t depth) const {
    return grid_.PlaceOf(depth) * sizes_.needle();
  }

  int32_t ValueToken(int64_t value) const {
    return static_cast<int32_t>(sizes_.lines ? 'A' + value
                                             : kBytes + sizes_.keys + value);
  }

  // Writes all of a needle that precedes its value; returns the last token.
  int32_t WriteKey(int64_t start, int64_t key, TokenRole role,
                   RangeWriter* out) const {
    if (!sizes_.lines) {
      const int32_t token = static_cast<int32_t>(kBytes + key);
      out->Write(start, token, role);
      return token;
    }
    const auto letter = [](int64_t number) {
      return static_cast<int32_t>('a' + number % kLetters);
    };
    const int32_t tokens[] = {'\n',
                              '#',
                              letter(key / (kLetters * kLetters)),
                              letter(key / kLetters),
                              letter(key),
                              '='};
    for (const int32_t token : tokens) out->Write(start++, token, role);
    return '=';
  }

  // Positions begin ... end - 1 of the sequence, as far as they are in the
  // range first ... first + count - 1, become text from `read` on.
  void WriteText(Split split, int64_t begin, int64_t end, int64_t read,
                 int64_t first, int64_t count, Example* example) const {
    const int64_t from = std::max(begin, first);
    const int64_t to = std::min(end, first + count);
    if (from >= to) return;
    corpus_->Read(
        split, read + from - begin,
        absl::MakeSpan(example->tokens).subspan(from - first, to - from));
  }

  std::shared_ptr<const TextCorpus> corpus_;
  Sizes sizes_;
  DepthGrid grid_;
  TaskRandom random_{"text_needle"};
};

template <typename... Parts>
absl::Status Refuse(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("text_needle: ", parts...));
}

absl::Status CheckSizes(const Sizes& sizes, int64_t depths) {
  if (sizes.needles > depths) {
    return Refuse("needles=", sizes.needles, " need depths >= ", sizes.needles,
                  " (each stands at a depth of its own), not ", depths);
  }
  if (sizes.queries > sizes.needles) {
    return Refuse("queries=", sizes.queries, " need needles >= ", sizes.queries,
                  ", not ", sizes.needles);
  }
  if (sizes.keys < sizes.needles) {
    return Refuse("needles=", sizes.needles, " need keys >= ", sizes.needles,
                  " (they are different), not ", sizes.keys);
  }
  if (sizes.values < sizes.needles) {
    return Refuse("needles=", sizes.needles, " need values >= ", sizes.needles,
                  " (they are different), not ", sizes.values);
  }
  if (sizes.lines && sizes.values > kLetters) {
    return Refuse("needle=line has values of one letter, at most ", kLetters,
                  ", not ", sizes.values);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Task>> MakeTextNeedle(const Options& options) {
  const Sizes sizes = {
      options.Int("length"),  options.Int("needles"),
      options.Int("queries"), options.Int("keys"),
      options.Int("values"),  options.Choice("needle") == "line"};
  const int64_t depths = options.Int("depths");
  absl::Status status = CheckSizes(sizes, depths);
  if (!status.ok()) return status;
  const int64_t places =
      std::max<int64_t>(sizes.haystack(), 0) / sizes.needle();
  auto grid = DepthGrid::Create("text_needle", depths, places, sizes.length);
  if (!grid.ok()) return grid.status();
  auto corpus = OpenText(options);
  if (!corpus.ok()) return Refuse(corpus.status().message());
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    if ((*corpus)->bytes(split) >= kLeastText) continue;
    return Refuse((*corpus)->name(), " has ", (*corpus)->bytes(split),
                  " bytes of ", SplitName(split), " text, ", kLeastText,
                  " is the least (90% of the bytes are training, 5% "
                  "validation, 5% test)");
  }
  return std::make_unique<TextNeedle>(*std::move(corpus), sizes, *grid);
}

std::vector<OptionSpec> Specs() {
  std::vector<OptionSpec> specs = {
      OptionSpec::Int("length", 128, 4, 1 << 21, "tokens in a sequence"),
      OptionSpec::Choice("needle", "token", {"token", "line"},
                         "as what a needle stands in the text: two tokens of "
                         "its own, or a line of bytes"),
      OptionSpec::Int("needles", 4, 1, 1024, "needles hidden"),
      OptionSpec::Int("queries", 4, 1, 1024, "needles asked for"),
      OptionSpec::Int("keys", 16, 1, kLetters * kLetters * kLetters,
                      "different keys there are"),
      OptionSpec::Int("values", 16, 2, 1 << 16, "different values there are"),
      OptionSpec::Int("depths", 40, 1, 1 << 16,
                      "depths of the haystack at which needles stand"),
  };
  for (OptionSpec& spec : TextOptions()) specs.push_back(std::move(spec));
  return specs;
}

const bool registered = RegisterTask(TaskPlugin{
    TaskDescriptor{
        /*name=*/"text_needle",
        /*group=*/"real text",
        /*summary=*/"values of keys that are hidden in a text of yours",
        /*paper=*/"arXiv 2404.06654",
        /*version=*/1,
        /*requires_causal=*/false,
        /*options=*/Specs(),
        /*profiles=*/
        {
            {"quick", {}},
            {"smoke",
             {{"length", "24"},
              {"needles", "2"},
              {"queries", "2"},
              {"keys", "4"},
              {"values", "4"},
              {"depths", "4"}}},
            {"lines",
             {{"length", "384"}, {"needle", "line"}, {"queries", "1"}},
             {},
             {{"steps", "800"}}},
        }},
    MakeTextNeedle});

}  // namespace
}  // namespace mneme
