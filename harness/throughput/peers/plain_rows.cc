// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/peers/plain_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

// Compiled once for each of these, and chosen at run time.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MNEME_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MNEME_CLONES
#endif

namespace mneme::peers {

MNEME_CLONES void SoftmaxRow(float* row, size_t count) {
  float largest = row[0];
  for (size_t i = 1; i < count; ++i) largest = std::max(largest, row[i]);
  float total = 0;
  for (size_t i = 0; i < count; ++i) {
    row[i] = std::exp(row[i] - largest);
    total += row[i];
  }
  const float factor = 1 / total;
  for (size_t i = 0; i < count; ++i) row[i] *= factor;
}

MNEME_CLONES void EluPlusOneRow(const float* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i) {
    const float x = from[i];
    to[i] = x > 0 ? x + 1 : std::exp(std::min(x, 0.0f));
  }
}

MNEME_CLONES void SoftmaxGradientRow(float lse, float mean, float scale,
                                     size_t seen, float* scores, float* d) {
  for (size_t i = 0; i < seen; ++i) {
    const float weight = std::exp(scores[i] - lse);
    scores[i] = weight;
    d[i] = scale * weight * (d[i] - mean);
  }
}

MNEME_CLONES float DotRow(const float* a, const float* b, size_t count) {
  float total = 0;
  for (size_t i = 0; i < count; ++i) total += a[i] * b[i];
  return total;
}

MNEME_CLONES float SumRow(const float* row, size_t count) {
  float total = 0;
  for (size_t i = 0; i < count; ++i) total += row[i];
  return total;
}

MNEME_CLONES void ScaleRow(float factor, float* row, size_t count) {
  for (size_t i = 0; i < count; ++i) row[i] *= factor;
}

MNEME_CLONES void AddRow(const float* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace mneme::peers
