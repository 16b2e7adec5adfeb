// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/gated_delta.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/kernels/delta_testing.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Values = std::vector<double>;

enum class Decay { kNone, kScalar, kVector };

struct Shape {
  size_t length, key_dim, value_dim, chunk;
  Decay decay;
  Strength strength = Strength::kSlow;
};

// The recurrence, chunks within, at, and beyond the kernel's blocks of 16
// tokens, last blocks of one token, and widths that are not whole vectors.
const Shape kShapes[] = {
    {1, 32, 32, 64, Decay::kScalar},
    {1, 3, 70, 1, Decay::kVector},
    {2, 1, 1, 64, Decay::kNone},
    {7, 5, 3, 1, Decay::kVector, Strength::kResets},
    {9, 2, 4, 2, Decay::kScalar, Strength::kStrong},
    {16, 16, 16, 16, Decay::kNone},
    {17, 33, 65, 1, Decay::kNone},
    {33, 8, 24, 16, Decay::kVector, Strength::kZero},
    {64, 32, 32, 64, Decay::kScalar},
    {65, 16, 48, 64, Decay::kVector},
    {63, 8, 24, 1000, Decay::kVector, Strength::kStrong},
    {50, 20, 7, 20, Decay::kScalar, Strength::kResets},
    {90, 9, 18, 90, Decay::kVector, Strength::kResets},
};

std::string Describe(const Shape& s) {
  return "length " + std::to_string(s.length) + ", key_dim " +
         std::to_string(s.key_dim) + ", value_dim " +
         std::to_string(s.value_dim) + ", chunk " + std::to_string(s.chunk) +
         ", decay " + std::to_string(static_cast<int>(s.decay)) +
         ", strength " + std::to_string(static_cast<int>(s.strength));
}

// One sequence and the gradients that come in. Keys have unit length; rows lie
// apart and start unaligned.
template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        q(TestMatrix<T>::Random(s.length, s.key_dim, 3, 1)),
        k(TestMatrix<T>::Random(s.length, s.key_dim, 5, 2)),
        v(TestMatrix<T>::Random(s.length, s.value_dim, 1, 3)),
        beta(TestMatrix<T>::Random(s.length, 1, 2, 4)),
        log_decay(TestMatrix<T>::Random(
            s.length, s.decay == Decay::kVector ? s.key_dim : 1, 4, 5)),
        d_o(TestMatrix<T>::Random(s.length, s.value_dim, 2, 6)),
        state(RandomValues<T>(s.key_dim * s.value_dim, 7)),
        d_state(RandomValues<T>(s.key_dim * s.value_dim, 8)) {
    for (size_t t = 0; t < s.length; ++t) {
      double square = 0;
      for (size_t c = 0; c < s.key_dim; ++c) square += std::pow(K(t, c), 2);
      for (size_t c = 0; c < s.key_dim; ++c) {
        k.view()(t, c) /= static_cast<T>(std::sqrt(square));
      }
      T& b = beta.view()(t, 0);
      b = static_cast<T>(2 / (1 + std::exp(-double{b})));
      for (size_t c = 0; c < log_decay.view().cols; ++c) {
        T& g = log_decay.view()(t, c);
        g = static_cast<T>(LogDecay(s.strength, t + c, g));
      }
    }
  }

  double Q(size_t t, size_t c) const { return q.view()(t, c); }
  double K(size_t t, size_t c) const { return k.view()(t, c); }
  double V(size_t t, size_t c) const { return v.view()(t, c); }
  double Beta(size_t t) const { return beta.view()(t, 0); }
  double Factor(size_t t, size_t c) const {
    if (shape.decay == Decay::kNone) return 1;
    return std::exp(
        double{log_decay.view()(t, shape.decay == Decay::kVector ? c : 0)});
  }

  GatedDelta<T> Arguments() const {
    GatedDelta<T> a;
    a.q = q.view();
    a.k = k.view();
    a.v = v.view();
    a.beta = beta.view();
    if (shape.decay != Decay::kNone) a.log_decay = log_decay.view();
    a.scale = static_cast<T>(scale);
    a.chunk = shape.chunk;
    return a;
  }

  Shape shape;
  double scale = 0.3;
  TestMatrix<T> q, k, v, beta, log_decay, d_o;
  std::vector<T> state, d_state;
};

template <typename T>
struct Results {
  std::vector<T> o, state, saved;
  std::vector<T> d_q, d_k, d_v, d_beta, d_log_decay, d_state;
};

