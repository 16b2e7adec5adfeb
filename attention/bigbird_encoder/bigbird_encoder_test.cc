// SPDX-License-Identifier: Apache-2.0
//
// The pattern itself, read off the operator: with all scores 0 a query weighs
// the keys it sees alike, so values that name their block show which it saw,
// and how often.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using Blocks = std::set<int64_t>;

// Blocks seen from every block, for each head: seen[head][block]. Fails when a
// key's weight is not what it is if every key seen counts once.
std::vector<std::vector<Blocks>> BlocksSeen(const OptionValues& values,
                                            int64_t length, int64_t block,
                                            int64_t heads) {
  const Variant& variant = **Variants().Find("bigbird_encoder");
  const auto options = Options::Parse(variant.descriptor.options, values);
  EXPECT_TRUE(options.ok()) << options.status();
  const auto op = variant.make_operator(*options);
  const int64_t blocks = (length + block - 1) / block;
  const Tensor zero(DType::kFloat64, {1, length, heads, 1});
  Tensor names(DType::kFloat64, {1, length, heads, blocks});
  for (int64_t h = 0; h < heads; ++h) {
    const auto rows = names.Sequence<double>(0, h);
    for (int64_t j = 0; j < length; ++j) rows(j, j / block) = 1;
  }
  const std::vector<Tensor> inputs = {zero, zero, names};
  OperatorCall call;
  call.inputs = inputs;
  const absl::Status status = RunOperator(**op, &call);
  EXPECT_TRUE(status.ok()) << status;
  const auto size = [&](int64_t b) {
    return static_cast<double>(std::min(block, length - b * block));
  };
  std::vector<std::vector<Blocks>> seen(heads);
  for (int64_t h = 0; h < heads; ++h) {
    seen[h].resize(blocks);
    const auto o = call.output.Sequence<double>(0, h);
    for (int64_t i = 0; i < length; ++i) {
      Blocks here;
      double keys = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        if (o(i, b) == 0) continue;
        here.insert(b);
        keys += size(b);
      }
      for (int64_t b : here) EXPECT_NEAR(o(i, b), size(b) / keys, 1e-12);
      if (i % block > 0) {
        EXPECT_EQ(here, seen[h][i / block]);
      }
      seen[h][i / block] = here;
    }
  }
  return seen;
}

TEST(BigBirdEncoder, SeesGlobalNearAndRandomBlocks) {
  constexpr int64_t kBlock = 4, kBlocks = 20, kRandom = 3;
  const auto seen = BlocksSeen({{"block", "4"}, {"random", "3"}},
                               kBlock * kBlocks - 1, kBlock, /*heads=*/3);
  for (const auto& head : seen) {
    EXPECT_EQ(head[0].size(), kBlocks);
    EXPECT_EQ(head[kBlocks - 1].size(), kBlocks);
    for (int64_t i = 1; i < kBlocks - 1; ++i) {
      const Blocks always = {0, i - 1, i, i + 1, kBlocks - 1};
      for (int64_t b : always) EXPECT_EQ(head[i].count(b), 1u) << i;
      EXPECT_EQ(head[i].size(), always.size() + kRandom) << i;
    }
    EXPECT_EQ(head[1].count(kBlocks - 2), 0u);
    EXPECT_EQ(head[kBlocks - 2].count(1), 0u);
  }
  EXPECT_NE(seen[0], seen[1]) << "heads draw for themselves";
}

TEST(BigBirdEncoder, BlockOneNeverDrawsTheOppositeOne) {
  // Of blocks 0, ..., 5, block 1 may draw 3 alone, and block 4 only 2.
  const auto seen = BlocksSeen({{"block", "1"}, {"random", "9"}}, 6, 1, 1);
  EXPECT_EQ(seen[0][1], (Blocks{0, 1, 2, 3, 5}));
  EXPECT_EQ(seen[0][4], (Blocks{0, 2, 3, 4, 5}));
}

TEST(BigBirdEncoder, ShortSequencesCountNoBlockTwice) {
  for (int64_t length = 1; length <= 9; ++length) {
    const auto seen = BlocksSeen({{"block", "2"}}, length, 2, 1);
    for (const Blocks& blocks : seen[0]) {
      EXPECT_GE(blocks.size(), std::min<size_t>(3, seen[0].size()));
    }
  }
}

TEST(BigBirdEncoder, TheSeedDrawsAndAllBlocksAreCandidates) {
  const auto with_seed = [](const char* seed) {
    return BlocksSeen({{"block", "16"}, {"seed", seed}}, 2048, 16, 1)[0];
  };
  const auto seen = with_seed("0");
  EXPECT_EQ(seen, with_seed("0"));
  EXPECT_NE(seen, with_seed("1"));
  // Random blocks beyond 1024 tokens, seen from near the start.
  Blocks far;
  for (int64_t i = 1; i < 32; ++i) {
    for (int64_t b : seen[i]) {
      if (b >= 64 && b < 127) far.insert(b);
    }
  }
  EXPECT_GE(far.size(), 15u);
}

}  // namespace
}  // namespace mneme
