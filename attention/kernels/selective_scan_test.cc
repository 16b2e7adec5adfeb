// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/selective_scan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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
  size_t length, channels, state_dim, chunk;
  double step;  // typical size of dt; with a down to -3, strong from 10 on
  size_t padding = 2;  // of the rows of a
};

// One token, with states that are whole vectors and that are not, and that lie
// side by side; chunks that do and do not divide the length, channels that are
// not whole vectors.
const Shape kShapes[] = {
    {1, 16, 16, 32, 0.1},     {1, 333, 11, 32, 0.1},   {1, 333, 12, 32, 0.1},
    {1, 333, 11, 32, 0.1, 0}, {1, 333, 5, 32, 0.1, 0}, {1, 66, 3, 32, 0.1, 0},
    {1, 130, 1, 32, 0.1, 0},  {7, 5, 3, 1, 0.1},       {33, 17, 4, 8, 0.5},
    {64, 40, 16, 32, 0.05},   {50, 33, 5, 1000, 20},   {24, 3, 1, 7, 20}};

template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        x(TestMatrix<T>::Random(s.length, s.channels, 3, 1)),
        dt(TestMatrix<T>::Random(s.length, s.channels, 1, 2, s.step)),
        a(TestMatrix<T>::Random(s.channels, s.state_dim, s.padding, 3)),
        b(TestMatrix<T>::Random(s.length, s.state_dim, 4, 4)),
        c(TestMatrix<T>::Random(s.length, s.state_dim, 5, 5)),
        d_y(TestMatrix<T>::Random(s.length, s.channels, 2, 6)),
        d(RandomValues<T>(s.channels, 7)),
        state(RandomValues<T>(s.state_dim * s.channels, 8)),
        d_state(RandomValues<T>(s.state_dim * s.channels, 9)) {
    for (size_t e = 0; e < s.channels; ++e) {
      for (size_t t = 0; t < s.length; ++t) {
        dt.view()(t, e) = std::abs(dt.view()(t, e));
      }
      for (size_t n = 0; n < s.state_dim; ++n) {
        a.view()(e, n) = -std::abs(a.view()(e, n));
      }
    }
  }

  SelectiveScan<T> Arguments() const {
    SelectiveScan<T> s;
    s.x = x.view();
    s.dt = dt.view();
    s.a = a.view();
    s.b = b.view();
    s.c = c.view();
    s.d = d.data();
    s.chunk = shape.chunk;
    return s;
  }

  Shape shape;
  TestMatrix<T> x, dt, a, b, c, d_y;
  std::vector<T> d, state, d_state;
};

template <typename T>
struct Results {
  std::vector<T> y, state, d_x, d_dt, d_a, d_b, d_c, d_d, d_state;
};

// Adds the gradients to outputs that hold `initial`, first those of the
// channels from `cut` on. Without states, they are null.
template <typename T>
Results<T> Evaluate(const Problem<T>& p, T initial = 0, size_t cut = 0,
                    bool states = true) {
  const Shape& s = p.shape;
  Results<T> r;
  TestMatrix<T> y(s.length, s.channels, 3, 99);
  r.state = p.state;
  std::vector<T> saved(
      SelectiveScanSavedSize(s.length, s.chunk, s.state_dim, s.channels));
  SelectiveScanForward(p.Arguments(), states ? r.state.data() : nullptr,
                       y.view(), saved.data());
  TestMatrix<T> d_x(s.length, s.channels, 3, initial);
  TestMatrix<T> d_dt(s.length, s.channels, 2, initial);
  TestMatrix<T> d_a(s.channels, s.state_dim, 1, initial);
  TestMatrix<T> d_b(s.length, s.state_dim, 2, initial);
  TestMatrix<T> d_c(s.length, s.state_dim, 1, initial);
  r.d_state = p.d_state;
  r.d_d.assign(s.channels, initial);
  SelectiveScan<T> part = p.Arguments();
  for (part.begin = cut;; part.begin = 0, part.end = cut) {
    SelectiveScanBackward(part, saved.data(), p.d_y.view(),
                          states ? r.d_state.data() : nullptr,
                          {d_x.view(), d_dt.view(), d_a.view(), d_b.view(),
                           d_c.view(), r.d_d.data()});
    if (part.begin == 0) break;
  }
  EXPECT_TRUE(y.GapsIntact() && d_x.GapsIntact() && d_dt.GapsIntact() &&
              d_a.GapsIntact() && d_b.GapsIntact() && d_c.GapsIntact());
  r.y = y.Values();
  r.d_x = d_x.Values();
  r.d_dt = d_dt.Values();
  r.d_a = d_a.Values();
  r.d_b = d_b.Values();
  r.d_c = d_c.Values();
  return r;
}

