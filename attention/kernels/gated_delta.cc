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

// kVectors vectors of the state's columns from `col` on: what they answered to
// key and query, and then the correction.
template <class V, size_t kVectors>
struct Strip {
  V u[kVectors], to_query[kVectors];
};

template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void ReadRow(D d, const Access& access, const T* row, T faded_k,
                        T faded_q, Strip<hn::VFromD<D>, kVectors>& strip) {
  const auto k = hn::Set(d, faded_k), q = hn::Set(d, faded_q);
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    const auto s = access.Load(row + i * hn::Lanes(d));
    strip.u[i] = hn::NegMulAdd(k, s, strip.u[i]);
    strip.to_query[i] = hn::MulAdd(q, s, strip.to_query[i]);
  });
}

template <bool kDecay, size_t kVectors, class D, class Access, typename T>
HWY_INLINE void CorrectRow(D d, const Access& access, T* row, T key, T decay,
                           const Strip<hn::VFromD<D>, kVectors>& strip) {
  const auto k = hn::Set(d, key);
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    auto s = access.Load(row + i * hn::Lanes(d));
    if constexpr (kDecay) s = hn::Mul(hn::Set(d, decay), s);
    access.Store(hn::MulAdd(k, strip.u[i], s), row + i * hn::Lanes(d));
  });
}

template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void BeginStrip(D d, const Token<T>& x, size_t col,
                           const Access& access,
                           Strip<hn::VFromD<D>, kVectors>& strip) {
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    strip.u[i] = access.Load(x.v + col + i * hn::Lanes(d));
    strip.to_query[i] = hn::Zero(d);
  });
}

// u and the output. As S_t differs from S'_t by a rank one, o = s (S'^T q + (q
// . k) u).
template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void EndStrip(D d, const Token<T>& x, size_t col,
                         const Access& access,
                         Strip<hn::VFromD<D>, kVectors>& strip) {
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    strip.u[i] = hn::Mul(hn::Set(d, x.beta), strip.u[i]);
    const auto o =
        hn::MulAdd(hn::Set(d, x.q_dot_k), strip.u[i], strip.to_query[i]);
    access.Store(hn::Mul(hn::Set(d, x.scale), o), x.o + col + i * hn::Lanes(d));
  });
}

// The strips of kVectors vectors from *col on, of which there is one at least.
// While one is corrected, which keeps the store port busy, the next one is
// read.
template <bool kDecay, size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepStrips(D d, const Token<T>& x, const Access& access,
                           size_t* col) {
  using V = hn::VFromD<D>;
  const size_t width = kVectors * hn::Lanes(d);
  const size_t rows = x.state.rows, cols = x.state.cols;
  const size_t row_stride = x.state.stride, factor_stride = x.stride;
  Strip<V, kVectors> strip, next;
  T* state = x.state.data + *col;
  BeginStrip<kVectors>(d, x, *col, access, strip);
  for (size_t r = 0; r < rows; ++r) {
    ReadRow<kVectors>(d, access, state + r * row_stride, x.faded_k[r],
                      x.faded_q[r], strip);
  }
  EndStrip<kVectors>(d, x, *col, access, strip);
  for (*col += width; *col + width <= cols; *col += width) {
    BeginStrip<kVectors>(d, x, *col, access, next);
    for (size_t r = 0; r < rows; ++r) {
      T* const row = state + r * row_stride;
      CorrectRow<kDecay, kVectors>(d, access, row, x.k[r],
                                   kDecay ? x.factor[r * factor_stride] : T{1},
                                   strip);
      ReadRow<kVectors>(d, access, row + width, x.faded_k[r], x.faded_q[r],
                        next);
    }
    EndStrip<kVectors>(d, x, *col, access, next);
    strip = next;
    state += width;
  }
  for (size_t r = 0; r < rows; ++r) {
    CorrectRow<kDecay, kVectors>(d, access, state + r * row_stride, x.k[r],
                                 kDecay ? x.factor[r * factor_stride] : T{1},
                                 strip);
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
  if (cols >= 4 * lanes) StepStrips<kDecay, 4>(d, x, all, &col);
  if (cols >= col + 2 * lanes) StepStrips<kDecay, 2>(d, x, all, &col);
  if (cols >= col + lanes) StepStrips<kDecay, 1>(d, x, all, &col);
  if (col < cols) {
    const FirstLanes<decltype(d)> rest{cols - col};
    StepStrips<kDecay, 1>(d, x, rest, &col);
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
