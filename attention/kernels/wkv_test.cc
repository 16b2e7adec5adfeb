// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/wkv.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Values = std::vector<double>;

struct Shape {
  size_t length, channels, chunk;
  double offset;  // of the keys: outputs do not depend on it, e^k does
  double spread;  // of the keys
  bool continued;
};

// One token, chunks that do and do not divide the length, channels that are not
// whole vectors; keys whose exponentials overflow, or vanish, even in double.
const Shape kShapes[] = {
    {1, 16, 32, 0, 1, false},      {7, 5, 1, 0, 1, true},
    {33, 17, 8, 0, 1, false},      {64, 40, 32, 0, 3, true},
    {50, 33, 1000, 0, 30, false},  {40, 19, 7, 1000, 1, true},
    {40, 19, 64, -1000, 2, false}, {20, 150, 8, 0, 1, false}};

template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        k(TestMatrix<T>::Random(s.length, s.channels, 3, 1, s.spread)),
        v(TestMatrix<T>::Random(s.length, s.channels, 1, 2)),
        d_y(TestMatrix<T>::Random(s.length, s.channels, 2, 3)),
        w(RandomValues<T>(s.channels, 4, 0.3)),
        u(RandomValues<T>(s.channels, 5)),
        state(WkvStateSize(s.channels)) {
    for (size_t c = 0; c < s.channels; ++c) {
      // No decay at all, decays as models have them, near resets.
      w[c] = c % 5 == 0 ? T{0} : c % 5 == 1 ? T{-20} : -std::abs(w[c]);
      for (size_t t = 0; t < s.length; ++t) {
        k.view()(t, c) += static_cast<T>(s.offset);
      }
    }
    WkvClear(s.channels, state.data());
    if (!s.continued) return;
    state = RandomValues<T>(state.size(), 6);
    for (size_t c = 0; c < s.channels; ++c) {
      T& b = state[s.channels + c];
      b = 1 + std::abs(b);
      state[2 * s.channels + c] += static_cast<T>(s.offset);
    }
  }

  Wkv<T> Arguments() const {
    Wkv<T> s;
    s.k = k.view();
    s.v = v.view();
    s.w = w.data();
    s.u = u.data();
    s.chunk = shape.chunk;
    return s;
  }

  Shape shape;
  TestMatrix<T> k, v, d_y;
  std::vector<T> w, u, state;
};

template <typename T>
struct Results {
  std::vector<T> y, state, saved, d_k, d_v, d_w, d_u;
};

// Adds the gradients to outputs that hold `initial`.
template <typename T>
Results<T> Evaluate(const Problem<T>& p, T initial = 0) {
  const Shape& s = p.shape;
  Results<T> r;
  TestMatrix<T> y(s.length, s.channels, 3, 99);
  r.state = p.state;
  r.saved.resize(WkvSavedSize(s.length, s.chunk, s.channels));
  WkvForward(p.Arguments(), r.state.data(), y.view(), r.saved.data());
  TestMatrix<T> d_k(s.length, s.channels, 3, initial);
  TestMatrix<T> d_v(s.length, s.channels, 2, initial);
  r.d_w.assign(s.channels, initial);
  r.d_u.assign(s.channels, initial);
  WkvBackward(p.Arguments(), r.saved.data(), p.d_y.view(),
              {d_k.view(), d_v.view(), r.d_w.data(), r.d_u.data()});
  EXPECT_TRUE(y.GapsIntact() && d_k.GapsIntact() && d_v.GapsIntact());
  r.y = y.Values();
  r.d_k = d_k.Values();
  r.d_v = d_v.Values();
  return r;
}

