// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <vector>

#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_testing.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Problem {
  size_t heads, queries, keys, key_dim, value_dim;
  AttentionMask mask;
};

std::ostream& operator<<(std::ostream& out, const Problem& p) {
  return out << p.heads << " heads, " << p.queries << " queries, " << p.keys
             << " keys, dimensions " << p.key_dim << " and " << p.value_dim
             << ", causal " << p.mask.causal << ", window " << p.mask.window
             << ", offset " << p.mask.query_offset;
}

// Whole and ragged vectors, tiles and blocks of keys; few queries and many.
const std::vector<Problem>& Problems() {
  static const auto& problems = *new std::vector<Problem>{
      {1, 0, 5, 4, 4, {}},
      {1, 1, 1, 1, 1, {}},
      {1, 1, 5, 3, 2, {false}},
      {3, 1, 300, 64, 64, {false}},
      {7, 1, 131, 33, 18, {false}},
      {12, 1, 70, 128, 128, {false}},
      {1, 2, 40, 17, 19, {true, 0, 20}},
      {2, 3, 300, 32, 32, {true, 50, 250}},
      {1, 5, 140, 64, 64, {true, 0, 135}},
      {1, 8, 257, 16, 48, {false}},
      {1, 9, 9, 16, 16, {}},
      {2, 17, 17, 1, 1, {}},
      {1, 24, 50, 20, 12, {false, 7, 10}},
      {1, 32, 32, 64, 64, {}},
      {1, 31, 64, 32, 32, {true, 0, 33}},
      {1, 33, 33, 7, 9, {true, 5, 0}},
      {2, 64, 64, 32, 32, {false}},
      {1, 65, 70, 31, 34, {true, 0, 2}},
      {1, 100, 300, 64, 128, {true, 130, 200}},
      {1, 40, 30, 16, 16, {true, 8, 20}},  // the last queries see no key
      {1, 40, 40, 16, 16, {true, 8, 48}},  // none does
      {1, 40, 0, 16, 16, {}},
      {1, 3, 0, 16, 16, {false}},
      {1, 150, 150, 18, 6, {true, 1, 0}},
      {1, 300, 300, 96, 80, {true, 129, 0}},
      {1, 20, 290, 3, 70, {false}},
      {1, 12, 12, 4, 0, {}},
      {1, 12, 12, 0, 4, {}},
  };
  return problems;
}

bool Visible(const AttentionMask& mask, size_t query, size_t key) {
  const int64_t at = static_cast<int64_t>(mask.query_offset + query);
  const int64_t j = static_cast<int64_t>(key);
  if (mask.causal && j > at) return false;
  return mask.window == 0 || j > at - static_cast<int64_t>(mask.window);
}

struct Inputs {
  // With round, the queries are numbers of Bf16, too.
  Inputs(const Problem& p, bool round, double deviation = 1)
      : k_floats(RandomValues<float>(p.keys * p.key_dim, 2, deviation)),
        v_floats(RandomValues<float>(p.keys * p.value_dim, 3)),
        k(p.keys * (p.key_dim + 3)),
        v(p.keys * (p.value_dim + 1)) {
    for (size_t h = 0; h < p.heads; ++h) {
      q.push_back(TestMatrix<float>::Random(p.queries, p.key_dim, 3, 10 + h,
                                            deviation));
      for (size_t i = 0; round && i < p.queries; ++i) {
        for (size_t c = 0; c < p.key_dim; ++c) {
          float& x = q[h].view()(i, c);
          x = ToFloat(RoundToBf16(x));
        }
      }
    }
    RoundToBf16(MatrixView<const float>(k_floats.data(), p.keys, p.key_dim),
                Keys(p));
    RoundToBf16(MatrixView<const float>(v_floats.data(), p.keys, p.value_dim),
                Values(p));
  }

  MatrixView<Bf16> Keys(const Problem& p) {
    return {k.data(), p.keys, p.key_dim, p.key_dim + 3};
  }
  MatrixView<Bf16> Values(const Problem& p) {
    return {v.data(), p.keys, p.value_dim, p.value_dim + 1};
  }

  std::vector<TestMatrix<float>> q;
  std::vector<float> k_floats, v_floats;
  std::vector<Bf16> k, v;
};

double Scale(const Problem& p) {
  return p.key_dim == 0 ? 1 : 1 / std::sqrt(p.key_dim);
}

