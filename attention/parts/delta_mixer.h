// SPDX-License-Identifier: Apache-2.0
//
// The layer of the delta rule's papers: queries, keys and values through a
// short convolution of four taps and silu; queries and keys normalised to unit
// length; write strengths beta = sigmoid(x W_b), one a head; and a normalised
// (RMS, with gain), possibly gated, output. What is initially what follows the
// authors' code, flash-linear-attention.

#ifndef MNEME_ATTENTION_PARTS_DELTA_MIXER_H_
#define MNEME_ATTENTION_PARTS_DELTA_MIXER_H_

#include <vector>

#include "attention/parts/delta_operator.h"
#include "attention/parts/qkv_mixer.h"

namespace mneme {

class DeltaMixer : public QkvMixer {
 public:
  // Reads options "chunk", "negative_eigenvalues" and "value_factor", which are
  // to be declared with Specs; value_factor has the given default.
  DeltaMixer(const MixerConfig& config, DeltaDecay decay);
  static std::vector<OptionSpec> Specs(int64_t value_factor);

 protected:
  // Log decays computed from call.x, shaped as the operator takes them. Not
  // called for DeltaDecay::kNone.
  virtual Variable LogDecay(const MixerCall& /*call*/) const { return {}; }

  // The output gate; normed is [batch, length, heads, value_dim].
  virtual Variable Gate(const MixerCall& /*call*/, Variable normed) const {
    return normed;
  }

 private:
  void Prepare(const MixerCall& call, int64_t first_position,
               std::vector<Variable>* inputs) const final;
  Variable Finish(const MixerCall& call, const std::vector<Variable>& inputs,
                  Variable o) const final;

  DeltaDecay decay_;
  double strength_;  // the largest beta
  const Parameter* beta_;
  const Parameter* norm_;
};

// -e^{rate_h} steps: log decays from positive steps [batch, length, heads * n]
// and one rate a head.
Variable StepsToLogDecay(Variable steps, Variable rate);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_DELTA_MIXER_H_
