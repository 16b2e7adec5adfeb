// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/random.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using Words = std::array<uint64_t, 4>;

// Expects counts to fit equally likely cells. Seeds are fixed, so a test either
// always passes or always fails; a sound generator fails one in a million.
void ExpectUniform(const std::vector<int64_t>& counts) {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), 0LL);
  const double expected = static_cast<double>(total) / counts.size();
  ASSERT_GE(expected, 5) << "too few draws for a chi-square test";
  double statistic = 0;
  for (const int64_t count : counts) {
    statistic += (count - expected) * (count - expected) / expected;
  }
  const boost::math::chi_squared distribution(counts.size() - 1.0);
  EXPECT_LT(statistic, quantile(complement(distribution, 1e-6)));
  // Suspiciously even counts are no sign of randomness either.
  EXPECT_GT(statistic, quantile(distribution, 1e-6));
}

// The vectors for 20 rounds in Random123's tests/kat_vectors: zeros, ones, and
// digits of pi (the repeated word in the last key is theirs).
TEST(RandomTest, ThreefryGivesThePublishedVectors) {
  constexpr uint64_t kOnes = ~uint64_t{0};
  EXPECT_EQ(Threefry4x64({0, 0, 0, 0}, {0, 0, 0, 0}),
            (Words{0x09218ebde6c85537, 0x55941f5266d86105, 0x4bd25e16282434dc,
                   0xee29ec846bd2e40b}));
  EXPECT_EQ(
      Threefry4x64({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes, kOnes, kOnes}),
      (Words{0x29c24097942bba1b, 0x0371bbfb0f6f4e11, 0x3c231ffa33f83a1c,
             0xcd29113fde32d168}));
  EXPECT_EQ(Threefry4x64({0x243f6a8885a308d3, 0x13198a2e03707344,
                          0xa4093822299f31d0, 0x082efa98ec4e6c89},
                         {0x452821e638d01377, 0xbe5466cf34e90c6c,
                          0xbe5466cf34e90c6c, 0xc0ac29b7c97c50dd}),
            (Words{0xa7e8fde591651bd9, 0xbaafd0c30138319b, 0x84a5c1a729e685b9,
                   0x901d406ccebc1ba4}));
}

TEST(RandomTest, ASequenceIsTheBijectionOfItsBlocks) {
  Random random(/*seed=*/11, /*stream=*/22, /*index=*/33);
  for (uint64_t block = 0; block < 5; ++block) {
    for (const uint64_t word :
         Threefry4x64({33, block, 0, 0}, {11, 22, 0, 0})) {
      EXPECT_EQ(random.Next(), word);
    }
  }
}

TEST(RandomTest, ACopyContinuesTheSameSequence) {
  Random random(1, 2, 3);
  random.Normal();
  random.Next();
  Random copy = random;
  for (int i = 0; i < 9; ++i) EXPECT_EQ(random.Next(), copy.Next());
}

TEST(RandomTest, SeedStreamAndIndexEachGiveAnotherSequence) {
  std::set<uint64_t> seen;
  int drawn = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (uint64_t stream = 0; stream < 4; ++stream) {
      for (uint64_t index = 0; index < 4; ++index) {
        Random random(seed, stream, index);
        for (int i = 0; i < 8; ++i, ++drawn) seen.insert(random.Next());
      }
    }
  }
  EXPECT_EQ(seen.size(), drawn);
}

// Neighbouring sequences differ in half of their bits, whichever of the three
// coordinates moves by one: 8 bits of correlation in 65,536 would show.
TEST(RandomTest, NeighbouringSequencesAreUncorrelated) {
  const std::array<Words, 3> neighbours = {Words{1, 0, 0}, Words{0, 1, 0},
                                           Words{0, 0, 1}};
  for (const Words& step : neighbours) {
    Random a(5, 6, 7);
    Random b(5 + step[0], 6 + step[1], 7 + step[2]);
    constexpr int kWords = 1024;
    int64_t differing = 0;
    for (int i = 0; i < kWords; ++i) {
      differing += std::bitset<64>(a.Next() ^ b.Next()).count();
    }
    const double deviation = std::sqrt(kWords * 64 * 0.25);
    EXPECT_NEAR(differing, kWords * 32, 5 * deviation);
  }
}

