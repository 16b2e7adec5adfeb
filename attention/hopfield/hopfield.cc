// SPDX-License-Identifier: Apache-2.0
//
// Modern Hopfield retrieval (arXiv 2008.02217): a state pattern xi, at first
// the query, moves towards the stored patterns, the keys so far, `updates`
// times,
//
//   xi^0 = q_i,   p^s = softmax_{j <= i}(beta k_j . xi^{s-1}),
//   xi^s = sum_j p^s_j k_j,   o_i = sum_j p^updates_j v_j:
//
// the last update's association reads the values instead of the keys. One
// update is softmax attention. Every update lowers the energy
//
//   E(xi) = -log(sum_j exp(beta k_j . xi)) / beta + |xi|^2 / 2
//
// or leaves it: the concave-convex procedure (hopfield_test.cc watches it). The
// patterns of a token never change afterwards, so a cache of keys and values is
// the state.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::AttentionMask;
using kernels::MatrixView;

enum Input { kQuery, kKey, kValue };

class HopfieldOperator : public Operator {
 public:
  explicit HopfieldOperator(const Options& options)
      : updates_(options.Int("updates")),
        beta_(options.Real("beta")),
        chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "state patterns [batch, length, heads, key_dim]"},
            {"k", "BLHK", "stored patterns [batch, length, heads, key_dim]"},
            {"v", "BLHV", "their values [batch, length, heads, value_dim]"}};
  }

  // Keeps xi^1 ... xi^(updates - 1), then every update's log-sum-exps.
  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    const DType dtype = call->output.dtype();
    auto* cache = static_cast<KeyValueCache*>(call->state);
    const int64_t before = cache == nullptr ? 0 : cache->tokens();
    if (cache != nullptr) {
      cache->Append(call->inputs[kKey], call->inputs[kValue]);
    }
    std::vector<Tensor> states, lse;
    for (int64_t s = 0; s < updates_; ++s) {
      if (s > 0) {
        states.emplace_back(call->arena, dtype, call->inputs[kQuery].shape());
      }
      lse.emplace_back(call->arena, dtype,
                       Shape({d.batch * d.heads, d.length}));
    }
    const int64_t block = ChunkOf(call->form, d.length, chunk_);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      kernels::ParallelFor(call->pool, d.batch * d.heads, [&](size_t i, int) {
        const int64_t b = i / d.heads, h = i % d.heads;
        const MatrixView<const T> k =
            cache != nullptr ? cache->Keys<T>(b, h)
                             : call->inputs[kKey].Sequence<T>(b, h);
        const MatrixView<const T> v =
            cache != nullptr ? cache->Values<T>(b, h)
                             : call->inputs[kValue].Sequence<T>(b, h);
        MatrixView<const T> from = call->inputs[kQuery].Sequence<T>(b, h);
        for (int64_t s = 0; s < updates_; ++s) {
          const bool last = s + 1 == updates_;
          const MatrixView<T> to =
              (last ? call->output : states[s]).Sequence<T>(b, h);
          for (int64_t start = 0; start < d.length; start += block) {
            const int64_t rows = std::min(block, d.length - start);
            AttentionMask mask;
            mask.query_offset = before + start;
            const size_t seen = before + start + rows;
            kernels::SoftmaxAttentionForward(
                from.Rows(start, rows), k.Rows(0, seen),
                (last ? v : k).Rows(0, seen), Beta<T>(d), mask,
                to.Rows(start, rows), lse[s].data<T>() + i * d.length + start);
          }
          from = to;
        }
      });
    });
    if (call->keep) {
      call->saved = states;
      call->saved.insert(call->saved.end(), lse.begin(), lse.end());
    }
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      Tensor targets[3];  // a gradient nobody wants still has to go somewhere
      for (Input i : {kQuery, kKey, kValue}) {
        targets[i] = d_inputs[i].empty()
                         ? Tensor(d_output.dtype(), call.inputs[i].shape())
                         : d_inputs[i];
      }
      kernels::ParallelFor(call.pool, d.batch * d.heads, [&](size_t i, int) {
        BackwardHead<T>(call, d_output, targets, i / d.heads, i % d.heads);
      });
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<KeyValueCache>(dtype, d.batch, d.heads, d.key_dim,
                                           d.value_dim);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.length * d.heads *
           (d.key_dim + d.value_dim);
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double pairs = 0.5 * d.batch * d.heads * d.length * (d.length + 1.0);
    Cost cost;
    cost.flops = 2 * pairs * ((2 * updates_ - 1.0) * d.key_dim + d.value_dim);
    cost.exps = pairs * updates_;
    cost.bytes = sizeof(float) * 2.0 * d.batch * d.length * d.heads *
                 (d.key_dim + d.value_dim);
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    // Every update's scores once more.
    cost.flops += 1.0 * d.batch * d.heads * d.length * (d.length + 1.0) *
                  updates_ * d.key_dim;
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const double beta = Beta<double>(d);
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        for (int64_t i = 0; i < d.length; ++i) {
          std::vector<double> xi(q.row(i), q.row(i) + d.key_dim);
          std::vector<double> p(i + 1);
          for (int64_t s = 0; s < updates_; ++s) {
            if (s > 0) {  // xi moves by the association before this one
              for (int64_t c = 0; c < d.key_dim; ++c) {
                xi[c] = 0;
                for (int64_t j = 0; j <= i; ++j) xi[c] += p[j] * k(j, c);
              }
            }
            double top = -INFINITY, total = 0;
            for (int64_t j = 0; j <= i; ++j) {
              p[j] = 0;
              for (int64_t c = 0; c < d.key_dim; ++c) p[j] += k(j, c) * xi[c];
              p[j] *= beta;
              top = std::max(top, p[j]);
            }
            for (double& x : p) total += x = std::exp(x - top);
            for (double& x : p) x /= total;
          }
          for (int64_t c = 0; c < d.value_dim; ++c) {
            o(i, c) = 0;
            for (int64_t j = 0; j <= i; ++j) o(i, c) += p[j] * v(j, c);
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  template <typename T>
  T Beta(const Dims& d) const {
    return static_cast<T>(
        beta_ > 0 ? beta_ : 1 / std::sqrt(static_cast<double>(d.key_dim)));
  }

  // From the last update to the first; keys serve each of them twice but the
  // last, as keys and as values.
  template <typename T>
  void BackwardHead(const OperatorCall& call, const Tensor& d_output,
                    const Tensor (&targets)[3], int64_t b, int64_t h) const {
    const Dims& d = call.dims;
    const size_t length = d.length, dim = d.key_dim;
    const auto k = call.inputs[kKey].Sequence<T>(b, h);
    const MatrixView<T> d_k = targets[kKey].Sequence<T>(b, h);
    std::vector<T> d_xi_memory[2], d_pattern_memory(length * dim);
    const MatrixView<T> d_patterns(d_pattern_memory.data(), length, dim);
    MatrixView<const T> d_to = d_output.Sequence<T>(b, h);
    for (int64_t s = updates_; s-- > 0;) {
      const bool last = s + 1 == updates_;
      const auto from =
          (s == 0 ? call.inputs[kQuery] : call.saved[s - 1]).Sequence<T>(b, h);
      const auto to = (last ? call.output : call.saved[s]).Sequence<T>(b, h);
      const T* lse =
          call.saved[updates_ - 1 + s].data<T>() + (b * d.heads + h) * d.length;
      MatrixView<T> d_from = targets[kQuery].Sequence<T>(b, h);
      if (s > 0) {
        d_xi_memory[s % 2].assign(length * dim, 0);
        d_from = {d_xi_memory[s % 2].data(), length, dim};
      }
      kernels::SoftmaxAttentionBackward(
          from, k, last ? call.inputs[kValue].Sequence<T>(b, h) : k, to, lse,
          d_to, Beta<T>(d), AttentionMask(), d_from, d_k,
          last ? targets[kValue].Sequence<T>(b, h) : d_patterns);
      d_to = d_from;
    }
    for (size_t j = 0; j < length; ++j) {
      kernels::Add(d_k.row(j), d_patterns.row(j), d_k.row(j), dim);
    }
  }

  int64_t updates_;
  double beta_;
  int64_t chunk_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "hopfield";
  d.title = "Modern Hopfield network";
  d.family = "softmax";
  d.paper = "arXiv 2008.02217";
  d.summary = "the query settles among the stored keys before it reads";
  // Measured 7.2e-7, and 1.3e-5 in gradients, which may have ten times this.
  d.tolerance = 2e-6;
  d.options = {
      OptionSpec::Int("updates", 2, 1, 64,
                      "times the state pattern is associated; 1: softmax"),
      OptionSpec::Real("beta", 0, 0, 1e6,
                       "inverse temperature; 0: key_dim^-1/2"),
      OptionSpec::Int("chunk", 64, 1, 65536,
                      "query tokens a block in the chunked form")};
  d.variations = {{{"updates", "1"}}, {{"updates", "4"}, {"beta", "0.7"}}};
  d.approximations = {{/*of=*/kStoredPattern,
                       /*knob=*/kPatterns,
                       /*sizes=*/{2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
                       /*fixed=*/{{"updates", "2"}}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<HopfieldOperator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<QkvMixer>(
           config, std::make_unique<HopfieldOperator>(config.options),
           QkvMixer::EvenLayout(config));
     }});

}  // namespace
}  // namespace mneme
