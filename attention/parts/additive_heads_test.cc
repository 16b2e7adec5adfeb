// SPDX-License-Identifier: Apache-2.0
//
// Costs against a count by hand.

#include "attention/parts/additive_heads.h"

#include "attention/parts/vector_decay_operator.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// Two sequences of one head, five tokens in blocks of 2, 2 and 1; keys of 3,
// values of 4.
const Dims kDims = {/*batch=*/2,    /*length=*/5,    /*heads=*/1,
                    /*kv_heads=*/1,
                    /*key_dim=*/3,  /*value_dim=*/4, {}};
constexpr double kPairs = 2 * (3 + 3 + 1);
constexpr double kTokens = 2 * 5;
constexpr double kBlocks = 2 * 3;

TEST(AdditiveHeadsCost, WithoutDecay) {
  const Cost cost = AdditiveHeadsCost(kDims, 3, 2, false, false);
  // A product of 3 and one of 4 numbers a pair; a state read and written by
  // each token; both count multiplications and additions.
  EXPECT_EQ(cost.flops, kPairs * 2 * (3 + 4) + kTokens * 4 * 12);
  EXPECT_EQ(cost.exps, 0);
  EXPECT_EQ(cost.bytes, 4 * (kTokens * 2 * (3 + 4) + 2 * 2 * 12));
}

TEST(AdditiveHeadsCost, ANormaliserIsOneMoreColumn) {
  const Cost cost = AdditiveHeadsCost(kDims, 3, 2, false, true);
  EXPECT_EQ(cost.flops, kPairs * 2 * (3 + 5) + kTokens * 4 * 15);
}

TEST(AdditiveHeadsCost, WithDecay) {
  const Cost cost = AdditiveHeadsCost(kDims, 3, 2, true, false);
  // Of two tokens, the decay between them is made and used; each token's read
  // of the state and its key fade, and so does each block's state.
  EXPECT_EQ(cost.flops, kPairs * 2 * (3 + 4) + kTokens * 4 * 12 +
                            (kPairs - kTokens) * 2 + kTokens * (3 + 4) +
                            kBlocks * 12);
  EXPECT_EQ(cost.exps, kTokens);
  EXPECT_EQ(cost.bytes, 4 * (kTokens * 2 * (3 + 4) + 2 * 2 * 12));
}

TEST(AdditiveHeadsCost, TheRecurrenceHasNoScores) {
  const Cost cost = AdditiveHeadsCost(kDims, 3, 1, false, false);
  EXPECT_EQ(cost.flops, kTokens * 4 * 12);
  EXPECT_EQ(AdditiveHeadsCost(kDims, 3, 1, true, false).flops,
            kTokens * 5 * 12);
  EXPECT_EQ(CausalScoresFlops(kDims, 3, 1), 0);
  // Nobody has to read and write the state in between.
  EXPECT_EQ(cost.bytes, 4 * (kTokens * 2 * (3 + 4) + 2 * 2 * 12));
}

TEST(AdditiveHeadsCost, ScoresAreAPartOfIt) {
  EXPECT_EQ(CausalScoresFlops(kDims, 3, 2), kPairs * 2 * 3);
}

TEST(VectorDecayCost, CountsPairsOfABlock) {
  const VectorDecayOperator op({}, /*chunk=*/64);
  const Cost cost = op.ForwardCost(kDims, Form::kChunked);
  constexpr double kAllPairs = 2 * 15;
  // Each of 3 dimensions decays for each pair of different tokens of a run of
  // four, of 5 tokens 6, and as if a run of four in five were a later one for
  // every token. So does each head's state, once.
  constexpr double kDecays = 2 * 6 * 3 + kTokens * (5.0 / 4 - 1) / 2 * 3;
  EXPECT_EQ(cost.flops, kAllPairs * (2 * 3 + 2 * 4) + kDecays +
                            kTokens * (4 * 12 + 5 * 3) + 2 * 12);
  EXPECT_EQ(cost.exps, kTokens * 3);
  EXPECT_EQ(cost.bytes, 4 * (kTokens * (3 * 3 + 2 * 4) + 2 * 2 * 12));
  // Two products for each, and the scores once more.
  const Cost backward = op.BackwardCost(kDims, Form::kChunked);
  EXPECT_EQ(backward.flops, 2 * cost.flops + kAllPairs * 3 * 3);
  EXPECT_EQ(backward.exps, cost.exps);
  EXPECT_EQ(backward.bytes, 2 * cost.bytes);
  // A step reads and writes both states, of 12 numbers.
  EXPECT_EQ(op.StepCost(kDims).bytes, 4 * 2 * (2 * 12 + 3 * 3 + 2 * 4));
}

}  // namespace
}  // namespace mneme