// The definition, a sum over all earlier tokens, and the function that the
// gradients are those of. Only the difference of exponents to the largest one
// is exponentiated.
template <typename T>
double Loss(const Problem<T>& p, Values* y) {
  const Shape& s = p.shape;
  y->clear();
  double loss = 0;
  for (size_t t = 0; t < s.length; ++t) {
    for (size_t c = 0; c < s.channels; ++c) {
      const double w = p.w[c];
      const double before = p.state[2 * s.channels + c] + t * w;
      Values exponents;
      for (size_t j = 0; j < t; ++j) {
        exponents.push_back(static_cast<double>(t - 1 - j) * w +
                            p.k.view()(j, c));
      }
      exponents.push_back(p.u[c] + static_cast<double>(p.k.view()(t, c)));
      const double top = std::max(
          before, *std::max_element(exponents.begin(), exponents.end()));
      double num = std::exp(before - top) * p.state[c];
      double den = std::exp(before - top) * p.state[s.channels + c];
      for (size_t j = 0; j <= t; ++j) {
        num += std::exp(exponents[j] - top) * p.v.view()(j, c);
        den += std::exp(exponents[j] - top);
      }
      y->push_back(num / den);
      loss += num / den * p.d_y.view()(t, c);
    }
  }
  return loss;
}

template <typename T>
class WkvTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(WkvTest, NumberTypes);

TYPED_TEST(WkvTest, EqualsTheDefinition) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE("length " + std::to_string(shape.length) + ", offset " +
                 std::to_string(shape.offset));
    // An exponent of 1000 is known to no better than its last place.
    const double precision =
        std::is_same<TypeParam, float>::value ? 6e-8 : 1.2e-16;
    const double bound =
        precision * (100 + 10 * std::abs(shape.offset) + 30 * shape.spread);
    const Problem<TypeParam> problem(shape);
    Values y;
    Loss(problem, &y);
    ForEachSimdTarget(
        [&] { ExpectNear(y, Evaluate(problem).y, bound, bound, "y"); });
  }
}

TYPED_TEST(WkvTest, ChannelsMayBeComputedInParts) {
  using T = TypeParam;
  for (const Shape& shape : kShapes) {
    const Problem<T> problem(shape);
    ForEachSimdTarget([&] {
      const Results<T> whole = Evaluate(problem);
      TestMatrix<T> y(shape.length, shape.channels, 3, 99);
      std::vector<T> state = problem.state;
      Wkv<T> s = problem.Arguments();
      const size_t cut = shape.channels / 3 + 1;
      s.begin = cut;
      WkvForward(s, state.data(), y.view(), nullptr);
      for (size_t c = 0; c < cut; ++c) {
        EXPECT_EQ(state[c], problem.state[c]);
        EXPECT_EQ(y.view()(0, c), T{99});
      }
      s.begin = 0;
      s.end = cut;
      WkvForward(s, state.data(), y.view(), nullptr);
      EXPECT_EQ(y.Values(), whole.y);
      EXPECT_EQ(state, whole.state);
      EXPECT_TRUE(y.GapsIntact());
    });
  }
}

TYPED_TEST(WkvTest, GradientsMayBeComputedInParts) {
  using T = TypeParam;
  for (const Shape& shape : kShapes) {
    const Problem<T> problem(shape);
    ForEachSimdTarget([&] {
      const Results<T> whole = Evaluate(problem);
      TestMatrix<T> d_k(shape.length, shape.channels, 3, 0);
      TestMatrix<T> d_v(shape.length, shape.channels, 2, 0);
      std::vector<T> d_w(shape.channels), d_u(shape.channels);
      Wkv<T> s = problem.Arguments();
      const auto add = [&](size_t begin, size_t end) {
        s.begin = begin;
        s.end = end;
        WkvBackward(s, whole.saved.data(), problem.d_y.view(),
                    {d_k.view(), d_v.view(), d_w.data(), d_u.data()});
      };
      const size_t cut = shape.channels / 3 + 1;
      add(cut, shape.channels + 1);
      for (size_t c = 0; c < cut; ++c) {
        EXPECT_EQ(d_u[c], 0);
        EXPECT_EQ(d_v.view()(0, c), 0);
      }
      add(0, cut);
      EXPECT_EQ(d_k.Values(), whole.d_k);
      EXPECT_EQ(d_v.Values(), whole.d_v);
      EXPECT_EQ(d_w, whole.d_w);
      EXPECT_EQ(d_u, whole.d_u);
      EXPECT_TRUE(d_k.GapsIntact() && d_v.GapsIntact());
    });
  }
}

