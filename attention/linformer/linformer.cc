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
// directions at once: every slot holds every token, so masking their scores, as
// published code offers, lets the future through. Projecting block by block
// does not, needs no fixed length, and keeps the paper's ratio N / P. Sharing
// is the paper's: E and F per head (none), for all heads (headwise), E = F as
// well (key_value), or one matrix for all layers too (layerwise).

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "attention/kernels/gemm.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/linformer/linformer_state.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/qkv_mixer.h"
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

template <typename T>
void Product(kernels::Transpose transpose_a, kernels::Transpose transpose_b,
             MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c,
             T beta) {
  kernels::GemmEpilogue<T> epilogue;
  epilogue.beta = beta;
  kernels::Gemm(transpose_a, transpose_b, a, b, c, epilogue);
}

constexpr auto kNo = kernels::Transpose::kNo;
constexpr auto kYes = kernels::Transpose::kYes;

// Keys or values as one block of queries sees them: slots of earlier blocks,
// then the block's own rows. Keeps its memory from block to block.
template <typename T>
class Seen {
 public:
  MatrixView<T> Join(MatrixView<const T> slots, MatrixView<const T> own) {
    const MatrixView<T> all = Zeros(slots.rows + own.rows, own.cols);
    for (size_t r = 0; r < all.rows; ++r) {
      std::copy_n(r < slots.rows ? slots.row(r) : own.row(r - slots.rows),
                  own.cols, all.row(r));
    }
    return all;
  }
  MatrixView<T> Zeros(size_t rows, size_t cols) {
    memory_.assign(rows * cols, 0);
    return {memory_.data(), rows, cols};
  }

 private:
  std::vector<T> memory_;
};

class LinformerOperator : public Operator {
 public:
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
    const Tensor slot_keys(dtype, {d.batch, slots, d.heads, d.key_dim});
    const Tensor slot_values(dtype, {d.batch, slots, d.heads, d.value_dim});
    for (int64_t start = 0; start < d.length;) {
      // As much of the current block as there is, or one token of it.
      const int64_t held = state->recent.held();
      int64_t rows = std::min(block - held, d.length - start);
      if (call->form == Form::kRecurrent) rows = 1;
      state->recent.Append(call->inputs[kKey], call->inputs[kValue], start,
                           rows);
      const bool complete = held + rows == block;
      DispatchDType(dtype, [&](auto zero) {
        using T = decltype(zero);
        ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t) {
          const auto k = state->recent.Keys<T>(b, h);
          const auto v = state->recent.Values<T>(b, h);
          Seen<T> keys, values;
          T* head_lse = HeadRow<T>(lse, b, h);
          kernels::SoftmaxAttentionForward(
              call->inputs[kQuery].Sequence<T>(b, h).Rows(start, rows),
              keys.Join(state->pooled.Keys<T>(b, h), k),
              values.Join(state->pooled.Values<T>(b, h), v), ScoreScale<T>(d),
              CausalFrom(state->pooled.tokens() + held),
              call->output.Sequence<T>(b, h).Rows(start, rows),
              head_lse == nullptr ? nullptr : head_lse + start);
          if (!complete) return;
          Product<T>(kNo, kNo, PoolOf<T>(call->inputs[kPoolKeys], h), k,
                     slot_keys.Sequence<T>(b, h), 0);
          Product<T>(kNo, kNo, PoolOf<T>(call->inputs[kPoolValues], h), v,
                     slot_values.Sequence<T>(b, h), 0);
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
    const int64_t block = d.own.at('N'), slots = d.own.at('P');
    Tensor to[3];
    for (Input i : {kQuery, kKey, kValue}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      // Of E and F, for each sequence and head.
      const size_t pool = slots * block;
      std::vector<T> d_pools[2];
      for (auto& p : d_pools) p.resize(d.batch * d.heads * pool);
      ForEachHead(call.pool, d, [&](int64_t b, int64_t h, int64_t) {
        const int64_t last = (d.length - 1) / block;
        // Index 0 is about keys, 1 about values.
        const MatrixView<const T> x[2] = {
            call.inputs[kKey].Sequence<T>(b, h),
            call.inputs[kValue].Sequence<T>(b, h)};
        const MatrixView<T> d_x[2] = {to[kKey].Sequence<T>(b, h),
                                      to[kValue].Sequence<T>(b, h)};
        const MatrixView<const T> pools[2] = {
            PoolOf<T>(call.inputs[kPoolKeys], h),
            PoolOf<T>(call.inputs[kPoolValues], h)};
        Seen<T> slot_memory[2], d_slot_memory[2], seen_memory[2],
            d_seen_memory[2];
        MatrixView<T> slot[2], d_slot[2];
        for (int i : {0, 1}) {
          slot[i] = slot_memory[i].Zeros(last * slots, x[i].cols);
          d_slot[i] = d_slot_memory[i].Zeros(last * slots, x[i].cols);
          for (int64_t c = 0; c < last; ++c) {
            Product<T>(kNo, kNo, pools[i], x[i].Rows(c * block, block),
                       slot[i].Rows(c * slots, slots), 0);
          }
        }
        for (int64_t c = 0; c <= last; ++c) {
          const int64_t start = c * block, before = c * slots;
          const int64_t rows = std::min(block, d.length - start);
          const auto part = [&](const Tensor& t) {
            return t.Sequence<T>(b, h).Rows(start, rows);
          };
          MatrixView<T> seen[2], d_seen[2];
          for (int i : {0, 1}) {
            seen[i] = seen_memory[i].Join(slot[i].Rows(0, before),
                                          x[i].Rows(start, rows));
            d_seen[i] = d_seen_memory[i].Zeros(before + rows, x[i].cols);
          }
          kernels::SoftmaxAttentionBackward(
              part(call.inputs[kQuery]), seen[0], seen[1], part(call.output),
              HeadRow<T>(call.saved[0], b, h) + start, part(d_output),
              ScoreScale<T>(d), CausalFrom(before), part(to[kQuery]), d_seen[0],
              d_seen[1]);
          for (int i : {0, 1}) {
            for (int64_t r = 0; r < before + rows; ++r) {
              kernels::Axpy(T{1}, d_seen[i].row(r),
                            r < before ? d_slot[i].row(r)
                                       : d_x[i].row(start + r - before),
                            x[i].cols);
            }
          }
        }
        for (int i : {0, 1}) {
          const MatrixView<T> d_pool(
              d_pools[i].data() + (b * d.heads + h) * pool, slots, block);
          for (int64_t c = 0; c < last; ++c) {
            const MatrixView<const T> d_c = d_slot[i].Rows(c * slots, slots);
            Product<T>(kNo, kYes, d_c, x[i].Rows(c * block, block), d_pool, 1);
            Product<T>(kYes, kNo, pools[i], d_c, d_x[i].Rows(c * block, block),
                       1);
          }
        }
      });
      for (int i : {0, 1}) {
        const Tensor& d_pool = d_inputs[kPoolKeys + i];
        for (int64_t b = 0; !d_pool.empty() && b < d.batch; ++b) {
          kernels::Axpy(T{1}, d_pools[i].data() + b * d.heads * pool,
                        d_pool.data<T>(), d.heads * pool);
        }
      }
    });
    return absl::OkStatus();
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
    const double rest = d.length % d.own.at('N');
    const double heads = static_cast<double>(d.batch) * d.heads;
    const double pairs =
        heads *
        (blocks * block * (block + 1) / 2 + rest * (rest + 1) / 2 +
         slots * block * blocks * (blocks - 1) / 2 + slots * rest * blocks);
    Cost cost;
    cost.flops = 2 * (pairs + heads * blocks * block * slots) *
                 (d.key_dim + d.value_dim);
    cost.exps = pairs;
    cost.bytes =
        sizeof(float) * (heads * d.length * 2 * (d.key_dim + d.value_dim) +
                         2 * d.heads * slots * block);
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
          std::vector<double> weight(c * slots + i % block + 1);
          double top = -INFINITY, total = 0;
          for (size_t s = 0; s < weight.size(); ++s) {
            for (int64_t a = 0; a < d.key_dim; ++a) {
              weight[s] += q(i, a) * row(kPoolKeys, k, c, s, a);
            }
            weight[s] /= std::sqrt(static_cast<double>(d.key_dim));
            top = std::max(top, weight[s]);
          }
          for (double& w : weight) total += w = std::exp(w - top);
          for (int64_t a = 0; a < d.value_dim; ++a) {
            o(i, a) = 0;
            for (size_t s = 0; s < weight.size(); ++s) {
              o(i, a) += weight[s] / total * row(kPoolValues, v, c, s, a);
            }
          }
        }
      }
    }
    return absl::OkStatus();
  }
};

