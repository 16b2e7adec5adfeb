// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/additive_recurrence_oracle.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

template <typename T>
class AdditiveRecurrenceEdgeTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(AdditiveRecurrenceEdgeTest, NumberTypes);

// Each gradient alone equals that among all; so do the outputs when nothing is
// saved and no den is asked for.
TYPED_TEST(AdditiveRecurrenceEdgeTest, OutputsMayBeUnwanted) {
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

// Row h of everything as the only token, from a state: what a call for one head
// gives.
template <typename T>
void StepAlone(AdditiveRecurrence<T> a, size_t h, T* state, MatrixView<T> o,
               T* den) {
  for (MatrixView<const T>* rows : {&a.q, &a.k, &a.v}) *rows = rows->Rows(h, 1);
  for (const T** numbers : {&a.log_decay, &a.strength, &a.skip}) {
    if (*numbers != nullptr) *numbers += h;
  }
  AdditiveRecurrenceForward(a, state, o, den, nullptr);
}

// Many heads at a time are each of them alone; more than are prepared at once,
// of every width of strips, and sharing a query and a key.
TYPED_TEST(AdditiveRecurrenceEdgeTest, StepTakesATokenOfEachHead) {
  using T = TypeParam;
  for (const Shape& shape : {Shape{19, 24, 64, 1, Decay::kSlow, false},
                             Shape{19, 5, 143, 1, Decay::kResets, true},
                             Shape{8, 17, 3, 1, Decay::kNone, true},
                             Shape{1, 33, 128, 1, Decay::kSlow, false}}) {
    for (bool divides : {false, true}) {
      for (bool mamba : {false, true}) {
        SCOPED_TRACE(Describe(shape) + (divides ? ", divides" : "") +
                     (mamba ? ", shared keys, strengths and skips" : ""));
        const Problem<T> problem(shape);
        const size_t heads = shape.length, size = problem.StateSize();
        AdditiveRecurrence<T> a = problem.Arguments();
        a.elu_features = shape.normaliser && divides;
        a.divide = shape.normaliser && divides;
        a.eps = T{0.25};
        const std::vector<T> strength = RandomValues<T>(heads, 12),
                             skip = RandomValues<T>(heads, 13);
        if (mamba) {
          a.q.stride = a.k.stride = 0;
          a.strength = strength.data();
          a.skip = skip.data();
        }
        std::vector<T> before = RandomValues<T>(heads * size, 11);
        for (T& x : before) x = std::abs(x);  // so are denominators
        ForEachSimdTarget([&] {
          TestMatrix<T> o(heads, shape.value_dim, 3, 99);
          std::vector<T> states = before;
          std::vector<T> den(heads, 99);
          AdditiveRecurrenceStep(a, states.data(), o.view(),
                                 shape.normaliser ? den.data() : nullptr);
          EXPECT_TRUE(o.GapsIntact());
          for (size_t h = 0; h < heads; ++h) {
            std::vector<T> state(before.begin() + h * size,
                                 before.begin() + (h + 1) * size);
            TestMatrix<T> alone(1, shape.value_dim, 0);
            T den_alone = 99;
            StepAlone(a, h, state.data(), alone.view(),
                      shape.normaliser ? &den_alone : nullptr);
            EXPECT_EQ(den_alone, den[h]);
            EXPECT_EQ(state, std::vector<T>(states.begin() + h * size,
                                            states.begin() + (h + 1) * size));
            for (size_t c = 0; c < shape.value_dim; ++c) {
              EXPECT_EQ(alone.view()(0, c), o.view()(h, c));
            }
          }
          // Nobody need want denominators.
          TestMatrix<T> again(heads, shape.value_dim, 0);
          states = before;
          AdditiveRecurrenceStep(a, states.data(), again.view(), nullptr);
          EXPECT_EQ(again.Values(), o.Values());
        });
      }
    }
  }
}

// Features on the way in and a quotient on the way out are those that would be
// computed apart, also where a chunk has several tiles.
TYPED_TEST(AdditiveRecurrenceEdgeTest, FeaturesAndQuotient) {
  using T = TypeParam;
  constexpr T kEps = 0.25;
  for (size_t chunk : {1, 16, 100, 200}) {
    for (size_t length : {1, 17, 150}) {
      Problem<T> raw({length, 5, 9, chunk, Decay::kSlow, true});
      Problem<T> features = raw;
      for (TestMatrix<T>* m : {&features.q, &features.k}) {
        for (size_t t = 0; t < length; ++t) {
          for (size_t c = 0; c < 5; ++c) {
            T& x = m->view()(t, c);
            x = x > 0 ? x + 1 : std::exp(x);
          }
        }
      }
      ForEachSimdTarget([&] {
        const Results<T> expected = Forward(features);
        AdditiveRecurrence<T> a = raw.Arguments();
        a.elu_features = true;
        a.divide = true;
        a.eps = kEps;
        TestMatrix<T> o(length, 9, 0);
        std::vector<T> state = raw.state, den(length);
        AdditiveRecurrenceForward(a, state.data(), o.view(), den.data(),
                                  nullptr);
        const T bound = 100 * std::numeric_limits<T>::epsilon();
        for (size_t t = 0; t < length; ++t) {
          EXPECT_NEAR(den[t], expected.den[t],
                      bound * (1 + std::abs(expected.den[t])));
          for (size_t c = 0; c < 9; ++c) {
            const T numerator = expected.o[t * 9 + c];
            EXPECT_NEAR(o.view()(t, c) * (den[t] + kEps), numerator,
                        bound * (10 + std::abs(numerator)));
          }
        }
      });
    }
  }
}

// A null gradient by den is zero, even if that by the final state is not.
TYPED_TEST(AdditiveRecurrenceEdgeTest, DenGradientMayBeNull) {
  for (size_t chunk : {1, 64}) {
    Problem<TypeParam> zero({70, 5, 8, chunk, Decay::kSlow, true});
    zero.d_den.assign(zero.d_den.size(), 0);
    Problem<TypeParam> null = zero;
    null.d_den.clear();
    ForEachSimdTarget([&] {
      Results<TypeParam> expected = Forward(zero);
      Results<TypeParam> actual = expected;
      Backward(zero, TypeParam{0}, &expected);
      Backward(null, TypeParam{0}, &actual);
      EXPECT_EQ(actual.d_q, expected.d_q);
      EXPECT_EQ(actual.d_k, expected.d_k);
      EXPECT_EQ(actual.d_v, expected.d_v);
      EXPECT_EQ(actual.d_log_decay, expected.d_log_decay);
      EXPECT_EQ(actual.d_state, expected.d_state);
    });
  }
}

// What stands before a log decay of -inf does not matter, not even slightly.
TYPED_TEST(AdditiveRecurrenceEdgeTest, HardResetForgetsExactly) {
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
TYPED_TEST(AdditiveRecurrenceEdgeTest, IsCausal) {
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
TYPED_TEST(AdditiveRecurrenceEdgeTest, StatesMayBeZero) {
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

TYPED_TEST(AdditiveRecurrenceEdgeTest, DimensionsMayBeZero) {
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
