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

#include "absl/strings/str_cat.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/attention_mixer.h"
#include "attention/tensor/random.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::AttentionMask;
using kernels::MatrixView;

enum Input { kQuery, kKey, kValue };

// Consecutive queries of one block, and where their keys are.
struct Piece {
  int64_t first;              // query, counted in this call
  int64_t rows;               // queries
  std::vector<int64_t> seen;  // blocks, ascending; the queries' own is the last
  int64_t keys;               // in those blocks, up to the last query
  AttentionMask mask;
};

class BigBirdOperator : public Operator {
 public:
  BigBirdOperator(const Options& options, int layer)
      : block_(options.Int("block")),
        random_(options.Int("random")),
        seed_(options.Int("seed")),
        stream_(StreamId(absl::StrCat("bigbird/layer ", layer))) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLGK", "keys [batch, length, kv_heads, key_dim]"},
            {"v", "BLGV", "values [batch, length, kv_heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    auto* cache = static_cast<KeyValueCache*>(call->state);
    const int64_t before = cache == nullptr ? 0 : cache->tokens();
    if (cache != nullptr) {
      cache->Append(call->inputs[kKey], call->inputs[kValue]);
    }
    Tensor lse;
    const DType dtype = call->output.dtype();
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t rows = call->form == Form::kRecurrent ? 1 : block_;
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t g) {
        const auto q = call->inputs[kQuery].Sequence<T>(b, h);
        const auto o = call->output.Sequence<T>(b, h);
        MatrixView<const T> k = call->inputs[kKey].Sequence<T>(b, g);
        MatrixView<const T> v = call->inputs[kValue].Sequence<T>(b, g);
        if (cache != nullptr) {
          k = cache->Keys<T>(b, g);
          v = cache->Values<T>(b, g);
        }
        T* head_lse = HeadRow<T>(lse, b, h);
        std::vector<T> seen_k, seen_v;
        ForEachPiece(h, before, d.length, rows, [&](const Piece& p) {
          kernels::SoftmaxAttentionForward(
              q.Rows(p.first, p.rows), Gather(k, p, &seen_k),
              Gather(v, p, &seen_v), ScoreScale<T>(d), p.mask,
              o.Rows(p.first, p.rows),
              head_lse == nullptr ? nullptr : head_lse + p.first);
        });
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
        const auto q = call.inputs[kQuery].Sequence<T>(b, h);
        const auto k = call.inputs[kKey].Sequence<T>(b, g);
        const auto v = call.inputs[kValue].Sequence<T>(b, g);
        const auto o = call.output.Sequence<T>(b, h);
        const auto d_o = d_output.Sequence<T>(b, h);
        const auto d_q = to[kQuery].Sequence<T>(b, h);
        const T* lse = HeadRow<T>(call.saved[0], b, h);
        std::vector<T> seen_k, seen_v, d_seen_k, d_seen_v;
        ForEachPiece(h, 0, d.length, block_, [&](const Piece& p) {
          d_seen_k.assign(p.keys * d.key_dim, 0);
          d_seen_v.assign(p.keys * d.value_dim, 0);
          const MatrixView<T> d_k(d_seen_k.data(), p.keys, d.key_dim);
          const MatrixView<T> d_v(d_seen_v.data(), p.keys, d.value_dim);
          kernels::SoftmaxAttentionBackward(
              q.Rows(p.first, p.rows), Gather<T>(k, p, &seen_k),
              Gather<T>(v, p, &seen_v), o.Rows(p.first, p.rows), lse + p.first,
              d_o.Rows(p.first, p.rows), ScoreScale<T>(d), p.mask,
              d_q.Rows(p.first, p.rows), d_k, d_v);
          ScatterAdd(d_k, p, to[kKey].Sequence<T>(b, g));
          ScatterAdd(d_v, p, to[kValue].Sequence<T>(b, g));
        });
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
    double pairs = 0;  // of one sequence and head: all heads see as many blocks
    ForEachPiece(0, 0, d.length, block_, [&](const Piece& p) {
      pairs += p.rows * (p.keys - (p.rows - 1) / 2.0);
    });
    pairs *= static_cast<double>(d.batch) * d.heads;
    Cost cost;
    cost.flops = 2 * pairs * (d.key_dim + d.value_dim);
    cost.exps = pairs;
    cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
                 (d.key_dim + d.value_dim) * (d.heads + d.kv_heads);
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    SoftmaxOracle(call, [&](int64_t, int64_t h, int64_t i, int64_t j) {
      const int64_t to = j / block_, from = i / block_;
      if (j > i) return -INFINITY;
      if (to == 0 || to == from || to == from - 1) return 0.0f;
      const std::vector<uint64_t> drawn = Drawn(h, from);
      return std::count(drawn.begin(), drawn.end(), to - 1) > 0 ? 0.0f
                                                                : -INFINITY;
    });
    return absl::OkStatus();
  }