// The kernel's, with gradients added to outputs that hold `initial`.
template <typename T>
Results<T> Run(const Problem<T>& p, T initial) {
  const Shape& s = p.shape;
  Results<T> r;
  TestMatrix<T> o(s.length, s.value_dim, 3, 99);
  r.state = p.state;
  r.saved.assign(GatedDeltaSavedSize(s.length, s.chunk, s.key_dim, s.value_dim),
                 99);
  GatedDeltaForward(p.Arguments(), r.state.data(), o.view(), r.saved.data());
  EXPECT_TRUE(o.GapsIntact());
  r.o = o.Values();

  TestMatrix<T> d_q(s.length, s.key_dim, 3, initial);
  TestMatrix<T> d_k(s.length, s.key_dim, 2, initial);
  TestMatrix<T> d_v(s.length, s.value_dim, 1, initial);
  TestMatrix<T> d_beta(s.length, 1, 1, initial);
  TestMatrix<T> d_g(s.length, p.log_decay.view().cols, 1, initial);
  r.d_state = p.d_state;
  GatedDeltaGradients<T> gradients{d_q.view(), d_k.view(), d_v.view(),
                                   d_beta.view(), d_g.view()};
  GatedDeltaBackward(p.Arguments(), r.saved.data(), p.d_o.view(),
                     r.d_state.data(), gradients);
  EXPECT_TRUE(d_q.GapsIntact() && d_k.GapsIntact() && d_v.GapsIntact() &&
              d_beta.GapsIntact() && d_g.GapsIntact());
  r.d_q = d_q.Values();
  r.d_k = d_k.Values();
  r.d_v = d_v.Values();
  r.d_beta = d_beta.Values();
  if (s.decay != Decay::kNone) r.d_log_decay = d_g.Values();
  return r;
}

// The definition, token by token in double.
template <typename T>
struct Oracle {
  explicit Oracle(const Problem<T>& problem)
      : p(problem), keys(p.shape.key_dim), values(p.shape.value_dim) {
    states.emplace_back(p.state.begin(), p.state.end());
    for (size_t t = 0; t < p.shape.length; ++t) {
      Values state = states[t];
      for (size_t i = 0; i < keys * values; ++i) {
        state[i] *= p.Factor(t, i / values);
      }
      decayed.push_back(state);
      for (size_t c = 0; c < values; ++c) {
        double error = p.V(t, c), out = 0;
        for (size_t i = 0; i < keys; ++i) {
          error -= state[i * values + c] * p.K(t, i);
        }
        errors.push_back(error);
        for (size_t i = 0; i < keys; ++i) {
          state[i * values + c] += p.K(t, i) * p.Beta(t) * error;
          out += p.scale * state[i * values + c] * p.Q(t, i);
        }
        outs.push_back(out);
      }
      states.push_back(state);
    }
  }

  Results<double> Expected() const {
    const Shape& s = p.shape;
    Results<double> r;
    r.o = outs;
    r.state = states.back();
    for (size_t t = 0; t < s.length; t += s.chunk) {
      r.saved.insert(r.saved.end(), states[t].begin(), states[t].end());
    }
    const size_t gates = s.decay == Decay::kVector ? keys : 1;
    r.d_q.resize(s.length * keys);
    r.d_k.resize(s.length * keys);
    r.d_v.resize(s.length * values);
    r.d_beta.resize(s.length);
    r.d_log_decay.resize(s.decay == Decay::kNone ? 0 : s.length * gates);
    Values z(p.d_state.begin(), p.d_state.end());
    for (size_t t = s.length; t-- > 0;) {
      for (size_t c = 0; c < values; ++c) {
        const double d_o = p.d_o.view()(t, c);
        const double error = errors[t * values + c];
        double d_u = 0;
        for (size_t i = 0; i < keys; ++i) {
          double& d_s = z[i * values + c];
          d_s += p.scale * p.Q(t, i) * d_o;
          r.d_q[t * keys + i] += p.scale * states[t + 1][i * values + c] * d_o;
          d_u += d_s * p.K(t, i);
        }
        const double d_error = p.Beta(t) * d_u;
        r.d_beta[t] += d_u * error;
        r.d_v[t * values + c] = d_error;
        for (size_t i = 0; i < keys; ++i) {
          double& d_s = z[i * values + c];
          const double before = decayed[t][i * values + c];
          r.d_k[t * keys + i] += d_s * p.Beta(t) * error - before * d_error;
          d_s -= p.K(t, i) * d_error;
          if (s.decay != Decay::kNone) {
            r.d_log_decay[t * gates + i % gates] += d_s * before;
          }
          d_s *= p.Factor(t, i);
        }
      }
    }
    r.d_state = z;
    return r;
  }

