// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/operators.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

Operators Make(const std::string& name, uint64_t seed,
               const OptionValues& set = {}) {
  auto operators = MakeOperators(**Variants().Find(name), set, 3, seed);
  EXPECT_TRUE(operators.ok()) << operators.status();
  return operators.ok() ? *std::move(operators) : Operators();
}

std::vector<double> Answers(const Operator& op) {
  Dims dims;
  dims.length = 4;
  dims.key_dim = dims.value_dim = 8;
  const std::vector<Tensor> inputs =
      RandomInputs(op.Inputs(), dims, DType::kFloat32, 1);
  OperatorCall call;
  call.inputs = inputs;
  EXPECT_TRUE(RunOperator(op, &call).ok());
  return call.output.ToDoubles();
}

TEST(OperatorsTest, WhatIsDrawnAtRandomIsDrawnForEachTrialAndSeed) {
  const Operators drawn = Make("performer", 0);
  ASSERT_EQ(drawn.size(), 3);
  const std::vector<double> first = Answers(OperatorOf(drawn, 0));
  EXPECT_NE(first, Answers(OperatorOf(drawn, 1)));
  EXPECT_NE(first, Answers(OperatorOf(drawn, 2)));
  EXPECT_EQ(first, Answers(OperatorOf(Make("performer", 0), 0)));
  EXPECT_NE(first, Answers(OperatorOf(Make("performer", 1), 0)));
}

TEST(OperatorsTest, OneIsEnoughWhereNothingIsDrawnOrAllIsSet) {
  EXPECT_EQ(Make("softmax", 0).size(), 1);
  EXPECT_EQ(Make("performer", 0, {{"seed", "4"}}).size(), 1);
}

// A misspelt `redraw` would be found here, not by whoever probes.
TEST(OperatorsTest, EveryVariantCanBeMade) {
  for (const std::string& name : Variants().Names()) {
    SCOPED_TRACE(name);
    const Variant& variant = **Variants().Find(name);
    if (variant.make_operator == nullptr) continue;
    EXPECT_EQ(Make(name, 0).size(), variant.descriptor.redraw.empty() ? 1 : 3);
  }
}

}  // namespace
}  // namespace mneme