 private:
  // R_i less 1: blocks 1, ..., i - 2 are numbered from 0 on.
  std::vector<uint64_t> Drawn(int64_t head, int64_t i) const {
    const int64_t candidates = std::max<int64_t>(0, i - 2);
    std::vector<uint64_t> drawn(std::min(random_, candidates));
    constexpr uint64_t kHead = uint64_t{1} << 40;
    Random random(seed_, stream_, head * kHead + i);
    DrawDistinct(candidates, absl::MakeSpan(drawn), &random);
    return drawn;
  }

  std::vector<int64_t> BlocksSeen(int64_t head, int64_t i) const {
    std::vector<int64_t> seen = {0, std::max<int64_t>(0, i - 1), i};
    for (uint64_t block : Drawn(head, i)) seen.push_back(block + 1);
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    return seen;
  }

  // Cuts `length` queries, the first at position `before`, where blocks begin
  // and after every `rows` tokens.
  template <typename Body>
  void ForEachPiece(int64_t head, int64_t before, int64_t length, int64_t rows,
                    const Body& body) const {
    for (int64_t t = 0; t < length;) {
      const int64_t within = (before + t) % block_;
      Piece p;
      p.first = t;
      p.rows = std::min({rows, block_ - within, length - t});
      p.seen = BlocksSeen(head, (before + t) / block_);
      p.mask.query_offset = (p.seen.size() - 1) * block_ + within;
      p.keys = p.mask.query_offset + p.rows;
      body(p);
      t += p.rows;
    }
  }

  // Calls body(row of the sequence, row among the seen ones, count) for every
  // block that a piece sees.
  template <typename Body>
  void ForEachSeen(const Piece& p, const Body& body) const {
    for (size_t s = 0; s < p.seen.size(); ++s) {
      const int64_t to = s * block_;
      body(p.seen[s] * block_, to, std::min(block_, p.keys - to));
    }
  }

  template <typename T>
  MatrixView<const T> Gather(MatrixView<const T> all, const Piece& p,
                             std::vector<T>* memory) const {
    memory->resize(p.keys * all.cols);
    const MatrixView<T> seen(memory->data(), p.keys, all.cols);
    ForEachSeen(p, [&](int64_t from, int64_t to, int64_t count) {
      for (int64_t r = 0; r < count; ++r) {
        std::copy_n(all.row(from + r), all.cols, seen.row(to + r));
      }
    });
    return seen;
  }

  template <typename T>
  void ScatterAdd(MatrixView<T> seen, const Piece& p, MatrixView<T> all) const {
    ForEachSeen(p, [&](int64_t to, int64_t from, int64_t count) {
      for (int64_t r = 0; r < count; ++r) {
        kernels::Axpy(T{1}, seen.row(from + r), all.row(to + r), all.cols);
      }
    });
  }

  int64_t block_, random_;
  uint64_t seed_, stream_;
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
  d.options = AttentionMixerOptions(
      /*grouped=*/true,
      {OptionSpec::Int("block", 8, 1, 1 << 20, "tokens a block"),
       OptionSpec::Int("random", 3, 0, 1024, "random blocks a query sees"),
       OptionSpec::Int("seed", 0, 0, 1e9, "of the random blocks")});
  d.variations = {{{"block", "2"}, {"random", "2"}, {"kv_heads", "1"}},
                  {{"block", "1"}, {"random", "0"}, {"rope", "true"}},
                  {{"block", "3"}, {"random", "1"}, {"seed", "7"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
