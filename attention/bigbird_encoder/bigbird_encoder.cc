// SPDX-License-Identifier: Apache-2.0
//
// BigBird (arXiv 2007.14062) as published, an encoder: softmax attention, in
// both directions, between blocks of b tokens. With n blocks,
//
//   blocks seen from block i  =  all   if i = 0 or i = n - 1, otherwise
//                                {0, n - 1} u {i - 1, i, i + 1} u R_i:
//
// the first and the last block are global, as rows that see everything and as
// columns that everything sees; between them stands a window of three blocks,
// and R_i holds `random` distinct blocks drawn, for each head, layer and i,
// from those that neither window nor global columns cover. As in the published
// plan, block 1 does not draw block n - 2, nor n - 2 block 1. A set: where a
// short sequence makes the kinds meet, no block is counted twice.
//
// The published plan draws only among the first 1024 tokens when a sequence has
// 1024, 2048, 3072 or 4096; here all blocks are candidates at every length. The
// paper's blocks hold 64 tokens; the default is smaller, for short sequences.
// Every output depends on the whole sequence: there is no state to decode from.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "attention/parts/attention_mixer.h"
#include "attention/parts/block_attention.h"
#include "attention/variant.h"

namespace mneme {
namespace {

class BigBirdEncoderOperator : public BlockAttention {
 public:
  BigBirdEncoderOperator(const Options& options, int layer)
      : BlockAttention(options, "bigbird_encoder", layer, /*causal=*/false) {}

  absl::Status Forward(OperatorCall* call) const override {
    if (absl::Status s = RefuseState(*call); !s.ok()) return s;
    return BlockAttention::Forward(call);
  }

  std::unique_ptr<State> NewState(const Dims&, DType) const override {
    return nullptr;
  }
  int64_t StateBytes(const Dims&) const override { return 0; }

  absl::Status Reference(const OperatorCall& call) const override {
    const int64_t last = (call.dims.length - 1) / block();
    SoftmaxOracle(call, [&](int64_t, int64_t h, int64_t i, int64_t j) {
      const int64_t from = i / block(), to = j / block();
      const bool global = from == 0 || from == last || to == 0 || to == last;
      if (global || std::abs(from - to) <= 1) return 0.0f;
      const std::vector<int64_t> random = RandomBlocks(h, from, last + 1);
      return std::count(random.begin(), random.end(), to) > 0 ? 0.0f
                                                              : -INFINITY;
    });
    return absl::OkStatus();
  }

 protected:
  std::vector<int64_t> BlocksSeen(int64_t head, int64_t i,
                                  int64_t blocks) const override {
    std::vector<int64_t> seen;
    if (i == 0 || i == blocks - 1) {
      seen.resize(blocks);
      std::iota(seen.begin(), seen.end(), 0);
      return seen;
    }
    seen = RandomBlocks(head, i, blocks);
    seen.insert(seen.end(), {0, i - 1, i, i + 1, blocks - 1});
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    return seen;
  }

 private:
  // R_i of a block that is not global.
  std::vector<int64_t> RandomBlocks(int64_t head, int64_t i,
                                    int64_t blocks) const {
    std::vector<int64_t> candidates;
    for (int64_t to = 1; to < blocks - 1; ++to) {
      const bool opposite =
          (i == 1 && to == blocks - 2) || (i == blocks - 2 && to == 1);
      if (std::abs(to - i) > 1 && !opposite) candidates.push_back(to);
    }
    std::vector<int64_t> random;
    for (uint64_t c : Drawn(head, i, candidates.size())) {
      random.push_back(candidates[c]);
    }
    return random;
  }
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<BigBirdEncoderOperator>(options, /*layer=*/0);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  return MakeAttentionMixer(
      config, "bigbird_encoder", /*grouped=*/true,
      std::make_unique<BigBirdEncoderOperator>(config.options, config.layer));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "bigbird_encoder";
  d.title = "BigBird (encoder)";
  d.family = "softmax";
  d.paper = "arXiv 2007.14062";
  d.summary = "global, nearby and randomly drawn blocks, in both directions";
  d.causal = false;
  d.streaming = false;
  d.exact = false;
  // Measured 6.6e-7 with AVX2; AVX-512 has half of that.
  d.tolerance = 1e-6;
  d.options =
      AttentionMixerOptions(/*grouped=*/true, BlockAttention::BlockOptions());
  d.variations = {{{"block", "2"}, {"random", "2"}, {"kv_heads", "1"}},
                  {{"block", "1"}, {"random", "0"}, {"rope", "true"}},
                  {{"block", "3"}, {"random", "1"}, {"seed", "7"}}};
  // At 59 nearly every query of 512 tokens sees all blocks: the second and the
  // last but one never see each other.
  d.approximations = {{/*of=*/kFullSoftmax,
                       /*knob=*/"random",
                       /*sizes=*/{0, 1, 2, 4, 8, 16, 32, 48, 59},
                       /*fixed=*/{{"block", "8"}}}};
  d.redraw = "seed";
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
