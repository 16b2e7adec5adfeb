// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/generalized_delta.h"

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

struct Shape {
  size_t length, key_dim, value_dim, chunk;
  Strength strength = Strength::kSlow;
};

// The recurrence, chunks within, at, and beyond the kernel's blocks of 16
// tokens, last blocks of one token, and widths that are not whole vectors.
const Shape kShapes[] = {
    {1, 32, 32, 64},
    {1, 3, 70, 1},
    {2, 1, 1, 64, Strength::kResets},
    {7, 5, 3, 1, Strength::kResets},
    {9, 6, 4, 2, Strength::kStrong},
    {16, 16, 16, 16},
    {17, 33, 65, 1},
    {33, 8, 24, 16, Strength::kZero},
    {64, 32, 32, 64},
    {65, 16, 48, 64},
    {63, 8, 24, 1000, Strength::kStrong},
    {50, 20, 7, 20, Strength::kResets},
};

std::string Describe(const Shape& s) {
  return "length " + std::to_string(s.length) + ", key_dim " +
         std::to_string(s.key_dim) + ", value_dim " +
         std::to_string(s.value_dim) + ", chunk " + std::to_string(s.chunk) +
         ", strength " + std::to_string(static_cast<int>(s.strength));
}

// Rows of the given length.
template <typename T>
void Normalise(double length, TestMatrix<T>* m) {
  const MatrixView<T> view = m->view();
  for (size_t t = 0; t < view.rows; ++t) {
    double square = 0;
    for (size_t c = 0; c < view.cols; ++c) square += std::pow(view(t, c), 2);
    for (size_t c = 0; c < view.cols; ++c) {
      view(t, c) = static_cast<T>(view(t, c) * length / std::sqrt(square));
    }
  }
}

// One sequence and the gradients that come in. What is read for removal and
// written for it has nothing in common but a length at which the recurrence
// stays bounded; rows lie apart and start unaligned.
template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        q(TestMatrix<T>::Random(s.length, s.key_dim, 3, 1)),
        k(TestMatrix<T>::Random(s.length, s.key_dim, 5, 2)),
        v(TestMatrix<T>::Random(s.length, s.value_dim, 1, 3)),
        log_decay(TestMatrix<T>::Random(s.length, s.key_dim, 4, 4)),
        a(TestMatrix<T>::Random(s.length, s.key_dim, 2, 5)),
        b(TestMatrix<T>::Random(s.length, s.key_dim, 1, 6)),
        d_o(TestMatrix<T>::Random(s.length, s.value_dim, 2, 7)),
        state(RandomValues<T>(s.key_dim * s.value_dim, 8)),
        d_state(RandomValues<T>(s.key_dim * s.value_dim, 9)) {
    Normalise(1.0, &a);
    Normalise(0.7, &b);
    for (size_t t = 0; t < s.length; ++t) {
      for (size_t c = 0; c < s.key_dim; ++c) {
        T& g = log_decay.view()(t, c);
        g = static_cast<T>(LogDecay(s.strength, t + c, g));
      }
    }
  }

  // All inputs, in the order of the gradients.
  std::vector<TestMatrix<T>*> Inputs() {
    return {&q, &k, &v, &log_decay, &a, &b};
  }

  GeneralizedDelta<T> Arguments() const { return Arguments(0, shape.length); }
  GeneralizedDelta<T> Arguments(size_t begin, size_t length) const {
    GeneralizedDelta<T> x;
    x.q = q.view().Rows(begin, length);
    x.k = k.view().Rows(begin, length);
    x.v = v.view().Rows(begin, length);
    x.log_decay = log_decay.view().Rows(begin, length);
    x.a = a.view().Rows(begin, length);
    x.b = b.view().Rows(begin, length);
    x.chunk = shape.chunk;
    return x;
  }

  Shape shape;
  TestMatrix<T> q, k, v, log_decay, a, b, d_o;
  std::vector<T> state, d_state;
};

constexpr size_t kInputs = 6;
const char* const kNames[kInputs] = {"d_q",         "d_k", "d_v",
                                     "d_log_decay", "d_a", "d_b"};

template <typename T>
struct Results {
  std::vector<T> o, state, saved, d_state;
  std::vector<T> gradients[kInputs];
};

