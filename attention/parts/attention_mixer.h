// SPDX-License-Identifier: Apache-2.0
//
// The layer of mechanisms that replace softmax attention and nothing around it:
// projections, optional rotary positions (arXiv 2104.09864) on queries and
// keys, the operator, a projection back. With grouped-query heads (2305.13245)
// where the operator has them.

#ifndef MNEME_ATTENTION_PARTS_ATTENTION_MIXER_H_
#define MNEME_ATTENTION_PARTS_ATTENTION_MIXER_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/mixer.h"
#include "attention/operator.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/plugin/options.h"

namespace mneme {

// Takes the options below. Derived layers add inputs to the operator's.
class AttentionMixer : public QkvMixer {
 public:
  AttentionMixer(const MixerConfig& config, std::unique_ptr<Operator> op,
                 const Layout& layout);

  // Heads as the options say. InvalidArgument, naming the variant, for heads
  // that do not fit.
  static absl::StatusOr<Layout> LayoutOf(const MixerConfig& config,
                                         absl::string_view variant,
                                         bool grouped);

 protected:
  // Turns queries and keys. Keys are cached turned: a rotation by position
  // never changes again.
  void Prepare(const MixerCall& call, int64_t first_position,
               std::vector<Variable>* inputs) const override;

 private:
  std::vector<double> frequencies_;  // empty without rotary positions
};

// Options rope, rope_base and, if grouped, kv_heads; followed by `others`.
std::vector<OptionSpec> AttentionMixerOptions(bool grouped,
                                              std::vector<OptionSpec> others);

// Option `chunk` of operators whose chunked form takes queries by blocks.
OptionSpec ChunkOption();

// The layer around op, which takes q, k and v and the options above; or the
// error of LayoutOf.
absl::StatusOr<std::unique_ptr<Mixer>> MakeAttentionMixer(
    const MixerConfig& config, absl::string_view variant, bool grouped,
    std::unique_ptr<Operator> op);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_ATTENTION_MIXER_H_
