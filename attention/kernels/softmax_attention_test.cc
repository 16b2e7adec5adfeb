// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/softmax_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_oracle.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

template <typename T>
struct Tolerance;
template <>
struct Tolerance<float> {
  static constexpr double kRelative = 1e-5, kAbsolute = 5e-6;
};
template <>
struct Tolerance<double> {
  static constexpr double kRelative = 1e-12, kAbsolute = 1e-13;
};

template <typename T>
struct Inputs {
  explicit Inputs(const Problem& p, double deviation = 1.0)
      : q(TestMatrix<T>::Random(p.queries, p.key_dim, 3 + p.gap, 1, deviation)),
        k(TestMatrix<T>::Random(p.keys, p.key_dim, p.gap, 2, deviation)),
        v(TestMatrix<T>::Random(p.keys, p.value_dim, 5 + p.gap, 3)) {}

  OracleResult Expected(const Problem& p, double scale) const {
    return Oracle(p, q.template Values<double>(), k.template Values<double>(),
                  v.template Values<double>(), scale);
  }

  TestMatrix<T> q, k, v;
};

template <typename T>
struct Outputs {
  explicit Outputs(const Problem& p)
      : o(p.queries, p.value_dim, 2 + p.gap, T{77}), lse(p.queries, 77) {}

  TestMatrix<T> o;
  std::vector<T> lse;
};

// Arguments are read-only views, whatever the caller has.
template <typename T>
void Forward(const Problem& p, const Inputs<T>& in, double scale,
             Outputs<T>* out) {
  SoftmaxAttentionForward(in.q.view(), in.k.view(), in.v.view(),
                          static_cast<T>(scale), p.mask, out->o.view(),
                          out->lse.data());
}

// One more column of queries and keys is a bias, as what FoX makes of it.
template <typename T>
void ExpectBiased(const Problem& p) {
  const Inputs<T> in(p);
  const TestMatrix<T> bias = TestMatrix<T>::Random(p.queries, p.keys, 2, 7, 3);
  Doubles expected;
  for (size_t i = 0; i < p.queries; ++i) {
    Problem one = p;
    one.queries = 1;
    ++one.key_dim;
    Doubles q, k;
    for (size_t c = 0; c < p.key_dim; ++c) q.push_back(in.q.view()(i, c));
    q.push_back(1 / Scale(p));
    for (size_t j = 0; j < p.keys; ++j) {
      for (size_t c = 0; c < p.key_dim; ++c) k.push_back(in.k.view()(j, c));
      k.push_back(bias.view()(i, j));
    }
    const Doubles o =
        Oracle(one, q, k, in.v.template Values<double>(), Scale(p)).o;
    expected.insert(expected.end(), o.begin(), o.end());
  }
  ForEachSimdTarget([&] {
    Outputs<T> out(p);
    SoftmaxAttentionBiased(in.q.view(), in.k.view(), in.v.view(),
                           static_cast<T>(Scale(p)), bias.view(), out.o.view());
    EXPECT_TRUE(out.o.GapsIntact());
    ExpectNear(expected, out.o.Values(), Tolerance<T>::kRelative,
               Tolerance<T>::kAbsolute, "o");
  });
}

template <typename T>
struct Gradients {
  // Starts from `initial`, which the kernel adds to.
  Gradients(const Problem& p, T initial)
      : d_q(p.queries, p.key_dim, 1 + p.gap, initial),
        d_k(p.keys, p.key_dim, 4 + p.gap, initial),
        d_v(p.keys, p.value_dim, p.gap, initial) {}

  TestMatrix<T> d_q, d_k, d_v;
};

template <typename T>
void Backward(const Problem& p, const Inputs<T>& in, double scale,
              const Outputs<T>& out, const TestMatrix<T>& d_o,
              Gradients<T>* gradients) {
  SoftmaxAttentionBackward(in.q.view(), in.k.view(), in.v.view(), out.o.view(),
                           out.lse.data(), d_o.view(), static_cast<T>(scale),
                           p.mask, gradients->d_q.view(), gradients->d_k.view(),
                           gradients->d_v.view());
}

template <typename T>
class SoftmaxAttentionTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(SoftmaxAttentionTest, Types);

