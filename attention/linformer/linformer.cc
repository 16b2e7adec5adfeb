// SPDX-License-Identifier: Apache-2.0
//
// Linformer (arXiv 2006.04768), causal: keys and values are projected along the
// sequence to fewer rows before softmax attention sees them. A block c of N
// tokens becomes P slots, and a query attends to the slots of all complete
// blocks and to the tokens of its own, up to itself:
//
//   K_c = E k_{cN .. cN + N - 1},   V_c = F v_{cN .. cN + N - 1},
//   o_i = softmax(q_i [K_0 .. K_{c-1}, k_{cN .. i}]^T / sqrt(key_dim))
//         [V_0 .. V_{c-1}, v_{cN .. i}],   c = floor(i / N).
//
// The paper's E and F project the whole of a sequence of fixed length, both
// directions at once (linformer_encoder): every slot holds every token, so
// masking their scores, as published code offers, lets the future through.
// Projecting block by block does not, needs no fixed length, and keeps the
// paper's ratio N / P. Sharing is the paper's: E and F per head (none), for all
// heads (headwise), E = F as well (key_value), or one matrix for all layers too
// (layerwise).

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/linformer/linformer_blocks.h"
#include "attention/linformer/linformer_state.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/owned_matrix.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/sequence_projection.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::MatrixView;

enum Input { kQuery, kKey, kValue, kPoolKeys, kPoolValues };

// E or F of one head, [slots, block].
template <typename T>
MatrixView<T> PoolOf(const Tensor& pools, int64_t head) {
  const size_t slots = pools.dim(1), block = pools.dim(2);
  return {pools.data<T>() + head * slots * block, slots, block};
}

// Keys or values of a state as the block at hand sees them: slots, then rows.
template <typename T>
OwnedMatrix<T> Joined(MatrixView<const T> slots, MatrixView<const T> own) {
  OwnedMatrix<T> joined(slots.rows + own.rows, own.cols);
  for (size_t r = 0; r < slots.rows + own.rows; ++r) {
    std::copy_n(r < slots.rows ? slots.row(r) : own.row(r - slots.rows),
                own.cols, joined.view().row(r));
  }
  return joined;
}

// A query's read of slots and of the rows of its own block, one after the
// other: for one query they are not copied to stand together.
template <typename T>
void ReadApart(MatrixView<const T> q, MatrixView<const T> slot_keys,
               MatrixView<const T> slot_values, MatrixView<const T> keys,
               MatrixView<const T> values, T scale, MatrixView<T> o) {
  T lse = 0, slot_lse = 0;
  kernels::SoftmaxAttentionForward(q, keys, values, scale, Everything(), o,
                                   &lse);
  if (slot_keys.rows == 0) return;
  const OwnedMatrix<T> slots(1, o.cols);
  kernels::SoftmaxAttentionForward(q, slot_keys, slot_values, scale,
                                   Everything(), slots.view(), &slot_lse);
  const T share = 1 / (1 + std::exp(lse - slot_lse));
  for (size_t c = 0; c < o.cols; ++c) {
    o(0, c) += share * (slots.view()(0, c) - o(0, c));
  }
}

class LinformerOperator : public Operator {
 public:
  explicit LinformerOperator(const Options& options)
      : slots_(options.Int("slots")), block_(options.Int("block")) {}