class LinformerMixer : public QkvMixer {
 public:
  LinformerMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<LinformerOperator>(), layout),
        sharing_(config.options.Choice("sharing")),
        slots_(layout.own.at('P')),
        block_(layout.own.at('N')) {
    if (sharing_ == "layerwise" && config.layer > 0) return;
    const int64_t heads = sharing_ == "none" ? layout.heads : 1;
    // As the field's implementation: Xavier, normal.
    const Init init = Init::Normal(std::sqrt(2.0 / (slots_ + block_)));
    const auto add = [&](const char* name) {
      return config.parameters->Add(config.name + name,
                                    {heads, slots_ * block_}, init);
    };
    e_ = add(".project_keys");
    const bool one = sharing_ == "key_value" || sharing_ == "layerwise";
    f_ = one ? e_ : add(".project_values");
  }

 protected:
  void Prepare(const MixerCall& call, int64_t,
               std::vector<Variable>* inputs) const override {
    for (const Parameter* parameter : {e_, f_}) {
      Variable pool;
      if (sharing_ == "layerwise") {
        Variable& shared = (*call.shared)["linformer.project"];
        if (e_ != nullptr) shared = call.x.tape()->Use(*e_);
        pool = shared;
      } else {
        pool = call.x.tape()->Use(*parameter);
      }
      if (sharing_ != "none") {
        pool = GatherRows(pool, std::vector<int64_t>(layout().heads, 0));
      }
      inputs->push_back(Reshape(pool, {layout().heads, slots_, block_}));
    }
  }

 private:
  std::string sharing_;
  int64_t slots_, block_;
  const Parameter* e_ = nullptr;
  const Parameter* f_ = nullptr;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options&) {
  return std::make_unique<LinformerOperator>();
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
      OptionSpec::Choice("sharing", "none",
                         {"none", "headwise", "key_value", "layerwise"},
                         "who shares projections: nobody; all heads; keys and "
                         "values too; all layers too")};
  d.variations = {{{"block", "4"}, {"slots", "2"}, {"sharing", "headwise"}},
                  {{"block", "5"}, {"slots", "7"}, {"sharing", "key_value"}},
                  {{"block", "3"}, {"slots", "1"}, {"sharing", "layerwise"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
