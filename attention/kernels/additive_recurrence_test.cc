// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/additive_recurrence.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Values = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

enum class Decay { kNone, kZero, kSlow, kStrong, kResets };

struct Shape {
  size_t length, key_dim, value_dim, chunk;
  Decay decay;
  bool normaliser;
};

std::string Describe(const Shape& s) {
  return "length " + std::to_string(s.length) + ", key_dim " +
         std::to_string(s.key_dim) + ", value_dim " +
         std::to_string(s.value_dim) + ", chunk " + std::to_string(s.chunk) +
         ", decay " + std::to_string(static_cast<int>(s.decay)) +
         (s.normaliser ? ", normaliser" : "");
}

// Every way to cut a sequence: recurrent, parallel, chunks that do and do not
// divide the length, that are not whole tiles or vectors, a last chunk of one
// token, and several tiles in a chunk.
const Shape kShapes[] = {
    {1, 32, 32, 64, Decay::kSlow, true},
    {1, 3, 70, 1, Decay::kSlow, true},
    {2, 1, 1, 64, Decay::kNone, false},
    {7, 5, 3, 1, Decay::kResets, true},
    {17, 33, 65, 1, Decay::kNone, false},
    {9, 2, 4, 2, Decay::kStrong, true},
    {64, 32, 32, 64, Decay::kNone, true},
    {64, 32, 32, 32, Decay::kSlow, false},
    {65, 16, 48, 64, Decay::kSlow, true},
    {63, 8, 24, 1000, Decay::kResets, true},
    {100, 153, 33, 16, Decay::kZero, true},
    {130, 20, 7, 130, Decay::kSlow, true},
    {200, 6, 10, 200, Decay::kSlow, true},
    {150, 9, 18, 129, Decay::kResets, false},
    {210, 4, 4, 1000, Decay::kStrong, false},
    {140, 12, 130, 70, Decay::kNone, true},
};

Values LogDecays(const Shape& shape) {
  const Values noise = RandomValues<double>(shape.length, 5);
  Values g(shape.length);
  for (size_t t = 0; t < g.size(); ++t) {
    switch (shape.decay) {
      case Decay::kNone:
        break;
      case Decay::kZero:
        break;
      case Decay::kSlow:
        g[t] = -0.03 * std::abs(noise[t]);
        break;
      case Decay::kStrong:
        g[t] = t % 3 == 0 ? 0 : t % 3 == 1 ? -20 - noise[t] : -1e-3;
        break;
      case Decay::kResets:
        g[t] = t % 5 == 3 ? -kInfinity : -0.1 * std::abs(noise[t]);
        break;
    }
  }
  return g;
}

// The inputs and incoming gradients of one sequence. Rows lie apart and start
// unaligned.
template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        q(TestMatrix<T>::Random(s.length, s.key_dim, 3, 1)),
        k(TestMatrix<T>::Random(s.length, s.key_dim, 5, 2)),
        v(TestMatrix<T>::Random(s.length, s.value_dim, 1, 3)),
        d_o(TestMatrix<T>::Random(s.length, s.value_dim, 2, 4)),
        d_den(RandomValues<T>(s.length, 6)),
        state(RandomValues<T>(StateSize(), 7)),
        d_state(RandomValues<T>(StateSize(), 8)) {
    for (double g : LogDecays(s)) log_decay.push_back(static_cast<T>(g));
  }

  size_t StateSize() const {
    return AdditiveStateSize(shape.key_dim, shape.value_dim, shape.normaliser);
  }
  size_t SavedSize() const {
    return AdditiveSavedSize(shape.length, shape.chunk, StateSize());
  }

  AdditiveRecurrence<T> Arguments() const {
    AdditiveRecurrence<T> a;
    a.q = q.view();
    a.k = k.view();
    a.v = v.view();
    a.log_decay = shape.decay == Decay::kNone ? nullptr : log_decay.data();
    a.scale = static_cast<T>(scale);
    a.chunk = shape.chunk;
    a.normaliser = shape.normaliser;
    return a;
  }

  Shape shape;
  double scale = 0.3;
  TestMatrix<T> q, k, v, d_o;
  std::vector<T> log_decay, d_den, state, d_state;
};

