// SPDX-License-Identifier: Apache-2.0
//
// That decoding begins again where it began. That it is right is what
// oracle_check_test.cc says.

#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "harness/throughput/problem.h"

namespace mneme {
namespace {

class DecodingTest : public testing::Test {
 protected:
  std::unique_ptr<Workload> Make(const std::string& name, int64_t context) {
    const Variant& variant = **Variants().Find(name);
    const Options options = *Options::Parse(variant.descriptor.options);
    op_ = *variant.make_operator(options);
    problem_ = MakeProblem(Phase::kDecode, variant, options, op_.get(),
                           Form::kChunked, {1, context, 2, 16}, nullptr);
    return *ContendersOf(name, Phase::kDecode).front()->make(problem_);
  }

  std::unique_ptr<Operator> op_;
  Problem problem_;
};

TEST_F(DecodingTest, ACacheIsMadeShortAgain) {
  EXPECT_EQ(Make("softmax", 640)->RunsBeforeRewind(), 10);
}

TEST_F(DecodingTest, AStateThatStaysAsLargeIsNot) {
  EXPECT_EQ(Make("linear", 640)->RunsBeforeRewind(), 0);
}

// After 130 tokens and after 132 there are two parts, in between three.
TEST_F(DecodingTest, AStateThatShrinksAgainIsMadeAsItWas) {
  const std::unique_ptr<Workload> workload = Make("log_linear", 130);
  EXPECT_EQ(workload->RunsBeforeRewind(), 2);
  ASSERT_TRUE(workload->Run().ok());
  const Tensor first = workload->Outputs()[0].Clone();
  ASSERT_TRUE(workload->Run().ok());
  ASSERT_TRUE(workload->Rewind().ok());
  ASSERT_TRUE(workload->Run().ok());
  const Tensor again = workload->Outputs()[0];
  for (int64_t i = 0; i < first.elements(); ++i) {
    EXPECT_EQ(again.data<float>()[i], first.data<float>()[i]) << i;
  }
}

}  // namespace
}  // namespace mneme