// One block of keys and several; more queries than are taken at once.
TYPED_TEST(SoftmaxAttentionTest, BiasedMatchesDefinition) {
  for (const Problem& p :
       {Problem{1, 1, 3, 2, {false}}, Problem{1, 8300, 20, 16, {false}},
        Problem{3, 77, 64, 64, {false}}, Problem{11, 1300, 17, 9, {false}}}) {
    SCOPED_TRACE(testing::PrintToString(p));
    ExpectBiased<TypeParam>(p);
  }
}

// A key of bias -inf is not seen.
TYPED_TEST(SoftmaxAttentionTest, ABiasHidesKeys) {
  using T = TypeParam;
  const Problem p{2, 40, 16, 8, {false}}, half{2, 20, 16, 8, {false}};
  const Inputs<T> in(p);
  TestMatrix<T> bias(p.queries, p.keys, 0);
  for (size_t i = 0; i < p.queries; ++i) {
    for (size_t j = half.keys; j < p.keys; ++j) {
      bias.view()(i, j) = -std::numeric_limits<T>::infinity();
    }
  }
  ForEachSimdTarget([&] {
    Outputs<T> out(p), expected(half);
    SoftmaxAttentionBiased(in.q.view(), in.k.view(), in.v.view(), T{0.25},
                           bias.view(), out.o.view());
    SoftmaxAttentionForward(in.q.view(), in.k.view().Rows(0, half.keys),
                            in.v.view().Rows(0, half.keys), T{0.25}, half.mask,
                            expected.o.view(), nullptr);
    const std::vector<T> e = expected.o.Values();
    ExpectNear(std::vector<double>(e.begin(), e.end()), out.o.Values(),
               Tolerance<T>::kRelative, Tolerance<T>::kAbsolute, "o");
  });
}

TYPED_TEST(SoftmaxAttentionTest, ForwardMatchesDefinition) {
  using T = TypeParam;
  for (const Problem& p : Problems()) {
    SCOPED_TRACE(testing::PrintToString(p));
    const Inputs<T> in(p);
    const OracleResult expected = in.Expected(p, Scale(p));
    ForEachSimdTarget([&] {
      Outputs<T> out(p);
      Forward(p, in, Scale(p), &out);
      ExpectNear(expected.o, out.o.Values(), Tolerance<T>::kRelative,
                 Tolerance<T>::kAbsolute, "o");
      ExpectNear(expected.lse, out.lse, Tolerance<T>::kRelative,
                 Tolerance<T>::kAbsolute, "lse");
      EXPECT_TRUE(out.o.GapsIntact());

      Outputs<T> again(p);
      SoftmaxAttentionForward(in.q.view(), in.k.view(), in.v.view(),
                              static_cast<T>(Scale(p)), p.mask, again.o.view(),
                              nullptr);
      EXPECT_EQ(out.o.Values(), again.o.Values()) << "a repeated call differs";
    });
  }
}

TYPED_TEST(SoftmaxAttentionTest, BackwardMatchesDefinition) {
  using T = TypeParam;
  constexpr double kInitial = 0.5;
  for (const Problem& p : Problems()) {
    SCOPED_TRACE(testing::PrintToString(p));
    const Inputs<T> in(p);
    const auto d_o =
        TestMatrix<T>::Random(p.queries, p.value_dim, 1 + p.gap, 4);
    OracleGradients expected = Differentiate(
        p, in.q.template Values<double>(), in.k.template Values<double>(),
        in.v.template Values<double>(), Scale(p),
        d_o.template Values<double>());
    for (Doubles* d : {&expected.d_q, &expected.d_k, &expected.d_v}) {
      for (double& x : *d) x += kInitial;
    }
    ForEachSimdTarget([&] {
      Outputs<T> out(p);
      Forward(p, in, Scale(p), &out);
      Gradients<T> d(p, kInitial);
      Backward(p, in, Scale(p), out, d_o, &d);
      // Sums over up to 400 queries.
      constexpr double kRelative = 2 * Tolerance<T>::kRelative;
      constexpr double kAbsolute = 4 * Tolerance<T>::kAbsolute;
      ExpectNear(expected.d_q, d.d_q.Values(), kRelative, kAbsolute, "d_q");
      ExpectNear(expected.d_k, d.d_k.Values(), kRelative, kAbsolute, "d_k");
      ExpectNear(expected.d_v, d.d_v.Values(), kRelative, kAbsolute, "d_v");
      EXPECT_TRUE(d.d_q.GapsIntact());
      EXPECT_TRUE(d.d_k.GapsIntact());
      EXPECT_TRUE(d.d_v.GapsIntact());

      Gradients<T> again(p, kInitial);
      Backward(p, in, Scale(p), out, d_o, &again);
      EXPECT_EQ(d.d_q.Values(), again.d_q.Values());
      EXPECT_EQ(d.d_k.Values(), again.d_k.Values());
      EXPECT_EQ(d.d_v.Values(), again.d_v.Values());
    });
  }
}

