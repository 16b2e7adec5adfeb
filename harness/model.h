// SPDX-License-Identifier: Apache-2.0
//
// The backbone every variant is compared in: token embedding, pre-norm blocks
// of mixer and optional MLP, a final norm, and a head tied to the embedding.
//
//   x = dropout(E[tokens] (+ P[positions]))
//   for each layer:  x = x + mixer(norm(x));  x = x + mlp(norm(x))
//   logits = norm(x) E^T, only at the rows that are scored
//
// where mlp(y) is W2 gelu(W1 y + b), or SwiGLU (arXiv 2002.05202), W2 (silu(W3
// y)
// * W1 y), or y itself: Zoology's blocks "without an MLP" (arXiv 2312.04927)
// are those, and by its scale the added norm decides how much first embeddings
// count.
//
// Nothing but the mixer moves information between tokens.

#ifndef MNEME_HARNESS_MODEL_H_
#define MNEME_HARNESS_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attention/plugin/options.h"
#include "attention/tensor/tape.h"
#include "attention/variant.h"

namespace mneme {

// The backbone's own settings, as in `--set model.width=64`.
const std::vector<OptionSpec>& ModelOptionSpecs();

// The decoding state of all layers.
class ModelState {
 public:
  explicit ModelState(std::vector<std::unique_ptr<CompositeState>> layers)
      : layers_(std::move(layers)) {}
  CompositeState* layer(size_t i) const { return layers_[i].get(); }
  // Bytes of all layers, measured by serialising them.
  int64_t SerializedBytes() const;
  // What that will be after `tokens` tokens.
  int64_t BytesAfter(int64_t tokens) const;

 private:
  std::vector<std::unique_ptr<CompositeState>> layers_;
};

// Where a model reads its predictions from.
enum class Readout {
  // The hidden state of the position itself.
  kEachPosition,
  // That of the sequence's last position, whatever position is asked for: the
  // whole sequence must be in that one vector. A sinusoid says which position
  // is meant, and an MLP of one hidden layer takes both apart, as the decoder
  // of MAD's compression task does (arXiv 2403.17844).
  kLastPosition,
};

class Model {
 public:
  // Builds and initialises a model for `vocabulary` tokens and sequences of up
  // to max_length. InvalidArgument when the options contradict each other.
  static absl::StatusOr<std::unique_ptr<Model>> Create(
      const Variant& variant, const Options& variant_options,
      const Options& model_options, int64_t vocabulary, int64_t max_length,
      DType dtype, uint64_t seed, Readout readout = Readout::kEachPosition);

  // What dropout draws in training: see Dropout in ops.h.
  struct Noise {
    uint64_t seed;
    uint64_t first;  // no two sequences of a training have the same number
  };

  // Final hidden rows [batch, length, width] for batch * length tokens.
  // state is null, or continues from earlier tokens of the same sequences.
  // Without noise nothing is dropped.
  Variable Hidden(Tape* tape, absl::Span<const int32_t> tokens, int64_t batch,
                  int64_t length, Form form, ModelState* state,
                  const Noise* noise = nullptr) const;

  // Logits [rows.size(), vocabulary] of the given rows of hidden, which are
  // numbered through the batch.
  Variable Logits(Variable hidden, absl::Span<const int64_t> rows) const;

  // Null when some mixer cannot decode.
  std::unique_ptr<ModelState> NewState(int64_t batch) const;

  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }

 private:
  struct NormWeights {
    const Parameter* gain = nullptr;
    const Parameter* bias = nullptr;  // may be null
  };
  struct Block {
    NormWeights mixer_norm;
    std::unique_ptr<Mixer> mixer;
    // Without an MLP all of these are null; where the norm stands in its place,
    // all but mlp_norm.
    NormWeights mlp_norm;
    const Parameter* mlp_in = nullptr;
    const Parameter* mlp_gate = nullptr;  // of the gated one, in bias's place
    const Parameter* mlp_bias = nullptr;
    const Parameter* mlp_out = nullptr;
  };

  Model(DType dtype, uint64_t seed) : parameters_(dtype, seed) {}
  NormWeights AddNorm(const std::string& name, const Options& options);
  Variable Normalised(Variable x, const NormWeights& norm) const;
  // For rows that name positions, what the last position knows of them.
  Variable FromLastPosition(Variable hidden,
                            absl::Span<const int64_t> rows) const;

  ParameterSet parameters_;
  const Parameter* embedding_ = nullptr;
  const Parameter* positions_ = nullptr;  // null without learned positions
  NormWeights final_norm_;
  double embedding_dropout_ = 0;
  std::vector<Block> blocks_;
  // Of Readout::kLastPosition; null without.
  const Parameter* readout_in_ = nullptr;
  const Parameter* readout_bias_ = nullptr;
  const Parameter* readout_out_ = nullptr;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_MODEL_H_
