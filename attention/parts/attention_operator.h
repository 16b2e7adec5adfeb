// SPDX-License-Identifier: Apache-2.0
//
// What operators made of softmax attention have in common: inputs, a cache of
// keys and values, costs, and the arrays of one head that the kernels work on.
// A derived operator says which keys a query sees.

#ifndef MNEME_ATTENTION_PARTS_ATTENTION_OPERATOR_H_
#define MNEME_ATTENTION_PARTS_ATTENTION_OPERATOR_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/operator.h"
#include "attention/parts/attention_heads.h"
#include "attention/state.h"

namespace mneme {

// Where the keys and values lie that the queries of a call may see: in a cache
// or in arrays.
class KeysSeen {
 public:
  // All tokens so far. The call's own join its state, a KeyValueCache; without
  // a state there are no others.
  static KeysSeen Of(const OperatorCall& call);

  // keys [batch, n, kv_heads, key_dim], values [batch, n, kv_heads, value_dim];
  // `before` of them precede the call's first query.
  KeysSeen(Tensor keys, Tensor values, int64_t before)
      : keys_(std::move(keys)), values_(std::move(values)), before_(before) {}

  template <typename T>
  kernels::MatrixView<const T> Keys(int64_t b, int64_t g) const {
    if (cache_ != nullptr) return cache_->Keys<T>(b, g);
    return keys_.Sequence<T>(b, g);
  }
  template <typename T>
  kernels::MatrixView<const T> Values(int64_t b, int64_t g) const {
    if (cache_ != nullptr) return cache_->Values<T>(b, g);
    return values_.Sequence<T>(b, g);
  }
  int64_t before() const { return before_; }

 private:
  const KeyValueCache* cache_ = nullptr;
  Tensor keys_, values_;
  int64_t before_;
};

// One query head of one sequence.
template <typename T>
struct AttentionHead {
  int64_t h;  // query head
  T scale;
  kernels::MatrixView<const T> q, k, v;
  kernels::MatrixView<T> o;
  T* lse;  // null when no backward follows

  // Queries [first, first + rows) attend to the rows of keys and values.
  void Forward(int64_t first, int64_t rows, kernels::MatrixView<const T> keys,
               kernels::MatrixView<const T> values,
               const kernels::AttentionMask& mask) const {
    kernels::SoftmaxAttentionForward(q.Rows(first, rows), keys, values, scale,
                                     mask, o.Rows(first, rows),
                                     lse == nullptr ? nullptr : lse + first);
  }
};

// The same with gradients.
template <typename T>
struct AttentionHeadGradients : AttentionHead<T> {
  kernels::MatrixView<const T> d_o;
  kernels::MatrixView<T> d_q, d_k, d_v;

  // Adds to d_q, d_keys and d_values.
  void Backward(int64_t first, int64_t rows, kernels::MatrixView<const T> keys,
                kernels::MatrixView<const T> values,
                const kernels::AttentionMask& mask,
                kernels::MatrixView<T> d_keys,
                kernels::MatrixView<T> d_values) const {
    kernels::SoftmaxAttentionBackward(
        this->q.Rows(first, rows), keys, values, this->o.Rows(first, rows),
        this->lse + first, d_o.Rows(first, rows), this->scale, mask,
        d_q.Rows(first, rows), d_keys, d_values);
  }
};

class AttentionOperator : public Operator {
 public:
  std::vector<InputSpec> Inputs() const override;
  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override;
  int64_t StateBytes(const Dims& d) const override;
  Cost ForwardCost(const Dims& d, Form form) const override;
  Cost BackwardCost(const Dims& d, Form form) const override;

 protected:
  enum Input { kQuery, kKey, kValue };

  // Pairs of a query and a key it sees, in one sequence and head.
  virtual double Pairs(const Dims& d) const = 0;

  // body(AttentionHead) for all heads of a forward; keeps their log-sum-exps as
  // the only saved tensor if the call asks for it.
  template <typename Body>
  static void ForwardHeads(OperatorCall* call, const KeysSeen& seen,
                           const Body& body) {
    ForwardBlocks(call, seen, call->dims.length, call->dims.length,
                  [&](const auto& head, int64_t, int64_t) { body(head); });
  }