TEST(SoftmaxAttentionGradientTest, MatchesCentralDifferences) {
  const std::vector<Problem> problems = {
      {6, 6, 3, 5, {}},
      {9, 14, 5, 3, {true, 4, 5}},
      {18, 7, 4, 4, {false}},
      {10, 6, 2, 3, {true, 3, 2}},  // the last queries see no key
  };
  for (const Problem& p : problems) {
    SCOPED_TRACE(testing::PrintToString(p));
    const Inputs<double> in(p);
    const auto d_o = TestMatrix<double>::Random(p.queries, p.value_dim, 0, 4);
    Doubles q = in.q.Values(), k = in.k.Values(), v = in.v.Values();
    const Doubles weight = d_o.Values();
    const auto loss = [&] {
      const OracleResult result = Oracle(p, q, k, v, Scale(p));
      double sum = 0;
      for (size_t i = 0; i < weight.size(); ++i) sum += weight[i] * result.o[i];
      return sum;
    };
    const Doubles d_q = CentralDifferences(&q, loss);
    const Doubles d_k = CentralDifferences(&k, loss);
    const Doubles d_v = CentralDifferences(&v, loss);
    ForEachSimdTarget([&] {
      Outputs<double> out(p);
      Forward(p, in, Scale(p), &out);
      Gradients<double> d(p, 0);
      Backward(p, in, Scale(p), out, d_o, &d);
      ExpectNear(d_q, d.d_q.Values(), 1e-3, 1e-5, "d_q");
      ExpectNear(d_k, d.d_k.Values(), 1e-3, 1e-5, "d_k");
      ExpectNear(d_v, d.d_v.Values(), 1e-3, 1e-5, "d_v");
    });
  }
}

// Attention of queries [first, first + rows) of a longer sequence, alone.
template <typename T>
void ForwardPart(const Problem& p, const Inputs<T>& in, size_t first,
                 size_t rows, Outputs<T>* out) {
  AttentionMask mask = p.mask;
  mask.query_offset += first;
  SoftmaxAttentionForward(in.q.view().Rows(first, rows), in.k.view(),
                          in.v.view(), static_cast<T>(Scale(p)), mask,
                          out->o.view().Rows(first, rows), &out->lse[first]);
}

TYPED_TEST(SoftmaxAttentionTest, QueriesDoNotDependOnEachOther) {
  using T = TypeParam;
  // A window that spans several blocks of keys, and one that does not.
  for (const size_t window : {0, 45, 200}) {
    const Problem p = {300, 300, 20, 24, {true, window, 0}};
    const Inputs<T> in(p);
    ForEachSimdTarget([&] {
      Outputs<T> all(p);
      Forward(p, in, Scale(p), &all);
      // To the bit with more than 8 queries; 300 is a multiple of 12 and 100.
      for (const size_t rows : {size_t{12}, size_t{100}}) {
        Outputs<T> parts(p);
        for (size_t first = 0; first < p.queries; first += rows) {
          ForwardPart(p, in, first, rows, &parts);
        }
        EXPECT_EQ(all.o.Values(), parts.o.Values()) << rows << " rows";
        EXPECT_EQ(all.lse, parts.lse) << rows << " rows";
      }
      // Up to rounding with few.
      for (const size_t rows : {1, 2, 5, 6}) {
        Outputs<T> parts(p);
        for (size_t first = 0; first < p.queries; first += rows) {
          ForwardPart(p, in, first, rows, &parts);
        }
        ExpectNear(all.o.template Values<double>(), parts.o.Values(),
                   Tolerance<T>::kRelative, Tolerance<T>::kAbsolute, "o");
      }
    });
  }
}

