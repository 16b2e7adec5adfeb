// SPDX-License-Identifier: Apache-2.0
//
// Hyena's filter (arXiv 2302.10866, section 3.3): a function of the position,
// not a table, so its parameters do not grow with its length. Position t of L =
// max_length, as u = t / (L - 1) and with the phase p = 1e-4 * 2 pi t / L, has
// for channel c of n
//
//   h[t, c] = (W_4 s(W_3 s(W_2 s(W_1 (u, cos p, -sin p)))))_c e^{-u delta_c},
//   s(x) = sin(frequency * x),
//
// where W_1 to W_3 have biases, the one frequency vector serves all three
// sines, and delta rises evenly over the channels from -ln(0.01) / 1.5 to
// -ln(0.01) / 0.3: the slowest channel has decayed to 1% after 1.5 L tokens,
// the fastest after 0.3 L. It depends on L and never on how many rows are asked
// for. The positions' features are trained too, a hundred times slower, as
// published (1e-5 beside 1e-3); so there are none beyond L.
//
// Three features and frequencies that start at 1 are the published code's
// defaults. Its configurations have 5 and 10 for recall, 33 and 14 for
// language, and its models draw all dense weights again from N(0, 0.02^2), with
// biases at zero; here both start uniform, +-in^-1/2.

#ifndef MNEME_ATTENTION_HYENA_IMPLICIT_FILTER_H_
#define MNEME_ATTENTION_HYENA_IMPLICIT_FILTER_H_

#include <cstdint>
#include <vector>

#include "attention/mixer.h"
#include "attention/tensor/tape.h"

namespace mneme {

class ImplicitFilter {
 public:
  // config.max_length rows, a channel for each of config.width; the network is
  // hidden_width wide, all its frequencies start as `frequency`. Parameters are
  // called filter_* under config.name.
  ImplicitFilter(const MixerConfig& config, int64_t hidden_width,
                 double frequency);

  int64_t max_length() const { return window_.dim(0); }

  // The first `length` rows [length, config.width]; length <= max_length().
  Variable Rows(Tape* tape, int64_t length) const;

 private:
  struct Layer {
    const Parameter *weight, *bias;
  };
  const Parameter* positions_;  // [max_length, 3]
  std::vector<Layer> layers_;
  const Parameter *frequency_, *out_;
  Tensor window_;  // e^{-u delta}, [max_length, width]
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_HYENA_IMPLICIT_FILTER_H_