  // The function that the gradients are those of.
  double Loss() const {
    double loss = 0;
    for (size_t i = 0; i < outs.size(); ++i) {
      loss += outs[i] * p.d_o.view()(i / values, i % values);
    }
    for (size_t i = 0; i < p.d_state.size(); ++i) {
      loss += states.back()[i] * p.d_state[i];
    }
    return loss;
  }

  const Problem<T>& p;
  size_t keys, values;
  std::vector<Values> states, decayed;
  Values errors, outs;
};

template <typename T>
void Expect(const Results<double>& expected, const Results<T>& actual) {
  const double forward = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  ExpectNear(expected.o, actual.o, forward, forward, "o");
  ExpectNear(expected.state, actual.state, forward, forward, "state");
  ExpectNear(expected.saved, actual.saved, forward, forward, "saved");
  const double backward = 5 * forward;
  ExpectNear(expected.d_q, actual.d_q, backward, backward, "d_q");
  ExpectNear(expected.d_k, actual.d_k, backward, backward, "d_k");
  ExpectNear(expected.d_v, actual.d_v, backward, backward, "d_v");
  ExpectNear(expected.d_beta, actual.d_beta, backward, 4 * backward, "d_beta");
  ExpectNear(expected.d_log_decay, actual.d_log_decay, backward, 4 * backward,
             "d_log_decay");
  ExpectNear(expected.d_state, actual.d_state, backward, backward, "d_state");
}

template <typename T>
class GatedDeltaTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(GatedDeltaTest, NumberTypes);

TYPED_TEST(GatedDeltaTest, MatchesTheDefinition) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(Describe(shape));
    const Problem<TypeParam> problem(shape);
    const Results<double> expected = Oracle<TypeParam>(problem).Expected();
    ForEachSimdTarget([&] { Expect(expected, Run(problem, TypeParam{0})); });
  }
}

TYPED_TEST(GatedDeltaTest, AddsToGradients) {
  const Shape shape{37, 6, 5, 20, Decay::kVector};
  const Problem<TypeParam> problem(shape);
  Results<double> expected = Oracle<TypeParam>(problem).Expected();
  for (Values* gradient : {&expected.d_q, &expected.d_k, &expected.d_v,
                           &expected.d_beta, &expected.d_log_decay}) {
    for (double& x : *gradient) x += 3;
  }
  ForEachSimdTarget([&] { Expect(expected, Run(problem, TypeParam{3})); });
}

// A prompt in chunks and then token by token is the whole sequence.
TYPED_TEST(GatedDeltaTest, PrefillThenDecodeIsPrefill) {
  using T = TypeParam;
  const Shape shape{40, 24, 40, 32, Decay::kVector};
  const Problem<T> problem(shape);
  const Results<double> expected = Oracle<T>(problem).Expected();
  constexpr size_t kPrompt = 35;
  const double bound = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  ForEachSimdTarget([&] {
    TestMatrix<T> o(shape.length, shape.value_dim, 1);
    std::vector<T> state = problem.state;
    GatedDelta<T> a = problem.Arguments();
    for (size_t begin = 0; begin < shape.length;) {
      const size_t length = begin == 0 ? kPrompt : 1;
      a.q = problem.q.view().Rows(begin, length);
      a.k = problem.k.view().Rows(begin, length);
      a.v = problem.v.view().Rows(begin, length);
      a.beta = problem.beta.view().Rows(begin, length);
      a.log_decay = problem.log_decay.view().Rows(begin, length);
      GatedDeltaForward(a, state.data(), o.view().Rows(begin, length), nullptr);
      begin += length;
    }
    ExpectNear(expected.o, o.Values(), bound, bound, "o");
    ExpectNear(expected.state, state, bound, bound, "state");
  });
}

