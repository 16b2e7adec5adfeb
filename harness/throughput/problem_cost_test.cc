// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/problem_cost.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "harness/throughput/problem.h"

namespace mneme {
namespace {

class ProblemCostTest : public testing::Test {
 protected:
  Problem Make(Phase phase, const OptionValues& set = {}) {
    const Variant& variant = **Variants().Find("softmax");
    const Options options = *Options::Parse(variant.descriptor.options, set);
    op_ = *variant.make_operator(options);
    return MakeProblem(phase, variant, options, op_.get(), Form::kChunked,
                       {2, 8, 3, 4}, nullptr);
  }
  std::unique_ptr<Operator> op_;
};

TEST_F(ProblemCostTest, PrefillTouchesInputsAndOutput) {
  EXPECT_EQ(WorkingSet(Make(Phase::kPrefill)), 4 * (2 * 8 * 3 * 4) * 4);
}

TEST_F(ProblemCostTest, BackwardTouchesGradientsToo) {
  EXPECT_EQ(WorkingSet(Make(Phase::kBackward)), 2 * 4 * (2 * 8 * 3 * 4) * 4);
}

TEST_F(ProblemCostTest, DecodingTouchesTheState) {
  const Problem problem = Make(Phase::kDecode);
  EXPECT_EQ(WorkingSet(problem), 2 * (2 * 8 * 3 * 4) * 4);
  EXPECT_EQ(WorkingSet(problem, 3), 2 * (2 * 9 * 3 * 4) * 4);
}

TEST_F(ProblemCostTest, DecodingCostsTheMeanOfItsTokens) {
  const Problem problem = Make(Phase::kDecode);
  // Of softmax attention as much as the one in the middle; of more than 64 some
  // are counted: every third of 187.
  for (const int64_t tokens : {1, 3, 63, 127, 187}) {
    Dims middle = problem.dims;
    middle.length += (tokens - 1) / 2;
    const Cost expected = op_->StepCost(middle), mean = CostOf(problem, tokens);
    EXPECT_DOUBLE_EQ(mean.flops, expected.flops) << tokens;
    EXPECT_DOUBLE_EQ(mean.exps, expected.exps) << tokens;
    EXPECT_DOUBLE_EQ(mean.bytes, expected.bytes) << tokens;
  }
}

// Rewinds after so many runs.
class Rewinding : public Workload {
 public:
  explicit Rewinding(int64_t runs) : runs_(runs) {}
  absl::Status Run() override { return absl::OkStatus(); }
  int64_t RunsBeforeRewind() const override { return runs_; }
  std::vector<Tensor> Outputs() const override { return {}; }

 private:
  const int64_t runs_;
};

TEST_F(ProblemCostTest, RepetitionsTimeTokensUntilTheStateIsRewound) {
  EXPECT_EQ(TokensTimed(Rewinding(128), 1000), 128);
  EXPECT_EQ(TokensTimed(Rewinding(128), 5), 5);
  EXPECT_EQ(TokensTimed(Rewinding(0), 1000), 1);
  EXPECT_EQ(TokensTimed(Rewinding(128), 0), 1);
}

TEST_F(ProblemCostTest, DecodingGivesOneTokenASequence) {
  EXPECT_EQ(TokensOf(Make(Phase::kDecode)), 2);
  EXPECT_EQ(TokensOf(Make(Phase::kPrefill)), 16);
}

TEST_F(ProblemCostTest, OnlyOurProductsInBfloat16AreHeldToTheirUnit) {
  Ceilings ceilings;
  for (double& rate : ceilings.per_second) rate = 1e9;
  ceilings.per_second[static_cast<size_t>(Ceiling::kAmx)] = 0;
  ceilings.per_second[static_cast<size_t>(Ceiling::kBf16)] = 2e9;
  ceilings.per_second[static_cast<size_t>(Ceiling::kExp)] = 1e15;
  Contender ours, peer;
  ours.name = kOwnContender;
  peer.name = "peer";
  const Problem problem = Make(Phase::kPrefill, {{"precision", "bf16"}});
  const auto a = LimitOf(ours, problem, ceilings);
  const auto b = LimitOf(peer, problem, ceilings);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NEAR(b->compute_seconds, 2 * a->compute_seconds,
              1e-3 * b->compute_seconds);
  const auto f32 = LimitOf(ours, Make(Phase::kPrefill), ceilings);
  ASSERT_TRUE(f32.ok());
  EXPECT_NEAR(f32->compute_seconds, b->compute_seconds,
              1e-3 * b->compute_seconds);
}

TEST_F(ProblemCostTest, OnlyACacheIsReadAndNotWritten) {
  Ceilings ceilings;
  for (double& rate : ceilings.per_second) rate = 1e18;
  ceilings.per_second[static_cast<size_t>(Ceiling::kDram)] = 1;
  ceilings.per_second[static_cast<size_t>(Ceiling::kDramReadWrite)] = 2;
  Contender ours;
  ours.name = kOwnContender;
  for (const Phase phase :
       {Phase::kPrefill, Phase::kDecode, Phase::kBackward}) {
    const Problem problem = Make(phase);
    const auto limit = LimitOf(ours, problem, ceilings);
    ASSERT_TRUE(limit.ok());
    EXPECT_EQ(limit->seconds(),
              CostOf(problem).bytes / (phase == Phase::kDecode ? 1 : 2));
  }
}

}  // namespace
}  // namespace mneme
