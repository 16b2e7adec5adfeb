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

// One token, in two passes over each vector of the state's columns: what it
// answers to key and query, then the correction. As S_t differs from S'_t by a
// rank one, o = s (S'^T q + (q . k) u).
template <typename T>
HWY_FLATTEN HWY_NOINLINE void Step(const GatedDelta<T>& a, size_t t,
                                   const T* factor, MatrixView<T> state, T* o) {
  const hn::ScalableTag<T> d;
  const T *q = a.q.row(t), *k = a.k.row(t), *v = a.v.row(t);
  const size_t key_dim = state.rows;
  const T product = SumVectors(
      d, key_dim, [&](auto sum, size_t c, const auto& lanes) HWY_ATTR {
        return hn::MulAdd(lanes.Load(q + c), lanes.Load(k + c), sum);
      });
  const auto q_dot_k = hn::Set(d, product);
  const auto beta = hn::Set(d, *a.beta.row(t));
  const auto scale = hn::Set(d, a.scale);
  ForEachVector(d, state.cols, [&](size_t c, const auto& lanes) HWY_ATTR {
    auto to_key = hn::Zero(d), to_query = hn::Zero(d);
    for (size_t r = 0; r < key_dim; ++r) {
      const auto s =
          hn::Mul(hn::Set(d, factor[r]), lanes.Load(state.row(r) + c));
      to_key = hn::MulAdd(hn::Set(d, k[r]), s, to_key);
      to_query = hn::MulAdd(hn::Set(d, q[r]), s, to_query);
    }
    const auto u = hn::Mul(beta, hn::Sub(lanes.Load(v + c), to_key));
    for (size_t r = 0; r < key_dim; ++r) {
      T* row = state.row(r) + c;
      const auto s = hn::Mul(hn::Set(d, factor[r]), lanes.Load(row));
      lanes.Store(hn::MulAdd(hn::Set(d, k[r]), u, s), row);
    }
    lanes.Store(hn::Mul(scale, hn::MulAdd(q_dot_k, u, to_query)), o + c);
  });
}

template <typename T>
void RunForward(const GatedDelta<T>& a, T* state_data, MatrixView<T> o,
                T* saved) {
  const size_t length = a.q.rows;
  const MatrixView<T> state(state_data, a.q.cols, a.v.cols);
  Block<T> block(a);
  recurrence::LayOutScratch<T>([&](const auto& take) { block.LayOut(take); });
  block.Initialise();
  for (size_t chunk = 0; chunk < length;) {
    const size_t end = std::min(length, chunk + std::min(a.chunk, length));
    if (saved != nullptr) {
      saved = std::copy_n(state_data, state.rows * state.cols, saved);
    }
    for (size_t begin = chunk; begin < end; begin += kBlock) {
      const size_t rows = std::min(kBlock, end - begin);
      if (rows == 1) {
        Step(a, begin, block.Factors(begin), state, o.row(begin));
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