TEST(RandomTest, EveryBitIsFair) {
  std::vector<int> ones(64);
  Random random(1, 2);
  constexpr int kWords = 20000;
  for (int i = 0; i < kWords; ++i) {
    const uint64_t word = random.Next();
    for (int bit = 0; bit < 64; ++bit) ones[bit] += word >> bit & 1;
  }
  for (int bit = 0; bit < 64; ++bit) {
    EXPECT_NEAR(ones[bit], kWords / 2, 5 * std::sqrt(kWords * 0.25)) << bit;
  }
}

TEST(RandomTest, BelowIsUniform) {
  for (const uint64_t n : {2, 3, 7, 100}) {
    SCOPED_TRACE(n);
    Random random(1, StreamId("below"), n);
    std::vector<int64_t> counts(n);
    for (int i = 0; i < 20000; ++i) {
      const uint64_t value = random.Below(n);
      ASSERT_LT(value, n);
      ++counts[value];
    }
    ExpectUniform(counts);
  }
}

// With n = 3/4 of 2^64, a multiplication without refusals would give every
// third value twice as often as its neighbours.
TEST(RandomTest, BelowIsUnbiasedForHugeRanges) {
  constexpr uint64_t kN = uint64_t{3} << 62;
  Random random(1, 2);
  std::vector<int64_t> counts(3);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t value = random.Below(kN);
    ASSERT_LT(value, kN);
    ++counts[value % 3];
  }
  ExpectUniform(counts);
}

TEST(RandomTest, BelowOfTheSmallestRanges) {
  Random random(1, 2);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(random.Below(1), 0);
    EXPECT_EQ(random.Below(0), 0);
  }
}

TEST(RandomTest, UniformFillsTheUnitInterval) {
  Random random(3, 4);
  std::vector<int64_t> counts(128);
  for (int i = 0; i < 50000; ++i) {
    const double value = random.Uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    ++counts[static_cast<size_t>(value * counts.size())];
  }
  ExpectUniform(counts);
}

// Cells of equal probability under the normal distribution, tails included.
TEST(RandomTest, NormalIsNormal) {
  const boost::math::normal normal;
  Random random(3, 4);
  std::vector<int64_t> counts(64);
  for (int i = 0; i < 50000; ++i) {
    const double value = random.Normal();
    ASSERT_TRUE(std::isfinite(value));
    ++counts[std::min<size_t>(cdf(normal, value) * counts.size(),
                              counts.size() - 1)];
  }
  ExpectUniform(counts);
}

TEST(RandomTest, NormalHasTheMomentsOfTheNormal) {
  Random random(4, 5);
  constexpr int kDraws = 1000000;
  double sums[4] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double value = random.Normal();
    double power = 1;
    for (double& sum : sums) sum += power *= value;
  }
  // The n-th power has mean (n-1)!! or 0, and variance (2n-1)!! - mean^2.
  const double means[4] = {0, 1, 0, 3};
  const double variances[4] = {1, 2, 15, 96};
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(sums[i] / kDraws, means[i],
                4 * std::sqrt(variances[i] / kDraws));
  }
}

TEST(RandomTest, ConsecutiveNormalsAreUncorrelated) {
  Random random(5, 6);
  constexpr int kPairs = 50000;
  double product = 0;
  double square_product = 0;
  for (int i = 0; i < kPairs; ++i) {
    const double a = random.Normal();
    const double b = random.Normal();
    product += a * b;
    square_product += (a * a - 1) * (b * b - 1);
  }
  // Under independence the terms have variance 1 and 4.
  EXPECT_NEAR(product / kPairs, 0, 5 * std::sqrt(1.0 / kPairs));
  EXPECT_NEAR(square_product / kPairs, 0, 5 * std::sqrt(4.0 / kPairs));
}

TEST(RandomTest, ServesTheStandardLibrary) {
  Random random(1, 2);
  std::vector<int> items(10);
  std::iota(items.begin(), items.end(), 0);
  std::shuffle(items.begin(), items.end(), random);
  EXPECT_TRUE(std::is_permutation(
      items.begin(), items.end(),
      std::vector<int>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).begin()));
}