// The definition, and the function that the gradients are those of.
template <typename T>
double Loss(const Problem<T>& p, Values* y, Values* state) {
  const Shape& s = p.shape;
  state->assign(p.state.begin(), p.state.end());
  y->clear();
  double loss = 0;
  for (size_t t = 0; t < s.length; ++t) {
    for (size_t e = 0; e < s.channels; ++e) {
      const double x = p.x.view()(t, e), dt = p.dt.view()(t, e);
      double sum = p.d[e] * x;
      for (size_t n = 0; n < s.state_dim; ++n) {
        double& h = (*state)[e * s.state_dim + n];
        h = std::exp(dt * p.a.view()(e, n)) * h + dt * p.b.view()(t, n) * x;
        sum += p.c.view()(t, n) * h;
      }
      y->push_back(sum);
      loss += sum * p.d_y.view()(t, e);
    }
  }
  for (size_t i = 0; i < state->size(); ++i) loss += (*state)[i] * p.d_state[i];
  return loss;
}

template <typename T>
class SelectiveScanTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(SelectiveScanTest, NumberTypes);

// Channels [begin, end) without anything saved.
template <typename T>
void ForwardPart(const Problem<T>& p, size_t begin, size_t end,
                 std::vector<T>* state, TestMatrix<T>* y) {
  SelectiveScan<T> s = p.Arguments();
  s.begin = begin;
  s.end = end;
  SelectiveScanForward(s, state->data(), y->view(), nullptr);
}

TYPED_TEST(SelectiveScanTest, ChannelsMayBeComputedInParts) {
  using T = TypeParam;
  for (const Shape& shape : kShapes) {
    const Problem<T> problem(shape);
    ForEachSimdTarget([&] {
      const size_t channels = shape.channels, cut = channels / 3 + 1;
      TestMatrix<T> whole(shape.length, channels, 3, 99);
      std::vector<T> whole_state = problem.state;
      ForwardPart(problem, 0, SIZE_MAX, &whole_state, &whole);
      TestMatrix<T> y(shape.length, channels, 3, 99);
      std::vector<T> state = problem.state;
      ForwardPart(problem, cut, SIZE_MAX, &state, &y);
      for (size_t e = 0; e < cut; ++e) {
        EXPECT_EQ(state[e * shape.state_dim],
                  problem.state[e * shape.state_dim]);
        EXPECT_EQ(y.view()(0, e), T{99});
      }
      ForwardPart(problem, 0, cut, &state, &y);
      EXPECT_EQ(y.Values(), whole.Values());
      EXPECT_EQ(state, whole_state);
      EXPECT_TRUE(y.GapsIntact());
    });
  }
}

// What is of a channel is computed as in the whole; sums over channels are
// added in another order.
TYPED_TEST(SelectiveScanTest, GradientsMayBeComputedInParts) {
  using T = TypeParam;
  const double relative = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  for (const Shape& shape : kShapes) {
    const Problem<T> problem(shape);
    ForEachSimdTarget([&] {
      const size_t cut = shape.channels / 3 + 1;
      const Results<T> whole = Evaluate(problem);
      const Results<T> parts = Evaluate(problem, T{0}, cut);
      EXPECT_EQ(parts.d_x, whole.d_x);
      EXPECT_EQ(parts.d_dt, whole.d_dt);
      EXPECT_EQ(parts.d_a, whole.d_a);
      EXPECT_EQ(parts.d_d, whole.d_d);
      EXPECT_EQ(parts.d_state, whole.d_state);
      ExpectNear(Values(whole.d_b.begin(), whole.d_b.end()), parts.d_b,
                 relative, relative, "d_b");
      ExpectNear(Values(whole.d_c.begin(), whole.d_c.end()), parts.d_c,
                 relative, relative, "d_c");
    });
  }
}

