// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/rotary.h"

#include <cmath>
#include <cstddef>
#include <thread>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;
using Wide = long double;

constexpr RotaryPairing kPairings[] = {RotaryPairing::kAdjacent,
                                       RotaryPairing::kHalves};

// Straight from the definition. The product of a position below 2^20 and a
// double has up to 73 bits, too many even for long double: it is taken in two
// exact halves, whose angles are then added.
Doubles Oracle(const Doubles& x, size_t cols, const Doubles& frequencies,
               RotaryPairing pairing, size_t first_position, double sign) {
  Doubles y(x.size());
  const size_t pairs = frequencies.size();
  for (size_t start = 0; start < x.size(); start += 2 * pairs) {  // each head
    const size_t position = first_position + start / cols;
    for (size_t i = 0; i < pairs; ++i) {
      const bool adjacent = pairing == RotaryPairing::kAdjacent;
      const size_t a = start + (adjacent ? 2 * i : i);
      const size_t b = start + (adjacent ? 2 * i + 1 : i + pairs);
      const Wide upper = static_cast<float>(frequencies[i]);
      const Wide p = static_cast<Wide>(position) * upper;
      const Wide q = static_cast<Wide>(position) * (frequencies[i] - upper);
      const Wide c = std::cos(p) * std::cos(q) - std::sin(p) * std::sin(q);
      const Wide s =
          sign * (std::sin(p) * std::cos(q) + std::cos(p) * std::sin(q));
      y[a] = static_cast<double>(c * x[a] - s * x[b]);
      y[b] = static_cast<double>(s * x[a] + c * x[b]);
    }
  }
  return y;
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 5e-7 : 2e-15;

TEST(RotaryFrequenciesTest, FollowTheirFormulas) {
  ExpectNear({1, 0.1, 0.01, 0.001}, RotaryFrequencies(8), 1e-15, 0, "RoPE");
  ExpectNear({1, 1e-3}, RotaryFrequencies(4, 1e6), 1e-15, 0, "RoPE base 1e6");
  // RetNet's grid ends at 1 / 10000 exactly.
  ExpectNear({1, 0.1, 0.01, 0.001, 0.0001}, RetNetFrequencies(10), 1e-15, 0,
             "RetNet");
  ExpectNear({1}, RetNetFrequencies(2), 0, 0, "RetNet with one pair");
  EXPECT_TRUE(RotaryFrequencies(0).empty());
  EXPECT_TRUE(RetNetFrequencies(0).empty());
}

template <typename T>
class RotaryTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(RotaryTest, Types);

TYPED_TEST(RotaryTest, MatchesDefinition) {
  using T = TypeParam;
  for (const RotaryPairing pairing : kPairings) {
    for (const size_t dim : {2, 4, 6, 8, 16, 22, 32, 34, 64, 66}) {
      for (const size_t heads : {1, 2, 3}) {
        for (const size_t first : {0, 1, 5, 1000000}) {
          for (const bool inverse : {false, true}) {
            constexpr size_t kRows = 5;
            const size_t cols = heads * dim;
            const Doubles frequencies = RotaryFrequencies(dim);
            const auto x = TestMatrix<T>::Random(kRows, cols, 3, dim);
            const Doubles expected =
                Oracle(x.template Values<double>(), cols, frequencies, pairing,
                       first, inverse ? -1 : 1);
            ForEachSimdTarget([&] {
              SCOPED_TRACE(testing::Message()
                           << "dim " << dim << " heads " << heads << " first "
                           << first << " inverse " << inverse);
              TestMatrix<T> y(kRows, cols, 2);
              Rotate(x.view(), frequencies, pairing, first, inverse, y.view());
              ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>,
                         "y");
              EXPECT_TRUE(y.GapsIntact());
            });
          }
        }
      }
    }
  }
}

