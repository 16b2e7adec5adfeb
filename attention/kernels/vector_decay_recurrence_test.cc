// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/vector_decay_recurrence.h"

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

enum class Decay { kZero, kSlow, kStrong, kResets };

struct Shape {
  size_t length, key_dim, value_dim, chunk;
  Decay decay;
  bool bonus;
};

// Lengths and chunks on both sides of the block of 16 tokens, dimensions that
// are not whole vectors.
const Shape kShapes[] = {
    {1, 32, 32, 64, Decay::kSlow, false},
    {1, 3, 70, 1, Decay::kSlow, true},
    {7, 5, 3, 1, Decay::kStrong, false},
    {7, 5, 3, 1, Decay::kResets, true},
    {15, 17, 4, 64, Decay::kStrong, true},
    {16, 16, 16, 16, Decay::kZero, false},
    {17, 33, 65, 8, Decay::kSlow, true},
    {64, 32, 32, 64, Decay::kSlow, false},
    {100, 20, 33, 40, Decay::kResets, false},
    {100, 8, 24, 1000, Decay::kStrong, false},
    {75, 9, 18, 33, Decay::kStrong, true},
};

std::string Describe(const Shape& s) {
  return "length " + std::to_string(s.length) + ", key_dim " +
         std::to_string(s.key_dim) + ", value_dim " +
         std::to_string(s.value_dim) + ", chunk " + std::to_string(s.chunk) +
         ", decay " + std::to_string(static_cast<int>(s.decay)) +
         (s.bonus ? ", bonus" : "");
}

template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        q(TestMatrix<T>::Random(s.length, s.key_dim, 3, 1)),
        k(TestMatrix<T>::Random(s.length, s.key_dim, 5, 2)),
        v(TestMatrix<T>::Random(s.length, s.value_dim, 1, 3)),
        g(TestMatrix<T>::Random(s.length, s.key_dim, 4, 9)),
        d_o(TestMatrix<T>::Random(s.length, s.value_dim, 2, 4)),
        bonus(RandomValues<T>(s.key_dim, 6)),
        state(RandomValues<T>(s.key_dim * s.value_dim, 7)),
        d_state(RandomValues<T>(s.key_dim * s.value_dim, 8)) {
    for (size_t t = 0; t < s.length; ++t) {
      for (size_t c = 0; c < s.key_dim; ++c) {
        g.view()(t, c) = LogDecay(std::abs(g.view()(t, c)), t * 5 + c);
      }
    }
  }

  T LogDecay(T noise, size_t i) const {
    switch (shape.decay) {
      case Decay::kZero:
        return 0;
      case Decay::kSlow:
        return T(-0.03) * noise;
      case Decay::kStrong:
        return i % 3 == 0 ? 0 : i % 3 == 1 ? -20 - noise : T(-1e-3);
      case Decay::kResets:
        return i % 7 == 3 ? -std::numeric_limits<T>::infinity()
                          : T(-0.1) * noise;
    }
    return 0;
  }

  VectorDecayRecurrence<T> Arguments() const {
    VectorDecayRecurrence<T> a;
    a.q = q.view();
    a.k = k.view();
    a.v = v.view();
    a.log_decay = g.view();
    a.bonus = shape.bonus ? bonus.data() : nullptr;
    a.scale = static_cast<T>(scale);
    a.chunk = shape.chunk;
    return a;
  }

  Shape shape;
  double scale = 0.3;
  TestMatrix<T> q, k, v, g, d_o;
  std::vector<T> bonus, state, d_state;
};

template <typename T>
struct Results {
  std::vector<T> o, state, d_q, d_k, d_v, d_g, d_bonus, d_state;
};

// Adds the gradients to outputs that hold `initial`.
template <typename T>
Results<T> Evaluate(const Problem<T>& p, T initial = 0) {
  const Shape& s = p.shape;
  Results<T> r;
  TestMatrix<T> o(s.length, s.value_dim, 3, 99);
  r.state = p.state;
  std::vector<T> saved(
      VectorDecaySavedSize(s.length, s.chunk, s.key_dim, s.value_dim));
  VectorDecayForward(p.Arguments(), r.state.data(), o.view(), saved.data());
  TestMatrix<T> d_q(s.length, s.key_dim, 3, initial);
  TestMatrix<T> d_k(s.length, s.key_dim, 2, initial);
  TestMatrix<T> d_v(s.length, s.value_dim, 1, initial);
  TestMatrix<T> d_g(s.length, s.key_dim, 2, initial);
  r.d_state = p.d_state;
  r.d_bonus.assign(s.key_dim, initial);
  VectorDecayBackward(p.Arguments(), saved.data(), p.d_o.view(),
                      r.d_state.data(),
                      {d_q.view(), d_k.view(), d_v.view(), d_g.view(),
                       s.bonus ? r.d_bonus.data() : nullptr});
  EXPECT_TRUE(o.GapsIntact() && d_q.GapsIntact() && d_k.GapsIntact() &&
              d_v.GapsIntact() && d_g.GapsIntact());
  r.o = o.Values();
  r.d_q = d_q.Values();
  r.d_k = d_k.Values();
  r.d_v = d_v.Values();
  r.d_g = d_g.Values();
  return r;
}

