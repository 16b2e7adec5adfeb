// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/log_linear_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "attention/kernels/fenwick.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Values = std::vector<double>;

struct Shape {
  size_t length, heads, key_dim, value_dim, levels, chunk;
};

// One token; chunks that are powers of two and not, that exceed the length, and
// longer than a panel; from enough levels for all tokens to a single one.
const Shape kShapes[] = {
    {1, 1, 4, 3, 1, 8},    {7, 2, 3, 5, 4, 1},      {33, 3, 6, 4, 7, 8},
    {70, 2, 5, 17, 9, 16}, {45, 1, 4, 4, 3, 7},     {29, 2, 4, 3, 2, 4},
    {20, 1, 3, 3, 1, 6},   {150, 2, 8, 5, 9, 1000}, {131, 1, 17, 9, 5, 50}};

template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        q(TestMatrix<T>::Random(s.length, s.key_dim, 3, 1)),
        k(TestMatrix<T>::Random(s.length, s.key_dim, 1, 2)),
        v(TestMatrix<T>::Random(s.length, s.heads * s.value_dim, 2, 3)),
        g(TestMatrix<T>::Random(s.length, s.heads, 4, 4, 0.1)),
        lambda(TestMatrix<T>::Random(s.length, s.heads * s.levels, 1, 5)),
        d_o(TestMatrix<T>::Random(s.length, s.heads * s.value_dim, 5, 6)) {
    for (size_t t = 0; t < s.length; ++t) {
      for (size_t h = 0; h < s.heads; ++h) {
        // No decay, mild ones, near resets.
        T& log_decay = g.view()(t, h);
        log_decay = t % 11 == 3  ? T{-20}
                    : t % 5 == 0 ? T{0}
                                 : -std::abs(log_decay);
      }
    }
  }

  LogLinear<T> Arguments() const {
    LogLinear<T> a;
    a.in = {q.view(), k.view(), v.view(), g.view(), lambda.view()};
    a.heads = shape.heads;
    a.chunk = shape.chunk;
    return a;
  }

  Shape shape;
  TestMatrix<T> q, k, v, g, lambda, d_o;
};

// At which level token i sees token j, from the definition: level l >= 1 is
// there if bit l - 1 of i is set, and covers 2^(l - 1) tokens; the last level
// covers everything older.
size_t LevelOf(size_t i, size_t j, size_t levels) {
  if (i == j) return 0;
  for (size_t l = 1; l < 40; ++l) {
    const size_t width = size_t{1} << (l - 1);
    if ((i / width) % 2 == 0) continue;
    const size_t first = i / (2 * width) * (2 * width);
    if (first <= j && j < first + width) return std::min(l, levels - 1);
  }
  ADD_FAILURE() << i << " does not see " << j;
  return 0;
}

// The output of the definition, row-major.
template <typename T>
Values Oracle(const Problem<T>& p) {
  const Shape& s = p.shape;
  Values o;
  for (size_t t = 0; t < s.length; ++t) {
    for (size_t h = 0; h < s.heads; ++h) {
      Values row(s.value_dim);
      double log_decay = 0;
      for (size_t j = t + 1; j-- > 0;) {
        double weight =
            std::exp(log_decay) *
            p.lambda.view()(t, h * s.levels + LevelOf(t, j, s.levels));
        double score = 0;
        for (size_t c = 0; c < s.key_dim; ++c) {
          score += static_cast<double>(p.q.view()(t, c)) * p.k.view()(j, c);
        }
        weight *= score;
        for (size_t c = 0; c < s.value_dim; ++c) {
          row[c] += weight * p.v.view()(j, h * s.value_dim + c);
        }
        log_decay += p.g.view()(j, h);
      }
      o.insert(o.end(), row.begin(), row.end());
    }
  }
  return o;
}

