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
#include <vector>

#include "attention/kernels/softmax_attention.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/attention_mixer.h"
#include "attention/parts/window_cache.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::AttentionMask;
using kernels::MatrixView;

enum Input { kQuery, kKey, kValue };

class SlidingWindowOperator : public Operator {
 public:
  explicit SlidingWindowOperator(const Options& options)
      : window_(options.Int("window")), chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLGK", "keys [batch, length, kv_heads, key_dim]"},
            {"v", "BLGV", "values [batch, length, kv_heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    auto* cache = static_cast<WindowCache*>(call->state);
    if (cache != nullptr && d.length == 1) {
      Decode(*call, cache);
      return absl::OkStatus();
    }
    Tensor keys = call->inputs[kKey], values = call->inputs[kValue];
    int64_t before = 0;  // keys before this call's first
    if (cache != nullptr) {
      before = cache->held();
      keys = cache->KeysThen(keys, call->arena);
      values = cache->ValuesThen(values, call->arena);
      cache->Append(call->inputs[kKey], call->inputs[kValue], 0, d.length);
    }
    Tensor lse;
    const DType dtype = call->output.dtype();
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t block = QueryBlock(call->form, d.length, chunk_);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t g) {
        const MatrixView<T> q = call->inputs[kQuery].Sequence<T>(b, h);
        const MatrixView<T> k = keys.Sequence<T>(b, g);
        const MatrixView<T> v = values.Sequence<T>(b, g);
        const MatrixView<T> o = call->output.Sequence<T>(b, h);
        T* head_lse = HeadRow<T>(lse, b, h);
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          const int64_t first =
              std::max<int64_t>(0, before + start - window_ + 1);
          const int64_t count = before + start + rows - first;
          kernels::SoftmaxAttentionForward(
              q.Rows(start, rows), k.Rows(first, count), v.Rows(first, count),
              ScoreScale<T>(d), Mask(before + start - first),
              o.Rows(start, rows),
              head_lse == nullptr ? nullptr : head_lse + start);
        }
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    Tensor to[3];
    for (Input i : {kQuery, kKey, kValue}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachHeadByGroup(call.pool, d, [&](int64_t b, int64_t h, int64_t g) {
        kernels::SoftmaxAttentionBackward(
            call.inputs[kQuery].Sequence<T>(b, h),
            call.inputs[kKey].Sequence<T>(b, g),
            call.inputs[kValue].Sequence<T>(b, g),
            call.output.Sequence<T>(b, h), HeadRow<T>(call.saved[0], b, h),
            d_output.Sequence<T>(b, h), ScoreScale<T>(d), Mask(0),
            to[kQuery].Sequence<T>(b, h), to[kKey].Sequence<T>(b, g),
            to[kValue].Sequence<T>(b, g));
      });
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

  Cost ForwardCost(const Dims& d, Form) const override {
    // The first tokens see 1, 2, ... keys, all others a full window.
    const double full = std::min(d.length, window_);
    const double pairs = static_cast<double>(d.batch) * d.heads *
                         (full * (full + 1) / 2 + (d.length - full) * full);
    Cost cost;
    cost.flops = 2 * pairs * (d.key_dim + d.value_dim);
    cost.exps = pairs;
    cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
                 (d.key_dim + d.value_dim) * (d.heads + d.kv_heads);
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    SoftmaxOracle(call, [&](int64_t, int64_t, int64_t i, int64_t j) {
      return j <= i && j > i - window_ ? 0.0 : -INFINITY;
    });
    return absl::OkStatus();
  }

 private:
  AttentionMask Mask(int64_t query_offset) const {
    AttentionMask mask;
    mask.window = window_;
    mask.query_offset = query_offset;
    return mask;
  }

  // One token: it sees all that the ring holds once it has joined it.
  static void Decode(const OperatorCall& call, WindowCache* cache) {
    cache->Append(call.inputs[kKey], call.inputs[kValue], 0, 1);
    AttentionMask all;
    all.causal = false;
    DispatchDType(call.output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call.pool, call.dims, [&](int64_t b, int64_t h, int64_t g) {
        kernels::SoftmaxAttentionForward(
            call.inputs[kQuery].Sequence<T>(b, h), cache->Keys<T>(b, g),
            cache->Values<T>(b, g), ScoreScale<T>(call.dims), all,
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
      /*grouped=*/true,
      {OptionSpec::Int("window", 16, 1, 1 << 20,
                       "keys a query sees, its own included"),
       OptionSpec::Int("chunk", 64, 1, 65536,
                       "query tokens a block in the chunked form")});
  d.variations = {{{"window", "1"}},
                  {{"window", "5"}, {"rope", "true"}, {"kv_heads", "1"}},
                  {{"window", "64"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