  std::vector<InputSpec> Inputs() const override {
    return {
        {"q", "BLHK", "queries [batch, length, heads, key_dim]"},
        {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
        {"v", "BLHV", "values [batch, length, heads, value_dim]"},
        {"e", "HPN", "projection of a block's keys [heads, slots, block]"},
        {"f", "HPN", "projection of a block's values [heads, slots, block]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    const int64_t block = d.own.at('N'), slots = d.own.at('P');
    const DType dtype = call->output.dtype();
    std::unique_ptr<State> own;
    if (call->state == nullptr) own = NewState(d, dtype);
    auto* state = static_cast<LinformerState*>(own ? own.get() : call->state);
    Tensor lse;
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    Tensor slot_keys, slot_values;
    for (int64_t start = 0; start < d.length;) {
      // As much of the current block as there is, or one token of it.
      const int64_t held = state->recent.held();
      int64_t rows = std::min(block - held, d.length - start);
      if (call->form == Form::kRecurrent) rows = 1;
      state->recent.Append(call->inputs[kKey], call->inputs[kValue], start,
                           rows);
      const bool complete = held + rows == block;
      if (complete && slot_keys.empty()) {
        slot_keys = Tensor(dtype, {d.batch, slots, d.heads, d.key_dim});
        slot_values = Tensor(dtype, {d.batch, slots, d.heads, d.value_dim});
      }
      DispatchDType(dtype, [&](auto zero) {
        using T = decltype(zero);
        ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t) {
          const auto k = state->recent.Keys<T>(b, h);
          const auto v = state->recent.Values<T>(b, h);
          const auto slot_k = state->pooled.Keys<T>(b, h);
          const auto slot_v = state->pooled.Values<T>(b, h);
          const auto q =
              call->inputs[kQuery].Sequence<T>(b, h).Rows(start, rows);
          const auto o = call->output.Sequence<T>(b, h).Rows(start, rows);
          if (rows == 1 && !call->keep) {
            ReadApart<T>(q, slot_k, slot_v, k, v, ScoreScale<T>(d), o);
          } else {
            T* head_lse = HeadRow<T>(lse, b, h);
            kernels::SoftmaxAttentionForward(
                q, Joined(slot_k, k).view(), Joined(slot_v, v).view(),
                ScoreScale<T>(d), CausalFrom(state->pooled.tokens() + held), o,
                head_lse == nullptr ? nullptr : head_lse + start);
          }
          if (!complete) return;
          ProjectTokens<T>(kernels::Transpose::kNo,
                           PoolOf<T>(call->inputs[kPoolKeys], h), k,
                           slot_keys.Sequence<T>(b, h));
          ProjectTokens<T>(kernels::Transpose::kNo,
                           PoolOf<T>(call->inputs[kPoolValues], h), v,
                           slot_values.Sequence<T>(b, h));
        });
      });
      if (complete) {
        state->pooled.Append(slot_keys, slot_values);
        state->recent.Clear();
      }
      start += rows;
    }
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    const int64_t block = d.own.at('N');
    Tensor to[5];
    for (Input i : {kQuery, kKey, kValue, kPoolKeys, kPoolValues}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const auto seen_by_block = [&](Input i, Input pool, int64_t b,
                                     int64_t h) {
        return SeenByBlock<T>(PoolOf<T>(call.inputs[pool], h),
                              call.inputs[i].Sequence<T>(b, h),
                              PoolOf<T>(to[pool], h), to[i].Sequence<T>(b, h));
      };
      // All sequences add to the projections of a head: one task.
      kernels::ParallelFor(call.pool, d.heads, [&](size_t h, int) {
        for (int64_t b = 0; b < d.batch; ++b) {
          SeenByBlock<T> keys = seen_by_block(kKey, kPoolKeys, b, h);
          SeenByBlock<T> values = seen_by_block(kValue, kPoolValues, b, h);
          for (int64_t start = 0; start < d.length; start += block) {
            keys.Enter(start / block);
            values.Enter(start / block);
            const int64_t rows = std::min(block, d.length - start);
            const auto part = [&](const Tensor& t) {
              return t.Sequence<T>(b, h).Rows(start, rows);
            };
            kernels::SoftmaxAttentionBackward(
                part(call.inputs[kQuery]), keys.seen(), values.seen(),
                part(call.output), HeadRow<T>(call.saved[0], b, h) + start,
                part(d_output), ScoreScale<T>(d),
                CausalFrom(keys.seen().rows - rows), part(to[kQuery]),
                keys.d_seen(), values.d_seen());
            keys.Leave();
            values.Leave();
          }
          keys.Finish();
          values.Finish();
        }
      });
    });
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override {
    const Tensor pools = NeighbourMeans(kernels::Transpose::kNo, keys.dim(2),
                                        slots_, block_, keys.dtype());
    return NeutralInputs(Inputs(), {{"q", queries},
                                    {"k", keys},
                                    {"v", values},
                                    {"e", pools},
                                    {"f", pools}});
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<LinformerState>(d, dtype, d.own.at('N'),
                                            d.own.at('P'));
  }

  int64_t StateBytes(const Dims& d) const override {
    const int64_t block = d.own.at('N'), slots = d.own.at('P');
    return sizeof(float) * d.batch * d.heads * (d.key_dim + d.value_dim) *
           (d.length / block * slots + d.length % block);
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double block = d.own.at('N'), slots = d.own.at('P');
    const double blocks = d.length / d.own.at('N');
    const double heads = static_cast<double>(d.batch) * d.heads;
    const double pairs = Pairs(d);
    Cost cost;
    cost.flops = 2 * (pairs + heads * blocks * block * slots) *
                 (d.key_dim + d.value_dim);
    cost.exps = pairs;
    cost.bytes =
        sizeof(float) * (heads * d.length * 2 * (d.key_dim + d.value_dim) +
                         2 * d.heads * slots * block);
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    cost.flops += 2 * Pairs(d) * d.key_dim;  // the scores once more
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const int64_t block = d.own.at('N'), slots = d.own.at('P');
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        const auto entry = [&](Input pools, int64_t p, int64_t n) {
          return call.inputs[pools].data<double>()[(h * slots + p) * block + n];
        };
        // Row s of what queries of block c see: a slot, or one of their own.
        const auto row = [&](Input pools, MatrixView<double> x, int64_t c,
                             int64_t s, int64_t column) {
          if (s >= c * slots) return x(c * block + s - c * slots, column);
          double sum = 0;
          for (int64_t n = 0; n < block; ++n) {
            sum +=
                entry(pools, s % slots, n) * x(s / slots * block + n, column);
          }
          return sum;
        };
        for (int64_t i = 0; i < d.length; ++i) {
          const int64_t c = i / block;
          const auto score = [&](int64_t s) {
            double dot = 0;
            for (int64_t a = 0; a < d.key_dim; ++a) {
              dot += q(i, a) * row(kPoolKeys, k, c, s, a);
            }
            return dot / std::sqrt(static_cast<double>(d.key_dim));
          };
          const auto value = [&](int64_t s, int64_t a) {
            return row(kPoolValues, v, c, s, a);
          };
          SoftmaxReadOracle(c * slots + i % block + 1, score, value,
                            d.value_dim, o.row(i));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // Of tokens, and the tokens and slots that they see.
  static double Pairs(const Dims& d) {
    const double block = d.own.at('N'), slots = d.own.at('P');
    const double blocks = d.length / d.own.at('N');
    const double rest = d.length % d.own.at('N');
    return static_cast<double>(d.batch) * d.heads *
           (blocks * block * (block + 1) / 2 + rest * (rest + 1) / 2 +
            slots * block * blocks * (blocks - 1) / 2 + slots * rest * blocks);
  }

  // What PairInputs makes; calls read the sizes of e and f.
  int64_t slots_, block_;
};

class LinformerMixer : public QkvMixer {
 public:
  LinformerMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<LinformerOperator>(config.options),
                 layout),
        projection_(config, layout.own.at('P'), layout.own.at('N')) {}

 protected:
  void Prepare(const MixerCall& call, int64_t,
               std::vector<Variable>* inputs) const override {
    for (Variable e : projection_.Rows(call, layout().own.at('P'))) {
      inputs->push_back(e);
    }
  }

 private:
  SequenceProjection projection_;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<LinformerOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  layout.own = {{'P', config.options.Int("slots")},
                {'N', config.options.Int("block")}};
  return std::make_unique<LinformerMixer>(config, layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "linformer";
  d.title = "Linformer (causal, by block)";
  d.family = "softmax";
  d.paper = "arXiv 2006.04768";
  d.summary = "softmax over keys and values projected to fewer, by block";
  d.exact = false;
  d.tolerance = 1e-6;
  d.options = {
      OptionSpec::Int("block", 16, 1, 1 << 20, "tokens projected together"),
      OptionSpec::Int("slots", 4, 1, 1 << 20, "rows a block is projected to"),
      SequenceProjection::SharingOption()};
  d.variations = {{{"block", "4"}, {"slots", "2"}, {"sharing", "headwise"}},
                  {{"block", "5"}, {"slots", "7"}, {"sharing", "key_value"}},
                  {{"block", "3"}, {"slots", "1"}, {"sharing", "layerwise"}}};
  d.approximations = {{/*of=*/"softmax",
                       /*knob=*/"slots",
                       /*sizes=*/{1, 2, 4, 8, 12, 14, 15, 16},
                       /*fixed=*/{{"block", "16"}}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
