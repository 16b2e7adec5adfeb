// SPDX-License-Identifier: Apache-2.0
//
// Linformer (arXiv 2006.04768) as published, an encoder: keys and values of a
// whole sequence of n tokens, both directions at once, are projected to k rows
// before softmax attention sees them,
//
//   o_i = softmax(q_i (E K)^T / sqrt(key_dim)) F V,   E, F in R^{k x n},
//
// so that work is n k instead of n^2. Every row of E K holds every token: there
// is no causal mask for it and no state to decode from (linformer projects by
// block instead, which has both).
//
// E and F are made for the longest sequence; a shorter one takes their first
// columns, a longer one is an error. They are stored transposed, a row for each
// token, and start Xavier normal, as in the field's implementation, which has a
// bias too; the paper's equation and this one do not. Sharing is the paper's: E
// and F per head (none), for all heads (headwise), E = F as well (key_value),
// or one matrix for all layers too (layerwise).

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/attention_mixer.h"
#include "attention/parts/owned_matrix.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/sequence_projection.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::MatrixView;

enum Input { kQuery, kKey, kValue, kProjectKeys, kProjectValues };

constexpr auto kStored = kernels::Transpose::kYes;  // E^T

// E^T or F^T of one head, [length, slots].
template <typename T>
MatrixView<T> OfHead(const Tensor& projections, int64_t head) {
  const size_t length = projections.dim(1), slots = projections.dim(2);
  return {projections.data<T>() + head * length * slots, length, slots};
}

class LinformerEncoderOperator : public Operator {
 public:
  explicit LinformerEncoderOperator(const Options& options)
      : chunk_(options.Int("chunk")), slots_(options.Int("k")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
            {"v", "BLHV", "values [batch, length, heads, value_dim]"},
            {"e", "HLP", "E^T, which projects keys [heads, length, k]"},
            {"f", "HLP", "F^T, which projects values [heads, length, k]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    if (absl::Status s = RefuseState(*call); !s.ok()) return s;
    const Dims& d = call->dims;
    Tensor lse;
    const DType dtype = call->output.dtype();
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t block = QueryBlock(call->form, d.length, chunk_);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t) {
        const auto keys = Projected<T>(*call, kKey, b, h);
        const auto values = Projected<T>(*call, kValue, b, h);
        const auto q = call->inputs[kQuery].Sequence<T>(b, h);
        const auto o = call->output.Sequence<T>(b, h);
        T* head_lse = HeadRow<T>(lse, b, h);
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          kernels::SoftmaxAttentionForward(
              q.Rows(start, rows), keys.view(), values.view(), ScoreScale<T>(d),
              Everything(), o.Rows(start, rows),
              head_lse == nullptr ? nullptr : head_lse + start);
        }
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    Tensor to[5];
    for (Input i : {kQuery, kKey, kValue, kProjectKeys, kProjectValues}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      // All sequences add to the projections of a head: one task.
      kernels::ParallelFor(call.pool, d.heads, [&](size_t h, int) {
        for (int64_t b = 0; b < d.batch; ++b) {
          const auto keys = Projected<T>(call, kKey, b, h);
          const auto values = Projected<T>(call, kValue, b, h);
          const OwnedMatrix<T> d_keys(keys.view().rows, d.key_dim);
          const OwnedMatrix<T> d_values(keys.view().rows, d.value_dim);
          kernels::SoftmaxAttentionBackward(
              call.inputs[kQuery].Sequence<T>(b, h), keys.view(), values.view(),
              call.output.Sequence<T>(b, h), HeadRow<T>(call.saved[0], b, h),
              d_output.Sequence<T>(b, h), ScoreScale<T>(d), Everything(),
              to[kQuery].Sequence<T>(b, h), d_keys.view(), d_values.view());
          for (Input i : {kKey, kValue}) {
            ProjectTokensBackward<T>(kStored, OfHead<T>(call.inputs[i + 2], h),
                                     call.inputs[i].Sequence<T>(b, h),
                                     (i == kKey ? d_keys : d_values).view(),
                                     OfHead<T>(to[i + 2], h),
                                     to[i].Sequence<T>(b, h));
          }
        }
      });
    });
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override {
    const Tensor e =
        NeighbourMeans(kStored, keys.dim(2), slots_, keys.dim(1), keys.dtype());
    return NeutralInputs(
        Inputs(),
        {{"q", queries}, {"k", keys}, {"v", values}, {"e", e}, {"f", e}});
  }

