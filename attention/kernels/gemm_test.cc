// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

constexpr Transpose kTransposes[] = {Transpose::kNo, Transpose::kYes};

struct Case {
  size_t m;
  size_t n;
  size_t k;
  Transpose transpose_a = Transpose::kNo;
  Transpose transpose_b = Transpose::kNo;
  double alpha = 1;
  double beta = 0;
  bool bias = false;
  Activation activation = Activation::kIdentity;

  std::string Name() const {
    const auto letter = [](Transpose t) {
      return t == Transpose::kYes ? "T" : "N";
    };
    return std::to_string(m) + "x" + std::to_string(n) + "x" +
           std::to_string(k) + letter(transpose_a) + letter(transpose_b) +
           " alpha " + std::to_string(alpha) + " beta " + std::to_string(beta) +
           (bias ? " bias" : "");
  }
};

double Activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x / 2 *
             (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// Inputs of a case as plain arrays: op(A) and op(B), not A and B, are
// row-major.
template <typename T>
struct Inputs {
  std::vector<T> a;     // m x k
  std::vector<T> b;     // k x n
  std::vector<T> c;     // m x n
  std::vector<T> bias;  // n
};

template <typename T>
std::vector<T> SmallIntegers(size_t n, uint64_t seed) {
  std::vector<T> values = RandomValues<T>(n, seed, 3.0);
  for (T& value : values) value = std::round(value);
  return values;
}

template <typename T>
Inputs<T> RandomInputs(const Case& g, bool integers) {
  const auto make = [integers](size_t n, uint64_t seed) {
    return integers ? SmallIntegers<T>(n, seed) : RandomValues<T>(n, seed);
  };
  return {make(g.m * g.k, 1), make(g.k * g.n, 2), make(g.m * g.n, 3),
          make(g.n, 4)};
}

template <typename T>
std::vector<double> Oracle(const Case& g, const Inputs<T>& in) {
  std::vector<double> c(g.m * g.n);
  for (size_t i = 0; i < g.m; ++i) {
    for (size_t j = 0; j < g.n; ++j) {
      double sum = 0;
      for (size_t k = 0; k < g.k; ++k) {
        sum += double{in.a[i * g.k + k]} * double{in.b[k * g.n + j]};
      }
      sum *= g.alpha;
      if (g.beta != 0) sum += g.beta * double{in.c[i * g.n + j]};
      if (g.bias) sum += double{in.bias[j]};
      c[i * g.n + j] = Activated(g.activation, sum);
    }
  }
  return c;
}

// op(x) = values, rows x cols.
template <typename T>
TestMatrix<T> Stored(Transpose transpose, const std::vector<T>& values,
                     size_t rows, size_t cols, size_t gap) {
  const bool yes = transpose == Transpose::kYes;
  TestMatrix<T> x(yes ? cols : rows, yes ? rows : cols, gap);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      (yes ? x.view()(c, r) : x.view()(r, c)) = values[r * cols + c];
    }
  }
  return x;
}

// The product, with gaps of the given length behind the rows of all matrices.
template <typename T>
std::vector<T> Multiply(const Case& g, const Inputs<T>& in, size_t gap = 0) {
  const TestMatrix<T> a = Stored(g.transpose_a, in.a, g.m, g.k, gap);
  const TestMatrix<T> b = Stored(g.transpose_b, in.b, g.k, g.n, gap);
  // With beta = 0 C may hold anything.
  TestMatrix<T> c =
      g.beta == 0
          ? TestMatrix<T>(g.m, g.n, gap, std::numeric_limits<T>::quiet_NaN())
          : Stored(Transpose::kNo, in.c, g.m, g.n, gap);
  GemmEpilogue<T> epilogue;
  epilogue.alpha = static_cast<T>(g.alpha);
  epilogue.beta = static_cast<T>(g.beta);
  epilogue.bias = g.bias ? in.bias.data() : nullptr;
  epilogue.activation = g.activation;
  Gemm(g.transpose_a, g.transpose_b, a.view(), b.view(), c.view(), epilogue);
  EXPECT_TRUE(c.GapsIntact()) << g.Name();
  return c.Values();
}

template <typename T>
bool BitEqual(const std::vector<T>& x, const std::vector<T>& y) {
  return x.size() == y.size() &&
         (x.empty() ||
          std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0);
}

// Sums of products of small integers are exact in any order, so the result
// must be, too.
template <typename T>
void ExpectExact(const Case& g, size_t gap) {
  const Inputs<T> in = RandomInputs<T>(g, /*integers=*/true);
  ExpectNear(Oracle(g, in), Multiply(g, in, gap), 0, 0, g.Name().c_str());
}

template <typename T>
class GemmTest : public testing::Test {};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GemmTest, Types);

TYPED_TEST(GemmTest, SmallShapesInAllLayouts) {
  ForEachSimdTarget([] {
    for (const size_t m : {0, 1, 2, 3, 4, 6, 7, 12, 13, 25}) {
      for (const size_t n : {0, 1, 3, 8, 15, 16, 17, 24, 33, 63, 64, 130}) {
        for (const size_t k : {0, 1, 2, 3, 4, 5, 19}) {
          for (const Transpose ta : kTransposes) {
            for (const Transpose tb : kTransposes) {
              ExpectExact<TypeParam>({m, n, k, ta, tb}, (m + n + k) % 3);
            }
          }
        }
      }
    }
  });
}

