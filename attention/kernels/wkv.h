// SPDX-License-Identifier: Apache-2.0
//
// The WKV recurrence of RWKV-4 (arXiv 2305.13048) for one sequence: in every
// channel the weighted mean of the values so far, with weights e^k that fade by
// e^w <= 1 a token. The current token has not faded and counts with a bonus u,
//
//   y_t = (A_{t-1} + e^{u + k_t} v_t) / (B_{t-1} + e^{u + k_t}),
//   A_t = e^w A_{t-1} + e^{k_t} v_t,    B_t = e^w B_{t-1} + e^{k_t}.
//
// A and B overflow where k does, so the state keeps a, b and p with A = e^p a,
// B = e^p b. Token by token p is the largest exponent in the sums: then 1 <= b,
// and only exponentials of numbers <= 0 are taken. Eight tokens of
// a chunk share a reference p, the largest exponent so far to within half an
// octave, where that loses nothing; b may then be as small as 1e-18, and
// results differ from those of chunks of one token by roundings, which grow
// with |p|: weights by 2^-24 |p| of themselves in float. The backward carries
// the gradients by A and B likewise, as e^-r times numbers that no small b has
// made greater than 1e18 times the gradient of y, with r the block's reference
// or, token by token, the least of the exponents they were divided by.
//
// `chunk` is how many tokens share a saved state; the backward computes those
// in between once more. Channels are lanes, and tokens follow one another.
// Single-threaded; safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_WKV_H_
#define MNEME_ATTENTION_KERNELS_WKV_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Inputs common to forward and backward.
template <typename T>
struct Wkv {
  MatrixView<const T> k;  // [length, channels]
  MatrixView<const T> v;  // [length, channels]
  const T* w = nullptr;   // [channels], log decay a token, <= 0
  const T* u = nullptr;   // [channels]
  size_t chunk = 32;      // >= 1
  // Channels [begin, min(end, channels)) are computed and the others left
  // alone: threads may share a sequence.
  size_t begin = 0, end = SIZE_MAX;
};

// Numbers in a state: a, b and p, channel by channel each.
constexpr size_t WkvStateSize(size_t channels) { return 3 * channels; }

// The p of a state that has seen nothing: below that of any token, but finite,
// for its differences must not be NaN.
constexpr double kWkvNothing = -1e38;

// Makes the state one that has seen nothing, a = b = 0.
template <typename T>
void WkvClear(size_t channels, T* state) {
  std::fill_n(state, 2 * channels, T{0});
  std::fill_n(state + 2 * channels, channels, static_cast<T>(kWkvNothing));
}

// Chunk-boundary states kept for the backward: one before each chunk.
constexpr size_t WkvSavedSize(size_t length, size_t chunk, size_t channels) {
  return (length + chunk - 1) / chunk * WkvStateSize(channels);
}

// state (WkvStateSize entries) is that before the first token on entry, after
// the last on return. y [length, channels] is overwritten; saved (WkvSavedSize
// entries) may be null when no backward follows.
void WkvForward(const Wkv<float>& s, float* state, MatrixView<float> y,
                float* saved);
void WkvForward(const Wkv<double>& s, double* state, MatrixView<double> y,
                double* saved);

// Gradients, added to what the outputs hold. Null is a gradient nobody wants.
template <typename T>
struct WkvGradients {
  MatrixView<T> d_k, d_v;
  T* d_w = nullptr;
  T* d_u = nullptr;
};

// Nothing depends on the final state, and the initial one is given.
void WkvBackward(const Wkv<float>& s, const float* saved,
                 MatrixView<const float> d_y,
                 const WkvGradients<float>& gradients);
void WkvBackward(const Wkv<double>& s, const double* saved,
                 MatrixView<const double> d_y,
                 const WkvGradients<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_WKV_H_