TYPED_TEST(RotaryTest, InverseIsTheGradient) {
  using T = TypeParam;
  constexpr size_t kRows = 3, kCols = 12;
  for (const RotaryPairing pairing : kPairings) {
    const Doubles frequencies = RotaryFrequencies(6);
    const auto x = TestMatrix<T>::Random(kRows, kCols, 0, 1);
    const auto d_y = TestMatrix<T>::Random(kRows, kCols, 0, 2);
    Doubles oracle_x = x.template Values<double>();
    const Doubles oracle_d_y = d_y.template Values<double>();
    const Doubles expected = CentralDifferences(&oracle_x, [&] {
      const Doubles y = Oracle(oracle_x, kCols, frequencies, pairing, 7, 1);
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += y[i] * oracle_d_y[i];
      return sum;
    });
    ForEachSimdTarget([&] {
      TestMatrix<T> d_x(kRows, kCols, 0);
      Rotate(d_y.view(), frequencies, pairing, 7, true, d_x.view());
      ExpectNear(expected, d_x.Values(), 1e-3, 1e-5, "d_x");
    });
  }
}

TYPED_TEST(RotaryTest, WorksInPlace) {
  using T = TypeParam;
  for (const RotaryPairing pairing : kPairings) {
    const Doubles frequencies = RetNetFrequencies(38);
    ForEachSimdTarget([&] {
      auto x = TestMatrix<T>::Random(4, 76, 0, 1);
      TestMatrix<T> y(4, 76, 0);
      Rotate(x.view(), frequencies, pairing, 3, false, y.view());
      Rotate(x.view(), frequencies, pairing, 3, false, x.view());
      EXPECT_EQ(x.Values(), y.Values());
    });
  }
}

// Results must not depend on what the thread's tables hold from earlier calls:
// whatever the order of positions, lengths, pairings and more frequencies than
// there are tables, they equal those of a new thread.
TYPED_TEST(RotaryTest, HistoryOfCallsDoesNotMatter) {
  using T = TypeParam;
  struct Call {
    size_t first, rows;
  };
  const Call calls[] = {{0, 8},  {8, 1},    {9, 1},  {2, 4},   {10, 30},
                        {50, 3}, {0, 1000}, {49, 5}, {700, 2}, {1000, 1}};
  const auto x = TestMatrix<T>::Random(1000, 16, 0, 1);
  const auto rotate = [&](const Call& call, size_t dim, RotaryPairing pairing) {
    TestMatrix<T> y(call.rows, 16, 0);
    Rotate(x.view().Rows(0, call.rows), RotaryFrequencies(dim), pairing,
           call.first, false, y.view());
    return y.Values();
  };
  for (const Call& call : calls) {
    for (const size_t dim : {2, 4, 8, 16}) {
      for (const RotaryPairing pairing : kPairings) {
        std::vector<T> fresh;
        std::thread([&] { fresh = rotate(call, dim, pairing); }).join();
        EXPECT_EQ(rotate(call, dim, pairing), fresh)
            << "position " << call.first << " rows " << call.rows << " dim "
            << dim;
        EXPECT_EQ(rotate(call, dim, pairing), fresh);
      }
    }
  }
  // The same in an order in which tables survive from call to call.
  for (const RotaryPairing pairing : kPairings) {
    for (const Call& call : calls) {
      std::vector<T> fresh;
      std::thread([&] { fresh = rotate(call, 16, pairing); }).join();
      EXPECT_EQ(rotate(call, 16, pairing), fresh);
    }
  }
}

TYPED_TEST(RotaryTest, EqualSizesAreNotEqualFrequencies) {
  using T = TypeParam;
  const auto x = TestMatrix<T>::Random(6, 8, 0, 1);
  for (const RotaryPairing pairing : kPairings) {
    for (const Doubles& frequencies :
         {RotaryFrequencies(8), RotaryFrequencies(8, 500),
          RetNetFrequencies(8)}) {
      TestMatrix<T> y(6, 8, 0);
      Rotate(x.view(), frequencies, pairing, 2, false, y.view());
      ExpectNear(
          Oracle(x.template Values<double>(), 8, frequencies, pairing, 2, 1),
          y.Values(), kTolerance<T>, kTolerance<T>, "y");
    }
  }
}

TYPED_TEST(RotaryTest, NothingToRotate) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    TestMatrix<T> x(0, 8, 0);
    Rotate(x.view(), RotaryFrequencies(8), RotaryPairing::kHalves, 0, false,
           x.view());
    TestMatrix<T> empty(3, 0, 0);
    Rotate(empty.view(), {}, RotaryPairing::kAdjacent, 0, false, empty.view());
    EXPECT_TRUE(empty.GapsIntact());
  });
}

}  // namespace
}  // namespace mneme::kernels