// What forward and backward return, for one number type.
template <typename T>
struct Results {
  std::vector<T> o, den, state, saved;
  std::vector<T> d_q, d_k, d_v, d_log_decay, d_state;
};

template <typename T>
Results<T> Forward(const Problem<T>& p) {
  const Shape& s = p.shape;
  Results<T> r;
  TestMatrix<T> o(s.length, s.value_dim, 3, 99);
  r.den.assign(s.normaliser ? s.length : 0, 99);
  r.state = p.state;
  r.saved.assign(p.SavedSize(), 99);
  AdditiveRecurrenceForward(p.Arguments(), r.state.data(), o.view(),
                            s.normaliser ? r.den.data() : nullptr,
                            r.saved.data());
  EXPECT_TRUE(o.GapsIntact());
  r.o = o.Values();
  return r;
}

// Adds the gradients to outputs that hold `initial`.
template <typename T>
void Backward(const Problem<T>& p, T initial, Results<T>* r) {
  const Shape& s = p.shape;
  TestMatrix<T> d_q(s.length, s.key_dim, 3, initial);
  TestMatrix<T> d_k(s.length, s.key_dim, 2, initial);
  TestMatrix<T> d_v(s.length, s.value_dim, 1, initial);
  r->d_log_decay.assign(s.decay == Decay::kNone ? 0 : s.length, initial);
  r->d_state = p.d_state;
  AdditiveRecurrenceGradients<T> gradients;
  gradients.d_q = d_q.view();
  gradients.d_k = d_k.view();
  gradients.d_v = d_v.view();
  if (s.decay != Decay::kNone) gradients.d_log_decay = r->d_log_decay.data();
  AdditiveRecurrenceBackward(p.Arguments(), r->saved.data(), p.d_o.view(),
                             s.normaliser ? p.d_den.data() : nullptr,
                             r->d_state.data(), gradients);
  EXPECT_TRUE(d_q.GapsIntact() && d_k.GapsIntact() && d_v.GapsIntact());
  r->d_q = d_q.Values();
  r->d_k = d_k.Values();
  r->d_v = d_v.Values();
}

// The definition, token by token in double: states[t] is the one before token
// t, with z in column value_dim.
template <typename T>
struct Oracle {
  explicit Oracle(const Problem<T>& problem)
      : p(problem),
        keys(p.shape.key_dim),
        columns(p.shape.value_dim + (p.shape.normaliser ? 1 : 0)) {
    states.push_back(Unpack(p.state));
    for (size_t t = 0; t < p.shape.length; ++t) {
      Values next(keys * columns);
      Values out(columns);
      for (size_t i = 0; i < keys; ++i) {
        for (size_t c = 0; c < columns; ++c) {
          next[i * columns + c] = Factor(t) * states[t][i * columns + c] +
                                  double{p.k.view()(t, i)} * Value(t, c);
          out[c] += p.scale * p.q.view()(t, i) * next[i * columns + c];
        }
      }
      states.push_back(next);
      outs.push_back(out);
    }
  }

  double Factor(size_t t) const {
    return p.shape.decay == Decay::kNone ? 1.0
                                         : std::exp(double{p.log_decay[t]});
  }
  double Value(size_t t, size_t c) const {
    return c == p.shape.value_dim ? 1.0 : p.v.view()(t, c);
  }
  double OutGradient(size_t t, size_t c) const {
    return c == p.shape.value_dim ? p.d_den[t] : p.d_o.view()(t, c);
  }

  // From and to the kernel's order of a state.
  Values Unpack(const std::vector<T>& state) const {
    Values s(keys * columns);
    for (size_t i = 0; i < keys; ++i) {
      for (size_t c = 0; c < columns; ++c) {
        s[i * columns + c] = c == p.shape.value_dim
                                 ? state[keys * p.shape.value_dim + i]
                                 : state[i * p.shape.value_dim + c];
      }
    }
    return s;
  }
  void Pack(const Values& state, Values* to) const {
    for (size_t i = 0; i < keys; ++i) {
      for (size_t c = 0; c < p.shape.value_dim; ++c) {
        to->push_back(state[i * columns + c]);
      }
    }
    for (size_t i = 0; p.shape.normaliser && i < keys; ++i) {
      to->push_back(state[i * columns + p.shape.value_dim]);
    }
  }

