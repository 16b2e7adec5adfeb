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

float SumRow(const float* row, size_t count);
void ScaleRow(float factor, float* row, size_t count);
// to += from.
void AddRow(const float* from, size_t count, float* to);

}  // namespace mneme::peers

#endif  // MNEME_HARNESS_THROUGHPUT_PEERS_PLAIN_ROWS_H_
