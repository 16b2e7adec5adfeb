// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/selective_scan.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/selective_scan.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/gemm_tile-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace scan {
namespace hn = hwy::HWY_NAMESPACE;

// A vector of channels at a time runs through a chunk of tokens, so that its
// states stay in the first cache level. `access` is AllLanes or FirstLanes;
// lanes outside hold zeros, which nothing below changes.

// Decays that go through the exponential together: as many as registers hold,
// and a divisor of the usual state dimensions.
constexpr size_t kDecays = HWY_TARGET <= HWY_AVX3 ? 8 : 4;

// What of a token the states of a vector of channels want. rate is dt log2(e).
template <class V>
struct TokenVectors {
  V rate, input;
};

// The states n, n + 1, ... of a token, kCount of them, state_stride apart.
// transitions holds a vector for each. Returns the sum with the outputs.
template <size_t kCount, bool kKeep, class D, class Access, class V, typename T>
HWY_INLINE V ScanStates(D d, const Access& access, const TokenVectors<V>& token,
                        const T* HWY_RESTRICT transitions,
                        const T* HWY_RESTRICT b, const T* HWY_RESTRICT c,
                        T* HWY_RESTRICT states, size_t state_stride,
                        T* HWY_RESTRICT h, T* HWY_RESTRICT decays, V sum) {
  const size_t lanes = hn::Lanes(d);
  V decay[kCount];
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    decay[i] = hn::Mul(token.rate, hn::Load(d, transitions + i * lanes));
  }
  FastExp2NonPositive<kCount>(d, decay);
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    T* const at = states + i * state_stride;
    const V state = hn::MulAdd(decay[i], access.Load(at),
                               hn::Mul(token.input, hn::Set(d, b[i])));
    access.Store(state, at);
    if constexpr (kKeep) {
      hn::Store(state, d, h + i * lanes);
      hn::Store(decay[i], d, decays + i * lanes);
    } else {
      sum = hn::MulAdd(hn::Set(d, c[i]), state, sum);
    }
  }
  return sum;
}

// The tokens [begin, end) of a vector of channels from `col` on. transitions
// holds a vector for each n, states a vector every state_stride elements. With
// kKeep, h and decays receive vectors [token][n]; else y receives the output.
template <bool kKeep, class D, class Access, typename T>
HWY_INLINE void ScanVector(D d, const SelectiveScan<T>& s, size_t begin,
                           size_t end, size_t col, const Access& access,
                           const T* HWY_RESTRICT transitions,
                           T* HWY_RESTRICT states, size_t state_stride,
                           MatrixView<T> y, T* HWY_RESTRICT h,
                           T* HWY_RESTRICT decays) {
  using V = hn::VFromD<D>;
  const size_t state_dim = s.a.cols, lanes = hn::Lanes(d);
  const V log2e = hn::Set(d, ExpConstants<T>::kLog2E);
  for (size_t t = begin; t < end; ++t) {
    const V x = access.Load(s.x.row(t) + col);
    const V dt = access.Load(s.dt.row(t) + col);
    const T *b = s.b.row(t), *c = kKeep ? nullptr : s.c.row(t);
    const TokenVectors<V> token = {hn::Mul(dt, log2e), hn::Mul(dt, x)};
    V sum = s.d == nullptr ? hn::Zero(d) : hn::Mul(access.Load(s.d + col), x);
    const auto scan = [&](auto count, size_t n) HWY_ATTR {
      sum = ScanStates<count(), kKeep>(
          d, access, token, transitions + n * lanes, b + n,
          kKeep ? nullptr : c + n, states + n * state_stride, state_stride,
          kKeep ? h + n * lanes : nullptr, kKeep ? decays + n * lanes : nullptr,
          sum);
    };
    size_t n = 0;
    for (; n + kDecays <= state_dim; n += kDecays) {
      scan(std::integral_constant<size_t, kDecays>(), n);
    }
    for (; n < state_dim; ++n) scan(std::integral_constant<size_t, 1>(), n);
    if constexpr (kKeep) {
      h += state_dim * lanes;
      decays += state_dim * lanes;
    } else {
      access.Store(sum, y.row(t) + col);
    }
  }
}