  Results<double> Expected() const {
    const Shape& s = p.shape;
    Results<double> r;
    for (const Values& out : outs) {
      r.o.insert(r.o.end(), out.begin(), out.begin() + s.value_dim);
      if (s.normaliser) r.den.push_back(out.back());
    }
    Pack(states.back(), &r.state);
    for (size_t t = 0; t < s.length; t += s.chunk) Pack(states[t], &r.saved);
    r.d_q.resize(s.length * keys);
    r.d_k.resize(s.length * keys);
    r.d_v.resize(s.length * s.value_dim);
    r.d_log_decay.resize(s.decay == Decay::kNone ? 0 : s.length);
    Values z = Unpack(p.d_state);
    for (size_t t = s.length; t-- > 0;) {
      double d_g = 0;
      for (size_t i = 0; i < keys; ++i) {
        for (size_t c = 0; c < columns; ++c) {
          const double d_out = OutGradient(t, c);
          double& d_s = z[i * columns + c];
          d_s += p.scale * p.q.view()(t, i) * d_out;
          r.d_q[t * keys + i] +=
              p.scale * states[t + 1][i * columns + c] * d_out;
          r.d_k[t * keys + i] += d_s * Value(t, c);
          if (c < s.value_dim) {
            r.d_v[t * s.value_dim + c] += d_s * p.k.view()(t, i);
          }
          d_g += Factor(t) * d_s * states[t][i * columns + c];
          d_s *= Factor(t);
        }
      }
      if (s.decay != Decay::kNone) r.d_log_decay[t] = d_g;
    }
    Pack(z, &r.d_state);
    return r;
  }

  // The function that the gradients are those of.
  double Loss() const {
    double loss = 0;
    for (size_t t = 0; t < outs.size(); ++t) {
      for (size_t c = 0; c < columns; ++c) {
        loss += outs[t][c] * OutGradient(t, c);
      }
    }
    const Values d_state = Unpack(p.d_state);
    for (size_t i = 0; i < d_state.size(); ++i) {
      loss += states.back()[i] * d_state[i];
    }
    return loss;
  }

  const Problem<T>& p;
  size_t keys, columns;
  std::vector<Values> states, outs;
};

template <typename T>
void ExpectForward(const Results<double>& expected, const Results<T>& actual) {
  const double relative = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  ExpectNear(expected.o, actual.o, relative, relative, "o");
  ExpectNear(expected.den, actual.den, relative, relative, "den");
  ExpectNear(expected.state, actual.state, relative, relative, "state");
  ExpectNear(expected.saved, actual.saved, relative, relative, "saved");
}

template <typename T>
void ExpectBackward(const Results<double>& expected, const Results<T>& actual) {
  const double relative = std::is_same<T, float>::value ? 2e-4 : 1e-12;
  const double absolute = 5 * relative;
  ExpectNear(expected.d_q, actual.d_q, relative, absolute, "d_q");
  ExpectNear(expected.d_k, actual.d_k, relative, absolute, "d_k");
  ExpectNear(expected.d_v, actual.d_v, relative, absolute, "d_v");
  ExpectNear(expected.d_log_decay, actual.d_log_decay, relative, 20 * relative,
             "d_log_decay");
  ExpectNear(expected.d_state, actual.d_state, relative, absolute, "d_state");
}

template <typename T>
class AdditiveRecurrenceTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(AdditiveRecurrenceTest, NumberTypes);

TYPED_TEST(AdditiveRecurrenceTest, MatchesTheDefinition) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(Describe(shape));
    const Problem<TypeParam> problem(shape);
    const Results<double> expected = Oracle<TypeParam>(problem).Expected();
    ForEachSimdTarget([&] {
      Results<TypeParam> actual = Forward(problem);
      ExpectForward(expected, actual);
      Backward(problem, TypeParam{0}, &actual);
      ExpectBackward(expected, actual);
    });
  }
}