// More heads than are taken at a time, in widths of whole vectors and others:
// each gets what it gets alone.
TYPED_TEST(GatedDeltaTest, StepTakesATokenOfEachHead) {
  using T = TypeParam;
  const Shape shapes[] = {{19, 24, 64, 1, Decay::kVector},
                          {19, 5, 71, 1, Decay::kScalar, Strength::kResets},
                          {8, 16, 3, 1, Decay::kNone},
                          {1, 33, 128, 1, Decay::kVector, Strength::kResets}};
  const double bound = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(Describe(shape));
    const Problem<T> problem(shape);
    const size_t heads = shape.length, size = shape.key_dim * shape.value_dim;
    const std::vector<T> before = RandomValues<T>(heads * size, 11);
    Values expected_o, expected_states;
    for (size_t h = 0; h < heads; ++h) {
      Shape one = shape;
      one.length = 1;
      Problem<T> head(one);
      const auto copy_row = [h](const TestMatrix<T>& from, TestMatrix<T>* to) {
        for (size_t c = 0; c < to->view().cols; ++c) {
          to->view()(0, c) = from.view()(h, c);
        }
      };
      copy_row(problem.q, &head.q);
      copy_row(problem.k, &head.k);
      copy_row(problem.v, &head.v);
      copy_row(problem.beta, &head.beta);
      copy_row(problem.log_decay, &head.log_decay);
      head.state.assign(before.begin() + h * size,
                        before.begin() + (h + 1) * size);
      const Oracle<T> oracle(head);
      expected_o.insert(expected_o.end(), oracle.outs.begin(),
                        oracle.outs.end());
      expected_states.insert(expected_states.end(),
                             oracle.states.back().begin(),
                             oracle.states.back().end());
    }
    ForEachSimdTarget([&] {
      TestMatrix<T> o(heads, shape.value_dim, 3, 99);
      std::vector<T> states = before;
      GatedDeltaStep(problem.Arguments(), states.data(), o.view());
      EXPECT_TRUE(o.GapsIntact());
      ExpectNear(expected_o, o.Values(), bound, bound, "o");
      ExpectNear(expected_states, states, bound, bound, "states");
      for (size_t h = 0; h < heads; ++h) {
        GatedDelta<T> a = problem.Arguments();
        for (MatrixView<const T>* rows :
             {&a.q, &a.k, &a.v, &a.beta, &a.log_decay}) {
          *rows = rows->Rows(h, 1);
        }
        std::vector<T> state(before.begin() + h * size,
                             before.begin() + (h + 1) * size);
        TestMatrix<T> alone(1, shape.value_dim, 0);
        GatedDeltaForward(a, state.data(), alone.view(), nullptr);
        for (size_t c = 0; c < shape.value_dim; ++c) {
          EXPECT_EQ(alone.view()(0, c), o.view()(h, c));
        }
        for (size_t i = 0; i < size; ++i) {
          ASSERT_EQ(state[i], states[h * size + i]);
        }
      }
    });
  }
}

// The oracle's own gradients against central differences of the definition.
TEST(GatedDeltaGradientTest, OracleMatchesCentralDifferences) {
  for (Decay decay : {Decay::kNone, Decay::kScalar, Decay::kVector}) {
    Problem<double> problem({5, 3, 4, 2, decay});
    SCOPED_TRACE(Describe(problem.shape));
    const Results<double> expected = Oracle<double>(problem).Expected();
    const auto expect = [&](TestMatrix<double>* x, const Values& gradient,
                            const char* what) {
      if (gradient.empty()) return;
      const Values differences =
          CentralDifferences(x, [&] { return Oracle<double>(problem).Loss(); });
      ExpectNear(differences, gradient, 1e-3, 1e-5, what);
    };
    expect(&problem.q, expected.d_q, "d_q");
    expect(&problem.k, expected.d_k, "d_k");
    expect(&problem.v, expected.d_v, "d_v");
    expect(&problem.beta, expected.d_beta, "d_beta");
    expect(&problem.log_decay, expected.d_log_decay, "d_log_decay");
  }
}

// Not even a NaN of a later token is seen.
TYPED_TEST(GatedDeltaTest, NoOutputSeesTheFuture) {
  using T = TypeParam;
  Problem<T> problem({30, 7, 9, 30, Decay::kVector});
  const std::vector<T> expected = Run(problem, T{0}).o;
  constexpr size_t kCut = 21;
  for (TestMatrix<T>* m : {&problem.q, &problem.k, &problem.v, &problem.beta,
                           &problem.log_decay}) {
    for (size_t t = kCut; t < 30; ++t) {
      for (size_t c = 0; c < m->view().cols; ++c) {
        m->view()(t, c) = std::numeric_limits<T>::quiet_NaN();
      }
    }
  }
  const std::vector<T> actual = Run(problem, T{0}).o;
  for (size_t i = 0; i < kCut * 9; ++i) EXPECT_EQ(actual[i], expected[i]);
  EXPECT_TRUE(std::isnan(actual[kCut * 9]));
}

}  // namespace
}  // namespace mneme::kernels
