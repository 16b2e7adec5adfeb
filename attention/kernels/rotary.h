// SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding (RoFormer, arXiv 2104.09864). Pair i of a row at
// position p is turned by the angle p * theta_i. Two incompatible pairings are
// in use: adjacent (2i, 2i + 1), as RoFormer and RetNet, or halves
// (i, i + dim / 2), as GPT-NeoX and Llama.

#ifndef MNEME_ATTENTION_KERNELS_ROTARY_H_
#define MNEME_ATTENTION_KERNELS_ROTARY_H_

#include <cstddef>
#include <vector>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

enum class RotaryPairing { kAdjacent, kHalves };

// theta_i = base^(-2i / dim), i < dim / 2.
std::vector<double> RotaryFrequencies(size_t dim, double base = 10000.0);

// RetNet's grid, which includes the end point: theta_i =
// 10000^(-i / (dim / 2 - 1)).
std::vector<double> RetNetFrequencies(size_t dim);

// Rotates every head of every token: x and y are
// [length, heads * dim] with dim = 2 * frequencies.size(); row t stands at
// position first_position + t. inverse turns backwards, which is also the
// gradient. y may be x. Angles are computed in double and reduced before
// rounding, so position 1,000,000 is as exact as position 1.
void Rotate(MatrixView<const float> x, const std::vector<double>& frequencies,
            RotaryPairing pairing, size_t first_position, bool inverse,
            MatrixView<float> y);
void Rotate(MatrixView<const double> x, const std::vector<double>& frequencies,
            RotaryPairing pairing, size_t first_position, bool inverse,
            MatrixView<double> y);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_ROTARY_H_
