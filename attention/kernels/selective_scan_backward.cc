// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstddef>

#include "attention/kernels/selective_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/selective_scan_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lane_sums-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/selective_scan-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace scan {
namespace hn = hwy::HWY_NAMESPACE;

// With z the gradient by a token's state, a the transition, e = e^{dt a} and
// f = e h' what is left of the state before,
//
//   h = f + dt x b;  d_c = d_y . h;
//   z += c d_y;  d_b = (dt x) . z;  d_x = d d_y + dt sum_n b z;
//   d_dt = sum_n z (a f + b x);  d_a += dt f z;  z <- e z,
//
// where the dots are over channels.
//
// A chunk is worked on a few states n at a time, for one vector of channels
// after the other: first forwards, which leaves e and f of all tokens behind,
// then backwards. So these, and the vectors whose lanes will add up to d_b and
// d_c, stay in the first cache level, where those of all states would not.
constexpr size_t kStatesAtOnce = 4;
// As many tokens as give the exponential enough to do.
constexpr size_t kTokensAtOnce = HWY_TARGET <= HWY_AVX3 ? 2 : 1;

// Whole vectors of channels, zero beyond the last. `tokens` are [vector][token]
// of a chunk, `states` [vector][n].
// Loops are HWY_FLATTEN, as a compiler may leave bodies of Unroll as functions,
// and vectors between them in memory (the whole took 1.4 times as long).
template <typename T>
class Backward {
 public:
  Backward(const SelectiveScan<T>& s, MatrixView<const T> d_y,
           const SelectiveScanGradients<T>& gradients)
      : s_(s),
        begin_(s.begin),
        end_(std::min(s.end, s.x.cols)),
        state_dim_(s.a.cols),
        d_y_(d_y),
        gradients_(gradients) {}

