// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/additive_recurrence.h"

#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "attention/kernels/additive_recurrence_oracle.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

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
    // With strengths and skips, all that has to do with them.
    {1, 5, 7, 64, Decay::kSlow, false, true, true},
    {7, 5, 3, 1, Decay::kResets, true, true, false},
    {9, 2, 40, 1, Decay::kSlow, false, true, true},
    {65, 16, 48, 64, Decay::kSlow, false, true, true},
    {64, 32, 32, 32, Decay::kNone, false, false, true},
    {63, 8, 24, 1000, Decay::kResets, true, true, false},
    {150, 9, 18, 129, Decay::kSlow, false, true, true},
    {210, 33, 4, 1000, Decay::kStrong, false, true, true},
};

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
  for (const Shape& shape :
       {Shape{5, 3, 4, 1, Decay::kSlow, true},
        Shape{5, 3, 4, 2, Decay::kZero, true},
        Shape{6, 4, 2, 64, Decay::kStrong, true},
        Shape{6, 2, 3, 4, Decay::kNone, false},
        Shape{6, 3, 4, 4, Decay::kSlow, true, true, false},
        Shape{5, 3, 4, 64, Decay::kZero, false, true, true},
        Shape{5, 3, 4, 1, Decay::kSlow, false, true, true}}) {
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
    expect_gradient(all(&problem.strength), actual.d_strength, "d_strength");
    expect_gradient(all(&problem.skip), actual.d_skip, "d_skip");
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
    for (bool skip : {false, true}) {
      const Shape shape{150, 7, 21, chunk, Decay::kSlow, !skip, true, skip};
      SCOPED_TRACE(Describe(shape));
      const Problem<TypeParam> problem(shape);
      Results<double> expected = Oracle<TypeParam>(problem).Expected();
      for (Values* values :
           {&expected.d_q, &expected.d_k, &expected.d_v, &expected.d_log_decay,
            &expected.d_strength, &expected.d_skip}) {
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
        EXPECT_EQ(first.d_strength, second.d_strength);
        EXPECT_EQ(first.d_skip, second.d_skip);
        EXPECT_EQ(first.d_state, second.d_state);
      });
    }
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

}  // namespace
}  // namespace mneme::kernels