  // body(AttentionHead, first query, queries) for blocks of up to `block`
  // queries of all heads, `piece` queries of a head at a time.
  template <typename Body>
  static void ForwardBlocks(OperatorCall* call, const KeysSeen& seen,
                            int64_t block, int64_t piece, const Body& body) {
    const Dims& d = call->dims;
    Tensor lse;
    if (call->keep) {
      lse = Tensor(call->arena, call->output.dtype(),
                   {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t pieces = (d.length + piece - 1) / piece;
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      kernels::ParallelFor(
          call->pool, d.batch * d.heads * pieces, [&](size_t i, int) {
            const int64_t b = i / pieces / d.heads, h = i / pieces % d.heads;
            const AttentionHead<T> head =
                HeadOf<T>(*call, seen, lse, b, h, h * d.kv_heads / d.heads);
            // The last queries first: they see the most.
            const int64_t begin = (pieces - 1 - i % pieces) * piece;
            const int64_t end = std::min(begin + piece, d.length);
            for (int64_t first = begin; first < end; first += block) {
              body(head, first, std::min(block, end - first));
            }
          });
    });
  }

  // The same for a form's blocks of queries, or parts of those, so that even a
  // single head is work for many threads.
  template <typename Body>
  static void ForwardQueries(OperatorCall* call, const KeysSeen& seen,
                             int64_t form_block, const Body& body) {
    const int64_t block = std::min(form_block, kQueryPiece);
    ForwardBlocks(call, seen, block, kQueryPiece / block * block, body);
  }

  // A forward of one token that sees all keys of `seen`, a KeyValueCache or
  // another state with views like it. Query heads that share keys read them
  // once, and long sequences are read in parts of kKeyPart keys, each work for
  // a thread.
  template <class Seen>
  static void ReadOneToken(const OperatorCall& call, const Seen& seen) {
    DispatchDType(call.output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const Dims& d = call.dims;
      const int64_t group = d.heads / d.kv_heads;
      const int64_t keys = seen.template Keys<T>(0, 0).rows;
      const int64_t parts = (keys + kKeyPart - 1) / kKeyPart;
      Tensor results, lse;
      if (parts > 1) {
        const int64_t rows = d.batch * d.heads * parts;
        results = Tensor(call.arena, kDTypeOf<T>, {rows, d.value_dim});
        lse = Tensor(call.arena, kDTypeOf<T>, {rows});
      }
      kernels::ParallelFor(
          call.pool, d.batch * d.kv_heads * parts, [&](size_t i, int) {
            const int64_t head = i / parts, first = i % parts * kKeyPart;
            const int64_t count = std::min(kKeyPart, keys - first);
            const int64_t b = head / d.kv_heads, g = head % d.kv_heads;
            const auto rows = [&](const Tensor& tensor, int64_t at) {
              return kernels::MatrixView<T>(
                  tensor.data<T>() + at * group * tensor.dim(-1), group,
                  tensor.dim(-1));
            };
            kernels::SoftmaxAttentionForward(
                rows(call.inputs[kQuery], head),
                seen.template Keys<T>(b, g).Rows(first, count),
                seen.template Values<T>(b, g).Rows(first, count),
                ScoreScale<T>(d), Everything(),
                parts > 1 ? rows(results, i) : rows(call.output, head),
                parts > 1 ? lse.data<T>() + i * group : nullptr);
          });
      if (parts > 1) MergeParts<T>(results, lse, parts, call);
    });
  }

  // body(AttentionHeadGradients) for all heads, those that share keys one after
  // the other.
  template <typename Body>
  static void BackwardHeads(const OperatorCall& call, const Tensor& d_output,
                            absl::Span<const Tensor> d_inputs,
                            const Body& body) {
    BackwardParts(call, d_output, d_inputs, /*parts=*/1, body);
  }