// The kernel's, with gradients added to outputs that hold `initial`.
template <typename T>
Results<T> Run(const Problem<T>& p, T initial) {
  const Shape& s = p.shape;
  Results<T> r;
  TestMatrix<T> o(s.length, s.value_dim, 3, 99);
  r.state = p.state;
  r.saved.assign(
      GeneralizedDeltaSavedSize(s.length, s.chunk, s.key_dim, s.value_dim), 99);
  GeneralizedDeltaForward(p.Arguments(), r.state.data(), o.view(),
                          r.saved.data());
  EXPECT_TRUE(o.GapsIntact());
  r.o = o.Values();

  std::vector<TestMatrix<T>> out;
  for (size_t i = 0; i < kInputs; ++i) {
    out.emplace_back(s.length, i == 2 ? s.value_dim : s.key_dim, i % 4,
                     initial);
  }
  r.d_state = p.d_state;
  GeneralizedDeltaBackward(p.Arguments(), r.saved.data(), p.d_o.view(),
                           r.d_state.data(),
                           {out[0].view(), out[1].view(), out[2].view(),
                            out[3].view(), out[4].view(), out[5].view()});
  for (size_t i = 0; i < kInputs; ++i) {
    EXPECT_TRUE(out[i].GapsIntact());
    r.gradients[i] = out[i].Values();
  }
  return r;
}

// The definition, token by token in double.
template <typename T>
struct Oracle {
  explicit Oracle(const Problem<T>& problem)
      : p(problem), keys(p.shape.key_dim), values(p.shape.value_dim) {
    states.emplace_back(p.state.begin(), p.state.end());
    for (size_t t = 0; t < p.shape.length; ++t) {
      const Values& before = states[t];
      Values after(keys * values);
      for (size_t c = 0; c < values; ++c) {
        double u = 0, out = 0;
        for (size_t i = 0; i < keys; ++i) {
          u += before[i * values + c] * A(t, i);
        }
        for (size_t i = 0; i < keys; ++i) {
          double& s = after[i * values + c];
          s = Factor(t, i) * before[i * values + c] + B(t, i) * u +
              K(t, i) * V(t, c);
          out += s * Q(t, i);
        }
        reads.push_back(u);
        outs.push_back(out);
      }
      states.push_back(after);
    }
  }

  double Q(size_t t, size_t c) const { return p.q.view()(t, c); }
  double K(size_t t, size_t c) const { return p.k.view()(t, c); }
  double V(size_t t, size_t c) const { return p.v.view()(t, c); }
  double A(size_t t, size_t c) const { return p.a.view()(t, c); }
  double B(size_t t, size_t c) const { return p.b.view()(t, c); }
  double Factor(size_t t, size_t c) const {
    return std::exp(double{p.log_decay.view()(t, c)});
  }