// The oracle's own gradients, and the kernel's, against central differences of
// the definition.
TEST(AdditiveRecurrenceGradientTest, MatchesCentralDifferences) {
  for (const Shape& shape : {Shape{5, 3, 4, 1, Decay::kSlow, true},
                             Shape{5, 3, 4, 2, Decay::kZero, true},
                             Shape{6, 4, 2, 64, Decay::kStrong, true},
                             Shape{6, 2, 3, 4, Decay::kNone, false}}) {
    SCOPED_TRACE(Describe(shape));
    Problem<double> problem(shape);
    Results<double> actual = Forward(problem);
    Backward(problem, 0.0, &actual);
    const auto expect_gradient = [&](const std::vector<double*>& inputs,
                                     const Values& gradient, const char* what) {
      Values differences;
      for (double* x : inputs) {
        constexpr double kStep = 1e-6;
        const double original = *x;
        *x = original + kStep;
        const double above = Oracle<double>(problem).Loss();
        *x = original - kStep;
        const double below = Oracle<double>(problem).Loss();
        *x = original;
        differences.push_back((above - below) / (2 * kStep));
      }
      ExpectNear(differences, gradient, 1e-3, 1e-5, what);
    };
    const auto entries = [](TestMatrix<double>* m) {
      std::vector<double*> result;
      for (size_t r = 0; r < m->view().rows; ++r) {
        for (size_t c = 0; c < m->view().cols; ++c) {
          result.push_back(&m->view()(r, c));
        }
      }
      return result;
    };
    const auto all = [](Values* values) {
      std::vector<double*> result;
      for (double& value : *values) result.push_back(&value);
      return result;
    };
    expect_gradient(entries(&problem.q), actual.d_q, "d_q");
    expect_gradient(entries(&problem.k), actual.d_k, "d_k");
    expect_gradient(entries(&problem.v), actual.d_v, "d_v");
    expect_gradient(all(&problem.state), actual.d_state, "d_state");
    if (shape.decay != Decay::kNone) {
      expect_gradient(all(&problem.log_decay), actual.d_log_decay,
                      "d_log_decay");
    }
  }
}

// With positive inputs nothing cancels but what an implementation subtracts,
// so the gradients by decays of e^-20 must be right relative to themselves.
TYPED_TEST(AdditiveRecurrenceTest, GradientOfStrongDecayIsRelativelyExact) {
  for (size_t chunk : {1, 16, 64, 100, 200}) {
    const Shape shape{200, 8, 12, chunk, Decay::kStrong, true};
    SCOPED_TRACE(Describe(shape));
    Problem<TypeParam> problem(shape);
    for (TestMatrix<TypeParam>* m :
         {&problem.q, &problem.k, &problem.v, &problem.d_o}) {
      for (size_t r = 0; r < m->view().rows; ++r) {
        for (size_t c = 0; c < m->view().cols; ++c) {
          m->view()(r, c) = std::abs(m->view()(r, c));
        }
      }
    }
    for (auto* values : {&problem.d_den, &problem.state, &problem.d_state}) {
      for (TypeParam& value : *values) value = std::abs(value);
    }
    // Any decay between none and e^-80, of which float keeps all.
    for (size_t t = 0; t < shape.length; ++t) {
      problem.log_decay[t] = t % 4 == 1 ? -20 : t % 7 == 0 ? -60 : -0.1;
    }
    const Results<double> expected = Oracle<TypeParam>(problem).Expected();
    ForEachSimdTarget([&] {
      Results<TypeParam> actual = Forward(problem);
      Backward(problem, TypeParam{0}, &actual);
      const double relative =
          std::is_same<TypeParam, float>::value ? 2e-5 : 1e-12;
      ExpectNear(expected.d_log_decay, actual.d_log_decay, relative, 0,
                 "d_log_decay");
    });
  }
}

