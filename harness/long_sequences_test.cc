// SPDX-License-Identifier: Apache-2.0
//
// Reading in pieces is reading, for every variant that is linked in.

#include "harness/long_sequences.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// Every fifth token of a random sequence is asked for again three later.
class EchoTask : public Task {
 public:
  explicit EchoTask(int64_t length, bool ranges = false)
      : length_(length), ranges_(ranges) {}
  int64_t vocabulary() const override { return 8; }
  int64_t length() const override { return length_; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    GenerateRange(split, seed, index, 0, length_, example);
  }
  bool GeneratesRanges() const override { return ranges_; }
  void GenerateRange(Split, uint64_t seed, uint64_t index, int64_t first,
                     int64_t count, Example* example) const override {
    longest_range = std::max(longest_range, count);
    *example = {};
    for (int64_t t = first; t < first + count; ++t) {
      const bool asked = t % 5 == 3;
      example->tokens.push_back(Token(seed, index, t));
      example->targets.push_back(asked ? Token(seed, index, t - 3) : kUnscored);
      example->roles.push_back(TokenRole::kContext);
      example->origins.push_back(asked ? static_cast<int32_t>(t - 3)
                                       : kNowhere);
    }
  }
  double ChanceScore() const override { return 1.0 / 8; }
  double ContextGuessScore() const override { return 1.0 / 8; }

  mutable int64_t longest_range = 0;

 private:
  static int32_t Token(uint64_t seed, uint64_t index, int64_t t) {
    return static_cast<int32_t>(Random(seed, index, t).Below(8));
  }

  const int64_t length_;
  const bool ranges_;
};

std::unique_ptr<Model> Make(const Variant& variant,
                            const OptionValues& values = {}) {
  OptionValues all = {{"width", "16"}};
  all.insert(all.end(), values.begin(), values.end());
  auto model = Model::Create(
      variant, *Options::Parse(variant.descriptor.options),
      *Options::Parse(ModelOptionSpecs(), all),
      /*vocabulary=*/8, /*max_length=*/64, DType::kFloat32, /*seed=*/1);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

void ExpectSame(const LengthTest& a, const LengthTest& b) {
  EXPECT_NEAR(a.score.loss, b.score.loss, 1e-4 * (1 + a.score.loss));
  ASSERT_EQ(a.score.positions.size(), b.score.positions.size());
  for (size_t i = 0; i < a.score.positions.size(); ++i) {
    EXPECT_EQ(a.score.positions[i].answers, b.score.positions[i].answers);
    EXPECT_NEAR(a.score.positions[i].loss, b.score.positions[i].loss, 1e-3);
  }
  ASSERT_EQ(a.score.depths.size(), b.score.depths.size());
  for (size_t i = 0; i < a.score.depths.size(); ++i) {
    EXPECT_EQ(a.score.depths[i].answers, b.score.depths[i].answers);
  }
}

TEST(LongSequences, PiecesGiveWhatTheWholeGives) {
  constexpr int64_t kLength = 61;  // no multiple of a piece
  const EchoTask in_full(kLength), in_ranges(kLength, /*ranges=*/true);
  kernels::ThreadPool one(1), two(2);
  for (const std::string& name : Variants().Names()) {
    SCOPED_TRACE(name);
    const Variant& variant = **Variants().Find(name);
    const auto model = Make(variant);
    const auto whole = TestAtLength(*model, in_full, 0, {3, kLength}, &one);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(whole->streamed, variant.descriptor.streaming);
    EXPECT_EQ(whole->state_bytes > 0, variant.descriptor.streaming);
    for (const int64_t piece : {1, 7, 16}) {
      SCOPED_TRACE(piece);
      const auto pieces = TestAtLength(*model, in_ranges, 0, {3, piece}, &two);
      ASSERT_TRUE(pieces.ok()) << pieces.status();
      ExpectSame(*whole, *pieces);
      EXPECT_EQ(whole->state_bytes, pieces->state_bytes);
    }
  }
}

TEST(LongSequences, RangesAreAskedForPieceByPiece) {
  const EchoTask task(1000, /*ranges=*/true);
  kernels::ThreadPool pool(1);
  const auto model = Make(**Variants().Find("retention"));
  ASSERT_TRUE(TestAtLength(*model, task, 0, {1, 32}, &pool).ok());
  EXPECT_EQ(task.longest_range, 32);
}

TEST(LongSequences, AGrowingStateIsRefusedBeforeItGrows) {
  const EchoTask task(1000, /*ranges=*/true);
  kernels::ThreadPool pool(1);
  LengthTestOptions options;
  options.largest_state_bytes = 100'000;
  // 2 layers, keys and values of 16 floats: 256 bytes a token.
  const auto cache = TestAtLength(*Make(**Variants().Find("softmax")), task, 0,
                                  options, &pool);
  EXPECT_EQ(cache.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(task.longest_range, 0) << "it was tried all the same";
  const auto fixed = TestAtLength(*Make(**Variants().Find("retention")), task,
                                  0, options, &pool);
  EXPECT_TRUE(fixed.ok()) << fixed.status();
}

TEST(LongSequences, WhatReadsAtOnceIsNotTriedAtAnyLength) {
  const EchoTask task(64);
  kernels::ThreadPool pool(1);
  LengthTestOptions options;
  options.longest_at_once = 63;
  const auto model = Make(**Variants().Find("bigbird_encoder"));
  EXPECT_EQ(TestAtLength(*model, task, 0, options, &pool).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(task.longest_range, 0) << "it was tried all the same";
  EXPECT_TRUE(TestAtLength(*Make(**Variants().Find("retention")), task, 0,
                           options, &pool)
                  .ok());
  options.longest_at_once = 64;
  EXPECT_TRUE(TestAtLength(*model, task, 0, options, &pool).ok());
}

TEST(LongSequences, WhatEndsAtTheTrainingLengthSaysSo) {
  const EchoTask task(128);
  kernels::ThreadPool pool(1);
  const auto model =
      Make(**Variants().Find("softmax"), {{"positions", "true"}});
  const auto test = TestAtLength(*model, task, 0, {}, &pool);
  EXPECT_EQ(test.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(test.status().message().empty());
}

}  // namespace
}  // namespace mneme
