// SPDX-License-Identifier: Apache-2.0
//
// The layer of Mamba-2 (arXiv 2405.21060), into which other papers put their
// own recurrence: convolutions and silu on (x, b, c), step sizes dt =
// softplus(u W + bias), transitions a < 0 and skips d for each head; after the
// recurrence RMSNorm(y * silu(z)) W_o, gated before it is normalised. The
// published code keeps (z, x, b, c, dt) in one matrix; here they are five,
// which is the same.

#ifndef MNEME_ATTENTION_PARTS_SSD_MIXER_H_
#define MNEME_ATTENTION_PARTS_SSD_MIXER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/mixer.h"
#include "attention/parts/short_conv.h"

namespace mneme {

// The layer's options but for the recurrence's own: expand, state_dim, conv.
std::vector<OptionSpec> SsdMixerOptions();

class SsdMixer : public Mixer {
 public:
  explicit SsdMixer(const MixerConfig& config);

  Variable Forward(const MixerCall& call) const final;
  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const final;

 protected:
  struct Inputs {
    Variable x;     // [batch, length, heads, value_dim]
    Variable b, c;  // [batch, length, key_dim], for all heads
    Variable dt;    // [batch, length, heads], > 0
    Variable a, d;  // [heads]; a < 0
  };

  // y [batch, length, heads, value_dim]; state is from NewMemory or null.
  virtual Variable Recur(const MixerCall& call, const Inputs& inputs,
                         State* state) const = 0;
  // Of the recurrence, for dims' batch, heads, key_dim and value_dim.
  virtual std::unique_ptr<State> NewMemory(const Dims& dims,
                                           DType dtype) const = 0;

 private:
  struct Path {  // one of x, b, c
    const Parameter* weight;
    ShortConv conv;
  };

  int64_t heads_, key_dim_, value_dim_;
  std::vector<Path> paths_;
  const Parameter *gate_, *step_, *step_bias_, *log_transition_, *skip_, *gain_,
      *out_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_SSD_MIXER_H_