// The definition, token by token, and its derivative.
template <typename T>
Results<double> Expected(const Problem<T>& p) {
  const Shape& s = p.shape;
  Results<double> r;
  std::vector<Values> states = {Values(p.state.begin(), p.state.end())};
  for (size_t t = 0; t < s.length; ++t) {
    Values next = states.back();
    for (size_t c = 0; c < s.value_dim; ++c) {
      double o = 0;
      for (size_t i = 0; i < s.key_dim; ++i) {
        const double old = next[i * s.value_dim + c];
        const double write = double{p.k.view()(t, i)} * p.v.view()(t, c);
        const double now = std::exp(double{p.g.view()(t, i)}) * old + write;
        next[i * s.value_dim + c] = now;
        o += p.q.view()(t, i) * (s.bonus ? old + p.bonus[i] * write : now);
      }
      r.o.push_back(p.scale * o);
    }
    states.push_back(next);
  }
  r.state = states.back();
  r.d_q.resize(s.length * s.key_dim);
  r.d_k = r.d_g = r.d_q;
  r.d_v.resize(s.length * s.value_dim);
  r.d_bonus.resize(s.key_dim);
  r.d_state.assign(p.d_state.begin(), p.d_state.end());
  for (size_t t = s.length; t-- > 0;) {
    for (size_t i = 0; i < s.key_dim; ++i) {
      const size_t ti = t * s.key_dim + i;
      const double q = p.q.view()(t, i), k = p.k.view()(t, i);
      const double decay = std::exp(double{p.g.view()(t, i)});
      for (size_t c = 0; c < s.value_dim; ++c) {
        const size_t at = i * s.value_dim + c;
        const double d_o = p.scale * p.d_o.view()(t, c);
        const double v = p.v.view()(t, c);
        double& z = r.d_state[at];
        double d_write;
        if (s.bonus) {
          r.d_q[ti] += d_o * (states[t][at] + p.bonus[i] * k * v);
          r.d_bonus[i] += d_o * q * k * v;
          d_write = z + d_o * q * p.bonus[i];
          r.d_g[ti] += decay * states[t][at] * z;
          z = decay * z + d_o * q;
        } else {
          r.d_q[ti] += d_o * states[t + 1][at];
          z += d_o * q;
          d_write = z;
          r.d_g[ti] += decay * states[t][at] * z;
          z *= decay;
        }
        r.d_k[ti] += d_write * v;
        r.d_v[t * s.value_dim + c] += d_write * k;
      }
    }
  }
  return r;
}

template <typename T>
class VectorDecayRecurrenceTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(VectorDecayRecurrenceTest, NumberTypes);

TYPED_TEST(VectorDecayRecurrenceTest, EqualsTheDefinition) {
  using T = TypeParam;
  const double relative = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(Describe(shape));
    const Problem<T> problem(shape);
    const Results<double> expected = Expected(problem);
    ForEachSimdTarget([&] {
      const Results<T> actual = Evaluate(problem);
      const auto expect = [&](const Values& e, const std::vector<T>& a,
                              double factor, const char* what) {
        ExpectNear(e, a, factor * relative, factor * relative, what);
      };
      expect(expected.o, actual.o, 1, "o");
      expect(expected.state, actual.state, 1, "state");
      expect(expected.d_q, actual.d_q, 3, "d_q");
      expect(expected.d_k, actual.d_k, 3, "d_k");
      expect(expected.d_v, actual.d_v, 3, "d_v");
      expect(expected.d_g, actual.d_g, 10, "d_g");
      expect(expected.d_state, actual.d_state, 3, "d_state");
      expect(expected.d_bonus, actual.d_bonus, 10, "d_bonus");
    });
  }
}

