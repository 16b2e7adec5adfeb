// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_recurrence.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_testing.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

enum class Decay { kNone, kSlow, kStrong, kResets };

struct Shape {
  size_t length, key_dim, value_dim, chunk;
  Decay decay;
  bool normaliser;
};

// One token, few, whole and ragged chunks, tiles and vectors.
const std::vector<Shape> kShapes = {
    {0, 4, 4, 64, Decay::kSlow, true},
    {1, 4, 4, 64, Decay::kSlow, true},
    {15, 64, 64, 64, Decay::kSlow, false},
    {16, 5, 3, 64, Decay::kNone, true},
    {33, 32, 16, 8, Decay::kSlow, true},
    {64, 64, 64, 64, Decay::kSlow, false},
    {65, 64, 64, 1000, Decay::kNone, true},
    {130, 33, 17, 64, Decay::kStrong, true},
    {200, 48, 80, 16, Decay::kResets, true},
    {257, 64, 128, 64, Decay::kSlow, true},
    {300, 1, 1, 64, Decay::kResets, false},
    {40, 8, 8, 1, Decay::kSlow, true},  // token by token: float
};

float Rounded(float x) { return ToFloat(RoundToBf16(x)); }

struct Problem {
  // With round, queries, keys and values are numbers of Bf16.
  Problem(const Shape& s, bool round)
      : shape(s),
        q(TestMatrix<float>::Random(s.length, s.key_dim, 3, 1)),
        k(TestMatrix<float>::Random(s.length, s.key_dim, 5, 2)),
        v(TestMatrix<float>::Random(s.length, s.value_dim, 1, 3)),
        state(RandomValues<float>(
            AdditiveStateSize(s.key_dim, s.value_dim, s.normaliser), 7)) {
    if (round) {
      for (TestMatrix<float>* m : {&q, &k, &v}) {
        const MatrixView<float> view = m->view();
        for (size_t r = 0; r < view.rows; ++r) {
          for (size_t c = 0; c < view.cols; ++c) {
            view(r, c) = Rounded(view(r, c));
          }
        }
      }
      for (float& x : state) x = Rounded(x);
    }
    const std::vector<float> noise = RandomValues<float>(s.length, 5);
    for (size_t t = 0; t < s.length; ++t) {
      switch (s.decay) {
        case Decay::kNone:
          break;
        case Decay::kSlow:
          log_decay.push_back(-0.03f * std::abs(noise[t]));
          break;
        case Decay::kStrong:
          log_decay.push_back(t % 3 == 0   ? 0
                              : t % 3 == 1 ? -20 - std::abs(noise[t])
                                           : -1e-3f);
          break;
        case Decay::kResets:
          log_decay.push_back(t % 5 == 3 ? -kInf : -0.1f * std::abs(noise[t]));
          break;
      }
    }
  }

  AdditiveRecurrence<float> Arguments() const {
    AdditiveRecurrence<float> a;
    a.q = q.view();
    a.k = k.view();
    a.v = v.view();
    a.log_decay = shape.decay == Decay::kNone ? nullptr : log_decay.data();
    a.scale = 0.3f;
    a.chunk = shape.chunk;
    a.normaliser = shape.normaliser;
    return a;
  }

  Shape shape;
  TestMatrix<float> q, k, v;
  std::vector<float> log_decay, state;
};

struct Results {
  std::vector<float> o, den, state;
};

Results Forward(const Problem& p) {
  Results r;
  TestMatrix<float> o(p.shape.length, p.shape.value_dim, 3, 99.0f);
  r.den.assign(p.shape.normaliser ? p.shape.length : 0, 99.0f);
  r.state = p.state;
  Bf16AdditiveForward(p.Arguments(), r.state.data(), o.view(),
                      p.shape.normaliser ? r.den.data() : nullptr);
  EXPECT_TRUE(o.GapsIntact());
  r.o = o.Values();
  return r;
}

