// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the additive recurrence share: problems, the kernel's
// results on them, and those of the definition.

#ifndef MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_ORACLE_H_
#define MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_ORACLE_H_

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {

using Values = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

enum class Decay { kNone, kZero, kSlow, kStrong, kResets };

struct Shape {
  size_t length, key_dim, value_dim, chunk;
  Decay decay;
  bool normaliser;
  bool strength = false;
  bool skip = false;
};

inline std::string Describe(const Shape& s) {
  return "length " + std::to_string(s.length) + ", key_dim " +
         std::to_string(s.key_dim) + ", value_dim " +
         std::to_string(s.value_dim) + ", chunk " + std::to_string(s.chunk) +
         ", decay " + std::to_string(static_cast<int>(s.decay)) +
         (s.normaliser ? ", normaliser" : "") +
         (s.strength ? ", strength" : "") + (s.skip ? ", skip" : "");
}

inline Values LogDecays(const Shape& shape) {
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
        d_den(RandomValues<T>(s.normaliser ? s.length : 0, 6)),
        state(RandomValues<T>(StateSize(), 7)),
        d_state(RandomValues<T>(StateSize(), 8)) {
    for (double g : LogDecays(s)) log_decay.push_back(static_cast<T>(g));
    if (s.strength) {
      strength = RandomValues<T>(s.length, 9);
      strength[s.length / 2] = 0;  // writes nothing, but has a gradient
    }
    if (s.skip) skip = {static_cast<T>(-0.7)};
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
    if (shape.strength) a.strength = strength.data();
    if (shape.skip) a.skip = skip.data();
    a.scale = static_cast<T>(scale);
    a.chunk = shape.chunk;
    a.normaliser = shape.normaliser;
    return a;
  }

  Shape shape;
  double scale = 0.3;
  TestMatrix<T> q, k, v, d_o;
  std::vector<T> log_decay, d_den, state, d_state;
  std::vector<T> strength, skip;  // empty: none
};

// What forward and backward return, for one number type.
template <typename T>
struct Results {
  std::vector<T> o, den, state, saved;
  std::vector<T> d_q, d_k, d_v, d_log_decay, d_strength, d_skip, d_state;
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

// Adds the gradients to outputs that hold `initial`. An empty p.d_den is passed
// as null.
template <typename T>
void Backward(const Problem<T>& p, T initial, Results<T>* r) {
  const Shape& s = p.shape;
  TestMatrix<T> d_q(s.length, s.key_dim, 3, initial);
  TestMatrix<T> d_k(s.length, s.key_dim, 2, initial);
  TestMatrix<T> d_v(s.length, s.value_dim, 1, initial);
  r->d_log_decay.assign(s.decay == Decay::kNone ? 0 : s.length, initial);
  r->d_strength.assign(p.strength.size(), initial);
  r->d_skip.assign(p.skip.size(), initial);
  r->d_state = p.d_state;
  AdditiveRecurrenceGradients<T> gradients;
  gradients.d_q = d_q.view();
  gradients.d_k = d_k.view();
  gradients.d_v = d_v.view();
  if (s.decay != Decay::kNone) gradients.d_log_decay = r->d_log_decay.data();
  if (s.strength) gradients.d_strength = r->d_strength.data();
  if (s.skip) gradients.d_skip = r->d_skip.data();
  AdditiveRecurrenceBackward(p.Arguments(), r->saved.data(), p.d_o.view(),
                             p.d_den.empty() ? nullptr : p.d_den.data(),
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
                                  Strength(t) * p.k.view()(t, i) * Value(t, c);
          out[c] += p.scale * p.q.view()(t, i) * next[i * columns + c];
        }
      }
      for (size_t c = 0; c < p.shape.value_dim; ++c)
        out[c] += Skip() * Value(t, c);
      states.push_back(next);
      outs.push_back(out);
    }
  }

  double Factor(size_t t) const {
    return p.shape.decay == Decay::kNone ? 1.0
                                         : std::exp(double{p.log_decay[t]});
  }
  double Strength(size_t t) const {
    return p.strength.empty() ? 1.0 : double{p.strength[t]};
  }
  double Skip() const { return p.skip.empty() ? 0.0 : double{p.skip[0]}; }
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
    r.d_strength.resize(p.strength.size());
    r.d_skip.resize(p.skip.size());
    Values z = Unpack(p.d_state);
    for (size_t t = s.length; t-- > 0;) {
      double d_g = 0, d_b = 0;
      for (size_t c = 0; c < s.value_dim; ++c) {
        r.d_v[t * s.value_dim + c] += Skip() * OutGradient(t, c);
        if (s.skip) r.d_skip[0] += OutGradient(t, c) * Value(t, c);
      }
      for (size_t i = 0; i < keys; ++i) {
        for (size_t c = 0; c < columns; ++c) {
          const double d_out = OutGradient(t, c);
          double& d_s = z[i * columns + c];
          d_s += p.scale * p.q.view()(t, i) * d_out;
          r.d_q[t * keys + i] +=
              p.scale * states[t + 1][i * columns + c] * d_out;
          r.d_k[t * keys + i] += Strength(t) * d_s * Value(t, c);
          d_b += p.k.view()(t, i) * d_s * Value(t, c);
          if (c < s.value_dim) {
            r.d_v[t * s.value_dim + c] += d_s * Strength(t) * p.k.view()(t, i);
          }
          d_g += Factor(t) * d_s * states[t][i * columns + c];
          d_s *= Factor(t);
        }
      }
      if (s.decay != Decay::kNone) r.d_log_decay[t] = d_g;
      if (s.strength) r.d_strength[t] = d_b;
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
  ExpectNear(expected.d_strength, actual.d_strength, relative, absolute,
             "d_strength");
  ExpectNear(expected.d_skip, actual.d_skip, relative, 20 * relative, "d_skip");
  ExpectNear(expected.d_state, actual.d_state, relative, absolute, "d_state");
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_ORACLE_H_