// Token by token as chunks of one, to the last bit; longer chunks round their
// sums differently.
TYPED_TEST(WkvTest, ContinuesWhereItStopped) {
  const Shape shape = {23, 21, 1, 0, 3, false};
  const Problem<TypeParam> problem(shape);
  Shape longer = shape;
  longer.chunk = 8;
  const double bound = std::is_same<TypeParam, float>::value ? 5e-6 : 1e-14;
  ForEachSimdTarget([&] {
    const Results<TypeParam> whole = Evaluate(problem);
    std::vector<TypeParam> state = problem.state, y(23 * 21);
    for (size_t t = 0; t < shape.length; ++t) {
      Wkv<TypeParam> s = problem.Arguments();
      s.k = {s.k.row(t), 1, shape.channels};
      s.v = {s.v.row(t), 1, shape.channels};
      WkvForward(s, state.data(),
                 MatrixView<TypeParam>(y.data() + t * 21, 1, 21), nullptr);
    }
    EXPECT_EQ(y, whole.y);
    EXPECT_EQ(state, whole.state);
    const Problem<TypeParam> chunked(longer);
    ExpectNear(Values(y.begin(), y.end()), Evaluate(chunked).y, bound, bound,
               "y");
  });
}

// Beside channels that share references there are some that cannot: keys that
// drop by more than a float holds and fade at once, a bonus whose exponential
// is infinite, keys too large to be told apart.
TYPED_TEST(WkvTest, BlocksLeaveExtremesToSingleTokens) {
  Problem<TypeParam> problem({24, 21, 24, 0, 1, false});
  for (size_t t = 0; t < 24; ++t) {
    if (t != 2) problem.k.view()(t, 1) -= 200;
    problem.k.view()(t, 9) = TypeParam{1e30};
  }
  problem.w[1] = -300;
  problem.u[5] = 100;
  Values y;
  Loss(problem, &y);
  const double bound = std::is_same<TypeParam, float>::value ? 6e-5 : 1e-13;
  ForEachSimdTarget(
      [&] { ExpectNear(y, Evaluate(problem).y, bound, bound, "y"); });
}

// Tokens that weigh nothing at all, and NaN of either sign, which stays in its
// channel from its token on.
TYPED_TEST(WkvTest, InfinitelySmallWeightsAndNaN) {
  using Limits = std::numeric_limits<TypeParam>;
  Problem<TypeParam> problem({24, 21, 24, 0, 1, false});
  for (size_t t = 1; t < 24; ++t) {
    if (t % 3 != 0) problem.k.view()(t, 2) = -Limits::infinity();
    if (t % 3 != 0) problem.k.view()(t, 3) = -1e30;
  }
  for (size_t t = 0; t < 3; ++t) problem.k.view()(t, 4) = -1e30;
  Values y;
  Loss(problem, &y);
  problem.k.view()(5, 7) = Limits::quiet_NaN();
  problem.k.view()(12, 20) = std::copysign(Limits::quiet_NaN(), TypeParam{-1});
  const double bound = std::is_same<TypeParam, float>::value ? 6e-6 : 1e-13;
  ForEachSimdTarget([&] {
    std::vector<TypeParam> actual = Evaluate(problem).y;
    for (size_t t = 0; t < 24; ++t) {
      for (size_t c : {7, 20}) {
        TypeParam& entry = actual[t * 21 + c];
        EXPECT_EQ(std::isnan(entry), t >= (c == 7 ? 5 : 12));
        if (std::isnan(entry)) entry = y[t * 21 + c];
      }
    }
    ExpectNear(y, actual, bound, bound, "y");
  });
}

