// SPDX-License-Identifier: Apache-2.0

#include "attention/performer/orthogonal_features.h"

#include <cmath>

#include "attention/kernels/vector_math.h"
#include "attention/tensor/random.h"

namespace mneme {
namespace {

void FillNormal(Random* random, double* row, int64_t dim) {
  for (int64_t c = 0; c < dim; ++c) row[c] = random->Normal();
}

double Norm(const double* row, int64_t dim) {
  return std::sqrt(kernels::Dot(row, row, dim));
}

void ScaleRow(double factor, double* row, int64_t dim) {
  for (int64_t c = 0; c < dim; ++c) row[c] *= factor;
}

}  // namespace

std::vector<double> OrthogonalFeatures(int64_t features, int64_t dim,
                                       uint64_t seed, uint64_t draw) {
  Random directions(seed, StreamId("performer/directions"), draw);
  Random lengths(seed, StreamId("performer/lengths"), draw);
  std::vector<double> rows(features * dim), length(dim);
  for (int64_t r = 0; r < features; ++r) {
    double* row = rows.data() + r * dim;
    FillNormal(&directions, row, dim);
    // QR of the block's transpose by Gram and Schmidt. The second pass removes
    // what rounding left of the first.
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t p = r / dim * dim; p < r; ++p) {
        const double* other = rows.data() + p * dim;
        kernels::Axpy(-kernels::Dot(row, other, dim), other, row, dim);
      }
      ScaleRow(1 / Norm(row, dim), row, dim);
    }
  }
  for (int64_t r = 0; r < features; ++r) {
    FillNormal(&lengths, length.data(), dim);
    ScaleRow(Norm(length.data(), dim), rows.data() + r * dim, dim);
  }
  return rows;
}

}  // namespace mneme