// to [n] = the transitions of the vector of channels from `col` on, up to
// `end`; 0 beyond.
template <class D, typename T>
HWY_INLINE void LoadTransitions(D d, MatrixView<const T> a, size_t col,
                                size_t end, T* HWY_RESTRICT to) {
  const size_t lanes = hn::Lanes(d);
  if (col + lanes <= end) {
    PackTransposedVector(StridedRows<T>{a.row(col), a.stride}, a.cols, to,
                         lanes);
    return;
  }
  std::fill_n(to, a.cols * lanes, T{0});
  for (size_t e = col; e < end; ++e) {
    for (size_t n = 0; n < a.cols; ++n) to[n * lanes + e - col] = a.row(e)[n];
  }
}

// Between a state [state_dim, channels] and the vectors of some channels.
template <class D, class Access, typename T>
HWY_INLINE void LoadStates(D d, MatrixView<const T> from, size_t col,
                           const Access& access, T* to) {
  for (size_t n = 0; n < from.rows; ++n) {
    hn::Store(access.Load(from.row(n) + col), d, to + n * hn::Lanes(d));
  }
}
template <class D, class Access, typename T>
HWY_INLINE void StoreStates(D d, const T* from, size_t col,
                            const Access& access, MatrixView<T> to) {
  for (size_t n = 0; n < to.rows; ++n) {
    access.Store(hn::Load(d, from + n * hn::Lanes(d)), to.row(n) + col);
  }
}

// Vectors of channels that take a step together, a block of states (kBlock) at
// a time: for float, as many decays as registers hold.
constexpr size_t kStepVectors = HWY_TARGET <= HWY_AVX3 ? 2 : 1;

// One token for kStepVectors whole vectors of channels from `col` on, where the
// states are whole blocks: along the rows of the state, in place. Down a
// column, rows a power of two apart would share a few sets of the cache.
// Nothing else would use transposed transitions before the next token, so they
// go from their rows into registers, and the loads and shuffles hide behind the
// exponentials. The roundings are those of ScanVector.
template <class D, typename T>
HWY_INLINE void Step(D d, const SelectiveScan<T>& s, size_t col,
                     MatrixView<T> states, T* HWY_RESTRICT y) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  V rate[kStepVectors], input[kStepVectors], sum[kStepVectors];
  for (size_t i = 0; i < kStepVectors; ++i) {
    const size_t at = col + i * lanes;
    const V x = hn::LoadU(d, s.x.row(0) + at);
    const V dt = hn::LoadU(d, s.dt.row(0) + at);
    rate[i] = hn::Mul(dt, hn::Set(d, ExpConstants<T>::kLog2E));
    input[i] = hn::Mul(dt, x);
    sum[i] = s.d == nullptr ? hn::Zero(d) : hn::Mul(hn::LoadU(d, s.d + at), x);
  }
  const StridedRows<T> rows{s.a.row(col), s.a.stride};
  for (size_t n = 0; n < s.a.cols; n += kBlock<T>) {
    V decay[kStepVectors * kBlock<T>];
    HWY_UNROLL(8) for (size_t i = 0; i < kStepVectors; ++i) {
      V column[kBlock<T>];
      LoadTransposed(d, rows.From(n), i * lanes, column);
      HWY_UNROLL(8) for (size_t p = 0; p < kBlock<T>; ++p) {
        decay[i * kBlock<T> + p] = hn::Mul(rate[i], column[p]);
      }
    }
    FastExp2NonPositive<kStepVectors * kBlock<T>>(d, decay);
    HWY_UNROLL(8) for (size_t p = 0; p < kBlock<T>; ++p) {
      const V b = hn::Set(d, s.b.row(0)[n + p]);
      const V c = hn::Set(d, s.c.row(0)[n + p]);
      HWY_UNROLL(8) for (size_t i = 0; i < kStepVectors; ++i) {
        T* const at = states.row(n + p) + col + i * lanes;
        const V state = hn::MulAdd(decay[i * kBlock<T> + p], hn::LoadU(d, at),
                                   hn::Mul(input[i], b));
        hn::StoreU(state, d, at);
        sum[i] = hn::MulAdd(c, state, sum[i]);
      }
    }
  }
  for (size_t i = 0; i < kStepVectors; ++i) {
    hn::StoreU(sum[i], d, y + col + i * lanes);
  }
}