struct OracleResult {
  std::vector<double> o;     // [queries, value_dim] of all heads
  std::vector<double> size;  // sum of weights times |values|, likewise
};

// Straight from the definition, from keys and values before (exact) or after
// they were rounded.
OracleResult Oracle(const Problem& p, Inputs& in, double scale,
                    bool exact = false) {
  const auto key = [&](size_t j, size_t c) -> double {
    return exact ? in.k_floats[j * p.key_dim + c] : ToFloat(in.Keys(p)(j, c));
  };
  const auto value = [&](size_t j, size_t c) -> double {
    return exact ? in.v_floats[j * p.value_dim + c]
                 : ToFloat(in.Values(p)(j, c));
  };
  OracleResult result;
  for (size_t h = 0; h < p.heads; ++h) {
    for (size_t i = 0; i < p.queries; ++i) {
      std::vector<double> weights(p.keys, -kInf);
      double max = -kInf, sum = 0;
      for (size_t j = 0; j < p.keys; ++j) {
        if (!Visible(p.mask, i, j)) continue;
        weights[j] = 0;
        for (size_t c = 0; c < p.key_dim; ++c) {
          weights[j] += scale * in.q[h].view()(i, c) * key(j, c);
        }
        max = std::max(max, weights[j]);
      }
      for (double& w : weights) {
        w = w == -kInf ? 0 : std::exp(w - max);
        sum += w;
      }
      for (size_t c = 0; c < p.value_dim; ++c) {
        double o = 0, size = 0;
        for (size_t j = 0; j < p.keys; ++j) {
          if (weights[j] == 0) continue;
          o += weights[j] / sum * value(j, c);
          size += weights[j] / sum * std::abs(value(j, c));
        }
        result.o.push_back(o);
        result.size.push_back(size);
      }
    }
  }
  return result;
}

