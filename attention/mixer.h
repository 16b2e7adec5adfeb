// SPDX-License-Identifier: Apache-2.0
//
// The second face of a variant: a layer (batch, length, width) -> the same
// shape, with its projections, short convolutions, gates and norms, as its
// paper defines it. Models are built from mixers.

#ifndef MNEME_ATTENTION_MIXER_H_
#define MNEME_ATTENTION_MIXER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "attention/operator.h"
#include "attention/plugin/options.h"
#include "attention/tensor/ops.h"
#include "attention/tensor/tape.h"

namespace mneme {

// Everything a mixer is built from.
struct MixerConfig {
  int64_t width = 64;      // of the model
  int64_t heads = 2;       // divides width
  int64_t max_length = 0;  // longest sequence trained on
  int layer = 0;           // this one, and
  int layers = 1;          // how many: some initialisations depend on depth
  // Width of the causal depthwise convolution on queries, keys and values, for
  // mixers that have no short convolution of their own; 0 for none.
  int64_t short_conv = 0;
  Options options;   // the variant's
  std::string name;  // prefix of parameter names
  ParameterSet* parameters = nullptr;
};

// What the layers of a model hand to one another within one forward pass,
// besides the residual stream: the first layer's values, say, or a running sum.
// Keys are the variant's own.
using CrossLayer = std::map<std::string, Variable>;

// One pass through a layer.
struct MixerCall {
  Variable residual;  // [batch, length, width]
  Variable x;         // the same shape: the normalised residual
  // How the mechanism is computed.
  Form form = Form::kChunked;
  // From NewState with the same batch: the sequence continues where the last
  // call stopped. Null: it starts here. One call with the whole prompt and then
  // one per token is how a model decodes.
  CompositeState* state = nullptr;
  // Shared by the layers of this pass; never null.
  CrossLayer* shared = nullptr;
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  // residual + mix(x). Adding the residual here lets the output projection
  // accumulate onto it. Reads call.state->position(); the caller advances it.
  virtual Variable Forward(const MixerCall& call) const = 0;

  // Null for a mixer that cannot decode.
  virtual std::unique_ptr<CompositeState> NewState(int64_t batch,
                                                   DType dtype) const = 0;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_MIXER_H_
