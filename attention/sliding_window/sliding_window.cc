// SPDX-License-Identifier: Apache-2.0
//
// Sliding window attention (Longformer, arXiv 2004.05150; as the causal layer
// of Mistral 7B, 2310.06825): softmax attention over the last `window` tokens,
// the query's own included, exactly window keys and not one more,
//
//   o_i = sum_{i - window < j <= i} softmax_j(q_i . k_j / sqrt(key_dim)) v_j.
//
// What leaves the window is forgotten for good, so the state stops growing at
// `window` tokens; a stack of n layers sees n (window - 1) tokens back.
// Decoding keeps a ring of keys and values: the sum over keys has no order, so
// the ring is read where it lies.

#include <algorithm>
#include <cmath>
#include <memory>

#include "attention/kernels/softmax_attention.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/attention_mixer.h"
#include "attention/parts/attention_operator.h"
#include "attention/parts/window_cache.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::AttentionMask;

class SlidingWindowOperator : public AttentionOperator {
 public:
  explicit SlidingWindowOperator(const Options& options)
      : window_(options.Int("window")), chunk_(options.Int("chunk")) {}

  absl::Status Forward(OperatorCall* call) const override {
    auto* cache = static_cast<WindowCache*>(call->state);
    const Tensor &keys = call->inputs[kKey], &values = call->inputs[kValue];
    const int64_t length = call->dims.length;
    if (cache != nullptr && length == 1) {
      cache->Append(keys, values, 0, 1);
      ReadRing(*call, *cache);
      return absl::OkStatus();
    }
    KeysSeen seen(keys, values, /*before=*/0);
    if (cache != nullptr) {
      seen = KeysSeen(cache->KeysThen(keys, call->arena),
                      cache->ValuesThen(values, call->arena), cache->held());
      cache->Append(keys, values, 0, length);
    }
    const int64_t block = QueryBlock(call->form, length, chunk_);
    ForwardHeads(call, seen, [&](const auto& head) {
      for (int64_t start = 0; start < length; start += block) {
        const int64_t rows = std::min(block, length - start);
        const int64_t at = seen.before() + start;
        const int64_t first = std::max<int64_t>(0, at - window_ + 1);
        const int64_t count = at + rows - first;
        head.Forward(start, rows, head.k.Rows(first, count),
                     head.v.Rows(first, count), Mask(at - first));
      }
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    BackwardHeads(call, d_output, d_inputs, [&](const auto& head) {
      head.Backward(0, call.dims.length, head.k, head.v, Mask(0), head.d_k,
                    head.d_v);
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<WindowCache>(dtype, d.batch, d.kv_heads, d.key_dim,
                                         d.value_dim, window_);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * std::min(d.length, window_) * d.kv_heads *
           (d.key_dim + d.value_dim);
  }

  absl::Status Reference(const OperatorCall& call) const override {
    SoftmaxOracle(call, [&](int64_t, int64_t, int64_t i, int64_t j) {
      return j <= i && j > i - window_ ? 0.0 : -INFINITY;
    });
    return absl::OkStatus();
  }

 protected:
  double Pairs(const Dims& d) const override {
    // The first tokens see 1, 2, ... keys, all others a full window.
    const double full = std::min(d.length, window_);
    return full * (full + 1) / 2 + (d.length - full) * full;
  }

 private:
  AttentionMask Mask(int64_t query_offset) const {
    AttentionMask mask = CausalFrom(query_offset);
    mask.window = window_;
    return mask;
  }

  // One token, which has joined the ring: it sees all that the ring holds.
  static void ReadRing(const OperatorCall& call, const WindowCache& ring) {
    DispatchDType(call.output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call.pool, call.dims, [&](int64_t b, int64_t h, int64_t g) {
        kernels::SoftmaxAttentionForward(
            call.inputs[kQuery].Sequence<T>(b, h), ring.Keys<T>(b, g),
            ring.Values<T>(b, g), ScoreScale<T>(call.dims), Everything(),
            call.output.Sequence<T>(b, h), nullptr);
      });
    });
  }

  int64_t window_, chunk_;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<SlidingWindowOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  return MakeAttentionMixer(
      config, "sliding_window", /*grouped=*/true,
      std::make_unique<SlidingWindowOperator>(config.options));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "sliding_window";
  d.title = "Sliding window attention";
  d.family = "softmax";
  d.paper = "arXiv 2004.05150";
  d.summary = "exact attention over the last few tokens, nothing before them";
  d.tolerance = 5e-7;
  d.options = AttentionMixerOptions(
      /*grouped=*/true, {OptionSpec::Int("window", 16, 1, 1 << 20,
                                         "keys a query sees, its own included"),
                         ChunkOption()});
  d.variations = {{{"window", "1"}},
                  {{"window", "5"}, {"rope", "true"}, {"kv_heads", "1"}},
                  {{"window", "64"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