// The definition, token by token in double, and the same with the absolute
// values of all numbers: what roundings are relative to.
struct Oracle {
  explicit Oracle(const Problem& p) {
    const Shape& s = p.shape;
    const size_t columns = s.value_dim + (s.normaliser ? 1 : 0);
    std::vector<double> state(s.key_dim * columns), size(s.key_dim * columns);
    for (size_t i = 0; i < s.key_dim; ++i) {
      for (size_t c = 0; c < columns; ++c) {
        state[i * columns + c] = c == s.value_dim
                                     ? p.state[s.key_dim * s.value_dim + i]
                                     : p.state[i * s.value_dim + c];
        size[i * columns + c] = std::abs(state[i * columns + c]);
      }
    }
    for (size_t t = 0; t < s.length; ++t) {
      const double decay =
          p.log_decay.empty() ? 1 : std::exp(double{p.log_decay[t]});
      for (size_t c = 0; c < columns; ++c) {
        const double v = c == s.value_dim ? 1 : p.v.view()(t, c);
        double sum = 0, sum_size = 0;
        for (size_t i = 0; i < s.key_dim; ++i) {
          const size_t at = i * columns + c;
          const double q = 0.3 * p.q.view()(t, i), k = p.k.view()(t, i);
          state[at] = decay * state[at] + k * v;
          size[at] = decay * size[at] + std::abs(k * v);
          sum += q * state[at];
          sum_size += std::abs(q) * size[at];
        }
        (c == s.value_dim ? den : o).push_back(sum);
        (c == s.value_dim ? den_size : o_size).push_back(sum_size);
      }
    }
    for (size_t i = 0; i < s.key_dim; ++i) {
      for (size_t c = 0; c < s.value_dim; ++c) {
        final_state.push_back(state[i * columns + c]);
        final_size.push_back(size[i * columns + c]);
      }
    }
    for (size_t i = 0; s.normaliser && i < s.key_dim; ++i) {
      final_state.push_back(state[i * columns + s.value_dim]);
      final_size.push_back(size[i * columns + s.value_dim]);
    }
  }

  std::vector<double> o, o_size, den, den_size, final_state, final_size;
};

void ExpectWithin(const std::vector<double>& expected,
                  const std::vector<double>& size,
                  const std::vector<float>& actual, double relative,
                  const char* what) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], relative * size[i] + 1e-6)
        << what << ", element " << i;
  }
}

TEST(Bf16RecurrenceTest, MatchesTheDefinition) {
  for (const Shape& shape : kShapes) {
    for (const bool round : {true, false}) {
      SCOPED_TRACE(testing::Message()
                   << "length " << shape.length << ", key_dim " << shape.key_dim
                   << ", value_dim " << shape.value_dim << ", decay "
                   << static_cast<int>(shape.decay)
                   << (round ? ", rounded" : ""));
      const Problem problem(shape, round);
      const Oracle expected(problem);
      // Of 2^-8 each: a weight, or the decayed query, the decayed key and the
      // state; and where they are not numbers of Bf16 the value, and a weight's
      // query and key. Three of them hardly ever add up, so two are enough.
      const double bound = (round ? 2 : 4) * 0x1p-8;
      ForEachSimdTargetAndBf16Unit([&] {
        const Results actual = Forward(problem);
        ExpectWithin(expected.o, expected.o_size, actual.o, bound, "o");
        ExpectWithin(expected.den, expected.den_size, actual.den, bound, "den");
        ExpectWithin(expected.final_state, expected.final_size, actual.state,
                     bound, "state");
        const Results again = Forward(problem);
        EXPECT_EQ(actual.o, again.o);
        EXPECT_EQ(actual.state, again.state);
      });
    }
  }
}

// The worst case that the bounds above allow is far from what happens; a
// product that lost half of its digits would still pass. Roundings at random
// leave about 2^-9.
TEST(Bf16RecurrenceTest, ErrorsAreOfTheSizeOfRoundings) {
  const Shape shape = {500, 64, 64, 64, Decay::kSlow, true};
  const Problem problem(shape, /*round=*/true);
  const Oracle expected(problem);
  ForEachSimdTargetAndBf16Unit([&] {
    const Results actual = Forward(problem);
    double error = 0, size = 0;
    for (size_t i = 0; i < actual.o.size(); ++i) {
      error += (actual.o[i] - expected.o[i]) * (actual.o[i] - expected.o[i]);
      size += expected.o[i] * expected.o[i];
    }
    EXPECT_LT(std::sqrt(error / size), 3e-3);
  });
}