  // The same for attention that never looks ahead and to which only distances
  // between tokens matter. When heads are few their keys are cut into parts,
  // and a body gets one of these with the queries from the first of its keys
  // on, so that even a single head is work for several threads.
  template <typename Body>
  static void BackwardKeys(const OperatorCall& call, const Tensor& d_output,
                           absl::Span<const Tensor> d_inputs,
                           const Body& body) {
    // A part costs an array of gradients by queries.
    constexpr int64_t kWork = 8, kMaxParts = 4, kMinKeys = 256;
    const int64_t heads = call.dims.batch * call.dims.kv_heads;
    const int64_t parts =
        std::min({(kWork + heads - 1) / heads, kMaxParts,
                  (call.dims.length + kMinKeys - 1) / kMinKeys});
    BackwardParts(call, d_output, d_inputs, parts, body);
  }

 private:
  // None of these may depend on the number of threads, or results would.
  static constexpr int64_t kQueryPiece = 256;
  static constexpr int64_t kKeyPart = 4096;

  // With one part, head by head as it is; otherwise as BackwardKeys says.
  template <typename Body>
  static void BackwardParts(const OperatorCall& call, const Tensor& d_output,
                            absl::Span<const Tensor> d_inputs, int64_t parts,
                            const Body& body) {
    const Dims& d = call.dims;
    Tensor to[3];
    for (Input i : {kQuery, kKey, kValue}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    const KeysSeen seen(call.inputs[kKey], call.inputs[kValue], /*before=*/0);
    const int64_t part = (d.length + parts - 1) / parts;
    const int64_t group = d.heads / d.kv_heads;
    // The first part's go where they belong, others are added afterwards.
    std::vector<Tensor> d_q = {to[kQuery]};
    for (int64_t p = 1; p < parts; ++p) {
      d_q.push_back(Tensor(d_output.dtype(),
                           {d.batch, d.length - p * part, d.heads, d.key_dim}));
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      kernels::ParallelFor(
          call.pool, d.batch * d.kv_heads * parts, [&](size_t i, int) {
            const int64_t b = i / parts / d.kv_heads;
            const int64_t g = i / parts % d.kv_heads;
            const int64_t p = i % parts, first = p * part;
            const int64_t queries = d.length - first;
            const int64_t keys = std::min(part, queries);
            for (int64_t h = g * group; h < (g + 1) * group; ++h) {
              AttentionHead<T> head =
                  HeadOf<T>(call, seen, call.saved[0], b, h, g);
              head.q = head.q.Rows(first, queries);
              head.o = head.o.Rows(first, queries);
              head.lse += first;
              head.k = head.k.Rows(first, keys);
              head.v = head.v.Rows(first, keys);
              body(AttentionHeadGradients<T>{
                  head, d_output.Sequence<T>(b, h).Rows(first, queries),
                  d_q[p].Sequence<T>(b, h),
                  to[kKey].Sequence<T>(b, g).Rows(first, keys),
                  to[kValue].Sequence<T>(b, g).Rows(first, keys)});
            }
          });
    });
    AddParts(d_q, call.pool);
  }

  // parts[0] += all others, each of which is about the last tokens.
  static void AddParts(const std::vector<Tensor>& parts,
                       kernels::ThreadPool* pool);

  // The call's output from what it is with one part of the keys alone: results
  // [batch * kv_heads * parts * group, value_dim], and log-sum-exps.
  template <typename T>
  static void MergeParts(const Tensor& results, const Tensor& lse,
                         int64_t parts, const OperatorCall& call);

  template <typename T>
  static AttentionHead<T> HeadOf(const OperatorCall& call, const KeysSeen& seen,
                                 const Tensor& lse, int64_t b, int64_t h,
                                 int64_t g) {
    return {h,
            ScoreScale<T>(call.dims),
            call.inputs[kQuery].Sequence<T>(b, h),
            seen.Keys<T>(b, g),
            seen.Values<T>(b, g),
            call.output.Sequence<T>(b, h),
            HeadRow<T>(lse, b, h)};
  }
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_ATTENTION_OPERATOR_H_