template <typename T>
HWY_FLATTEN void Forward(const SelectiveScan<T>& s, T* state, MatrixView<T> y,
                         T* saved) {
  const hn::ScalableTag<T> d;
  const size_t length = s.x.rows, channels = s.x.cols, state_dim = s.a.cols;
  const size_t chunk = std::min(s.chunk, length);
  T *states = nullptr, *transitions = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    states = take(state_dim * hn::Lanes(d));
    transitions = take(state_dim * hn::Lanes(d));
  });
  const MatrixView<T> all(state, state_dim, channels);
  const size_t last = std::min(s.end, channels);
  if (s.begin >= last) return;
  const bool step = length == 1 && saved == nullptr;
  size_t first = s.begin;
  if (step && state_dim % kBlock<T> == 0) {
    const size_t width = kStepVectors * hn::Lanes(d);
    for (; first + width <= last; first += width) {
      Step(d, s, first, all, y.row(0));
    }
  }
  ForEachVector(d, last - first, [&](size_t c, const auto& access) HWY_ATTR {
    const size_t col = first + c;
    LoadTransitions(d, s.a, col, last, transitions);
    if (step) {  // in place
      ScanVector<false>(d, s, 0, 1, col, access, transitions, state + col,
                        channels, y, static_cast<T*>(nullptr),
                        static_cast<T*>(nullptr));
      return;
    }
    LoadStates<decltype(d)>(d, MatrixView<const T>(all), col, access, states);
    for (size_t begin = 0; begin < length; begin += chunk) {
      if (saved != nullptr) {
        StoreStates(d, states, col, access,
                    MatrixView<T>(saved + begin / chunk * state_dim * channels,
                                  state_dim, channels));
      }
      ScanVector<false, decltype(d)>(
          d, s, begin, std::min(length, begin + chunk), col, access,
          transitions, states, hn::Lanes(d), y, static_cast<T*>(nullptr),
          static_cast<T*>(nullptr));
    }
    StoreStates(d, states, col, access, all);
  });
}

// With z the gradient by a token's state, a the transition, e = e^{dt a} and h'
// the state before,
//
//   z += c d_y;  d_c = d_y . h;  d_b = (dt x) . z;  d_x = d d_y + dt sum_n b z;
//   d_dt = sum_n z (a e h' + b x);  d_a += dt e h' z;  z <- e z,
//
// where the dots are over channels: they are gathered lane by lane.
template <typename T>
class Backward {
 public:
  Backward(const SelectiveScan<T>& s, MatrixView<const T> d_y,
           const SelectiveScanGradients<T>& gradients)
      : s_(s),
        length_(s.x.rows),
        channels_(s.x.cols),
        state_dim_(s.a.cols),
        d_y_(d_y),
        gradients_(gradients) {}

