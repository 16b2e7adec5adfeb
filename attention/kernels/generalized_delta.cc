// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/generalized_delta.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/generalized_delta.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/generalized_delta-inl.h"
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
struct GeneralizedToken {
  const T *q, *k, *v, *a, *b;
  const T* factor;  // e^g
  MatrixView<T> state;
  T* o;
};

// kVectors vectors of the state's columns, in two passes: what they answer to
// a, then the new state and what it answers to q.
template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepColumns(D d, const GeneralizedToken<T>& x, size_t col,
                            const Access& access) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  V u[kVectors], v[kVectors], out[kVectors];
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    v[i] = access.Load(x.v + col + i * lanes);
    u[i] = out[i] = hn::Zero(d);
  });
  for (size_t r = 0; r < x.state.rows; ++r) {
    const T* row = x.state.row(r) + col;
    const V a = hn::Set(d, x.a[r]);
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      u[i] = hn::MulAdd(a, access.Load(row + i * lanes), u[i]);
    });
  }
  for (size_t r = 0; r < x.state.rows; ++r) {
    T* row = x.state.row(r) + col;
    const V factor = hn::Set(d, x.factor[r]), q = hn::Set(d, x.q[r]);
    const V b = hn::Set(d, x.b[r]), k = hn::Set(d, x.k[r]);
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      V s = hn::Mul(factor, access.Load(row + i * lanes));
      s = hn::MulAdd(k, v[i], hn::MulAdd(b, u[i], s));
      access.Store(s, row + i * lanes);
      out[i] = hn::MulAdd(q, s, out[i]);
    });
  }
  Unroll<kVectors>(
      [&](auto i) HWY_ATTR { access.Store(out[i], x.o + col + i * lanes); });
}

// All columns, in strips as wide as the registers allow. The token is passed by
// value, as vector stores might alias it anywhere else.
template <typename T>
HWY_NOINLINE void StepToken(GeneralizedToken<T> x) {
  const hn::ScalableTag<T> d;
  const AllLanes<decltype(d)> all;
  const size_t lanes = hn::Lanes(d), cols = x.state.cols;
  size_t col = 0;
  for (; col + 4 * lanes <= cols; col += 4 * lanes) {
    StepColumns<4>(d, x, col, all);
  }
  for (; col + 2 * lanes <= cols; col += 2 * lanes) {
    StepColumns<2>(d, x, col, all);
  }
  for (; col + lanes <= cols; col += lanes) StepColumns<1>(d, x, col, all);
  if (col < cols) {
    StepColumns<1>(d, x, col, FirstLanes<decltype(d)>{cols - col});
  }
}

template <typename T>
void RunGeneralizedForward(const GeneralizedDelta<T>& x, T* state_data,
                           MatrixView<T> o, T* saved) {
  const size_t length = x.q.rows;
  const MatrixView<T> state(state_data, x.q.cols, x.v.cols);
  GeneralizedBlock<T> block(x);
  recurrence::LayOutScratch<T>([&](const auto& take) { block.LayOut(take); });
  for (size_t chunk = 0; chunk < length;) {
    const size_t end = std::min(length, chunk + std::min(x.chunk, length));
    if (saved != nullptr) {
      saved = std::copy_n(state_data, state.rows * state.cols, saved);
    }
    for (size_t begin = chunk; begin < end; begin += kBlock) {
      const size_t rows = std::min(kBlock, end - begin);
      if (rows == 1) {
        StepToken<T>({x.q.row(begin), x.k.row(begin), x.v.row(begin),
                      x.a.row(begin), x.b.row(begin),
                      block.decay().Factors(begin), state, o.row(begin)});
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

void GeneralizedDeltaForwardFloat(const GeneralizedDelta<float>& x,
                                  float* state, MatrixView<float> o,
                                  float* saved) {
  delta::RunGeneralizedForward(x, state, o, saved);
}
void GeneralizedDeltaForwardDouble(const GeneralizedDelta<double>& x,
                                   double* state, MatrixView<double> o,
                                   double* saved) {
  delta::RunGeneralizedForward(x, state, o, saved);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(GeneralizedDeltaForwardFloat);
HWY_EXPORT(GeneralizedDeltaForwardDouble);

void GeneralizedDeltaForward(const GeneralizedDelta<float>& x, float* state,
                             MatrixView<float> o, float* saved) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaForwardFloat)(x, state, o, saved);
}
void GeneralizedDeltaForward(const GeneralizedDelta<double>& x, double* state,
                             MatrixView<double> o, double* saved) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaForwardDouble)(x, state, o, saved);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