TYPED_TEST(AdditiveRecurrenceTest, AddsGradientsAndRepeatsBitEqual) {
  for (size_t chunk : {1, 32, 150}) {
    const Shape shape{150, 7, 21, chunk, Decay::kSlow, true};
    SCOPED_TRACE(Describe(shape));
    const Problem<TypeParam> problem(shape);
    Results<double> expected = Oracle<TypeParam>(problem).Expected();
    for (Values* values :
         {&expected.d_q, &expected.d_k, &expected.d_v, &expected.d_log_decay}) {
      for (double& value : *values) value += 5;
    }
    ForEachSimdTarget([&] {
      Results<TypeParam> first = Forward(problem);
      Backward(problem, TypeParam{5}, &first);
      ExpectBackward(expected, first);
      Results<TypeParam> second = Forward(problem);
      Backward(problem, TypeParam{5}, &second);
      EXPECT_EQ(first.o, second.o);
      EXPECT_EQ(first.den, second.den);
      EXPECT_EQ(first.state, second.state);
      EXPECT_EQ(first.d_q, second.d_q);
      EXPECT_EQ(first.d_k, second.d_k);
      EXPECT_EQ(first.d_v, second.d_v);
      EXPECT_EQ(first.d_log_decay, second.d_log_decay);
      EXPECT_EQ(first.d_state, second.d_state);
    });
  }
}

// Each gradient alone equals that among all; so do the outputs when nothing is
// saved and no den is asked for.
TYPED_TEST(AdditiveRecurrenceTest, OutputsMayBeUnwanted) {
  using T = TypeParam;
  for (size_t chunk : {1, 16, 100}) {
    const Shape shape{100, 5, 9, chunk, Decay::kSlow, true};
    const Problem<T> problem(shape);
    ForEachSimdTarget([&] {
      Results<T> all = Forward(problem);
      Backward(problem, T{0}, &all);

      TestMatrix<T> o(shape.length, shape.value_dim, 0);
      std::vector<T> state = problem.state;
      AdditiveRecurrenceForward(problem.Arguments(), state.data(), o.view(),
                                nullptr, nullptr);
      EXPECT_EQ(o.Values(), all.o);
      EXPECT_EQ(state, all.state);

      for (int wanted = 0; wanted < 5; ++wanted) {
        TestMatrix<T> d_q(shape.length, shape.key_dim, 0);
        TestMatrix<T> d_k(shape.length, shape.key_dim, 0);
        TestMatrix<T> d_v(shape.length, shape.value_dim, 0);
        std::vector<T> d_log_decay(shape.length);
        std::vector<T> d_state = problem.d_state;
        AdditiveRecurrenceGradients<T> gradients;
        if (wanted == 1) gradients.d_q = d_q.view();
        if (wanted == 2) gradients.d_k = d_k.view();
        if (wanted == 3) gradients.d_v = d_v.view();
        if (wanted == 4) gradients.d_log_decay = d_log_decay.data();
        AdditiveRecurrenceBackward(problem.Arguments(), all.saved.data(),
                                   problem.d_o.view(), problem.d_den.data(),
                                   d_state.data(), gradients);
        EXPECT_EQ(d_state, all.d_state);
        if (wanted == 1) {
          EXPECT_EQ(d_q.Values(), all.d_q);
        }
        if (wanted == 2) {
          EXPECT_EQ(d_k.Values(), all.d_k);
        }
        if (wanted == 3) {
          EXPECT_EQ(d_v.Values(), all.d_v);
        }
        if (wanted == 4) {
          EXPECT_EQ(d_log_decay, all.d_log_decay);
        }
      }
    });
  }
}

// A null gradient by den is zero, even if that by the final state is not.
TYPED_TEST(AdditiveRecurrenceTest, DenGradientMayBeNull) {
  for (size_t chunk : {1, 64}) {
    Problem<TypeParam> problem({70, 5, 8, chunk, Decay::kSlow, true});
    problem.d_den.assign(problem.d_den.size(), 0);
    ForEachSimdTarget([&] {
      Results<TypeParam> r = Forward(problem);
      Backward(problem, TypeParam{0}, &r);
      std::vector<TypeParam> d_state = problem.d_state;
      AdditiveRecurrenceBackward(problem.Arguments(), r.saved.data(),
                                 problem.d_o.view(), nullptr, d_state.data(),
                                 {});
      EXPECT_EQ(d_state, r.d_state);
    });
  }
}

