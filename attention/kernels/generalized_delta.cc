// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/generalized_delta.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/generalized_delta.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/delta_forward-inl.h"
#include "attention/kernels/delta_step-inl.h"
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/generalized_delta-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors in a strip of the state: it keeps four times as many in registers.
constexpr size_t kWidest =
    HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 4 : 2;

struct GeneralizedTokens {
  // Entries of scratch for a token: e^g and e^g q.
  static constexpr size_t Scratch(size_t key_dim) { return 2 * key_dim; }

  // What the kernel needs of row t. u is -1 times what NegMulAdd sums up.
  template <typename T>
  static HWY_FLATTEN HWY_NOINLINE Token<T> Of(const GeneralizedDelta<T>& x,
                                              size_t t, T* state, T* o,
                                              T* scratch) {
    const hn::ScalableTag<T> d;
    const size_t n = x.q.cols;
    const T *q = x.q.row(t), *b = x.b.row(t), *g = x.log_decay.row(t);
    T *factor = scratch, *faded_q = scratch + n;
    Token<T> token{};
    token.reader = x.a.row(t);
    token.query = faded_q;
    token.writer = b;
    token.value_key = x.k.row(t);
    token.value = x.v.row(t);
    token.factor = factor;
    token.stride = 1;
    token.strength = -1;
    token.scale = 1;
    token.query_writer =
        SumVectors(d, n, [&](auto sum, size_t i, const auto& lanes) HWY_ATTR {
          const auto f = FastExpNonPositive(d, lanes.Load(g + i));
          const auto query = lanes.Load(q + i);
          lanes.Store(f, factor + i);
          lanes.Store(hn::Mul(f, query), faded_q + i);
          return hn::MulAdd(query, lanes.Load(b + i), sum);
        });
    token.query_key = DotRows(q, token.value_key, n);
    token.state = state;
    token.o = o;
    return token;
  }

  template <typename T>
  static HWY_INLINE void Step(const GeneralizedDelta<T>& x,
                              const Token<T>* tokens, size_t heads) {
    StepHeads<Rule<true, true>, kWidest>(tokens, heads, x.q.cols, x.v.cols);
  }
};

}  // namespace delta

void GeneralizedDeltaForwardFloat(const GeneralizedDelta<float>& x,
                                  float* state, MatrixView<float> o,
                                  float* saved) {
  delta::RunForward<delta::GeneralizedTokens, delta::GeneralizedBlock<float>>(
      x, state, o, saved);
}
void GeneralizedDeltaForwardDouble(const GeneralizedDelta<double>& x,
                                   double* state, MatrixView<double> o,
                                   double* saved) {
  delta::RunForward<delta::GeneralizedTokens, delta::GeneralizedBlock<double>>(
      x, state, o, saved);
}
void GeneralizedDeltaStepFloat(const GeneralizedDelta<float>& x, float* states,
                               MatrixView<float> o) {
  delta::RunStep<delta::GeneralizedTokens>(x, states, o);
}
void GeneralizedDeltaStepDouble(const GeneralizedDelta<double>& x,
                                double* states, MatrixView<double> o) {
  delta::RunStep<delta::GeneralizedTokens>(x, states, o);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(GeneralizedDeltaForwardFloat);
HWY_EXPORT(GeneralizedDeltaForwardDouble);
HWY_EXPORT(GeneralizedDeltaStepFloat);
HWY_EXPORT(GeneralizedDeltaStepDouble);

void GeneralizedDeltaForward(const GeneralizedDelta<float>& x, float* state,
                             MatrixView<float> o, float* saved) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaForwardFloat)(x, state, o, saved);
}
void GeneralizedDeltaForward(const GeneralizedDelta<double>& x, double* state,
                             MatrixView<double> o, double* saved) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaForwardDouble)(x, state, o, saved);
}

void GeneralizedDeltaStep(const GeneralizedDelta<float>& x, float* states,
                          MatrixView<float> o) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaStepFloat)(x, states, o);
}
void GeneralizedDeltaStep(const GeneralizedDelta<double>& x, double* states,
                          MatrixView<double> o) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaStepDouble)(x, states, o);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