// Sequences that begin with such tokens: a state of nothing stays one, and the
// weights are those among these tokens.
TYPED_TEST(WkvTest, BeginsWithInfinitelySmallWeights) {
  Problem<TypeParam> problem({24, 21, 8, 0, 1, false});
  for (size_t t = 0; t < 24; ++t) {
    if (t < 11) problem.k.view()(t, 4) = -1e30;
    problem.k.view()(t, 5) = -1e30;
  }
  Values y;
  Loss(problem, &y);
  const double bound = std::is_same<TypeParam, float>::value ? 6e-6 : 1e-13;
  ForEachSimdTarget([&] {
    const Results<TypeParam> r = Evaluate(problem);
    ExpectNear(y, r.y, bound, bound, "y");
    for (size_t c = 0; c < 21; ++c) {
      EXPECT_EQ(r.saved[2 * 21 + c], static_cast<TypeParam>(kWkvNothing));
    }
    EXPECT_EQ(r.state[2 * 21 + 5], static_cast<TypeParam>(-1e30));
    for (const auto* gradients : {&r.d_k, &r.d_v, &r.d_w, &r.d_u}) {
      for (const TypeParam d : *gradients) ASSERT_TRUE(std::isfinite(d));
    }
  });
}

// The same problem in double and in T.
template <typename T>
void ExpectGradients(Problem<double> p, const Problem<T>& problem,
                     double absolute) {
  const auto loss = [&] {
    Values y;
    return Loss(p, &y);
  };
  // Errors must be small beside the gradients, not beside the 5.
  const auto less_five = [](std::vector<T> gradients) {
    for (T& d : gradients) d -= 5;
    return gradients;
  };
  const Values d_k = CentralDifferences(&p.k, loss),
               d_v = CentralDifferences(&p.v, loss),
               d_w = CentralDifferences(&p.w, loss),
               d_u = CentralDifferences(&p.u, loss);
  ForEachSimdTarget([&] {
    const Results<T> actual = Evaluate(problem, T{5});
    ExpectNear(d_k, less_five(actual.d_k), 1e-3, absolute, "d_k");
    ExpectNear(d_v, less_five(actual.d_v), 1e-3, absolute, "d_v");
    ExpectNear(d_w, less_five(actual.d_w), 1e-3, absolute, "d_w");
    ExpectNear(d_u, less_five(actual.d_u), 1e-3, absolute, "d_u");
  });
}

TYPED_TEST(WkvTest, GradientsEqualCentralDifferences) {
  // Differences need double; float is held to the same, up to its rounding.
  const double absolute = std::is_same<TypeParam, float>::value ? 1e-3 : 1e-5;
  for (const Shape& shape :
       {Shape{7, 5, 2, 0, 1, true}, Shape{9, 18, 64, 0, 5, false},
        Shape{9, 7, 4, 1000, 1, false}, Shape{9, 7, 4, -1000, 1, true}}) {
    SCOPED_TRACE("length " + std::to_string(shape.length) + ", offset " +
                 std::to_string(shape.offset));
    ExpectGradients(Problem<double>(shape), Problem<TypeParam>(shape),
                    absolute);
  }
}

// The first chunk's keys are far above the rest, so that what it saves has a
// reference far above what follows: the rest never catches up, or does so at
// once (and is left to single tokens, beside channels that are not), or in the
// third chunk, whose tokens are fewer than a block.
TYPED_TEST(WkvTest, GradientsFromAStateThatABlockSaved) {
  const double absolute = std::is_same<TypeParam, float>::value ? 1e-4 : 1e-6;
  const auto make = [](auto zero) {
    using T = decltype(zero);
    Problem<T> problem({19, 21, 8, 0, 1, false});
    for (size_t c = 0; c < 21; ++c) {
      const T above = c % 3 == 0 ? 30 : c % 3 == 1 ? 60 : 8;
      for (size_t t = 0; t < 8; ++t) problem.k.view()(t, c) += above;
      problem.w[c] = c % 3 == 1 ? T{-10} : T{-1} - T{0.01f} * c;
    }
    return problem;
  };
  ExpectGradients(make(0.0), make(TypeParam{0}), absolute);
}

}  // namespace
}  // namespace mneme::kernels