TYPED_TEST(SoftmaxAttentionTest, HugeScoresDoNotOverflow) {
  using T = TypeParam;
  for (const size_t queries : {size_t{3}, size_t{70}}) {
    for (const bool all_negative : {false, true}) {
      const Problem p = {queries, 140, 4, 4, {!all_negative, 0, 140 - queries}};
      // Scores of about 1e4, so that nearly all weights are 0 or 1.
      Inputs<T> in(p, 50);
      if (all_negative) {
        for (size_t c = 0; c < p.key_dim; ++c) {
          for (size_t i = 0; i < p.queries; ++i) {
            in.q.view()(i, c) = std::abs(in.q.view()(i, c)) + 1;
          }
          for (size_t j = 0; j < p.keys; ++j) {
            in.k.view()(j, c) = -std::abs(in.k.view()(j, c)) - 100;
          }
        }
      }
      const OracleResult expected = in.Expected(p, 2);
      ForEachSimdTarget([&] {
        Outputs<T> out(p);
        Forward(p, in, 2, &out);
        // Scores have errors of about 1e4 times the machine epsilon, which is
        // what weights that are not 0 or 1 have as relative errors.
        constexpr double kError = 4e4 * std::numeric_limits<T>::epsilon();
        ExpectNear(expected.o, out.o.Values(), kError, kError, "o");
        ExpectNear(expected.lse, out.lse, 1e-6, 1e-6, "lse");
        Gradients<T> d(p, 0);
        Backward(p, in, 2, out, out.o, &d);  // any d_o will do
        for (const T x : d.d_q.Values()) EXPECT_TRUE(std::isfinite(x));
      });
    }
  }
}

// What is not finite reaches the queries that see it and no other.
TYPED_TEST(SoftmaxAttentionTest, NonFiniteValuesStayCausal) {
  using T = TypeParam;
  constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();
  constexpr size_t kKey = 37;
  const std::vector<Problem> problems = {
      {70, 70, 8, 24, {true, 0, 0}},
      {70, 70, 8, 24, {true, 10, 0}},
      {8, 40, 8, 24, {true, 0, 32}},
      {8, 64, 8, 24, {true, 10, 42}},
  };
  for (const Problem& p : problems) {
    SCOPED_TRACE(testing::PrintToString(p));
    const Inputs<T> clean(p);
    const OracleResult expected = clean.Expected(p, Scale(p));
    for (const bool in_value : {false, true}) {
      for (const T poison : {kNaN, static_cast<T>(kInf)}) {
        Inputs<T> in(p);
        (in_value ? in.v : in.k).view()(kKey, 1) = poison;
        ForEachSimdTarget([&] {
          Outputs<T> out(p);
          Forward(p, in, Scale(p), &out);
          for (size_t i = 0; i < p.queries; ++i) {
            const T got = out.o.view()(i, 1);
            if (!Visible(p.mask, i, kKey)) {
              EXPECT_NEAR(got, expected.o[i * p.value_dim + 1], 1e-5) << i;
              EXPECT_NEAR(out.lse[i], expected.lse[i], 1e-5) << i;
            } else if (std::isnan(poison)) {
              EXPECT_TRUE(std::isnan(got)) << i << ": " << got;
            } else if (in_value) {
              EXPECT_EQ(got, poison) << i;
            }
          }
        });
      }
    }
  }
}

// By the definition a NaN in a key or a value that a query does not see does
// not matter, and in one that it sees gives NaN, wherever it lies: few queries
// take their keys in long blocks and parts, whose maxima must not lose it.
TYPED_TEST(SoftmaxAttentionTest, NaNInALaterBlockOfKeysIsNeitherLostNorLeaks) {
  using T = TypeParam;
  const std::vector<Problem> problems = {
      {1, 9000, 8, 24, {false}},
      {1, 9000, 20, 24, {true, 0, 5000}},
      {2, 4300, 20, 16, {true, 2100, 4290}},
      {7, 3000, 17, 5, {true, 0, 2980}},
      {40, 600, 8, 24, {true, 300, 555}},
  };
  for (const Problem& p : problems) {
    SCOPED_TRACE(testing::PrintToString(p));
    const size_t last = std::min(p.mask.query_offset + p.queries, p.keys) - 1;
    const size_t end = p.mask.causal ? last : p.keys - 1;
    for (const size_t key : {p.keys / 3, p.keys / 2 + 1, end - 1, end,
                             std::min(end + 1, p.keys - 1), p.keys - 1}) {
      for (const bool in_value : {false, true}) {
        SCOPED_TRACE(testing::Message()
                     << (in_value ? "value " : "key ") << key);
        Inputs<T> in(p);
        Inputs<T> poisoned(p);
        (in_value ? poisoned.v : poisoned.k).view()(key, 1) =
            std::numeric_limits<T>::quiet_NaN();
        ForEachSimdTarget([&] {
          Outputs<T> clean(p), out(p);
          Forward(p, in, Scale(p), &clean);
          Forward(p, poisoned, Scale(p), &out);
          for (size_t i = 0; i < p.queries; ++i) {
            const bool seen = Visible(p.mask, i, key);
            EXPECT_EQ(std::isnan(out.lse[i]), seen && !in_value) << i;
            if (!seen) {
              EXPECT_NEAR(out.lse[i], clean.lse[i], 1e-5) << i;
            }
            for (size_t c = 0; c < p.value_dim; ++c) {
              const T got = out.o.view()(i, c);
              if (seen && (!in_value || c == 1)) {
                EXPECT_TRUE(std::isnan(got)) << i << " " << c << ": " << got;
              } else {
                // Up to rounding: what is not finite may be summed in another
                // order.
                EXPECT_NEAR(got, clean.o.view()(i, c), 1e-5) << i << " " << c;
              }
            }
          }
        });
      }
    }
  }
}

