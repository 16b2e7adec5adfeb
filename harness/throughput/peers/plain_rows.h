// SPDX-License-Identifier: Apache-2.0
//
// What a composition of matrix products needs between them, as plain loops that
// the compiler vectorises, for the CPU that runs them and with the C library's
// vector exponential.

#ifndef MNEME_HARNESS_THROUGHPUT_PEERS_PLAIN_ROWS_H_
#define MNEME_HARNESS_THROUGHPUT_PEERS_PLAIN_ROWS_H_

#include <cstddef>

namespace mneme::peers {

// Replaces a row's numbers by their softmax. count > 0.
void SoftmaxRow(float* row, size_t count);

// to = phi(from), phi(x) = elu(x) + 1.
void EluPlusOneRow(const float* from, size_t count, float* to);

// Of `seen` keys: turns scores into weights exp(score - lse), and the gradients
// by weights into those by what was scaled to scores, scale * weight * (d -
// mean).
void SoftmaxGradientRow(float lse, float mean, float scale, size_t seen,
                        float* scores, float* d);

float DotRow(const float* a, const float* b, size_t count);
float SumRow(const float* row, size_t count);
void ScaleRow(float factor, float* row, size_t count);
// to += from.
void AddRow(const float* from, size_t count, float* to);

}  // namespace mneme::peers

#endif  // MNEME_HARNESS_THROUGHPUT_PEERS_PLAIN_ROWS_H_
