// SPDX-License-Identifier: Apache-2.0
//
// What operators made of softmax attention have in common: inputs, a cache of
// keys and values, costs, and the arrays of one head that the kernels work on.
// A derived operator says which keys a query sees.

#ifndef MNEME_ATTENTION_PARTS_ATTENTION_OPERATOR_H_
#define MNEME_ATTENTION_PARTS_ATTENTION_OPERATOR_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

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

 protected:
  enum Input { kQuery, kKey, kValue };

  // Pairs of a query and a key it sees, in one sequence and head.
  virtual double Pairs(const Dims& d) const = 0;

  // body(AttentionHead) for all heads of a forward; keeps their log-sum-exps as
  // the only saved tensor if the call asks for it.
  template <typename Body>
  static void ForwardHeads(OperatorCall* call, const KeysSeen& seen,
                           const Body& body) {
    Tensor lse;
    if (call->keep) {
      const Dims& d = call->dims;
      lse = Tensor(call->arena, call->output.dtype(),
                   {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call->pool, call->dims, [&](int64_t b, int64_t h, int64_t g) {
        body(HeadOf<T>(*call, seen, lse, b, h, g));
      });
    });
  }

  // body(AttentionHeadGradients) for all heads, those that share keys one after
  // the other.
  template <typename Body>
  static void BackwardHeads(const OperatorCall& call, const Tensor& d_output,
                            absl::Span<const Tensor> d_inputs,
                            const Body& body) {
    Tensor to[3];
    for (Input i : {kQuery, kKey, kValue}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    const KeysSeen seen(call.inputs[kKey], call.inputs[kValue], /*before=*/0);
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachHeadByGroup(
          call.pool, call.dims, [&](int64_t b, int64_t h, int64_t g) {
            body(AttentionHeadGradients<T>{
                HeadOf<T>(call, seen, call.saved[0], b, h, g),
                d_output.Sequence<T>(b, h), to[kQuery].Sequence<T>(b, h),
                to[kKey].Sequence<T>(b, g), to[kValue].Sequence<T>(b, g)});
          });
    });
  }

 private:
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