// Shapes beyond the sizes at which the product is cut into parts: long sums,
// many rows, a B too large to be read in place, and an A too large for L2.
TYPED_TEST(GemmTest, LargeShapesInAllLayouts) {
  ForEachSimdTarget([] {
    for (const Case& shape :
         {Case{5, 40, 700}, Case{60, 130, 100}, Case{1100, 20, 256},
          Case{49, 515, 32}, Case{1, 300, 513}, Case{1200, 3, 5},
          Case{520, 130, 256}}) {
      for (const Transpose ta : kTransposes) {
        for (const Transpose tb : kTransposes) {
          Case g = shape;
          g.transpose_a = ta;
          g.transpose_b = tb;
          ExpectExact<TypeParam>(g, 1);
        }
      }
    }
  });
}

TYPED_TEST(GemmTest, EpilogueOnWholeAndRaggedTilesAndLongSums) {
  ForEachSimdTarget([] {
    for (const double alpha : {1.0, -2.0, 0.0}) {
      for (const double beta : {0.0, 1.0, 3.0}) {
        for (const bool bias : {false, true}) {
          for (const Activation f :
               {Activation::kIdentity, Activation::kRelu}) {
            for (const size_t k : {0, 9, 300}) {
              ExpectExact<TypeParam>({14, 32, k, Transpose::kNo, Transpose::kNo,
                                      alpha, beta, bias, f},
                                     0);
              ExpectExact<TypeParam>({5, 37, k, Transpose::kNo, Transpose::kYes,
                                      alpha, beta, bias, f},
                                     2);
            }
          }
        }
      }
    }
  });
}

TYPED_TEST(GemmTest, RandomValuesAndActivations) {
  constexpr bool kFloat = std::is_same_v<TypeParam, float>;
  ForEachSimdTarget([] {
    for (const Activation f :
         {Activation::kIdentity, Activation::kRelu, Activation::kSilu,
          Activation::kGelu, Activation::kSigmoid}) {
      const Case g{33,  45,   270, Transpose::kNo, Transpose::kYes, 0.25,
                   0.5, true, f};
      const auto in = RandomInputs<TypeParam>(g, /*integers=*/false);
      // Partial sums grow to some 40, with an ulp of 4e-6 in float.
      ExpectNear(Oracle(g, in), Multiply(g, in), kFloat ? 1e-6 : 1e-14,
                 kFloat ? 1e-5 : 2e-14, g.Name().c_str());
    }
  });
}

TYPED_TEST(GemmTest, RepeatedCallsAreBitEqual) {
  ForEachSimdTarget([] {
    const Case g{70, 45, 600, Transpose::kYes, Transpose::kYes, 1, 1};
    const auto in = RandomInputs<TypeParam>(g, /*integers=*/false);
    EXPECT_TRUE(BitEqual(Multiply(g, in), Multiply(g, in)));
  });
}

// Decode, one row at a time, must give what prefill gives for many rows.
TYPED_TEST(GemmTest, AnElementDoesNotDependOnTheRestOfC) {
  ForEachSimdTarget([] {
    const Case all{61,  150,  300,  Transpose::kNo,   Transpose::kNo,
                   0.5, 0.25, true, Activation::kSilu};
    const auto in = RandomInputs<TypeParam>(all, /*integers=*/false);
    const auto expected = Multiply(all, in);
    for (const Transpose tb : kTransposes) {
      for (const size_t rows : {1, 2, 3, 5}) {
        for (const size_t cols : {1, 17, 140, 150}) {
          const size_t first_row = all.m - rows;
          const size_t first_col = all.n - cols;
          Case part = all;
          part.m = rows;
          part.n = cols;
          part.transpose_b = tb;
          const auto crop = [&](const std::vector<TypeParam>& x, size_t row,
                                size_t count) {
            std::vector<TypeParam> y;
            for (size_t r = row; r < row + count; ++r) {
              const auto begin = x.begin() + r * all.n + first_col;
              y.insert(y.end(), begin, begin + cols);
            }
            return y;
          };
          Inputs<TypeParam> cropped;
          cropped.a.assign(in.a.begin() + first_row * all.k, in.a.end());
          cropped.b = crop(in.b, 0, all.k);
          cropped.c = crop(in.c, first_row, rows);
          cropped.bias.assign(in.bias.begin() + first_col, in.bias.end());
          EXPECT_TRUE(BitEqual(crop(expected, first_row, rows),
                               Multiply(part, cropped)))
              << part.Name();
        }
      }
    }
  });
}

TYPED_TEST(GemmTest, NotANumberAndInfinityStayInTheirRowsAndColumns) {
  ForEachSimdTarget([] {
    const Case g{15, 35, 20, Transpose::kNo, Transpose::kYes};
    auto in = RandomInputs<TypeParam>(g, /*integers=*/true);
    in.a[3 * g.k + 7] = std::numeric_limits<TypeParam>::quiet_NaN();
    in.b[5 * g.n + 34] = std::numeric_limits<TypeParam>::infinity();
    ExpectNear(Oracle(g, in), Multiply(g, in), 0, 0, g.Name().c_str());
  });
}

}  // namespace
}  // namespace mneme::kernels