// Many heads at a time are each of them alone: more than are prepared at once,
// of every width of strips.
TYPED_TEST(VectorDecayRecurrenceTest, StepTakesATokenOfEachHead) {
  using T = TypeParam;
  for (const Shape& shape : {Shape{19, 24, 64, 1, Decay::kSlow, false},
                             Shape{19, 5, 143, 1, Decay::kResets, true},
                             Shape{8, 17, 3, 1, Decay::kStrong, true},
                             Shape{1, 33, 128, 1, Decay::kSlow, false}}) {
    SCOPED_TRACE(Describe(shape));
    const Problem<T> problem(shape);
    const size_t heads = shape.length, size = shape.key_dim * shape.value_dim;
    const std::vector<T> before = RandomValues<T>(heads * size, 11),
                         bonuses = RandomValues<T>(heads * shape.key_dim, 12);
    ForEachSimdTarget([&] {
      TestMatrix<T> o(heads, shape.value_dim, 3, 99);
      std::vector<T> states = before;
      VectorDecayRecurrence<T> all = problem.Arguments();
      if (shape.bonus) all.bonus = bonuses.data();
      VectorDecayStep(all, states.data(), o.view());
      EXPECT_TRUE(o.GapsIntact());
      for (size_t h = 0; h < heads; ++h) {
        VectorDecayRecurrence<T> a = all;
        for (MatrixView<const T>* rows : {&a.q, &a.k, &a.v, &a.log_decay}) {
          *rows = rows->Rows(h, 1);
        }
        if (shape.bonus) a.bonus += h * shape.key_dim;
        std::vector<T> state(before.begin() + h * size,
                             before.begin() + (h + 1) * size);
        TestMatrix<T> alone(1, shape.value_dim, 0);
        VectorDecayForward(a, state.data(), alone.view(), nullptr);
        EXPECT_EQ(state, std::vector<T>(states.begin() + h * size,
                                        states.begin() + (h + 1) * size));
        for (size_t c = 0; c < shape.value_dim; ++c) {
          EXPECT_EQ(alone.view()(0, c), o.view()(h, c));
        }
      }
    });
  }
}

// The definition's derivative above is itself right: central differences.
TEST(VectorDecayGradientTest, MatchesCentralDifferences) {
  for (const Shape& shape : {Shape{5, 3, 4, 2, Decay::kSlow, false},
                             Shape{6, 4, 2, 64, Decay::kStrong, true}}) {
    SCOPED_TRACE(Describe(shape));
    Problem<double> problem(shape);
    const Results<double> actual = Evaluate(problem);
    const auto loss = [&] {
      const Results<double> r = Expected(problem);
      const Values d_o = problem.d_o.Values();
      double sum = 0;
      for (size_t i = 0; i < d_o.size(); ++i) sum += d_o[i] * r.o[i];
      for (size_t i = 0; i < r.state.size(); ++i) {
        sum += problem.d_state[i] * r.state[i];
      }
      return sum;
    };
    const auto expect = [&](TestMatrix<double>* m, const Values& gradient,
                            const char* what) {
      ExpectNear(CentralDifferences(m, loss), gradient, 1e-3, 1e-5, what);
    };
    expect(&problem.q, actual.d_q, "d_q");
    expect(&problem.k, actual.d_k, "d_k");
    expect(&problem.v, actual.d_v, "d_v");
    expect(&problem.g, actual.d_g, "d_g");
    ExpectNear(CentralDifferences(&problem.state, loss), actual.d_state, 1e-3,
               1e-5, "d_state");
    if (shape.bonus) {
      ExpectNear(CentralDifferences(&problem.bonus, loss), actual.d_bonus, 1e-3,
                 1e-5, "d_bonus");
    }
  }
}

// A later token changes no bit of an earlier output, even if it is NaN, and
// gradients are added.
TYPED_TEST(VectorDecayRecurrenceTest, IgnoresTheFutureAndAddsGradients) {
  using T = TypeParam;
  for (bool bonus : {false, true}) {
    const Shape shape{40, 7, 21, 24, Decay::kSlow, bonus};
    SCOPED_TRACE(Describe(shape));
    Problem<T> problem(shape);
    ForEachSimdTarget([&] {
      const Results<T> first = Evaluate(problem);
      const Results<T> added = Evaluate(problem, T{5});
      for (size_t i = 0; i < first.d_g.size(); ++i) {
        EXPECT_NEAR(first.d_g[i] + 5, added.d_g[i], 1e-4);
      }
      constexpr size_t kCut = 21;
      Problem<T> changed(shape);
      for (TestMatrix<T>* m :
           {&changed.q, &changed.k, &changed.v, &changed.g}) {
        for (size_t t = kCut; t < shape.length; ++t) {
          std::fill_n(m->view().row(t), m->view().cols,
                      std::numeric_limits<T>::quiet_NaN());
        }
      }
      const std::vector<T> o = Evaluate(changed).o;
      for (size_t i = 0; i < kCut * shape.value_dim; ++i) {
        ASSERT_EQ(o[i], first.o[i]) << i;
      }
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