  void Run(const T* saved, T* d_state) {
    if (length_ == 0) return;
    const size_t chunk = std::min(s_.chunk, length_);
    const size_t vectors = state_dim_ * hn::Lanes(D());
    recurrence::LayOutScratch<T>([&](const auto& take) {
      h_ = take((chunk + 1) * vectors);
      decays_ = take(chunk * vectors);
      d_b_ = take(chunk * vectors);
      d_c_ = take(chunk * vectors);
      states_ = take(vectors);
      transitions_ = take(vectors);
      d_a_ = take(vectors);
    });
    for (size_t i = (length_ + chunk - 1) / chunk; i-- > 0;) {
      const size_t begin = i * chunk, end = std::min(length_, begin + chunk);
      std::fill_n(d_b_, (end - begin) * vectors, T{0});
      std::fill_n(d_c_, (end - begin) * vectors, T{0});
      RunChunk(begin, end, saved + i * state_dim_ * channels_, d_state);
      AddSums(begin, end, d_b_, gradients_.d_b);
      AddSums(begin, end, d_c_, gradients_.d_c);
    }
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;

  HWY_FLATTEN HWY_NOINLINE void RunChunk(size_t begin, size_t end,
                                         const T* saved, T* d_state) {
    const D d;
    const size_t vectors = state_dim_ * hn::Lanes(d);
    const MatrixView<T> z(d_state, state_dim_, channels_);
    ForEachVector(d, channels_, [&](size_t col, const auto& access) HWY_ATTR {
      LoadStates(d, MatrixView<const T>(saved, state_dim_, channels_), col,
                 access, h_);
      std::copy_n(h_, vectors, states_);
      LoadTransitions(d, s_.a, col, channels_, transitions_);
      ScanVector<true>(d, s_, begin, end, col, access, transitions_, states_,
                       hn::Lanes(d), MatrixView<T>(), h_ + vectors, decays_);
      LoadStates(d, MatrixView<const T>(z), col, access, states_);  // now z
      std::fill_n(d_a_, vectors, T{0});
      V d_d = hn::Zero(d);
      for (size_t t = end; t-- > begin;) {
        d_d = hn::Add(d_d, RunToken(d, t, t - begin, col, access));
      }
      StoreStates(d, states_, col, access, z);
      if (gradients_.d_d != nullptr) Add(d_d, access, gradients_.d_d + col);
      for (size_t n = 0; n < state_dim_ && gradients_.d_a.data != nullptr;
           ++n) {
        Add(hn::Load(d, d_a_ + n * hn::Lanes(d)), access,
            gradients_.d_a.row(n) + col);
      }
    });
  }

  // Token t, the i-th of the chunk; returns its share in d_d.
  template <class Access>
  HWY_INLINE V RunToken(D d, size_t t, size_t i, size_t col,
                        const Access& access) {
    const size_t lanes = hn::Lanes(d), vectors = state_dim_ * lanes;
    const T *before = h_ + i * vectors, *after = before + vectors;
    const T* decays = decays_ + i * vectors;
    T *d_b = d_b_ + i * vectors, *d_c = d_c_ + i * vectors;
    const V x = access.Load(s_.x.row(t) + col);
    const V dt = access.Load(s_.dt.row(t) + col);
    const V d_y = access.Load(d_y_.row(t) + col);
    const V input = hn::Mul(dt, x);
    V write = hn::Zero(d);  // sum_n b z
    V fade = hn::Zero(d);   // sum_n z a e h'
    for (size_t n = 0; n < state_dim_; ++n) {
      const size_t at = n * lanes;
      const V z = hn::MulAdd(hn::Set(d, s_.c.row(t)[n]), d_y,
                             hn::Load(d, states_ + at));
      hn::Store(hn::MulAdd(d_y, hn::Load(d, after + at), hn::Load(d, d_c + at)),
                d, d_c + at);
      hn::Store(hn::MulAdd(input, z, hn::Load(d, d_b + at)), d, d_b + at);
      write = hn::MulAdd(hn::Set(d, s_.b.row(t)[n]), z, write);
      const V faded = hn::Mul(hn::Load(d, decays + at), z);
      const V path = hn::Mul(faded, hn::Load(d, before + at));
      fade = hn::MulAdd(hn::Load(d, transitions_ + at), path, fade);
      hn::Store(hn::MulAdd(dt, path, hn::Load(d, d_a_ + at)), d, d_a_ + at);
      hn::Store(faded, d, states_ + at);
    }
    if (gradients_.d_x.data != nullptr) {
      V d_x = hn::Mul(dt, write);
      if (s_.d != nullptr) {
        d_x = hn::MulAdd(access.Load(s_.d + col), d_y, d_x);
      }
      Add(d_x, access, gradients_.d_x.row(t) + col);
    }
    if (gradients_.d_dt.data != nullptr) {
      Add(hn::MulAdd(write, x, fade), access, gradients_.d_dt.row(t) + col);
    }
    return hn::Mul(x, d_y);
  }

  template <class Access>
  static HWY_INLINE void Add(V v, const Access& access, T* to) {
    access.Store(hn::Add(v, access.Load(to)), to);
  }

  HWY_NOINLINE void AddSums(size_t begin, size_t end, const T* sums,
                            MatrixView<T> to) const {
    if (to.data == nullptr) return;
    const D d;
    for (size_t t = begin; t < end; ++t) {
      for (size_t n = 0; n < state_dim_; ++n, sums += hn::Lanes(d)) {
        to.row(t)[n] += hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums)));
      }
    }
  }

  const SelectiveScan<T>& s_;
  const size_t length_, channels_, state_dim_;
  const MatrixView<const T> d_y_;
  const SelectiveScanGradients<T>& gradients_;
  // Vectors [token][n] of the channels at work: states (and the one before the
  // chunk), decays; sums over all channels so far.
  T *h_ = nullptr, *decays_ = nullptr, *d_b_ = nullptr, *d_c_ = nullptr;
  // Vectors [n].
  T *states_ = nullptr, *d_a_ = nullptr, *transitions_ = nullptr;
};

}  // namespace scan