TYPED_TEST(SelectiveScanTest, WithoutStatesTheyAreZero) {
  using T = TypeParam;
  for (const Shape& shape : kShapes) {
    Problem<T> problem(shape);
    std::fill(problem.state.begin(), problem.state.end(), T{0});
    std::fill(problem.d_state.begin(), problem.d_state.end(), T{0});
    ForEachSimdTarget([&] {
      const Results<T> zero = Evaluate(problem);
      const Results<T> none = Evaluate(problem, T{0}, 0, /*states=*/false);
      EXPECT_EQ(none.y, zero.y);
      EXPECT_EQ(none.d_x, zero.d_x);
      EXPECT_EQ(none.d_a, zero.d_a);
      EXPECT_EQ(none.d_b, zero.d_b);
    });
  }
}

TYPED_TEST(SelectiveScanTest, EqualsTheDefinition) {
  const double relative = std::is_same<TypeParam, float>::value ? 1e-4 : 1e-12;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE("length " + std::to_string(shape.length));
    const Problem<TypeParam> problem(shape);
    Values y, state;
    Loss(problem, &y, &state);
    ForEachSimdTarget([&] {
      const Results<TypeParam> actual = Evaluate(problem);
      ExpectNear(y, actual.y, relative, relative, "y");
      ExpectNear(state, actual.state, relative, relative, "state");
      // Nothing saved: single tokens take the way of decoding.
      TestMatrix<TypeParam> stepped(shape.length, shape.channels, 3, 99);
      std::vector<TypeParam> stepped_state = problem.state;
      ForwardPart(problem, 0, SIZE_MAX, &stepped_state, &stepped);
      ExpectNear(y, stepped.Values(), relative, relative, "stepped y");
      ExpectNear(state, stepped_state, relative, relative, "stepped state");
    });
  }
}

TYPED_TEST(SelectiveScanTest, GradientsEqualCentralDifferences) {
  // Differences need double; float is held to the same, up to its rounding.
  const double absolute = std::is_same<TypeParam, float>::value ? 1e-3 : 1e-5;
  for (const Shape& shape : {Shape{7, 5, 3, 2, 0.3}, Shape{5, 18, 2, 64, 3},
                             Shape{5, 18, 6, 3, 0.3}}) {
    SCOPED_TRACE("length " + std::to_string(shape.length));
    Problem<double> p(shape);
    const Problem<TypeParam> problem(shape);
    const auto loss = [&] {
      Values y, state;
      return Loss(p, &y, &state);
    };
    const Values d_x = CentralDifferences(&p.x, loss),
                 d_dt = CentralDifferences(&p.dt, loss),
                 d_a = CentralDifferences(&p.a, loss),
                 d_b = CentralDifferences(&p.b, loss),
                 d_c = CentralDifferences(&p.c, loss);
    const Values d_d = CentralDifferences(&p.d, loss);
    const Values d_state = CentralDifferences(&p.state, loss);
    // Errors must be small beside the gradients, not beside the 5.
    const auto less_five = [](std::vector<TypeParam> gradients) {
      for (TypeParam& d : gradients) d -= 5;
      return gradients;
    };
    ForEachSimdTarget([&] {
      const Results<TypeParam> actual = Evaluate(problem, TypeParam{5});
      ExpectNear(d_x, less_five(actual.d_x), 1e-3, absolute, "d_x");
      ExpectNear(d_dt, less_five(actual.d_dt), 1e-3, absolute, "d_dt");
      ExpectNear(d_a, less_five(actual.d_a), 1e-3, absolute, "d_a");
      ExpectNear(d_b, less_five(actual.d_b), 1e-3, absolute, "d_b");
      ExpectNear(d_c, less_five(actual.d_c), 1e-3, absolute, "d_c");
      ExpectNear(d_d, less_five(actual.d_d), 1e-3, absolute, "d_d");
      ExpectNear(d_state, actual.d_state, 1e-3, absolute, "d_state");
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
