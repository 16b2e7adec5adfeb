// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/gated_delta.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/gated_delta.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/delta_forward-inl.h"
#include "attention/kernels/delta_step-inl.h"
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/gated_delta-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

struct GatedTokens {
  // Entries of scratch for a token: e^g, e^g k and e^g q.
  static constexpr size_t Scratch(size_t key_dim) { return 3 * key_dim; }

  // What the kernel needs of row t: S'^T k = S^T (e^g k).
  template <typename T>
  static HWY_FLATTEN HWY_NOINLINE Token<T> Of(const GatedDelta<T>& a, size_t t,
                                              T* state, T* o, T* scratch) {
    const hn::ScalableTag<T> d;
    const size_t n = a.q.cols;
    const T *q = a.q.row(t), *k = a.k.row(t);
    Token<T> x{};
    x.reader = x.writer = k;
    x.query = q;
    x.value = a.v.row(t);
    x.strength = *a.beta.row(t);
    x.scale = a.scale;
    x.state = state;
    x.o = o;
    if (a.log_decay.data == nullptr) {
      x.query_writer = DotRows(q, k, n);
      return x;
    }
    const T* g = a.log_decay.row(t);
    const bool uniform = a.log_decay.cols == 1;
    T *factor = scratch, *faded_k = scratch + n, *faded_q = scratch + 2 * n;
    x.factor = factor;
    x.stride = uniform ? 0 : 1;
    x.reader = faded_k;
    x.query = faded_q;
    if (uniform) *factor = recurrence::DecayFactor(g, 0);
    const auto common = hn::Set(d, uniform ? *factor : T{1});
    x.query_writer =
        SumVectors(d, n, [&](auto sum, size_t i, const auto& lanes) HWY_ATTR {
          auto f = common;
          if (!uniform) {
            f = FastExpNonPositive(d, lanes.Load(g + i));
            lanes.Store(f, factor + i);
          }
          const auto key = lanes.Load(k + i), query = lanes.Load(q + i);
          lanes.Store(hn::Mul(f, key), faded_k + i);
          lanes.Store(hn::Mul(f, query), faded_q + i);
          return hn::MulAdd(query, key, sum);
        });
    return x;
  }

  template <typename T>
  static HWY_INLINE void Step(const GatedDelta<T>& a, const Token<T>* tokens,
                              size_t heads) {
    if (a.log_decay.data == nullptr) {
      StepHeads<Rule<false, false>, 4>(tokens, heads, a.q.cols, a.v.cols);
    } else {
      StepHeads<Rule<true, false>, 4>(tokens, heads, a.q.cols, a.v.cols);
    }
  }
};

}  // namespace delta

void GatedDeltaForwardFloat(const GatedDelta<float>& a, float* state,
                            MatrixView<float> o, float* saved) {
  delta::RunForward<delta::GatedTokens, delta::Block<float>>(a, state, o,
                                                             saved);
}
void GatedDeltaForwardDouble(const GatedDelta<double>& a, double* state,
                             MatrixView<double> o, double* saved) {
  delta::RunForward<delta::GatedTokens, delta::Block<double>>(a, state, o,
                                                              saved);
}
void GatedDeltaStepFloat(const GatedDelta<float>& a, float* states,
                         MatrixView<float> o) {
  delta::RunStep<delta::GatedTokens>(a, states, o);
}
void GatedDeltaStepDouble(const GatedDelta<double>& a, double* states,
                          MatrixView<double> o) {
  delta::RunStep<delta::GatedTokens>(a, states, o);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(GatedDeltaForwardFloat);
HWY_EXPORT(GatedDeltaForwardDouble);
HWY_EXPORT(GatedDeltaStepFloat);
HWY_EXPORT(GatedDeltaStepDouble);

void GatedDeltaForward(const GatedDelta<float>& a, float* state,
                       MatrixView<float> o, float* saved) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaForwardFloat)(a, state, o, saved);
}
void GatedDeltaForward(const GatedDelta<double>& a, double* state,
                       MatrixView<double> o, double* saved) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaForwardDouble)(a, state, o, saved);
}

void GatedDeltaStep(const GatedDelta<float>& a, float* states,
                    MatrixView<float> o) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaStepFloat)(a, states, o);
}
void GatedDeltaStep(const GatedDelta<double>& a, double* states,
                    MatrixView<double> o) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaStepDouble)(a, states, o);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