void ScanForwardFloat(const SelectiveScan<float>& s, float* state,
                      MatrixView<float> y, float* saved) {
  scan::Forward(s, state, y, saved);
}
void ScanForwardDouble(const SelectiveScan<double>& s, double* state,
                       MatrixView<double> y, double* saved) {
  scan::Forward(s, state, y, saved);
}
void ScanBackwardFloat(const SelectiveScan<float>& s, const float* saved,
                       MatrixView<const float> d_y, float* d_state,
                       const SelectiveScanGradients<float>& gradients) {
  scan::Backward<float>(s, d_y, gradients).Run(saved, d_state);
}
void ScanBackwardDouble(const SelectiveScan<double>& s, const double* saved,
                        MatrixView<const double> d_y, double* d_state,
                        const SelectiveScanGradients<double>& gradients) {
  scan::Backward<double>(s, d_y, gradients).Run(saved, d_state);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(ScanForwardFloat);
HWY_EXPORT(ScanForwardDouble);
HWY_EXPORT(ScanBackwardFloat);
HWY_EXPORT(ScanBackwardDouble);

void SelectiveScanForward(const SelectiveScan<float>& s, float* state,
                          MatrixView<float> y, float* saved) {
  HWY_DYNAMIC_DISPATCH(ScanForwardFloat)(s, state, y, saved);
}
void SelectiveScanForward(const SelectiveScan<double>& s, double* state,
                          MatrixView<double> y, double* saved) {
  HWY_DYNAMIC_DISPATCH(ScanForwardDouble)(s, state, y, saved);
}
void SelectiveScanBackward(const SelectiveScan<float>& s, const float* saved,
                           MatrixView<const float> d_y, float* d_state,
                           const SelectiveScanGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(ScanBackwardFloat)(s, saved, d_y, d_state, gradients);
}
void SelectiveScanBackward(const SelectiveScan<double>& s, const double* saved,
                           MatrixView<const double> d_y, double* d_state,
                           const SelectiveScanGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(ScanBackwardDouble)(s, saved, d_y, d_state, gradients);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