template <typename T>
std::vector<T> Forward(const Problem<T>& p) {
  TestMatrix<T> o(p.shape.length, p.v.view().cols, 3, 99);
  LogLinearForward(p.Arguments(), 0, nullptr, o.view(), nullptr);
  EXPECT_TRUE(o.GapsIntact());
  return o.Values();
}

TEST(Fenwick, BucketsDivideThePast) {
  for (int64_t levels : {1, 2, 3, 5, 60}) {
    const Fenwick fenwick(levels);
    for (int64_t i = 0; i < 70; ++i) {
      int64_t end = i;
      for (const Bucket& bucket : fenwick.Before(i)) {
        EXPECT_EQ(bucket.end, end);
        EXPECT_LT(bucket.begin, end);
        EXPECT_LE(bucket.level, fenwick.top());
        for (int64_t j = bucket.begin; j < bucket.end; ++j) {
          EXPECT_EQ(fenwick.Weight(bucket.level),
                    static_cast<int64_t>(LevelOf(i, j, levels)));
        }
        // Whole buckets move.
        for (int64_t later = i; later < 90; ++later) {
          const int moved = fenwick.Moved(bucket.level, i, later);
          bool found = false;
          for (const Bucket& other : fenwick.Before(later)) {
            found =
                found || (other.level == moved && other.begin <= bucket.begin &&
                          bucket.end <= other.end);
          }
          EXPECT_TRUE(found) << i << " " << bucket.level << " " << later;
        }
        end = bucket.begin;
      }
      EXPECT_EQ(end, 0);
    }
  }
}

TEST(Fenwick, HasABucketForEachBit) {
  EXPECT_EQ(Fenwick(60).Before(0b101101).size(), 4u);
  // The last of four levels takes the bits from the third on.
  EXPECT_EQ(Fenwick(4).Before(0b101101).size(), 2u);
  EXPECT_EQ(Fenwick::LevelsFor(0b101101), 7);
  EXPECT_EQ(Fenwick::LevelsFor(0), 1);
}

template <typename T>
class LogLinearTest : public testing::Test {
 public:
  static constexpr double kBound = std::is_same<T, float>::value ? 2e-5 : 1e-12;
};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(LogLinearTest, NumberTypes);

TYPED_TEST(LogLinearTest, EqualsTheDefinition) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE("length " + std::to_string(shape.length));
    const Problem<TypeParam> problem(shape);
    const Values expected = Oracle(problem);
    ForEachSimdTarget([&] {
      ExpectNear(expected, Forward(problem), this->kBound, this->kBound, "o");
    });
  }
}

// Pieces that begin anywhere, each in chunks of its own size.
TYPED_TEST(LogLinearTest, ContinuesWhereItStopped) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE("length " + std::to_string(shape.length));
    const Problem<TypeParam> problem(shape);
    const LogLinear<TypeParam> whole = problem.Arguments();
    const size_t size = shape.key_dim * whole.in.v.cols;
    // What holds no bucket yet must not matter.
    std::vector<TypeParam> memory(10 * size, NAN);
    std::vector<TypeParam*> buckets(
        std::max<int>(10, Fenwick(shape.levels).top() + 1), nullptr);
    for (size_t l = 0; l < 10; ++l) buckets[l] = &memory[l * size];
    TestMatrix<TypeParam> o(shape.length, whole.in.v.cols, 3, 99);
    for (size_t begin = 0, count = 1; begin < shape.length;
         begin += count, count = count * 5 % 19) {
      count = std::min(count, shape.length - begin);
      LogLinear<TypeParam> a = whole;
      a.in = {a.in.q.Rows(begin, count), a.in.k.Rows(begin, count),
              a.in.v.Rows(begin, count), a.in.g.Rows(begin, count),
              a.in.lambda.Rows(begin, count)};
      a.chunk = 1 + begin % 7;
      LogLinearForward(a, begin, buckets.data(), o.view().Rows(begin, count),
                       nullptr);
    }
    ExpectNear(Oracle(problem), o.Values(), this->kBound, this->kBound, "o");
  }
}