std::vector<float> Attend(const Problem& p, Inputs& in, double scale) {
  std::vector<TestMatrix<float>> o;
  std::vector<Bf16AttentionHead> heads;
  o.reserve(p.heads);
  for (size_t h = 0; h < p.heads; ++h) {
    o.emplace_back(p.queries, p.value_dim, 2, 77.0f);
    heads.push_back({in.q[h].view(), o[h].view()});
  }
  Bf16AttentionForward(heads.data(), heads.size(), in.Keys(p), in.Values(p),
                       static_cast<float>(scale), p.mask);
  std::vector<float> all;
  for (const TestMatrix<float>& part : o) {
    EXPECT_TRUE(part.GapsIntact());
    const std::vector<float> values = part.Values();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

// On numbers of Bf16 nothing but the weights is rounded to Bf16.
TEST(Bf16AttentionTest, MatchesTheDefinition) {
  for (const Problem& p : Problems()) {
    SCOPED_TRACE(testing::PrintToString(p));
    Inputs in(p, /*round=*/true);
    const OracleResult expected = Oracle(p, in, Scale(p));
    const bool few = p.queries <= kBf16FewQueries;
    ForEachSimdTargetAndBf16Unit([&] {
      const std::vector<float> actual = Attend(p, in, Scale(p));
      ASSERT_EQ(actual.size(), expected.o.size());
      for (size_t i = 0; i < actual.size(); ++i) {
        // As the header says, and a few roundings of float.
        const double bound = (few ? 0 : 4.1e-3) * expected.size[i] + 3e-6;
        ASSERT_NEAR(actual[i], expected.o[i], bound) << "element " << i;
      }
      EXPECT_EQ(actual, Attend(p, in, Scale(p))) << "a repeated call differs";
    });
  }
}

// The tolerance that users see: all that bfloat16 costs, against the inputs as
// they were. Keys and queries that are off by 2^-8 at most change scores of
// deviation 1 by about 2^-9 sqrt(2).
TEST(Bf16AttentionTest, StaysNearTheUnroundedDefinition) {
  for (const Problem& p : Problems()) {
    SCOPED_TRACE(testing::PrintToString(p));
    Inputs in(p, /*round=*/false);
    const OracleResult expected = Oracle(p, in, Scale(p), /*exact=*/true);
    ForEachSimdTargetAndBf16Unit([&] {
      ExpectNear(expected.o, Attend(p, in, Scale(p)), 1e-2, 1e-2, "o");
    });
  }
}

TEST(Bf16AttentionTest, QueriesDoNotDependOnEachOther) {
  for (const size_t window : {0, 45, 200}) {
    const Problem p = {1, 300, 300, 40, 24, {true, window, 0}};
    Inputs in(p, /*round=*/false);
    ForEachSimdTargetAndBf16Unit([&] {
      const std::vector<float> all = Attend(p, in, Scale(p));
      for (const size_t rows : {size_t{12}, size_t{100}}) {
        TestMatrix<float> o(p.queries, p.value_dim, 0);
        for (size_t first = 0; first < p.queries; first += rows) {
          AttentionMask mask = p.mask;
          mask.query_offset += first;
          const Bf16AttentionHead head = {in.q[0].view().Rows(first, rows),
                                          o.view().Rows(first, rows)};
          Bf16AttentionForward(&head, 1, in.Keys(p), in.Values(p),
                               static_cast<float>(Scale(p)), mask);
        }
        EXPECT_EQ(all, o.Values()) << rows << " rows";
      }
    });
  }
}

TEST(Bf16AttentionTest, HugeScoresDoNotOverflow) {
  for (const size_t queries : {size_t{3}, size_t{70}}) {
    for (const double scale : {2.0, -2.0, 0.0}) {
      const Problem p = {1, queries, 140, 4, 4, {true, 0, 140 - queries}};
      // Scores of about 1e4, so that nearly all weights are 0 or 1.
      Inputs in(p, /*round=*/true, 50);
      const OracleResult expected = Oracle(p, in, scale);
      ForEachSimdTargetAndBf16Unit([&] {
        ExpectNear(expected.o, Attend(p, in, scale), 6e-3, 6e-3, "o");
      });
    }
  }
}

// What is not finite reaches the queries that see it and no other.
TEST(Bf16AttentionTest, NonFiniteValuesStayCausal) {
  constexpr size_t kKey = 37;
  const std::vector<Problem> problems = {
      {1, 70, 70, 8, 24, {true, 0, 0}},
      {1, 70, 70, 8, 24, {true, 10, 0}},
      {1, 8, 40, 8, 24, {true, 0, 32}},
      {2, 8, 64, 8, 24, {true, 10, 42}},
  };
  for (const Problem& p : problems) {
    SCOPED_TRACE(testing::PrintToString(p));
    Inputs clean(p, /*round=*/true);
    const OracleResult expected = Oracle(p, clean, Scale(p));
    for (const bool in_value : {false, true}) {
      for (const double poison : {std::nan(""), kInf}) {
        Inputs in(p, /*round=*/true);
        (in_value ? in.Values(p) : in.Keys(p))(kKey, 1) =
            RoundToBf16(static_cast<float>(poison));
        ForEachSimdTargetAndBf16Unit([&] {
          const std::vector<float> o = Attend(p, in, Scale(p));
          for (size_t i = 0; i < p.queries; ++i) {
            const size_t at = i * p.value_dim + 1;
            if (!Visible(p.mask, i, kKey)) {
              EXPECT_NEAR(o[at], expected.o[at], 2e-2) << i;
            } else if (std::isnan(poison)) {
              EXPECT_TRUE(std::isnan(o[at])) << i << ": " << o[at];
            } else if (in_value) {
              EXPECT_EQ(o[at], poison) << i;
            }
          }
        });
      }
    }
  }
}

TEST(Bf16AttentionTest, NaNQueryTouchesItsRowOnly) {
  for (const size_t queries : {6, 40}) {
    const Problem p = {1, queries, 40, 8, 8, {false}};
    Inputs in(p, /*round=*/false);
    in.q[0].view()(4, 3) = std::nanf("");
    ForEachSimdTargetAndBf16Unit([&] {
      const std::vector<float> o = Attend(p, in, Scale(p));
      for (size_t i = 0; i < p.queries; ++i) {
        EXPECT_EQ(std::isnan(o[i * p.value_dim]), i == 4) << i;
      }
    });
  }
}

// Thousands of equal weights: sums must not lose digits.
TEST(Bf16AttentionTest, LongSumsKeepTheirDigits) {
  for (const size_t queries : {size_t{1}, size_t{20}}) {
    const Problem p = {1, queries, 20000, 2, 3, {false}};
    Inputs in(p, /*round=*/true, 1e-3);
    const OracleResult expected = Oracle(p, in, 1);
    const double bound = queries == 1 ? 2e-6 : 3e-5;
    ForEachSimdTargetAndBf16Unit(
        [&] { ExpectNear(expected.o, Attend(p, in, 1), bound, bound, "o"); });
  }
}

}  // namespace
}  // namespace mneme::kernels