// A prompt in chunks and then token by token is the whole sequence.
TYPED_TEST(AdditiveRecurrenceTest, PrefillThenDecodeIsPrefill) {
  using T = TypeParam;
  const Shape shape{80, 24, 40, 32, Decay::kSlow, true};
  const Problem<T> problem(shape);
  const Results<double> expected = Oracle<T>(problem).Expected();
  constexpr size_t kPrompt = 71;
  ForEachSimdTarget([&] {
    Results<T> actual;
    TestMatrix<T> o(shape.length, shape.value_dim, 1);
    actual.den.resize(shape.length);
    actual.state = problem.state;
    AdditiveRecurrence<T> a = problem.Arguments();
    for (size_t begin = 0; begin < shape.length;) {
      const size_t length = begin == 0 ? kPrompt : 1;
      a.q = problem.q.view().Rows(begin, length);
      a.k = problem.k.view().Rows(begin, length);
      a.v = problem.v.view().Rows(begin, length);
      a.log_decay = problem.log_decay.data() + begin;
      AdditiveRecurrenceForward(a, actual.state.data(),
                                o.view().Rows(begin, length),
                                actual.den.data() + begin, nullptr);
      begin += length;
    }
    actual.o = o.Values();
    actual.saved = std::vector<T>(expected.saved.begin(), expected.saved.end());
    ExpectForward(expected, actual);
  });
}

// What stands before a log decay of -inf does not matter, not even slightly.
TYPED_TEST(AdditiveRecurrenceTest, HardResetForgetsExactly) {
  using T = TypeParam;
  for (size_t chunk : {1, 16, 64, 200}) {
    const Shape shape{140, 5, 19, chunk, Decay::kSlow, true};
    SCOPED_TRACE(Describe(shape));
    for (size_t reset : {0, 1, 40, 63, 64, 100, 139}) {
      Problem<T> problem(shape);
      problem.log_decay[reset] = -std::numeric_limits<T>::infinity();
      Problem<T> other = problem;
      for (T& value : other.state) value = 1000;
      for (size_t t = 0; t < reset; ++t) {
        for (size_t c = 0; c < shape.key_dim; ++c) other.k.view()(t, c) = 77;
        for (size_t c = 0; c < shape.value_dim; ++c) other.v.view()(t, c) = 99;
      }
      ForEachSimdTarget([&] {
        Results<T> a = Forward(problem);
        Results<T> b = Forward(other);
        for (size_t i = reset * shape.value_dim; i < a.o.size(); ++i) {
          ASSERT_EQ(a.o[i], b.o[i]) << "token " << i / shape.value_dim;
        }
        for (size_t t = reset; t < shape.length; ++t) {
          ASSERT_EQ(a.den[t], b.den[t]);
        }
        EXPECT_EQ(a.state, b.state);
        Backward(problem, T{0}, &a);
        EXPECT_EQ(a.d_log_decay[reset], 0);
        if (reset == 0) {
          EXPECT_EQ(a.d_state, std::vector<T>(a.d_state.size(), 0));
        }
      });
    }
  }
}

