// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention (arXiv 1706.03762) with grouped-query heads (2305.13245)
// and optional rotary positions (2104.09864):
//
//   o_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(key_dim)) v_j,
//
// query head h reads key/value head floor(h * kv_heads / heads). The exact
// memory: every pair ever seen is kept, so recall is perfect and the state
// grows with every token.

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/rotary.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::AttentionMask;
using kernels::MatrixView;

enum Input { kQuery, kKey, kValue };

class SoftmaxOperator : public Operator {
 public:
  explicit SoftmaxOperator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLGK", "keys [batch, length, kv_heads, key_dim]"},
            {"v", "BLGV", "values [batch, length, kv_heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    // Keys before this call's first; the cache takes the new ones first, so
    // that every form reads one contiguous history.
    auto* cache = static_cast<KeyValueCache*>(call->state);
    const int64_t before = cache == nullptr ? 0 : cache->tokens();
    if (cache != nullptr) {
      cache->Append(call->inputs[kKey], call->inputs[kValue]);
    }
    Tensor lse;  // [batch * heads, length]
    const DType dtype = call->output.dtype();
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch * d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t block = call->form == Form::kParallel  ? d.length
                          : call->form == Form::kChunked ? chunk_
                                                         : 1;
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(*call, [&](int64_t b, int64_t h, int64_t g) {
        const MatrixView<T> q = call->inputs[kQuery].Sequence<T>(b, h);
        const MatrixView<T> o = call->output.Sequence<T>(b, h);
        const MatrixView<const T> k =
            cache != nullptr ? cache->Keys<T>(b, g)
                             : call->inputs[kKey].Sequence<T>(b, g);
        const MatrixView<const T> v =
            cache != nullptr ? cache->Values<T>(b, g)
                             : call->inputs[kValue].Sequence<T>(b, g);
        T* head_lse = lse.empty()
                          ? nullptr
                          : lse.data<T>() + (b * d.heads + h) * d.length;
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          AttentionMask mask;
          mask.query_offset = before + start;
          const size_t keys = before + start + rows;
          kernels::SoftmaxAttentionForward(
              q.Rows(start, rows), k.Rows(0, keys), v.Rows(0, keys),
              ScaleOf<T>(d), mask, o.Rows(start, rows),
              head_lse == nullptr ? nullptr : head_lse + start);
        }
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      // A gradient nobody wants still has to go somewhere.
      Tensor targets[3];
      for (int i = 0; i < 3; ++i) {
        targets[i] = d_inputs[i].empty()
                         ? Tensor(d_output.dtype(), call.inputs[i].shape())
                         : d_inputs[i];
      }
      // Heads of a group add to the same d_k and d_v, so a group is one task.
      const int64_t group = d.heads / d.kv_heads;
      kernels::ParallelFor(call.pool, d.batch * d.kv_heads, [&](size_t i, int) {
        const int64_t b = i / d.kv_heads, g = i % d.kv_heads;
        for (int64_t h = g * group; h < (g + 1) * group; ++h) {
          kernels::SoftmaxAttentionBackward(
              call.inputs[kQuery].Sequence<T>(b, h),
              call.inputs[kKey].Sequence<T>(b, g),
              call.inputs[kValue].Sequence<T>(b, g),
              call.output.Sequence<T>(b, h),
              call.saved[0].data<T>() + (b * d.heads + h) * d.length,
              d_output.Sequence<T>(b, h), ScaleOf<T>(d), AttentionMask(),
              targets[kQuery].Sequence<T>(b, h),
              targets[kKey].Sequence<T>(b, g),
              targets[kValue].Sequence<T>(b, g));
        }
      });
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<KeyValueCache>(dtype, d.batch, d.kv_heads,
                                           d.key_dim, d.value_dim);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.length * d.kv_heads *
           (d.key_dim + d.value_dim);
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double pairs = 0.5 * d.batch * d.heads * d.length * (d.length + 1.0);
    Cost cost;
    cost.flops = 2 * pairs * (d.key_dim + d.value_dim);
    cost.exps = pairs;
    cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
                 (d.key_dim + d.value_dim) * (d.heads + d.kv_heads);
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const int64_t g = h * d.kv_heads / d.heads;
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, g);
        const auto v = call.inputs[kValue].Sequence<double>(b, g);
        const auto o = call.output.Sequence<double>(b, h);
        for (int64_t i = 0; i < d.length; ++i) {
          std::vector<double> weight(i + 1);
          double total = 0, top = -INFINITY;
          for (int64_t j = 0; j <= i; ++j) {
            for (int64_t c = 0; c < d.key_dim; ++c) {
              weight[j] += q(i, c) * k(j, c);
            }
            weight[j] /= std::sqrt(static_cast<double>(d.key_dim));
            top = std::max(top, weight[j]);
          }
          for (double& w : weight) total += w = std::exp(w - top);
          for (int64_t c = 0; c < d.value_dim; ++c) {
            o(i, c) = 0;
            for (int64_t j = 0; j <= i; ++j) {
              o(i, c) += weight[j] / total * v(j, c);
            }
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  template <typename T>
  static T ScaleOf(const Dims& d) {
    return static_cast<T>(1 / std::sqrt(static_cast<double>(d.key_dim)));
  }

  // run(b, h, g) for every query head h and the key/value head g it reads.
  template <typename Run>
  static void ForEachHead(const OperatorCall& call, const Run& run) {
    const Dims& d = call.dims;
    kernels::ParallelFor(call.pool, d.batch * d.heads, [&](size_t i, int) {
      const int64_t h = i % d.heads;
      run(i / d.heads, h, h * d.kv_heads / d.heads);
    });
  }

  int64_t chunk_;
};

class SoftmaxMixer : public QkvMixer {
 public:
  SoftmaxMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<SoftmaxOperator>(config.options),
                 layout) {
    if (config.options.Bool("rope")) {
      frequencies_ = kernels::RotaryFrequencies(
          layout.key_dim, config.options.Real("rope_base"));
    }
  }

 protected:
  // Keys are cached turned: a rotation by position never changes again.
  void Prepare(const MixerCall&, int64_t first_position,
               std::vector<Variable>* inputs) const override {
    if (frequencies_.empty()) return;
    for (Input i : {kQuery, kKey}) {
      (*inputs)[i] = Rotary((*inputs)[i], frequencies_,
                            kernels::RotaryPairing::kHalves, first_position);
    }
  }

 private:
  std::vector<double> frequencies_;  // empty without rotary positions
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<SoftmaxOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  if (const int64_t kv_heads = config.options.Int("kv_heads"); kv_heads != 0) {
    layout.kv_heads = kv_heads;
  }
  if (layout.heads % layout.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: kv_heads = ", layout.kv_heads,
                     " must divide the model's heads = ", layout.heads));
  }
  if (config.options.Bool("rope") && layout.key_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("softmax: rope turns pairs, so the head width must be "
                     "even, not ",
                     layout.key_dim));
  }
  return std::make_unique<SoftmaxMixer>(config, layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "softmax";
  d.title = "Softmax attention";
  d.family = "softmax";
  d.paper = "arXiv 1706.03762";
  d.summary = "exact attention over every token seen; the memory grows";
  d.tolerance = 2e-6;
  d.options = {
      OptionSpec::Int("kv_heads", 0, 0, 1024,
                      "key/value heads, shared by groups of query heads; 0: as "
                      "many as query heads"),
      OptionSpec::Bool("rope", false, "rotary positions on queries and keys"),
      OptionSpec::Real("rope_base", 10000, 1, 1e9, "base of rotary angles"),
      OptionSpec::Int("chunk", 64, 1, 65536,
                      "query tokens a block in the chunked form")};
  d.variations = {{{"rope", "true"}},
                  {{"kv_heads", "1"}},
                  {{"rope", "true"}, {"kv_heads", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