TEST(RandomTest, ShuffleMakesEveryOrderEquallyLikely) {
  Random random(1, 2);
  std::vector<int64_t> counts(24);
  for (int i = 0; i < 24000; ++i) {
    std::array<int, 4> items = {0, 1, 2, 3};
    Shuffle(absl::MakeSpan(items), &random);
    int order = 0;  // in the mixed radix 4, 3, 2
    for (int a = 0; a < 3; ++a) {
      int smaller = 0;
      for (int b = a + 1; b < 4; ++b) smaller += items[b] < items[a];
      order = order * (4 - a) + smaller;
    }
    ++counts[order];
  }
  ExpectUniform(counts);
}

// Ranges on both sides of the switch between shuffling and drawing again.
TEST(DrawDistinctTest, EveryOrderedPairIsEquallyLikely) {
  for (const uint64_t n : {2, 8, 11, 12, 30}) {
    SCOPED_TRACE(n);
    Random random(1, StreamId("pairs"), n);
    std::vector<int64_t> counts(n * (n - 1));
    for (int i = 0; i < 30000; ++i) {
      uint64_t pair[2];
      DrawDistinct(n, pair, &random);
      ASSERT_LT(pair[0], n);
      ASSERT_LT(pair[1], n);
      ASSERT_NE(pair[0], pair[1]);
      ++counts[pair[0] * (n - 1) + pair[1] - (pair[1] > pair[0])];
    }
    if (n > 2) {
      ExpectUniform(counts);
    } else {
      EXPECT_NEAR(counts[0], 15000, 5 * std::sqrt(30000 * 0.25));
    }
  }
}

// Large draws, which go through the hash set (200) or the shuffle (100).
TEST(DrawDistinctTest, ManyAreDistinctAndUniformAtBothEnds) {
  for (const uint64_t n : {100, 200}) {
    SCOPED_TRACE(n);
    Random random(1, StreamId("many"), n);
    std::vector<int64_t> first(n);
    std::vector<int64_t> last(n);
    std::vector<uint64_t> drawn(40);
    for (int i = 0; i < 4000; ++i) {
      DrawDistinct(n, absl::MakeSpan(drawn), &random);
      ++first[drawn.front()];
      ++last[drawn.back()];
      ASSERT_EQ(std::set<uint64_t>(drawn.begin(), drawn.end()).size(),
                drawn.size());
    }
    ExpectUniform(first);
    ExpectUniform(last);
  }
}

TEST(DrawDistinctTest, TheWholeRangeIsAPermutation) {
  Random random(1, 2);
  std::vector<uint64_t> drawn(57);
  DrawDistinct(drawn.size(), absl::MakeSpan(drawn), &random);
  std::vector<uint64_t> all(drawn.size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_NE(drawn, all);
  EXPECT_TRUE(std::is_permutation(drawn.begin(), drawn.end(), all.begin()));
}

TEST(DrawDistinctTest, HugeRangesAndNothing) {
  Random random(1, 2);
  std::vector<uint64_t> drawn(100);
  DrawDistinct(~uint64_t{0}, absl::MakeSpan(drawn), &random);
  EXPECT_GT(*std::max_element(drawn.begin(), drawn.end()), uint64_t{1} << 62);
  DrawDistinct(0, {}, &random);
}

TEST(StreamIdTest, IsStable) {
  // Changing these changes all data of all tasks.
  EXPECT_EQ(StreamId(""), 0xefd01f60ba992926);
  EXPECT_EQ(StreamId("mqar/train"), 0x700aee04e6650408);
}

TEST(StreamIdTest, NamesDoNotCollide) {
  std::set<uint64_t> ids;
  for (int i = 0; i < 10000; ++i)
    ids.insert(StreamId(absl::StrCat("task/", i)));
  EXPECT_EQ(ids.size(), 10000);
}

// Names that differ in their last character differ everywhere.
TEST(StreamIdTest, SimilarNamesAreFarApart) {
  for (char c = 'a'; c < 'z'; ++c) {
    const uint64_t a = StreamId(std::string("mqar/") + c);
    const uint64_t b =
        StreamId(std::string("mqar/") + static_cast<char>(c + 1));
    EXPECT_GT(std::bitset<32>((a ^ b) >> 32).count(), 4) << c;
    EXPECT_GT(std::bitset<32>(a ^ b).count(), 4) << c;
  }
}

}  // namespace
}  // namespace mneme