  void Run(const T* saved, T* d_state) {
    const size_t length = s_.x.rows;
    if (length == 0 || begin_ >= end_) return;
    chunk_ = std::min(s_.chunk, length);
    vectors_ = (end_ - begin_ + kLanes - 1) / kLanes;
    const size_t states = vectors_ * state_dim_ * kLanes;
    recurrence::LayOutScratch<T>([&](const auto& take) {
      tokens_ = take(vectors_ * chunk_ * kTokenVectors * kLanes);
      for (T** of_states : {&a_, &z_, &d_a_}) *of_states = take(states);
      d_d_ = take(vectors_ * kLanes);
      block_ = take(chunk_ * kStatesAtOnce * kStateVectors * kLanes);
    });
    Begin(d_state);
    for (size_t i = (length + chunk_ - 1) / chunk_; i-- > 0;) {
      const size_t begin = i * chunk_, end = std::min(length, begin + chunk_);
      // [state_dim, channels].
      const T* const states = saved + i * state_dim_ * s_.x.cols;
      BeginChunk(begin, end);
      size_t n = 0;
      for (; n + kStatesAtOnce <= state_dim_; n += kStatesAtOnce) {
        RunStates<kStatesAtOnce>(begin, end, n, states);
      }
      for (; n < state_dim_; ++n) RunStates<1>(begin, end, n, states);
      EndChunk(begin, end);
    }
    End(d_state);
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  static constexpr size_t kLanes = hn::MaxLanes(D());

  // What a vector of channels has for a token, a vector each, and for a token
  // and a state. They stand together: arrays of their own would lie a multiple
  // of 4 KiB apart, and cores take loads for loads of what was just stored at
  // such a distance (Zen 5: the whole took 1.2 times as long).
  enum OfToken { kStep, kInput, kOutput, kWrite, kFade, kTokenVectors };
  enum OfState { kDecay, kLeft, kInputSum, kOutputSum, kStateVectors };

  T* Token(size_t vector, size_t i) const {
    return tokens_ + (vector * chunk_ + i) * kTokenVectors * kLanes;
  }
  T* States(T* states, size_t vector) const {
    return states + vector * state_dim_ * kLanes;
  }

  // Calls body(vector, col, access) for the vectors of channels.
  template <class Body>
  HWY_INLINE void ForEachVectorOfChannels(const Body& body) const {
    ForEachVector(D(), end_ - begin_,
                  [&](size_t c, const auto& access)
                      HWY_ATTR { body(c / kLanes, begin_ + c, access); });
  }

  HWY_NOINLINE void Begin(const T* d_state) {
    const D d;
    const size_t states = vectors_ * state_dim_ * kLanes;
    std::fill_n(d_a_, states, T{0});
    std::fill_n(d_d_, vectors_ * kLanes, T{0});
    if (d_state == nullptr) std::fill_n(z_, states, T{0});
    for (size_t v = 0; v < vectors_; ++v) {
      const size_t col = begin_ + v * kLanes;
      LoadChannels(d, s_.a, col, end_, States(a_, v));
      if (d_state != nullptr) {
        const MatrixView<const T> all(d_state, s_.x.cols, state_dim_);
        LoadChannels(d, all, col, end_, States(z_, v));
      }
    }
  }

  HWY_NOINLINE void End(T* d_state) const {
    const D d;
    const MatrixView<T> all(d_state, s_.x.cols, state_dim_);
    for (size_t v = 0; v < vectors_; ++v) {
      const size_t col = begin_ + v * kLanes;
      if (d_state != nullptr) {
        StoreChannels(d, States(z_, v), col, end_, all);
      }
      if (gradients_.d_a.data != nullptr) {
        const T* from = States(d_a_, v);
        for (size_t e = col; e < std::min(end_, col + kLanes); ++e) {
          T* const to = gradients_.d_a.row(e);
          for (size_t n = 0; n < state_dim_; ++n) {
            to[n] += from[n * kLanes + e - col];
          }
        }
      }
    }
    if (gradients_.d_d == nullptr) return;
    for (size_t e = begin_; e < end_; ++e)
      gradients_.d_d[e] += d_d_[e - begin_];
  }

  // Brings to the cache what the end of this chunk and the begin of the one
  // before will want of a vector of channels: parts of rows, which hardware
  // does not foresee. Every call has its share of the tokens, as the cores have
  // room for few loads at a time.
  HWY_INLINE void Prefetch(size_t begin, size_t end, size_t n, size_t count,
                           size_t col, const T* saved) const {
    const size_t first = (end - begin) * n / state_dim_;
    const size_t last = (end - begin) * (n + count) / state_dim_;
    const auto prefetch = [&](size_t t, MatrixView<const T> from) {
      if (from.data != nullptr) hwy::Prefetch(from.row(t) + col);
    };
    for (size_t t = begin + first; t < begin + last; ++t) {
      prefetch(t, gradients_.d_x);
      prefetch(t, gradients_.d_dt);
      if (begin == 0) continue;
      for (const auto& from : {s_.x, s_.dt, d_y_}) prefetch(t - chunk_, from);
    }
    if (begin == 0) return;
    saved -= state_dim_ * s_.x.cols;
    for (size_t i = n; i < n + count; ++i) {
      hwy::Prefetch(saved + i * s_.x.cols + col);
    }
  }

  // Along rows, of which one lies far from the next.
  HWY_FLATTEN HWY_NOINLINE void BeginChunk(size_t begin, size_t end) {
    const D d;
    for (size_t t = begin; t < end; ++t) {
      ForEachVectorOfChannels(
          [&](size_t v, size_t col, const auto& access) HWY_ATTR {
            const V x = access.Load(s_.x.row(t) + col);
            const V step = access.Load(s_.dt.row(t) + col);
            const V d_y = access.Load(d_y_.row(t) + col);
            T* const token = Token(v, t - begin);
            hn::Store(step, d, token + kStep * kLanes);
            hn::Store(hn::Mul(step, x), d, token + kInput * kLanes);
            hn::Store(d_y, d, token + kOutput * kLanes);
            hn::Store(hn::Zero(d), d, token + kWrite * kLanes);
            hn::Store(hn::Zero(d), d, token + kFade * kLanes);
            T* const d_d = d_d_ + v * kLanes;
            hn::Store(hn::MulAdd(x, d_y, hn::Load(d, d_d)), d, d_d);
          });
    }
  }

  HWY_FLATTEN HWY_NOINLINE void EndChunk(size_t begin, size_t end) const {
    const D d;
    for (size_t t = begin; t < end; ++t) {
      ForEachVectorOfChannels([&](size_t v, size_t col,
                                  const auto& access) HWY_ATTR {
        const T* const token = Token(v, t - begin);
        const V write = hn::Load(d, token + kWrite * kLanes);
        if (gradients_.d_x.data != nullptr) {
          const V step = hn::Load(d, token + kStep * kLanes);
          V d_x = hn::Mul(step, write);
          if (s_.d != nullptr) {
            const V d_y = hn::Load(d, token + kOutput * kLanes);
            d_x = hn::MulAdd(access.Load(s_.d + col), d_y, d_x);
          }
          Add(d_x, access, gradients_.d_x.row(t) + col);
        }
        if (gradients_.d_dt.data != nullptr) {
          const V x = access.Load(s_.x.row(t) + col);
          const V fade = hn::Load(d, token + kFade * kLanes);
          Add(hn::MulAdd(write, x, fade), access, gradients_.d_dt.row(t) + col);
        }
      });
    }
  }

  // States [n, n + kCount) of all channels; `saved` are those before the chunk.
  template <size_t kCount>
  HWY_FLATTEN HWY_NOINLINE void RunStates(size_t begin, size_t end, size_t n,
                                          const T* saved) {
    const D d;
    constexpr size_t kBlockSize = kStateVectors * kCount * kLanes;
    for (size_t t = begin; t < end; ++t) {
      T* const sums =
          block_ + (t - begin) * kBlockSize + kInputSum * kCount * kLanes;
      Unroll<2 * kCount>([&](auto i) HWY_ATTR {
        hn::Store(hn::Zero(d), d, sums + i * kLanes);
      });
    }
    ForEachVectorOfChannels(
        [&](size_t v, size_t col, const auto& access) HWY_ATTR {
          V h[kCount];
          Unroll<kCount>([&](auto i) HWY_ATTR {
            h[i] = access.Load(saved + (n + i) * s_.x.cols + col);
          });
          ScanForwards<kCount>(begin, end, n, v, h);
          Prefetch(begin, end, n, kCount, col, saved);
          ScanBackwards<kCount>(begin, end, n, v);
        });
    for (size_t t = begin; t < end; ++t) {
      const T* block = block_ + (t - begin) * kBlockSize;
      AddSums<kCount>(block + kInputSum * kCount * kLanes, t, n,
                      gradients_.d_b);
      AddSums<kCount>(block + kOutputSum * kCount * kLanes, t, n,
                      gradients_.d_c);
    }
  }

  // From states `from` on. Leaves decays, what they left and d_c.
  template <size_t kCount>
  HWY_FLATTEN HWY_NOINLINE void ScanForwards(size_t begin, size_t end, size_t n,
                                             size_t v,
                                             const V (&from)[kCount]) {
    V h[kCount];
    Unroll<kCount>([&](auto i) HWY_ATTR { h[i] = from[i]; });
    const T* a = States(a_, v) + n * kLanes;
    const T *token = Token(v, 0), *b = s_.b.row(begin) + n;
    const size_t b_stride = s_.b.stride;
    T* block = block_;
    size_t t = begin;
    for (; t + kTokensAtOnce <= end; t += kTokensAtOnce) {
      ScanTokens<kTokensAtOnce>(token, a, b, b_stride, block, h);
      token += kTokensAtOnce * kTokenVectors * kLanes;
      block += kTokensAtOnce * kStateVectors * kCount * kLanes;
      b += kTokensAtOnce * b_stride;
    }
    for (; t < end; ++t) {
      ScanTokens<1>(token, a, b, b_stride, block, h);
      token += kTokenVectors * kLanes;
      block += kStateVectors * kCount * kLanes;
      b += b_stride;
    }
  }

  // kTokens tokens at once.
  template <size_t kTokens, size_t kCount>
  static HWY_INLINE void ScanTokens(const T* HWY_RESTRICT token,
                                    const T* HWY_RESTRICT a,
                                    const T* HWY_RESTRICT b, size_t b_stride,
                                    T* HWY_RESTRICT block, V (&h)[kCount]) {
    const D d;
    V decay[kTokens * kCount];
    const V log2e = hn::Set(d, ExpConstants<T>::kLog2E);
    Unroll<kTokens>([&](auto k) HWY_ATTR {
      const T* const step = token + (k * kTokenVectors + kStep) * kLanes;
      const V rate = hn::Mul(hn::Load(d, step), log2e);
      Unroll<kCount>([&](auto i) HWY_ATTR {
        decay[k * kCount + i] = hn::Mul(rate, hn::Load(d, a + i * kLanes));
      });
    });
    FastExp2NonPositive<kTokens * kCount>(d, decay);
    Unroll<kTokens>([&](auto k) HWY_ATTR {
      const T* const at = token + k * kTokenVectors * kLanes;
      const V input = hn::Load(d, at + kInput * kLanes);
      const V d_y = hn::Load(d, at + kOutput * kLanes);
      Unroll<kCount>([&](auto i) HWY_ATTR {
        T* const to = block + (k * kStateVectors * kCount + i) * kLanes;
        const V left = hn::Mul(decay[k * kCount + i], h[i]);
        h[i] = hn::MulAdd(input, hn::Set(d, b[k * b_stride + i]), left);
        T* const sum = to + kOutputSum * kCount * kLanes;
        hn::Store(decay[k * kCount + i], d, to + kDecay * kCount * kLanes);
        hn::Store(left, d, to + kLeft * kCount * kLanes);
        hn::Store(hn::MulAdd(d_y, h[i], hn::Load(d, sum)), d, sum);
      });
    });
  }

  template <size_t kCount>
  HWY_FLATTEN HWY_NOINLINE void ScanBackwards(size_t begin, size_t end,
                                              size_t n, size_t v) {
    const D d;
    T* const z_at = States(z_, v) + n * kLanes;
    T* const d_a_at = States(d_a_, v) + n * kLanes;
    V z[kCount], d_a[kCount], a[kCount];
    Unroll<kCount>([&](auto i) HWY_ATTR {
      z[i] = hn::Load(d, z_at + i * kLanes);
      d_a[i] = hn::Load(d, d_a_at + i * kLanes);
      a[i] = hn::Load(d, States(a_, v) + (n + i) * kLanes);
    });
    const size_t b_stride = s_.b.stride, c_stride = s_.c.stride;
    const T *b = s_.b.row(end - 1) + n, *c = s_.c.row(end - 1) + n;
    T* HWY_RESTRICT token = Token(v, end - 1 - begin);
    T* HWY_RESTRICT block =
        block_ + (end - 1 - begin) * kStateVectors * kCount * kLanes;
    for (size_t t = begin; t < end; ++t) {
      const V step = hn::Load(d, token + kStep * kLanes);
      const V input = hn::Load(d, token + kInput * kLanes);
      const V d_y = hn::Load(d, token + kOutput * kLanes);
      V write = hn::Load(d, token + kWrite * kLanes);
      V fade = hn::Load(d, token + kFade * kLanes);
      Unroll<kCount>([&](auto i) HWY_ATTR {
        T* const at = block + i * kLanes;
        T* const sum = at + kInputSum * kCount * kLanes;
        z[i] = hn::MulAdd(hn::Set(d, c[i]), d_y, z[i]);
        hn::Store(hn::MulAdd(input, z[i], hn::Load(d, sum)), d, sum);
        write = hn::MulAdd(hn::Set(d, b[i]), z[i], write);
        const V path = hn::Mul(hn::Load(d, at + kLeft * kCount * kLanes), z[i]);
        fade = hn::MulAdd(a[i], path, fade);
        d_a[i] = hn::MulAdd(step, path, d_a[i]);
        z[i] = hn::Mul(hn::Load(d, at + kDecay * kCount * kLanes), z[i]);
      });
      hn::Store(write, d, token + kWrite * kLanes);
      hn::Store(fade, d, token + kFade * kLanes);
      token -= kTokenVectors * kLanes;
      block -= kStateVectors * kCount * kLanes;
      b -= b_stride;
      c -= c_stride;
    }
    Unroll<kCount>([&](auto i) HWY_ATTR {
      hn::Store(z[i], d, z_at + i * kLanes);
      hn::Store(d_a[i], d, d_a_at + i * kLanes);
    });
  }

  template <class Access>
  static HWY_INLINE void Add(V v, const Access& access, T* to) {
    access.Store(hn::Add(v, access.Load(to)), to);
  }

  // to [t, n + i] += the lanes of sums [i].
  template <size_t kCount>
  HWY_INLINE void AddSums(const T* sums, size_t t, size_t n,
                          MatrixView<T> to) const {
    if (to.data == nullptr) return;
    const D d;
    T* const row = to.row(t) + n;
    if constexpr (kCount % kBlockLanes<T> == 0) {
      const hn::FixedTag<T, kBlockLanes<T>> block;
      T total[kCount];
      V v[kCount];
      Unroll<kCount>([&](auto i)
                         HWY_ATTR { v[i] = hn::Load(d, sums + i * kLanes); });
      for (size_t i = 0; i < kCount; i += kBlockLanes<T>) {
        StoreSumsOfLanes(v + i, total + i);
        hn::StoreU(
            hn::Add(hn::LoadU(block, row + i), hn::LoadU(block, total + i)),
            block, row + i);
      }
    } else {
      for (size_t i = 0; i < kCount; ++i) {
        row[i] +=
            hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums + i * kLanes)));
      }
    }
  }

  const SelectiveScan<T>& s_;
  const size_t begin_, end_, state_dim_;
  const MatrixView<const T> d_y_;
  const SelectiveScanGradients<T>& gradients_;
  size_t chunk_ = 0, vectors_ = 0;
  T *tokens_ = nullptr, *block_ = nullptr;
  T *a_ = nullptr, *z_ = nullptr, *d_a_ = nullptr;  // [vector][n]
  T* d_d_ = nullptr;                                // [vector]
};

}  // namespace scan

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

HWY_EXPORT(ScanBackwardFloat);
HWY_EXPORT(ScanBackwardDouble);

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
