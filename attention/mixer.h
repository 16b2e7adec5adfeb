// SPDX-License-Identifier: Apache-2.0
//
// The second face of a variant: a layer (batch, length, width) -> the same
// shape, with its projections, short convolutions, gates and norms, as its
// paper defines it. Models are built from mixers.

#ifndef MNEME_ATTENTION_MIXER_H_
#define MNEME_ATTENTION_MIXER_H_

#include <cstdint>
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

class Mixer {
 public:
  virtual ~Mixer() = default;

  // x [batch, length, width] -> residual + mix(x), same shape. Adding the
  // residual here lets the output projection accumulate onto it. form chooses
  // how the mechanism is computed. With a state (from NewState, same batch) the
  // sequence continues where the last call stopped; one call with the whole
  // prompt and then one per token is how a model decodes.
  virtual Variable Forward(Variable residual, Variable x, Form form,
                           CompositeState* state) const = 0;

  virtual std::unique_ptr<CompositeState> NewState(int64_t batch,
                                                   DType dtype) const = 0;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_MIXER_H_