// Any cut into calls is the same sequence: the state carries over.
TEST(Bf16RecurrenceTest, ContinuesFromItsState) {
  const Shape shape = {180, 40, 24, 64, Decay::kSlow, true};
  const Problem problem(shape, /*round=*/true);
  const Oracle expected(problem);
  ForEachSimdTargetAndBf16Unit([&] {
    Results actual;
    TestMatrix<float> o(shape.length, shape.value_dim, 1);
    actual.den.resize(shape.length);
    actual.state = problem.state;
    size_t begin = 0;
    for (const size_t length : {70, 1, 20, 89}) {
      AdditiveRecurrence<float> a = problem.Arguments();
      a.q = a.q.Rows(begin, length);
      a.k = a.k.Rows(begin, length);
      a.v = a.v.Rows(begin, length);
      a.log_decay += begin;
      Bf16AdditiveForward(a, actual.state.data(), o.view().Rows(begin, length),
                          actual.den.data() + begin);
      begin += length;
    }
    ExpectWithin(expected.o, expected.o_size, o.Values(), 3 * 0x1p-8, "o");
    ExpectWithin(expected.den, expected.den_size, actual.den, 3 * 0x1p-8,
                 "den");
  });
}

// A NaN or infinity is seen from its token on, and not before: in a value in
// its column, in a key in all of them, in a query in that query alone.
TEST(Bf16RecurrenceTest, NonFiniteInputsStayWhereTheyAreSeen) {
  const Shape shape = {150, 16, 16, 64, Decay::kSlow, false};
  constexpr size_t kToken = 100, kColumn = 3;
  const Problem clean(shape, /*round=*/true);
  const Oracle expected(clean);
  for (TestMatrix<float> Problem::*const input :
       {&Problem::q, &Problem::k, &Problem::v}) {
    const bool is_query = input == &Problem::q;
    const bool is_value = input == &Problem::v;
    for (const float poison : {std::nanf(""), kInf}) {
      Problem problem(shape, /*round=*/true);
      (problem.*input).view()(kToken, kColumn) = poison;
      ForEachSimdTargetAndBf16Unit([&] {
        const Results actual = Forward(problem);
        for (size_t i = 0; i < actual.o.size(); ++i) {
          const size_t t = i / shape.value_dim, c = i % shape.value_dim;
          if ((is_query ? t == kToken : t >= kToken) &&
              (!is_value || c == kColumn)) {
            EXPECT_FALSE(std::isfinite(actual.o[i])) << t << ", " << c;
          } else {
            EXPECT_NEAR(actual.o[i], expected.o[i], 0x1p-7 * expected.o_size[i])
                << t << ", " << c;
          }
        }
      });
    }
  }
}

// So is what is finite, but rounds to an infinity of Bf16.
TEST(Bf16RecurrenceTest, TooLargeForBf16StaysWhereItIsSeen) {
  const Shape shape = {150, 16, 16, 64, Decay::kSlow, false};
  constexpr size_t kToken = 100, kColumn = 3;
  const Problem clean(shape, /*round=*/true);
  const Oracle expected(clean);
  for (TestMatrix<float> Problem::*const input :
       {&Problem::q, &Problem::k, &Problem::v}) {
    Problem problem(shape, /*round=*/true);
    (problem.*input).view()(kToken, kColumn) =
        std::numeric_limits<float>::max();
    ForEachSimdTargetAndBf16Unit([&] {
      const Results actual = Forward(problem);
      for (size_t i = 0; i < kToken * shape.value_dim; ++i) {
        EXPECT_NEAR(actual.o[i], expected.o[i], 0x1p-7 * expected.o_size[i])
            << i / shape.value_dim << ", " << i % shape.value_dim;
      }
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
