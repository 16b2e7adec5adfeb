// SPDX-License-Identifier: Apache-2.0
//
// What the delta rules (gated_delta.h, generalized_delta.h) share: the decays
// of a block of up to 16 tokens, by key dimension, the scores of its tokens
// with one another, small matrix products, and the way back through the blocks.
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
#include "hwy/cache_control.h"
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

// What std::fill_n does, which is compiled for no SIMD target and may take a
// cycle an entry.
template <typename T>
HWY_INLINE void Fill(T value, size_t n, T* to) {
  const hn::ScalableTag<T> d;
  const auto all = hn::Set(d, value);
  ForEachVector(d, n, [&](size_t c, const auto& lanes) HWY_ATTR {
    lanes.Store(all, to + c);
  });
}

template <typename T>
HWY_INLINE void PrefetchRow(const T* row, size_t n) {
  constexpr size_t kLine = 64 / sizeof(T);
  for (size_t c = 0; c < n; c += kLine) hwy::Prefetch(row + c);
}

// y = scale * x, n entries.
template <typename T>
HWY_INLINE void ScaleEntries(const T* x, T scale, size_t n, T* y) {
  const hn::ScalableTag<T> d;
  const auto s = hn::Set(d, scale);
  ForEachVector(d, n, [&](size_t c, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::Mul(s, lanes.Load(x + c)), y + c);
  });
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

// Row i of a block's decays is key_dim factors in [0, 1], or one where all key
// dimensions fade alike. Use: LayOut, and then Start for each block.
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

  bool decays() const { return log_decay_.data != nullptr; }
  // Whether one factor is that of all key dimensions.
  bool uniform() const { return log_decay_.cols == 1; }

  void Start(size_t begin, size_t rows) {
    rows_ = rows;
    if (!decays()) return;
    ComputeFactors(begin, rows);
    const hn::ScalableTag<T> d;
    if (uniform()) {
      MultiplyFactors(hn::CappedTag<T, 1>(), 0,
                      AllLanes<hn::CappedTag<T, 1>>());
    } else {
      ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
        MultiplyFactors(d, c, lanes);
      });
    }
  }

  // Makes rows of what was one factor, or none: then all below are key_dim
  // long. Valid until the next Start.
  void Spread() {
    if (decays() && !uniform()) return;
    for (const MatrixView<T>& m : {factor_, from_start_, to_end_}) {
      for (size_t r = 0; r < m.rows; ++r) {
        Fill(decays() ? m.row(r)[0] : T{1}, key_dim_, m.row(r));
      }
    }
  }

  // y = scale * x * decay, key_dim entries; decay is one of the rows below.
  void Apply(const T* x, T scale, const T* decay, T* y) const {
    if (uniform()) {
      ScaleEntries(x, scale * decay[0], key_dim_, y);
    } else {
      DecayToken(x, scale, decay, key_dim_, y);
    }
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
      if (uniform()) {
        *factor = recurrence::DecayFactor(g, 0);
        continue;
      }
      ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
        lanes.Store(FastExpNonPositive(d, lanes.Load(g + c)), factor + c);
      });
    }
  }

  // Column by column, so that products stay in registers.
  template <class D, class Lanes>
  HWY_INLINE void MultiplyFactors(D d, size_t c, const Lanes& lanes) {
    const auto next = [&](hn::VFromD<D> product, size_t i) HWY_ATTR {
      return recurrence::FlushSubnormals(
          d, hn::Mul(product, lanes.Load(factor_.row(i) + c)));
    };
    auto product = hn::Set(d, T{1});
    lanes.Store(product, from_start_.row(0) + c);
    for (size_t i = 0; i < rows_; ++i) {
      product = next(product, i);
      lanes.Store(product, from_start_.row(i + 1) + c);
    }
    product = hn::Set(d, T{1});
    for (size_t i = rows_; i-- > 0;) {
      lanes.Store(product, to_end_.row(i) + c);
      if (i > 0) product = next(product, i);
    }
  }

  const MatrixView<const T> log_decay_;
  const size_t key_dim_;
  size_t rows_ = 0;
  MatrixView<T> factor_;
  MatrixView<T> from_start_;  // row 0 is before the first token: ones
  MatrixView<T> to_end_;
};

// The scores of a block's tokens where every channel has its own decay. Two
// readers of each token meet the kWriters writers of all tokens up to it: with
// y_j a writer and d_ij the decay from token j to i,
//
//   scores(i, j)        = first_i . y_j d_ij,   j < i,
//   scores(rows + i, j) = second_i . y_j d_ij,  j <= i,
//
// or, with kBeforeDecay, d_{i-1,j} in the first line; in columns w * kBlock + j
// for the w-th writer; entries further right are unspecified.
template <typename T, size_t kWriters, bool kBeforeDecay>
struct BlockScores {
  MatrixView<const T> first, second;  // [rows, key_dim]
  MatrixView<const T> writers[kWriters];
  MatrixView<T> scores;

