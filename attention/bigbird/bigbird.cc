// SPDX-License-Identifier: Apache-2.0
//
// BigBird (arXiv 2007.14062), causal: softmax attention between blocks of b
// tokens, of which a query sees a few,
//
//   blocks seen from block i  =  {0} u {i - 1, i} u R_i,
//
// the first as the global one, its own (up to the token itself) and the one
// before it as the window, and R_i, `random` distinct blocks drawn from
// 1, ..., i - 2 for each head, layer and i. A set: near the start, where the
// three kinds meet, no block is counted twice.
//
// The paper's pattern is an encoder's: global rows that see everything, a
// window to both sides, the last block global too. Its published decoder uses
// full attention instead. What stands here is that pattern restricted to the
// past. Any earlier block may be drawn later on, so a decoder keeps all keys:
// work per token is bounded, memory is not.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "attention/parts/attention_mixer.h"
#include "attention/parts/block_attention.h"
#include "attention/variant.h"

namespace mneme {
namespace {

class BigBirdOperator : public BlockAttention {
 public:
  BigBirdOperator(const Options& options, int layer)
      : BlockAttention(options, "bigbird", layer, /*causal=*/true) {}

  absl::Status Reference(const OperatorCall& call) const override {
    SoftmaxOracle(call, [&](int64_t, int64_t h, int64_t i, int64_t j) {
      const int64_t to = j / block(), from = i / block();
      if (j > i) return -INFINITY;
      if (to == 0 || to == from || to == from - 1) return 0.0f;
      const std::vector<uint64_t> drawn = FromOne(h, from);
      return std::count(drawn.begin(), drawn.end(), to - 1) > 0 ? 0.0f
                                                                : -INFINITY;
    });
    return absl::OkStatus();
  }

 protected:
  std::vector<int64_t> BlocksSeen(int64_t head, int64_t i,
                                  int64_t) const override {
    std::vector<int64_t> seen = {0, std::max<int64_t>(0, i - 1), i};
    for (uint64_t block : FromOne(head, i)) seen.push_back(block + 1);
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    return seen;
  }

 private:
  // R_i less 1: blocks 1, ..., i - 2 are numbered from 0 on.
  std::vector<uint64_t> FromOne(int64_t head, int64_t i) const {
    return Drawn(head, i, std::max<int64_t>(0, i - 2));
  }
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<BigBirdOperator>(options, /*layer=*/0);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  return MakeAttentionMixer(
      config, "bigbird", /*grouped=*/true,
      std::make_unique<BigBirdOperator>(config.options, config.layer));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "bigbird";
  d.title = "BigBird (causal)";
  d.family = "softmax";
  d.paper = "arXiv 2007.14062";
  d.summary = "attention to the first, nearby and randomly drawn blocks";
  d.exact = false;
  d.tolerance = 5e-7;
  d.options =
      AttentionMixerOptions(/*grouped=*/true, BlockAttention::BlockOptions());
  d.variations = {{{"block", "2"}, {"random", "2"}, {"kv_heads", "1"}},
                  {{"block", "1"}, {"random", "0"}, {"rope", "true"}},
                  {{"block", "3"}, {"random", "1"}, {"seed", "7"}}};
  // At 61 every query of 512 tokens sees all blocks before it.
  d.approximations = {{/*of=*/"softmax",
                       /*knob=*/"random",
                       /*sizes=*/{0, 1, 2, 4, 8, 16, 32, 48, 61},
                       /*fixed=*/{{"block", "8"}}}};
  d.redraw = "seed";
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