TYPED_TEST(SoftmaxAttentionTest, NaNQueryTouchesItsRowOnly) {
  using T = TypeParam;
  for (const bool causal : {false, true}) {
    const Problem p = {40, 40, 8, 8, {causal}};
    Inputs<T> in(p);
    in.q.view()(20, 3) = std::numeric_limits<T>::quiet_NaN();
    ForEachSimdTarget([&] {
      Outputs<T> out(p);
      Forward(p, in, Scale(p), &out);
      for (size_t i = 0; i < p.queries; ++i) {
        EXPECT_EQ(std::isnan(out.o.view()(i, 0)), i == 20) << i;
        EXPECT_EQ(std::isnan(out.lse[i]), i == 20) << i;
      }
      Gradients<T> d(p, 0);
      Backward(p, in, Scale(p), out, in.v, &d);
      for (size_t i = 0; i < p.queries; ++i) {
        EXPECT_EQ(std::isnan(d.d_q.view()(i, 0)), i == 20) << i;
        // The keys that it sees; their neighbours may be touched, too.
        if (Visible(p.mask, 20, i)) {
          EXPECT_TRUE(std::isnan(d.d_k.view()(i, 0))) << i;
        }
      }
    });
  }
}

// What earlier blocks of keys left is scaled down again and again. Keys are as
// wide as several vectors and do not come in whole groups.
TYPED_TEST(SoftmaxAttentionTest, ScoresMayGrowFromBlockToBlock) {
  using T = TypeParam;
  for (const size_t queries : {1, 2, 3, 4, 7}) {
    for (const size_t key_dim : {32, 40, 64}) {
      constexpr size_t kKeys = 8303;
      const Problem p = {queries, kKeys, key_dim, 9, {false}};
      Inputs<T> in(p, 0.1);
      for (size_t i = 0; i < queries; ++i) in.q.view()(i, 0) = 1;
      for (size_t j = 0; j < kKeys; ++j) {
        in.k.view()(j, 0) = static_cast<T>(j) / 1000;
      }
      const OracleResult expected = in.Expected(p, 1);
      ForEachSimdTarget([&] {
        Outputs<T> out(p);
        Forward(p, in, 1, &out);
        ExpectNear(expected.o, out.o.Values(), Tolerance<T>::kRelative,
                   Tolerance<T>::kAbsolute, "o");
        ExpectNear(expected.lse, out.lse, Tolerance<T>::kRelative,
                   Tolerance<T>::kAbsolute, "lse");
      });
    }
  }
}

// Thousands of equal weights: a single running sum would be biased.
TYPED_TEST(SoftmaxAttentionTest, LongSumsKeepTheirDigits) {
  using T = TypeParam;
  for (const size_t queries : {size_t{1}, size_t{20}}) {
    constexpr size_t kKeys = 20000;
    const Problem p = {queries, kKeys, 2, 3, {false}};
    Inputs<T> in(p, 1e-3);
    for (size_t j = 0; j < kKeys; ++j) in.v.view()(j, 0) = T{0.3};
    const OracleResult expected = in.Expected(p, 1);
    ForEachSimdTarget([&] {
      Outputs<T> out(p);
      Forward(p, in, 1, &out);
      ExpectNear(expected.o, out.o.Values(), 3e-6, 1e-6, "o");
      ExpectNear(expected.lse, out.lse, 1e-6, 0, "lse");
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
