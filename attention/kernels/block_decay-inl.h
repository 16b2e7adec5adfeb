// SPDX-License-Identifier: Apache-2.0
//
// What the delta rules (gated_delta.h, generalized_delta.h) share: the decays
// of a block of up to 16 tokens, by key dimension, and small matrix products.
//
// Decays are products of the factors e^g in [0, 1], never quotients or
// differences of sums: nothing overflows, and a hard reset (g = -inf) is exact.

#if defined(MNEME_ATTENTION_KERNELS_BLOCK_DECAY_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_BLOCK_DECAY_INL_H_
#undef MNEME_ATTENTION_KERNELS_BLOCK_DECAY_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_BLOCK_DECAY_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/gemm-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kBlock = 16;  // tokens

// target (+)= op(a) op(b).
template <typename T>
void Product(Transpose transpose_a, Transpose transpose_b,
             MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> target,
             T beta = 0) {
  GemmEpilogue<T> epilogue;
  epilogue.beta = beta;
  GemmTiled<T>(transpose_a, transpose_b, a, b, target, epilogue);
}

// Row r *= factors[r].
template <typename T>
HWY_NOINLINE void ScaleStateRows(const T* factors, MatrixView<T> m) {
  const hn::ScalableTag<T> d;
  for (size_t r = 0; r < m.rows; ++r) {
    T* row = m.row(r);
    const auto factor = hn::Set(d, factors[r]);
    ForEachVector(d, m.cols, [&](size_t c, const auto& lanes) HWY_ATTR {
      lanes.Store(hn::Mul(factor, lanes.Load(row + c)), row + c);
    });
  }
}

// y = scale * x * decay, n entries.
template <typename T>
void DecayToken(const T* x, T scale, const T* decay, size_t n, T* y) {
  const hn::ScalableTag<T> d;
  const auto s = hn::Set(d, scale);
  ForEachVector(d, n, [&](size_t c, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::Mul(hn::Mul(s, lanes.Load(x + c)), lanes.Load(decay + c)),
                y + c);
  });
}

template <typename T>
HWY_FLATTEN HWY_NOINLINE T DotRows(const T* x, const T* y, size_t n) {
  const hn::ScalableTag<T> d;
  return SumVectors(d, n, [&](auto sum, size_t i, const auto& lanes) HWY_ATTR {
    return hn::MulAdd(lanes.Load(x + i), lanes.Load(y + i), sum);
  });
}

// Rows are key_dim factors in [0, 1]. Use: LayOut, Initialise, and then Start
// for each block or Factors for each single token.
template <typename T>
class BlockDecay {
 public:
  // log_decay [length, 1 or key_dim]; null data: no decay.
  BlockDecay(MatrixView<const T> log_decay, size_t key_dim)
      : log_decay_(log_decay), key_dim_(key_dim) {}

  template <class Take>
  void LayOut(const Take& take) {
    const auto matrix = [&](size_t rows) {
      return MatrixView<T>(take(rows * key_dim_), rows, key_dim_);
    };
    factor_ = matrix(kBlock);
    from_start_ = matrix(kBlock + 1);
    to_end_ = matrix(kBlock);
  }

  void Initialise() {
    // Without decay these stay.
    for (const MatrixView<T>& m : {factor_, from_start_, to_end_}) {
      std::fill_n(m.data, m.rows * m.cols, T{1});
    }
  }

  bool decays() const { return log_decay_.data != nullptr; }

  // Token t's factors alone.
  const T* Factors(size_t t) {
    if (decays()) ComputeFactors(t, 1);
    return factor_.data;
  }

  void Start(size_t begin, size_t rows) {
    rows_ = rows;
    if (!decays()) return;
    ComputeFactors(begin, rows);
    MultiplyFactors();
  }

  // e^g; and the products of it from the block's start up to and including a
  // token, up to the one before it, from behind it to the block's end, and
  // across the block.
  const T* factor(size_t i) const { return factor_.row(i); }
  const T* from_start(size_t i) const { return from_start_.row(i + 1); }
  const T* before(size_t i) const { return from_start_.row(i); }
  const T* to_end(size_t i) const { return to_end_.row(i); }
  const T* total() const { return from_start_.row(rows_); }

 private:
  HWY_NOINLINE void ComputeFactors(size_t begin, size_t rows) {
    const hn::ScalableTag<T> d;
    for (size_t i = 0; i < rows; ++i) {
      T* factor = factor_.row(i);
      const T* g = log_decay_.row(begin + i);
      if (log_decay_.cols == 1) {
        std::fill_n(factor, key_dim_, recurrence::DecayFactor(g, 0));
        continue;
      }
      ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
        lanes.Store(FastExpNonPositive(d, lanes.Load(g + c)), factor + c);
      });
    }
  }

  HWY_NOINLINE void MultiplyFactors() {
    for (size_t i = 0; i < rows_; ++i) {
      Chain(from_start_.row(i), factor_.row(i), from_start_.row(i + 1));
    }
    std::fill_n(to_end_.row(rows_ - 1), key_dim_, T{1});
    for (size_t i = rows_ - 1; i-- > 0;) {
      Chain(to_end_.row(i + 1), factor_.row(i + 1), to_end_.row(i));
    }
  }

  void Chain(const T* product, const T* factor, T* next) const {
    const hn::ScalableTag<T> d;
    ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      const auto x = hn::Mul(lanes.Load(product + c), lanes.Load(factor + c));
      lanes.Store(recurrence::FlushSubnormals(d, x), next + c);
    });
  }

  const MatrixView<const T> log_decay_;
  const size_t key_dim_;
  size_t rows_ = 0;
  MatrixView<T> factor_;
  MatrixView<T> from_start_;  // row 0 is before the first token: ones
  MatrixView<T> to_end_;
};

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BLOCK_DECAY_INL_H_
