// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/log_linear_step.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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

// Groups, heads of each, and levels; more heads than are prepared at once,
// strips of every width, and positions where none to all buckets meet.
struct Shape {
  size_t groups, heads, key_dim, value_dim, levels;
};
const Shape kShapes[] = {{1, 1, 4, 3, 1},
                         {3, 2, 5, 17, 2},
                         {11, 1, 3, 64, 5},
                         {2, 5, 7, 71, 9},
                         {1, 3, 8, 16, 63}};
const int64_t kPositions[] = {0, 1, 2, 3, 6, 7, 31, 32, 55, 63, 127, 191};

// Buckets of random numbers and the token that follows them.
template <typename T>
struct Problem {
  explicit Problem(const Shape& s)
      : shape(s),
        q(TestMatrix<T>::Random(s.groups, s.key_dim, 3, 1)),
        k(TestMatrix<T>::Random(s.groups, s.key_dim, 1, 2)),
        v(TestMatrix<T>::Random(s.groups, s.heads * s.value_dim, 2, 3)),
        g(TestMatrix<T>::Random(s.groups, s.heads, 4, 4)),
        lambda(TestMatrix<T>::Random(s.groups, s.heads * s.levels, 1, 5)) {
    for (size_t i = 0; i < s.groups; ++i) {
      for (size_t h = 0; h < s.heads; ++h) {
        g.view()(i, h) = -std::abs(g.view()(i, h));
      }
    }
    for (int l = 0; l <= Fenwick(s.levels).top(); ++l) {
      buckets.push_back(RandomValues<T>(s.groups * MatrixSize(), 10 + l));
    }
  }

  size_t MatrixSize() const {
    return shape.key_dim * shape.heads * shape.value_dim;
  }

  LogLinear<T> Arguments() const {
    LogLinear<T> a;
    a.in = {q.view(), k.view(), v.view(), g.view(), lambda.view()};
    a.heads = shape.heads;
    return a;
  }

  Shape shape;
  TestMatrix<T> q, k, v, g, lambda;
  std::vector<std::vector<T>> buckets;  // by level
};

// The definition, for head h of group i: o, and the matrix of each level.
struct Expected {
  Values o;
  std::vector<Values> buckets;
};
template <typename T>
Expected Oracle(const Problem<T>& p, int64_t position, size_t i, size_t h) {
  const Shape& s = p.shape;
  const Fenwick fenwick(s.levels);
  const double f = std::exp(double{p.g.view()(i, h)});
  const auto lambda = [&](int level) {
    return double{p.lambda.view()(i, h * s.levels + fenwick.Weight(level))};
  };
  const int meet = fenwick.Meeting(position, position + 1);
  Expected e;
  e.o.resize(s.value_dim);
  e.buckets.assign(fenwick.top() + 1, Values(s.key_dim * s.value_dim));
  for (size_t r = 0; r < s.key_dim; ++r) {
    for (size_t c = 0; c < s.value_dim; ++c) {
      const double q = p.q.view()(i, r);
      const double kv =
          double{p.k.view()(i, r)} * p.v.view()(i, h * s.value_dim + c);
      const size_t at = r * s.value_dim + c;
      e.o[c] += double{p.lambda.view()(i, h * s.levels)} * q * kv;
      e.buckets[meet][at] += kv;
      fenwick.ForEachBefore(position, [&](const Bucket& bucket) {
        const double x = p.buckets[bucket.level][i * p.MatrixSize() +
                                                 r * s.heads * s.value_dim +
                                                 h * s.value_dim + c];
        e.o[c] += lambda(bucket.level) * f * q * x;
        e.buckets[std::max(bucket.level, meet)][at] += f * x;
      });
    }
  }
  return e;
}

template <typename T>
class LogLinearStepTest : public testing::Test {};
using NumberTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(LogLinearStepTest, NumberTypes);

TYPED_TEST(LogLinearStepTest, EqualsTheDefinition) {
  using T = TypeParam;
  const double bound = std::is_same<T, float>::value ? 1e-4 : 1e-12;
  for (const Shape& s : kShapes) {
    const Problem<T> problem(s);
    const Fenwick fenwick(s.levels);
    for (const int64_t position : kPositions) {
      SCOPED_TRACE(std::to_string(s.groups) + " groups of " +
                   std::to_string(s.heads) + ", " + std::to_string(s.levels) +
                   " levels, position " + std::to_string(position));
      const int meet = fenwick.Meeting(position, position + 1);
      ForEachSimdTarget([&] {
        std::vector<std::vector<T>> memory = problem.buckets;
        std::vector<T*> buckets;
        for (std::vector<T>& matrices : memory) {
          buckets.push_back(matrices.data());
        }
        TestMatrix<T> o(s.groups, s.heads * s.value_dim, 3, 99);
        LogLinearStep(problem.Arguments(), position, buckets.data(), o.view());
        EXPECT_TRUE(o.GapsIntact());
        std::rotate(&buckets[1], &buckets[1] + 1, &buckets[1] + meet);
        for (size_t i = 0; i < s.groups; ++i) {
          for (size_t h = 0; h < s.heads; ++h) {
            const Expected e = Oracle(problem, position, i, h);
            const T* row = o.view().row(i) + h * s.value_dim;
            ExpectNear(e.o, std::vector<T>(row, row + s.value_dim), bound,
                       bound, "o");
            fenwick.ForEachBefore(position + 1, [&](const Bucket& bucket) {
              std::vector<T> matrix;
              for (size_t r = 0; r < s.key_dim; ++r) {
                const T* from = buckets[bucket.level] +
                                i * problem.MatrixSize() +
                                (r * s.heads + h) * s.value_dim;
                matrix.insert(matrix.end(), from, from + s.value_dim);
              }
              ExpectNear(e.buckets[bucket.level], matrix, bound, bound,
                         "bucket");
            });
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace mneme::kernels