  // Channels whose decayed writers are at hand while a vector of columns j runs
  // down the tokens: in half of 32 registers, or else in the first cache level,
  // where more of them share the loads and stores of the sums.
  static constexpr size_t kChannels =
      (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 16 : 32) /
      kWriters;

  HWY_NOINLINE void Compute(const BlockDecay<T>& decay) const {
    const hn::CappedTag<T, kBlock> d;
    const size_t key_dim = first.cols;
    for (size_t col = 0; col < first.rows; col += hn::Lanes(d)) {
      size_t c = 0;
      for (; c + kChannels <= key_dim; c += kChannels) {
        AddChannels<kChannels>(d, decay, col, c);
      }
      for (; c < key_dim; ++c) AddChannels<1>(d, decay, col, c);
    }
  }

 private:
  // The share of kCount channels. Lanes of later tokens are zero until j = i,
  // so that not even a NaN of theirs is seen.
  template <size_t kCount, class D>
  HWY_INLINE void AddChannels(D d, const BlockDecay<T>& decay, size_t col,
                              size_t c) const {
    using V = hn::VFromD<D>;
    const size_t rows = first.rows;
    V decayed[kWriters][kCount];
    Unroll<kWriters>([&](auto w) HWY_ATTR {
      Unroll<kCount>([&](auto n) HWY_ATTR { decayed[w][n] = hn::Zero(d); });
    });
    for (size_t i = col; i < rows; ++i) {
      const auto self = hn::Eq(hn::Iota(d, static_cast<T>(col)),
                               hn::Set(d, static_cast<T>(i)));
      const T *x1 = first.row(i) + c, *x2 = second.row(i) + c;
      const T* factor = decay.factor(i) + c;
      T *to1 = scores.row(i) + col, *to2 = scores.row(rows + i) + col;
      V sum1[kWriters], sum2[kWriters];
      Unroll<kWriters>([&](auto w) HWY_ATTR {
        const size_t at = w * kBlock;
        sum1[w] = c == 0 ? hn::Zero(d) : hn::Load(d, to1 + at);
        sum2[w] = c == 0 ? hn::Zero(d) : hn::Load(d, to2 + at);
      });
      Unroll<kCount>([&](auto n) HWY_ATTR {
        const V f = hn::Set(d, factor[n]);
        const V x1_n = hn::Set(d, x1[n]), x2_n = hn::Set(d, x2[n]);
        Unroll<kWriters>([&](auto w) HWY_ATTR {
          const V old = decayed[w][n], faded = hn::Mul(old, f);
          sum1[w] = hn::MulAdd(x1_n, kBeforeDecay ? old : faded, sum1[w]);
          decayed[w][n] =
              hn::IfThenElse(self, hn::Set(d, writers[w].row(i)[c + n]), faded);
          sum2[w] = hn::MulAdd(x2_n, decayed[w][n], sum2[w]);
        });
      });
      Unroll<kWriters>([&](auto w) HWY_ATTR {
        const size_t at = w * kBlock;
        hn::Store(sum1[w], d, to1 + at);
        hn::Store(sum2[w], d, to2 + at);
      });
    }
  }
};

// The states before the blocks of a chunk.
template <typename T, class Take>
T* TakeBlockStates(const Take& take, size_t chunk, size_t state_size) {
  return take((chunk + kBlock - 1) / kBlock * state_size);
}

// How a backward passes through a sequence: chunks last to first. From the
// state saved before a chunk those before its blocks are computed again; then
// run(begin, state) is called for the blocks, last to first, where `block` is
// that block after Start and Substitute, and state is the one before it. saved
// holds a state for each chunk, states those of TakeBlockStates.
template <typename T, class Block, class Run>
void ForEachBlockBackwards(size_t length, size_t chunk, const T* saved,
                           size_t key_dim, size_t value_dim, T* states,
                           Block* block, const Run& run) {
  const size_t size = key_dim * value_dim;
  for (size_t i = (length + chunk - 1) / chunk; i-- > 0;) {
    const size_t begin = i * chunk, end = std::min(length, begin + chunk);
    const size_t blocks = (end - begin + kBlock - 1) / kBlock;
    const auto state = [&](size_t b) {
      return MatrixView<T>(states + b * size, key_dim, value_dim);
    };
    const auto recompute = [&](size_t b) {
      const size_t first = begin + b * kBlock;
      block->Start(first, std::min(kBlock, end - first), state(b));
      block->Substitute(MatrixView<T>());
    };
    std::copy_n(saved + i * size, size, states);
    for (size_t b = 0; b + 1 < blocks; ++b) {
      recompute(b);
      std::copy_n(state(b).data, size, state(b + 1).data);
      block->Advance(state(b + 1));
    }
    for (size_t b = blocks; b-- > 0;) {
      recompute(b);
      run(begin + b * kBlock, state(b));
    }
  }
}

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BLOCK_DECAY_INL_H_