TYPED_TEST(LogLinearTest, ForgetsExactlyAndSeesNoFuture) {
  Problem<TypeParam> problem({40, 2, 4, 5, 7, 8});
  const std::vector<TypeParam> before = Forward(problem);
  problem.g.view()(21, 0) = problem.g.view()(21, 1) =
      -std::numeric_limits<TypeParam>::infinity();
  // Not so large that it could not be forgotten.
  for (size_t t = 0; t < 21; ++t) problem.v.view()(t, 3) = TypeParam{1e30};
  for (size_t t = 30; t < 40; ++t) {
    problem.q.view()(t, 0) = problem.k.view()(t, 0) = problem.v.view()(t, 0) =
        problem.g.view()(t, 0) = problem.lambda.view()(t, 0) = NAN;
  }
  const std::vector<TypeParam> after = Forward(problem);
  for (size_t i = 0; i < after.size(); ++i) {
    const size_t t = i / 10;
    if (t < 21 && i % 10 != 3) {
      EXPECT_EQ(after[i], before[i]) << t;
    } else if (t >= 21 && t < 30) {
      EXPECT_LT(std::abs(after[i]), 100) << t;
    }
  }
}

TYPED_TEST(LogLinearTest, GradientsEqualCentralDifferences) {
  // Differences need double; float is held to the same, up to its rounding.
  const double absolute = std::is_same<TypeParam, float>::value ? 1e-3 : 1e-5;
  for (const Shape& shape :
       {Shape{6, 2, 3, 2, 4, 8}, Shape{19, 2, 2, 3, 6, 4},
        Shape{17, 1, 3, 2, 3, 5}, Shape{11, 1, 2, 2, 1, 1}}) {
    SCOPED_TRACE("length " + std::to_string(shape.length));
    Problem<double> p(shape);
    const Problem<TypeParam> problem(shape);
    const auto loss = [&] {
      const Values o = Oracle(p), d_o = p.d_o.Values();
      double sum = 0;
      for (size_t i = 0; i < o.size(); ++i) sum += o[i] * d_o[i];
      return sum;
    };
    const Values d_q = CentralDifferences(&p.q, loss),
                 d_k = CentralDifferences(&p.k, loss),
                 d_v = CentralDifferences(&p.v, loss),
                 d_g = CentralDifferences(&p.g, loss),
                 d_lambda = CentralDifferences(&p.lambda, loss);
    ForEachSimdTarget([&] {
      const LogLinear<TypeParam> a = problem.Arguments();
      std::vector<TypeParam> saved(
          LogLinearSavedSize(shape.length, shape.chunk, shape.levels,
                             shape.key_dim * a.in.v.cols) +
          1);
      TestMatrix<TypeParam> o(shape.length, a.in.v.cols, 3);
      LogLinearForward(a, 0, nullptr, o.view(), saved.data());
      const auto like = [](const auto& m) {
        return TestMatrix<TypeParam>(m.rows, m.cols, 2, TypeParam{5});
      };
      auto q = like(a.in.q), k = like(a.in.k), v = like(a.in.v),
           g = like(a.in.g), lambda = like(a.in.lambda);
      LogLinearBackward(
          a, saved.data(), problem.d_o.view(),
          {q.view(), k.view(), v.view(), g.view(), lambda.view()});
      // Errors must be small beside the gradients, not beside the 5.
      const auto less_five = [](std::vector<TypeParam> added) {
        for (TypeParam& d : added) d -= 5;
        return added;
      };
      ExpectNear(d_q, less_five(q.Values()), 1e-3, absolute, "d_q");
      ExpectNear(d_k, less_five(k.Values()), 1e-3, absolute, "d_k");
      ExpectNear(d_v, less_five(v.Values()), 1e-3, absolute, "d_v");
      ExpectNear(d_g, less_five(g.Values()), 1e-3, absolute, "d_g");
      ExpectNear(d_lambda, less_five(lambda.Values()), 1e-3, absolute,
                 "d_lambda");
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