  std::unique_ptr<State> NewState(const Dims&, DType) const override {
    return nullptr;
  }
  int64_t StateBytes(const Dims&) const override { return 0; }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double slots = d.own.at('P');
    const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
    Cost cost;
    // Projecting a token costs what reading its row of scores does.
    cost.flops = 4 * tokens * slots * (d.key_dim + d.value_dim);
    cost.exps = tokens * slots;
    cost.bytes = sizeof(float) * (2 * tokens * (d.key_dim + d.value_dim) +
                                  2.0 * d.heads * d.length * slots);
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    // The scores once more.
    cost.flops +=
        2.0 * d.batch * d.heads * d.length * d.own.at('P') * d.key_dim;
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const int64_t slots = d.own.at('P');
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        // Column c of row s of E K or F V.
        const auto projected = [&](Input input, int64_t s, int64_t c) {
          const auto x = call.inputs[input].Sequence<double>(b, h);
          const double* e = call.inputs[input + 2].data<double>();
          double sum = 0;
          for (int64_t t = 0; t < d.length; ++t) {
            sum += e[(h * d.length + t) * slots + s] * x(t, c);
          }
          return sum;
        };
        for (int64_t i = 0; i < d.length; ++i) {
          const auto score = [&](int64_t s) {
            double dot = 0;
            for (int64_t c = 0; c < d.key_dim; ++c) {
              dot += q(i, c) * projected(kKey, s, c);
            }
            return dot / std::sqrt(static_cast<double>(d.key_dim));
          };
          const auto value = [&](int64_t s, int64_t c) {
            return projected(kValue, s, c);
          };
          SoftmaxReadOracle(slots, score, value, d.value_dim,
                            call.output.Sequence<double>(b, h).row(i));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // E K for kKey, F V for kValue.
  template <typename T>
  static OwnedMatrix<T> Projected(const OperatorCall& call, Input input,
                                  int64_t b, int64_t h) {
    const MatrixView<const T> e = OfHead<T>(call.inputs[input + 2], h);
    const MatrixView<const T> x = call.inputs[input].Sequence<T>(b, h);
    OwnedMatrix<T> rows(e.cols, x.cols);
    ProjectTokens<T>(kStored, e, x, rows.view());
    return rows;
  }

  int64_t chunk_;
  int64_t slots_;  // that PairInputs makes; calls read the sizes of e and f
};

class LinformerEncoderMixer : public QkvMixer {
 public:
  explicit LinformerEncoderMixer(const MixerConfig& config)
      : QkvMixer(config,
                 std::make_unique<LinformerEncoderOperator>(config.options),
                 EvenLayout(config)),
        max_length_(config.max_length),
        projection_(config, config.max_length, config.options.Int("k")) {}

 protected:
  void Prepare(const MixerCall& call, int64_t,
               std::vector<Variable>* inputs) const override {
    const int64_t length = call.x.shape().dim(1);
    if (length > max_length_) {
      inputs->push_back(call.x.tape()->Fail(absl::InvalidArgumentError(
          absl::StrCat("linformer_encoder: a sequence of ", length,
                       " tokens is longer than the ", max_length_,
                       " that its projections were made for"))));
      return;
    }
    for (Variable e : projection_.Rows(call, length)) inputs->push_back(e);
  }

 private:
  int64_t max_length_;
  SequenceProjection projection_;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<LinformerEncoderOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  if (config.max_length < 1) {
    return absl::InvalidArgumentError(
        "linformer_encoder: projections are made for a longest sequence, so "
        "max_length must be at least 1");
  }
  return std::make_unique<LinformerEncoderMixer>(config);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "linformer_encoder";
  d.title = "Linformer (encoder)";
  d.family = "softmax";
  d.paper = "arXiv 2006.04768";
  d.summary = "softmax over the keys and values of all tokens, projected to k";
  d.causal = false;
  d.streaming = false;
  d.exact = false;
  d.tolerance = 3e-6;
  d.options = {OptionSpec::Int("k", 16, 1, 1 << 20,
                               "rows that keys and values are projected to"),
               SequenceProjection::SharingOption(), ChunkOption()};
  d.variations = {{{"k", "3"}, {"sharing", "headwise"}},
                  {{"k", "1"}, {"sharing", "key_value"}},
                  {{"k", "30"}, {"sharing", "layerwise"}}};
  d.approximations = {{/*of=*/kFullSoftmax,
                       /*knob=*/"k",
                       /*sizes=*/{4, 8, 16, 32, 64, 128, 256, 384, 512}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
