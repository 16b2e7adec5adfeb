// SPDX-License-Identifier: Apache-2.0
//
// The layer most papers share: three dense projections to queries, keys and
// values, each followed by an optional short convolution; an operator; and a
// dense projection back. A variant derives from it and overrides the hooks in
// which its paper differs; a variant with another skeleton implements Mixer.

#ifndef MNEME_ATTENTION_PARTS_QKV_MIXER_H_
#define MNEME_ATTENTION_PARTS_QKV_MIXER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "attention/kernels/vector_math.h"
#include "attention/mixer.h"
#include "attention/operator.h"
#include "attention/parts/short_conv.h"

namespace mneme {

class QkvMixer : public Mixer {
 public:
  struct Layout {
    int64_t heads = 1;
    int64_t kv_heads = 1;
    int64_t key_dim = 1;
    int64_t value_dim = 1;
    // Xavier gains of the projections; 0 for uniform on +-in^-1/2.
    double gain_in = 0;
    double gain_out = 0;
    // Taps of the short convolutions; EvenLayout takes the model's. A paper
    // that has its own sets them, and the function applied after them.
    int64_t short_conv = 0;
    absl::optional<kernels::Unary> conv_activation;
    // Sizes of the operator's own axes, for those whose state depends on them.
    std::map<char, int64_t> own;
  };
  // heads heads of width / heads each, for queries, keys and values alike.
  static Layout EvenLayout(const MixerConfig& config);

  // Parameters are query, key, value (and *_conv) and out under config.name.
  QkvMixer(const MixerConfig& config, std::unique_ptr<Operator> op,
           const Layout& layout);

  Variable Forward(const MixerCall& call) const final;
  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const final;

 protected:
  const Layout& layout() const { return layout_; }

  // Changes the operator's inputs before it sees them. On entry they are
  // queries, keys and values, [batch, length, heads, dim] each; feature maps,
  // norms and rotations replace them, gates computed from call.x are appended.
  // Token t stands at first_position + t.
  virtual void Prepare(const MixerCall& /*call*/, int64_t /*first_position*/,
                       std::vector<Variable>* /*inputs*/) const {}

  // Changes the operator's result o [batch, length, heads, value_dim] before
  // the output projection: norms and output gates. inputs are what the operator
  // was given.
  virtual Variable Finish(const MixerCall& /*call*/,
                          const std::vector<Variable>& /*inputs*/,
                          Variable o) const {
    return o;
  }

 private:
  struct Path {  // one of query, key, value
    const Parameter* weight;
    ShortConv conv;
    int64_t heads, dim;
  };

  std::unique_ptr<Operator> op_;
  Layout layout_;
  std::vector<Path> paths_;
  const Parameter* out_;
};

// A dense weight [in, out] named config.name.name: Xavier with the given gain,
// or uniform on +-in^-1/2, which most published layers start from.
const Parameter* AddDense(const MixerConfig& config, const std::string& name,
                          int64_t in, int64_t out, double xavier_gain = 0);

// A bias [out] for a weight [in, out], drawn as most published layers do: like
// the weight, uniform on +-in^-1/2.
const Parameter* AddBias(const MixerConfig& config, const std::string& name,
                         int64_t in, int64_t out);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_QKV_MIXER_H_