  Results<double> Expected() const {
    const Shape& s = p.shape;
    Results<double> r;
    r.o = outs;
    r.state = states.back();
    for (size_t t = 0; t < s.length; t += s.chunk) {
      r.saved.insert(r.saved.end(), states[t].begin(), states[t].end());
    }
    for (size_t i = 0; i < kInputs; ++i) {
      r.gradients[i].resize(s.length * (i == 2 ? values : keys));
    }
    auto& [d_q, d_k, d_v, d_g, d_a, d_b] = r.gradients;
    Values z(p.d_state.begin(), p.d_state.end());
    for (size_t t = s.length; t-- > 0;) {
      for (size_t c = 0; c < values; ++c) {
        const double d_o = p.d_o.view()(t, c), u = reads[t * values + c];
        double d_u = 0;
        for (size_t i = 0; i < keys; ++i) {
          double& d_s = z[i * values + c];
          const double before = states[t][i * values + c];
          d_q[t * keys + i] += states[t + 1][i * values + c] * d_o;
          d_s += Q(t, i) * d_o;
          d_u += B(t, i) * d_s;
          d_b[t * keys + i] += u * d_s;
          d_k[t * keys + i] += V(t, c) * d_s;
          d_v[t * values + c] += K(t, i) * d_s;
          d_g[t * keys + i] += Factor(t, i) * before * d_s;
        }
        for (size_t i = 0; i < keys; ++i) {
          double& d_s = z[i * values + c];
          d_a[t * keys + i] += states[t][i * values + c] * d_u;
          d_s = Factor(t, i) * d_s + A(t, i) * d_u;
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
  std::vector<Values> states;
  Values reads, outs;
};

template <typename T>
void Expect(const Results<double>& expected, const Results<T>& actual) {
  const double forward = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  ExpectNear(expected.o, actual.o, forward, forward, "o");
  ExpectNear(expected.state, actual.state, forward, forward, "state");
  ExpectNear(expected.saved, actual.saved, forward, forward, "saved");
  const double backward = 5 * forward;
  for (size_t i = 0; i < kInputs; ++i) {
    ExpectNear(expected.gradients[i], actual.gradients[i], backward, backward,
               kNames[i]);
  }
  ExpectNear(expected.d_state, actual.d_state, backward, backward, "d_state");
}

template <typename T>
class GeneralizedDeltaTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(GeneralizedDeltaTest, NumberTypes);

TYPED_TEST(GeneralizedDeltaTest, MatchesTheDefinition) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(Describe(shape));
    const Problem<TypeParam> problem(shape);
    const Results<double> expected = Oracle<TypeParam>(problem).Expected();
    ForEachSimdTarget([&] { Expect(expected, Run(problem, TypeParam{0})); });
  }
}

TYPED_TEST(GeneralizedDeltaTest, AddsToGradients) {
  const Problem<TypeParam> problem({37, 6, 5, 20});
  Results<double> expected = Oracle<TypeParam>(problem).Expected();
  for (Values& gradient : expected.gradients) {
    for (double& x : gradient) x += 3;
  }
  ForEachSimdTarget([&] { Expect(expected, Run(problem, TypeParam{3})); });
}

// A prompt in chunks and then token by token is the whole sequence.
TYPED_TEST(GeneralizedDeltaTest, PrefillThenDecodeIsPrefill) {
  using T = TypeParam;
  const Shape shape{40, 24, 40, 32};
  const Problem<T> problem(shape);
  const Results<double> expected = Oracle<T>(problem).Expected();
  constexpr size_t kPrompt = 35;
  const double bound = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  ForEachSimdTarget([&] {
    TestMatrix<T> o(shape.length, shape.value_dim, 1);
    std::vector<T> state = problem.state;
    for (size_t begin = 0; begin < shape.length;) {
      const size_t length = begin == 0 ? kPrompt : 1;
      GeneralizedDeltaForward(problem.Arguments(begin, length), state.data(),
                              o.view().Rows(begin, length), nullptr);
      begin += length;
    }
    ExpectNear(expected.o, o.Values(), bound, bound, "o");
    ExpectNear(expected.state, state, bound, bound, "state");
  });
}

// More heads than are taken at a time, in widths of whole vectors and others:
// each gets what the definition says and what it gets alone.
TYPED_TEST(GeneralizedDeltaTest, StepTakesATokenOfEachHead) {
  using T = TypeParam;
  const Shape shapes[] = {{19, 24, 64, 1},
                          {19, 5, 71, 1, Strength::kResets},
                          {8, 16, 3, 1, Strength::kStrong},
                          {1, 33, 128, 1, Strength::kResets}};
  const double bound = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(Describe(shape));
    Problem<T> problem(shape);
    const size_t heads = shape.length, size = shape.key_dim * shape.value_dim;
    const std::vector<T> before = RandomValues<T>(heads * size, 11);
    Values expected_o, expected_states;
    for (size_t h = 0; h < heads; ++h) {
      Shape one = shape;
      one.length = 1;
      Problem<T> head(one);
      for (size_t i = 0; i < kInputs; ++i) {
        const MatrixView<T> to = head.Inputs()[i]->view();
        for (size_t c = 0; c < to.cols; ++c) {
          to(0, c) = problem.Inputs()[i]->view()(h, c);
        }
      }
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
      GeneralizedDeltaStep(problem.Arguments(), states.data(), o.view());
      EXPECT_TRUE(o.GapsIntact());
      ExpectNear(expected_o, o.Values(), bound, bound, "o");
      ExpectNear(expected_states, states, bound, bound, "states");
      for (size_t h = 0; h < heads; ++h) {
        std::vector<T> state(before.begin() + h * size,
                             before.begin() + (h + 1) * size);
        TestMatrix<T> alone(1, shape.value_dim, 0);
        GeneralizedDeltaForward(problem.Arguments(h, 1), state.data(),
                                alone.view(), nullptr);
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
TEST(GeneralizedDeltaGradientTest, OracleMatchesCentralDifferences) {
  Problem<double> problem({5, 3, 4, 2});
  const Results<double> expected = Oracle<double>(problem).Expected();
  const std::vector<TestMatrix<double>*> inputs = problem.Inputs();
  for (size_t i = 0; i < kInputs; ++i) {
    const Values differences = CentralDifferences(
        inputs[i], [&] { return Oracle<double>(problem).Loss(); });
    ExpectNear(differences, expected.gradients[i], 1e-3, 1e-5, kNames[i]);
  }
}

// Not even a NaN of a later token is seen.
TYPED_TEST(GeneralizedDeltaTest, NoOutputSeesTheFuture) {
  using T = TypeParam;
  Problem<T> problem({30, 7, 9, 30});
  const std::vector<T> expected = Run(problem, T{0}).o;
  constexpr size_t kCut = 21;
  for (TestMatrix<T>* m : problem.Inputs()) {
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
