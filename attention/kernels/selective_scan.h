// SPDX-License-Identifier: Apache-2.0
//
// The selective scan of S6 (Mamba, arXiv 2312.00752) for one sequence: every
// channel e has a state of state_dim numbers n, which fade at rates of their
// own,
//
//   h_t[n, e] = e^{dt_t[e] a[n, e]} h_{t-1}[n, e] + dt_t[e] b_t[n] x_t[e],
//   y_t[e]    = sum_n c_t[n] h_t[n, e] + d[e] x_t[e],
//
// with step sizes dt >= 0, transitions a <= 0, and b and c shared by all
// channels. As a depends on the channel there is no matrix product in it:
// channels are lanes, and tokens follow one another. Only of a single token, as
// decoding takes them, the states of a channel are lanes: states lie like a,
// where one pass over both is all there is to do.
//
// `chunk` is how many tokens share a saved state. The backward computes the
// states in between once more, since dividing by the decays would be unstable.
// Single-threaded; safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_H_
#define MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_H_

#include <cstddef>
#include <cstdint>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Inputs common to forward and backward.
template <typename T>
struct SelectiveScan {
  MatrixView<const T> x;   // [length, channels]
  MatrixView<const T> dt;  // [length, channels]
  MatrixView<const T> a;   // [channels, state_dim]
  MatrixView<const T> b;   // [length, state_dim]
  MatrixView<const T> c;   // [length, state_dim]
  const T* d = nullptr;    // [channels]
  size_t chunk = 32;       // >= 1
  // Channels [begin, min(end, channels)) are computed and the others left
  // alone: threads may share a sequence.
  size_t begin = 0, end = SIZE_MAX;
};

// Chunk-boundary states kept for the backward: one before each chunk.
constexpr size_t SelectiveScanSavedSize(size_t length, size_t chunk,
                                        size_t state_dim, size_t channels) {
  return (length + chunk - 1) / chunk * state_dim * channels;
}

// state [channels x state_dim], row-major, holds h_0 on entry and h_length on
// return; null starts from zero. y is overwritten; saved
// (SelectiveScanSavedSize entries) may be null when no backward follows.
void SelectiveScanForward(const SelectiveScan<float>& s, float* state,
                          MatrixView<float> y, float* saved);
void SelectiveScanForward(const SelectiveScan<double>& s, double* state,
                          MatrixView<double> y, double* saved);

// Gradients, added to what the outputs hold. Null data is a gradient nobody
// wants. d_a is [channels, state_dim]. d_b and d_c are sums over the channels
// computed: threads that share a sequence need their own.
template <typename T>
struct SelectiveScanGradients {
  MatrixView<T> d_x, d_dt, d_a, d_b, d_c;
  T* d_d = nullptr;
};

// d_state, laid out like the state, holds the gradient by the final state on
// entry and by the initial state on return; null is zero, and nobody wants it.
void SelectiveScanBackward(const SelectiveScan<float>& s, const float* saved,
                           MatrixView<const float> d_y, float* d_state,
                           const SelectiveScanGradients<float>& gradients);
void SelectiveScanBackward(const SelectiveScan<double>& s, const double* saved,
                           MatrixView<const double> d_y, double* d_state,
                           const SelectiveScanGradients<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_H_