// Tokens do not see later ones, even if those are not finite; nor do gradients
// see the gradients of outputs before them.
TYPED_TEST(AdditiveRecurrenceTest, IsCausal) {
  using T = TypeParam;
  for (size_t chunk : {1, 16, 64, 200}) {
    for (size_t bad : {1, 7, 30, 63, 64, 75, 129}) {
      const Shape shape{130, 6, 10, chunk, Decay::kSlow, true};
      SCOPED_TRACE(Describe(shape) + ", bad token " + std::to_string(bad));
      const Problem<T> problem(shape);
      Problem<T> poisoned = problem;
      const T nan = std::numeric_limits<T>::quiet_NaN();
      const T infinity = std::numeric_limits<T>::infinity();
      for (size_t c = 0; c < shape.key_dim; ++c) {
        poisoned.q.view()(bad, c) = infinity;
        poisoned.k.view()(bad, c) = c % 2 == 0 ? nan : infinity;
      }
      for (size_t c = 0; c < shape.value_dim; ++c) {
        poisoned.v.view()(bad, c) = c % 2 == 0 ? infinity : nan;
      }
      poisoned.log_decay[bad] = nan;
      Problem<T> poisoned_gradient = problem;
      for (size_t c = 0; c < shape.value_dim; ++c) {
        poisoned_gradient.d_o.view()(bad, c) = nan;
      }
      poisoned_gradient.d_den[bad] = nan;
      ForEachSimdTarget([&] {
        Results<T> clean = Forward(problem);
        const Results<T> dirty = Forward(poisoned);
        for (size_t i = 0; i < bad * shape.value_dim; ++i) {
          ASSERT_EQ(clean.o[i], dirty.o[i]) << "token " << i / shape.value_dim;
        }
        for (size_t t = 0; t < bad; ++t) ASSERT_EQ(clean.den[t], dirty.den[t]);

        Backward(problem, T{0}, &clean);
        Results<T> late = clean;
        Backward(poisoned_gradient, T{0}, &late);
        for (size_t t = 0; t < shape.length; ++t) {
          for (size_t c = 0; c < shape.key_dim; ++c) {
            const size_t i = t * shape.key_dim + c;
            if (t != bad) {
              ASSERT_EQ(clean.d_q[i], late.d_q[i]) << t;
            }
            if (t > bad) {
              ASSERT_EQ(clean.d_k[i], late.d_k[i]) << t;
            }
          }
          for (size_t c = 0; t > bad && c < shape.value_dim; ++c) {
            const size_t i = t * shape.value_dim + c;
            ASSERT_EQ(clean.d_v[i], late.d_v[i]) << t;
          }
          if (t > bad) {
            ASSERT_EQ(clean.d_log_decay[t], late.d_log_decay[t]);
          }
        }
      });
    }
  }
}

// Zero states are not read, which must not show.
TYPED_TEST(AdditiveRecurrenceTest, StatesMayBeZero) {
  for (size_t chunk : {1, 32, 64}) {
    for (bool only_s : {false, true}) {
      const Shape shape{64, 4, 8, chunk, Decay::kSlow, true};
      Problem<TypeParam> problem(shape);
      const size_t end =
          only_s ? shape.key_dim * shape.value_dim : problem.state.size();
      std::fill_n(problem.state.begin(), end, TypeParam{0});
      std::fill_n(problem.d_state.begin(), end, TypeParam{0});
      const Results<double> expected = Oracle<TypeParam>(problem).Expected();
      ForEachSimdTarget([&] {
        Results<TypeParam> actual = Forward(problem);
        Backward(problem, TypeParam{0}, &actual);
        ExpectForward(expected, actual);
        ExpectBackward(expected, actual);
      });
    }
  }
}

TYPED_TEST(AdditiveRecurrenceTest, DimensionsMayBeZero) {
  for (const Shape& shape : {Shape{0, 4, 4, 16, Decay::kSlow, true},
                             Shape{0, 4, 4, 1, Decay::kNone, false},
                             Shape{20, 0, 4, 16, Decay::kSlow, true},
                             Shape{20, 0, 4, 1, Decay::kSlow, true},
                             Shape{20, 4, 0, 16, Decay::kSlow, true},
                             Shape{20, 4, 0, 1, Decay::kNone, true}}) {
    SCOPED_TRACE(Describe(shape));
    const Problem<TypeParam> problem(shape);
    const Results<double> expected = Oracle<TypeParam>(problem).Expected();
    ForEachSimdTarget([&] {
      Results<TypeParam> actual = Forward(problem);
      ExpectForward(expected, actual);
      Backward(problem, TypeParam{0}, &actual);
      ExpectBackward(expected, actual);
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
