// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/gated_delta.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/gated_delta.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/gated_delta-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

// One token of the recurrence.
template <typename T>
struct Token {
  const T* faded_k;  // e^g k, as S'^T k = S^T (e^g k)
  const T* faded_q;
  const T* k;
  const T* v;
  const T* factor;  // e^g, a row's every `stride` entries; unused if constant
  size_t stride;
  T beta, scale;
  T q_dot_k;
  MatrixView<T> state;
  T* o;
};

// kVectors vectors of the state's columns, in two passes: what they answer to
// key and query, then the correction. As S_t differs from S'_t by a rank one,
// o = s (S'^T q + (q . k) u).
template <bool kDecay, size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepColumns(D d, const Token<T>& x, size_t col,
                            const Access& access) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  V u[kVectors], to_query[kVectors];
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    u[i] = access.Load(x.v + col + i * lanes);
    to_query[i] = hn::Zero(d);
  });
  for (size_t r = 0; r < x.state.rows; ++r) {
    const T* row = x.state.row(r) + col;
    const V k = hn::Set(d, x.faded_k[r]), q = hn::Set(d, x.faded_q[r]);
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      const V s = access.Load(row + i * lanes);
      u[i] = hn::NegMulAdd(k, s, u[i]);
      to_query[i] = hn::MulAdd(q, s, to_query[i]);
    });
  }
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    u[i] = hn::Mul(hn::Set(d, x.beta), u[i]);
    const V o = hn::MulAdd(hn::Set(d, x.q_dot_k), u[i], to_query[i]);
    access.Store(hn::Mul(hn::Set(d, x.scale), o), x.o + col + i * lanes);
  });
  const T* factor = x.factor;
  for (size_t r = 0; r < x.state.rows; ++r) {
    T* row = x.state.row(r) + col;
    const V k = hn::Set(d, x.k[r]);
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      V s = access.Load(row + i * lanes);
      if constexpr (kDecay) s = hn::Mul(hn::Set(d, *factor), s);
      access.Store(hn::MulAdd(k, u[i], s), row + i * lanes);
    });
    factor += x.stride;
  }
}

// All columns, in strips as wide as the registers allow: the rows of a state
// are contiguous. The token is passed by value, as vector stores might alias it
// anywhere else.
template <bool kDecay, typename T>
HWY_NOINLINE void StepToken(Token<T> x) {
  const hn::ScalableTag<T> d;
  const AllLanes<decltype(d)> all;
  const size_t lanes = hn::Lanes(d), cols = x.state.cols;
  size_t col = 0;
  for (; col + 4 * lanes <= cols; col += 4 * lanes) {
    StepColumns<kDecay, 4>(d, x, col, all);
  }
  for (; col + 2 * lanes <= cols; col += 2 * lanes) {
    StepColumns<kDecay, 2>(d, x, col, all);
  }
  for (; col + lanes <= cols; col += lanes) {
    StepColumns<kDecay, 1>(d, x, col, all);
  }
  if (col < cols) {
    StepColumns<kDecay, 1>(d, x, col, FirstLanes<decltype(d)>{cols - col});
  }
}

// faded holds 2 key_dim entries.
template <typename T>
HWY_NOINLINE void Step(const GatedDelta<T>& a, size_t t, BlockDecay<T>& decay,
                       MatrixView<T> state, T* faded, T* o) {
  const size_t n = state.rows;
  const T *q = a.q.row(t), *k = a.k.row(t);
  Token<T> x{k,
             q,
             k,
             a.v.row(t),
             decay.Factors(t),
             decay.uniform() ? size_t{0} : size_t{1},
             *a.beta.row(t),
             a.scale,
             DotRows(q, k, n),
             state,
             o};
  if (!decay.decays()) return StepToken<false>(x);
  decay.Apply(k, T{1}, x.factor, faded);
  decay.Apply(q, T{1}, x.factor, faded + n);
  x.faded_k = faded;
  x.faded_q = faded + n;
  StepToken<true>(x);
}

template <typename T>
void RunForward(const GatedDelta<T>& a, T* state_data, MatrixView<T> o,
                T* saved) {
  const size_t length = a.q.rows;
  const MatrixView<T> state(state_data, a.q.cols, a.v.cols);
  Block<T> block(a);
  T* faded = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    block.LayOut(take);
    faded = take(2 * state.rows);
  });
  for (size_t chunk = 0; chunk < length;) {
    const size_t end = std::min(length, chunk + std::min(a.chunk, length));
    if (saved != nullptr) {
      saved = std::copy_n(state_data, state.rows * state.cols, saved);
    }
    for (size_t begin = chunk; begin < end; begin += kBlock) {
      const size_t rows = std::min(kBlock, end - begin);
      if (rows == 1) {
        Step(a, begin, block.decay(), state, faded, o.row(begin));
      } else {
        block.Start(begin, rows, state);
        block.Substitute(o);
        block.Advance(state);
      }
    }
    chunk = end;
  }
}

}  // namespace delta

void GatedDeltaForwardFloat(const GatedDelta<float>& a, float* state,
                            MatrixView<float> o, float* saved) {
  delta::RunForward(a, state, o, saved);
}
void GatedDeltaForwardDouble(const GatedDelta<double>& a, double* state,
                             MatrixView<double> o, double* saved) {
  delta::RunForward(a, state, o, saved);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(GatedDeltaForwardFloat);
HWY_EXPORT(GatedDeltaForwardDouble);

void GatedDeltaForward(const GatedDelta<float>& a, float* state,
                       MatrixView<float> o, float* saved) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaForwardFloat)(a, state, o, saved);
}
void GatedDeltaForward(const GatedDelta<double>& a, double* state,
                       MatrixView<double> o, double* saved) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaForwardDouble)(a, state, o, saved);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
