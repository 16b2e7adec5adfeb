// SPDX-License-Identifier: Apache-2.0
//
// The pattern itself, read off the operator, for the oracle draws its random
// blocks as the operator does: with all scores 0 a query weighs the keys it
// sees alike, so values that name their block show which it saw.

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(BigBird, SeesTheFirstTheLastTwoAndRandomBlocks) {
  constexpr int64_t kBlock = 4, kBlocks = 12, kHeads = 2, kRandom = 3;
  constexpr int64_t kLength = kBlock * kBlocks;
  const Variant& variant = **Variants().Find("bigbird");
  const auto options = Options::Parse(variant.descriptor.options,
                                      {{"block", "4"}, {"random", "3"}});
  ASSERT_TRUE(options.ok()) << options.status();
  const auto op = variant.make_operator(*options);
  const Tensor zero(DType::kFloat64, {1, kLength, kHeads, 1});
  Tensor names(DType::kFloat64, {1, kLength, kHeads, kBlocks});
  for (int64_t h = 0; h < kHeads; ++h) {
    const auto rows = names.Sequence<double>(0, h);
    for (int64_t j = 0; j < kLength; ++j) rows(j, j / kBlock) = 1;
  }
  const std::vector<Tensor> inputs = {zero, zero, names};
  OperatorCall call;
  call.inputs = inputs;
  ASSERT_TRUE(RunOperator(**op, &call).ok());
  std::vector<std::set<int64_t>> drawn[kHeads];
  for (int64_t h = 0; h < kHeads; ++h) {
    const auto o = call.output.Sequence<double>(0, h);
    for (int64_t t = 0; t < kLength; ++t) {
      const int64_t i = t / kBlock;
      std::set<int64_t> far = {};  // seen, but not because they are near
      for (int64_t b = 1; b < i - 1; ++b) {
        if (o(t, b) > 0) far.insert(b);
      }
      const int64_t near = std::min<int64_t>(i, 2) * kBlock + t % kBlock + 1;
      const double keys = static_cast<double>(far.size()) * kBlock + near;
      EXPECT_EQ(far.size(), std::min(kRandom, std::max<int64_t>(0, i - 2)));
      for (int64_t b = 0; b < kBlocks; ++b) {
        const bool seen = b == 0 || b == i || b == i - 1 || far.count(b) > 0;
        const int64_t size = b > i || !seen ? 0
                             : b == i       ? t % kBlock + 1
                                            : kBlock;
        EXPECT_NEAR(o(t, b), size / keys, 1e-12) << t << ", block " << b;
      }
      drawn[h].push_back(far);
    }
  }
  EXPECT_NE(drawn[0], drawn[1]) << "heads draw for themselves";
}

TEST(BigBird, AStepReadsTheKeysItSees) {
  const Variant& variant = **Variants().Find("bigbird");
  const auto options = Options::Parse(variant.descriptor.options,
                                      {{"block", "4"}, {"random", "0"}});
  ASSERT_TRUE(options.ok()) << options.status();
  const auto op = variant.make_operator(*options);
  const auto bytes = [&](int64_t length) {
    return (*op)->StepCost({2, length, 4, 2, 3, 5, {}}).bytes;
  };
  // Two sequences of two groups: rows of 3 and 5 numbers, of the context and of
  // the token; queries and outputs of four heads.
  const auto expected = [](int64_t rows) {
    return 4.0 * 2 * (2 * (rows + 1) * (3 + 5) + 4 * (3 + 5));
  };
  EXPECT_EQ(bytes(7), expected(7));  // all
  EXPECT_EQ(bytes(8), expected(8));
  EXPECT_EQ(bytes(14), expected(4 + 4 + 2));  // blocks 0, 2 and 3
  EXPECT_EQ(bytes(402), expected(4 + 4 + 2));
}

}  // namespace
}  // namespace mneme
