// SPDX-License-Identifier: Apache-2.0
//
// Forward pass of softmax attention for few queries, as in decoding, where the
// time goes into reading keys and values once. Scores are dot products along
// the head dimension, and up to kMaxRows queries share what is read. Scores are
// in base 2: log2(e) is part of the factor that the queries are scaled by.
//
// Keys are read by the thousand before any value is: a processor asks for
// memory ahead of a long stream by itself, as fast as memory answers. Each turn
// from keys to values and back costs it a start.
//
// Blocks start at the first key that some query sees and are the shorter the
// more queries are taken together: so the rounding of a query may depend on its
// neighbours, as it does not in softmax_forward-inl.h. It does not depend on
// the number of threads.

#if defined(MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
#undef MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What takes a score to base 2.
template <typename T>
constexpr T kLog2E = static_cast<T>(1.44269504088896340736);

// A query, where its results go, and the keys it sees.
template <typename T>
struct AttentionRow {
  const T* q;
  T* o;
  T* lse;  // may be null
  KeyRange keys;
  const T* bias = nullptr;  // [keys], added to the scores; null: nothing is
};

// Attention of up to kMaxRows queries to all keys that they see.
template <typename T>
class RowAttention {
 public:
  static constexpr size_t kMaxRows = 8;

  // factor is the scale times log2(e).
  RowAttention(MatrixView<const T> k, MatrixView<const T> v, T factor,
               SoftmaxScratch<T>& scratch)
      : k_(k),
        v_(v),
        factor_(factor),
        q_stride_(RoundUp(k.cols, kN)),
        o_stride_(RoundUp(v.cols, kN)),
        q_(scratch.Take(kMaxRows * q_stride_)),
        o_(scratch.Take(kMaxRows * o_stride_)),
        weights_(scratch.Take(kWeights)) {}

  // Elements of scratch memory that the constructor takes, in kArrays arrays.
  static constexpr size_t kArrays = 3;
  static size_t ScratchSize(size_t key_dim, size_t value_dim) {
    return kMaxRows * (RoundUp(key_dim, kN) + RoundUp(value_dim, kN)) +
           kWeights;
  }

  // 0 < count <= kMaxRows.
  void Run(const AttentionRow<T>* rows, size_t count) {
    rows_ = rows;
    count_ = count;
    size_t begin = rows[0].keys.begin, end = rows[0].keys.end;
    bool alike = true;
    std::fill_n(q_, count * q_stride_, T{0});
    std::fill_n(o_, count * o_stride_, T{0});
    for (size_t r = 0; r < count; ++r) {
      const KeyRange& keys = rows[r].keys;
      alike = alike && keys.begin == begin && keys.end == end;
      begin = std::min(begin, keys.begin);
      end = std::max(end, keys.end);
      for (size_t i = 0; i < k_.cols; ++i) {
        q_[r * q_stride_ + i] = factor_ * rows[r].q[i];
      }
      // Finite, so that a score of -inf is never subtracted from itself.
      maximum_[r] = std::numeric_limits<T>::lowest();
      sum_[r] = 0;
    }
    const size_t keys = kScores / count / kSumKeys * kSumKeys;
    weights_stride_ = keys + kPadding;
    for (size_t block = begin; block < end; block += keys) {
      AddBlock(block, std::min(block + keys, end));
    }
    for (size_t r = 0; r < count; ++r) Finish(r);
    if (alike) return;
    // A weight of 0 times a value that is not finite is NaN. Queries that do
    // not see such a value but share the block with it are done again, alone.
    for (size_t r = 0; r < count; ++r) {
      if (HasNaN(rows[r].o, v_.cols)) Run(rows + r, 1);
    }
  }

  static bool HasNaN(const T* x, size_t n) {
    return std::any_of(x, x + n, [](T value) { return std::isnan(value); });
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr size_t kN = kLanes<T>;
  // Scores of a block of keys and all queries: of one query thousands, which
  // still lie in the first- or second-level cache when they are made weights.
  static constexpr size_t kScores = 4096;
  // Keys that all queries go through before the next keys, so that these are in
  // the first-level cache. Their weighted values are summed in registers and
  // then added to the block's: with thousands of keys a single running sum
  // would lose digits. The weights themselves are summed over a whole block,
  // which is about kScores / (kExpBatch * kN) additions to a lane.
  static constexpr size_t kSumKeys = 64;
  // The same for a query alone: no other reads its keys, so that they need not
  // stay in a cache, and each start costs.
  static constexpr size_t kSumKeysAlone = 256;
  // Keys whose dot products are summed across lanes together.
  static constexpr size_t kGroup = kBlockLanes<T>;
  // After a query's weights; the last group of scores may overrun the block.
  static constexpr size_t kPadding = RoundUp(kGroup, kN);
  static constexpr size_t kWeights = kScores + kMaxRows * kPadding;
  // Vectors of weighted values that are summed in registers.
  static constexpr size_t kSums = kTileRows == 8 ? 16 : 8;
  // Bytes that prefetches are ahead: over all shapes the best of 2 to 16 KiB.
  static constexpr size_t kAhead = 8192;
  // Keys of up to four cache lines are prefetched for any queries. Wider ones
  // are read faster without.
  static constexpr size_t kNarrow = 4 * 64 / sizeof(T);
  // Vectors of a key up to which a loop over keys is unrolled for it.
  static constexpr size_t kGroupVecs = 8;
  // Chains of multiply-adds that keep the pipes busy.
  static constexpr size_t kChains = 8;

  void AddBlock(size_t block, size_t end) {
    ForKeys(block, end,
            [&](auto rows, size_t r, size_t first, size_t last)
                HWY_ATTR { Scores<rows()>(r, block, first, last); });
    for (size_t r = 0; r < count_; ++r) {
      const D d;
      const V factor = hn::Set(d, Weights(r, block, end));
      for (size_t c = r * o_stride_; c < (r + 1) * o_stride_; c += kN) {
        hn::Store(hn::Mul(hn::Load(d, o_ + c), factor), d, o_ + c);
      }
    }
    ForKeys(block, end,
            [&](auto rows, size_t r, size_t first, size_t last) HWY_ATTR {
              AddValues<rows(), std::min(kSums / rows(), kChains)>(
                  r, block, first, last, 0);
            });
  }

  // body(queries at a time as a constant, first query, keys begin and end) for
  // all queries and some keys after the other.
  template <class Body>
  HWY_INLINE void ForKeys(size_t begin, size_t end, const Body& body) {
    const size_t keys = count_ == 1 ? kSumKeysAlone : kSumKeys;
    for (size_t first = begin; first < end; first += keys) {
      const size_t last = std::min(first + keys, end);
      size_t r = 0;
      for (; r + 4 <= count_; r += 4) {
        body(std::integral_constant<size_t, 4>(), r, first, last);
      }
      for (; r + 2 <= count_; r += 2) {
        body(std::integral_constant<size_t, 2>(), r, first, last);
      }
      if (r < count_) {
        body(std::integral_constant<size_t, 1>(), r, first, last);
      }
    }
  }

  // Scores of kRows queries from `row` on to keys [begin, end).
  template <size_t kRows>
  HWY_NOINLINE void Scores(size_t row, size_t block, size_t begin, size_t end) {
    begin = GroupScores<kRows, kGroupVecs>(row, block, begin, end);
    const T* const q = q_ + row * q_stride_;
    T* const scores = weights_ + row * weights_stride_;
    const size_t whole = k_.cols / kN * kN;
    const bool prefetch = row == 0 && (Busy() || k_.cols <= kNarrow);
    for (size_t key = begin; key < end; key += kGroup) {
      const T* k[kGroup];
      V sum[kRows][kGroup];
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        // Beyond the end, the last key once more.
        k[g] = k_.row(std::min(key + g, end - 1));
        if (prefetch) Prefetch(k_, key + g);
        HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
          sum[r][g] = hn::Zero(D());
        }
      }
      V vecs[kGroup];
      for (size_t c = 0; c < whole; c += kN) {
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          vecs[g] = hn::LoadU(D(), k[g] + c);
        }
        AddDots<kRows>(q + c, vecs, sum);
      }
      if (whole != k_.cols) {
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          vecs[g] = FirstLanes<D>{k_.cols - whole}.Load(k[g] + whole);
        }
        AddDots<kRows>(q + whole, vecs, sum);
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        StoreSumsOfLanes(sum[r], scores + r * weights_stride_ + key - block);
      }
    }
  }

  // Scores to whole groups of keys from `begin` on, if keys are up to kVecs
  // whole vectors. Returns the first key that is left.
  template <size_t kRows, size_t kVecs>
  HWY_INLINE size_t GroupScores(size_t row, size_t block, size_t begin,
                                size_t end) {
    if (k_.cols == kVecs * kN) {
      return ScoresOfVecs<kRows, kVecs>(row, block, begin, end);
    }
    if constexpr (kVecs > 1) {
      return GroupScores<kRows, kVecs - 1>(row, block, begin, end);
    }
    return begin;
  }

  // The same for keys of kVecs vectors. Between the loads stands as little as
  // can be, else a processor does not see far enough ahead: no bookkeeping for
  // each key, and queries stay in registers if they fit.
  template <size_t kRows, size_t kVecs>
  HWY_NOINLINE size_t ScoresOfVecs(size_t row, size_t block, size_t begin,
                                   size_t end) {
    T* const scores = weights_ + row * weights_stride_;
    V q[kRows][kVecs];
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
        q[r][i] = hn::Load(D(), q_ + (row + r) * q_stride_ + i * kN);
      }
    }
    const T* k = k_.row(begin);
    const size_t stride = k_.stride;
    const size_t ahead = kAhead / (kVecs * kN * sizeof(T));
    const size_t prefetch_end =
        row == 0 && Busy() && k_.rows > ahead ? k_.rows - ahead : 0;
    for (; begin + kGroup <= end; begin += kGroup) {
      const bool prefetch = begin + kGroup <= prefetch_end;
      V sum[kRows][kGroup];
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
          sum[r][g] = hn::Zero(D());
        }
        HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
          if (prefetch) hwy::Prefetch(k + ahead * stride + i * kN);
          const V k_vec = hn::LoadU(D(), k + i * kN);
          HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
            sum[r][g] = hn::MulAdd(q[r][i], k_vec, sum[r][g]);
          }
        }
        k += stride;
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        StoreSumsOfLanes(sum[r], scores + r * weights_stride_ + begin - block);
      }
    }
    return begin;
  }

  // Adds products of a vector of each query and one of each key.
  template <size_t kRows>
  HWY_INLINE void AddDots(const T* HWY_RESTRICT q, const V (&k)[kGroup],
                          V (&sum)[kRows][kGroup]) const {
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const V q_vec = hn::Load(D(), q + r * q_stride_);
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        sum[r][g] = hn::MulAdd(q_vec, k[g], sum[r][g]);
      }
    }
  }

  // Turns a query's scores, of which those that it sees in [block, end) exist,
  // into weights relative to the maximum so far. Returns the factor that takes
  // earlier weights there.
  HWY_NOINLINE T Weights(size_t row, size_t block, size_t end) {
    constexpr T kInf = std::numeric_limits<T>::infinity();
    const D d;
    const KeyRange& keys = rows_[row].keys;
    T* const weights = weights_ + row * weights_stride_;
    const size_t padded = RoundUp(end - block, kN);
    const size_t first = std::min(std::max(keys.begin, block), end);
    const size_t last = std::max(std::min(keys.end, end), first);
    if (rows_[row].bias != nullptr) {
      AddBias(rows_[row].bias + block, end - block, weights);
    }
    std::fill(weights, weights + (first - block), -kInf);
    std::fill(weights + (last - block), weights + padded, -kInf);

    V max[kExpBatch], sum[kExpBatch];
    HWY_UNROLL(8) for (size_t i = 0; i < kExpBatch; ++i) {
      max[i] = hn::Set(d, maximum_[row]);
      sum[i] = hn::Zero(d);
    }
    const size_t batches = padded / (kExpBatch * kN) * (kExpBatch * kN);
    for (size_t i = 0; i < batches; i += kExpBatch * kN)
      AddMaximum<kExpBatch>(weights + i, max);
    for (size_t i = batches; i < padded; i += kN)
      AddMaximum<1>(weights + i, max);
    for (size_t i = 1; i < kExpBatch; ++i) max[0] = hn::Max(max[0], max[i]);
    max[0] = hn::MaxOfLanes(d, max[0]);
    for (size_t i = 0; i < batches; i += kExpBatch * kN)
      Exponentiate<kExpBatch>(max[0], weights + i, sum);
    for (size_t i = batches; i < padded; i += kN)
      Exponentiate<1>(max[0], weights + i, sum);
    for (size_t i = 1; i < kExpBatch; ++i) sum[0] = hn::Add(sum[0], sum[i]);
    const T factor = hn::GetLane(
        FastExp2NonPositive(d, hn::Sub(hn::Set(d, maximum_[row]), max[0])));
    sum_[row] = sum_[row] * factor + hn::GetLane(hn::SumOfLanes(d, sum[0]));
    maximum_[row] = hn::GetLane(max[0]);
    return factor;
  }

  static HWY_INLINE void AddBias(const T* bias, size_t n, T* scores) {
    const V log2_e = hn::Set(D(), kLog2E<T>);
    ForEachVector(D(), n, [&](size_t i, const auto& lanes) HWY_ATTR {
      lanes.Store(
          hn::MulAdd(log2_e, lanes.Load(bias + i), lanes.Load(scores + i)),
          scores + i);
    });
  }

  template <size_t kVecs>
  static HWY_INLINE void AddMaximum(const T* scores, V* max) {
    HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
      max[i] = hn::Max(max[i], hn::Load(D(), scores + i * kN));
    }
  }

  template <size_t kVecs>
  static HWY_INLINE void Exponentiate(V max, T* HWY_RESTRICT scores, V* sum) {
    const D d;
    V weight[kVecs];
    HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
      weight[i] = hn::Sub(hn::Load(d, scores + i * kN), max);
    }
    FastExp2NonPositive<kVecs>(d, weight);
    HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
      hn::Store(weight[i], d, scores + i * kN);
      sum[i] = hn::Add(sum[i], weight[i]);
    }
  }

  // o_ += weights times values for kRows queries from `row` on, keys [begin,
  // end) and columns from c on, up to kVecs vectors of them at a time.
  template <size_t kRows, size_t kVecs>
  HWY_INLINE void AddValues(size_t row, size_t block, size_t begin, size_t end,
                            size_t c) {
    constexpr size_t kCols = kVecs * kN;
    for (; c + kCols <= v_.cols; c += kCols) {
      AddColumns<kRows, kVecs>(row, block, begin, end, c, kN);
    }
    if constexpr (kVecs > 1) {
      AddValues<kRows, kVecs / 2>(row, block, begin, end, c);
    } else if (c < v_.cols) {
      AddColumns<kRows, 1>(row, block, begin, end, c, v_.cols - c);
    }
  }

  // The same for kVecs vectors, the last of `count` elements.
  template <size_t kRows, size_t kVecs>
  HWY_NOINLINE void AddColumns(size_t row, size_t block, size_t begin,
                               size_t end, size_t c, size_t count) {
    // Where sums are few, several keys have their own.
    constexpr size_t kSets =
        std::min<size_t>(std::max<size_t>(kChains / (kRows * kVecs), 1), 4);
    const D d;
    const bool prefetch = row == 0 && c == 0 && Busy();
    const T* const weights = weights_ + row * weights_stride_;
    V sum[kSets][kRows][kVecs];
    HWY_UNROLL(4) for (size_t s = 0; s < kSets; ++s) {
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
          sum[s][r][i] = hn::Zero(d);
        }
      }
    }
    const auto add = [&](size_t key, V(&to)[kRows][kVecs]) HWY_ATTR {
      const T* const v = v_.row(key) + c;
      if (prefetch) Prefetch(v_, key);
      V vecs[kVecs];
      HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
        vecs[i] = kVecs > 1 || count == kN ? hn::LoadU(d, v + i * kN)
                                           : FirstLanes<D>{count}.Load(v);
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        const V weight = hn::Set(d, weights[r * weights_stride_ + key - block]);
        HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
          to[r][i] = hn::MulAdd(weight, vecs[i], to[r][i]);
        }
      }
    };
    size_t key = begin;
    for (; key + kSets <= end; key += kSets) {
      HWY_UNROLL(4) for (size_t s = 0; s < kSets; ++s) add(key + s, sum[s]);
    }
    for (; key < end; ++key) add(key, sum[0]);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      T* const o = o_ + (row + r) * o_stride_ + c;
      HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
        V total = sum[0][r][i];
        HWY_UNROLL(4) for (size_t s = 1; s < kSets; ++s) {
          total = hn::Add(total, sum[s][r][i]);
        }
        hn::Store(hn::Add(hn::Load(d, o + i * kN), total), d, o + i * kN);
      }
    }
  }

  // Whether so much is computed with what is read that the processor does not
  // look far enough ahead by itself.
  bool Busy() const { return count_ > 1; }

  // Asks for a whole row kAhead bytes or so ahead.
  static HWY_INLINE void Prefetch(const MatrixView<const T>& m, size_t row) {
    row += kAhead / (m.cols * sizeof(T) + 1) + 1;
    if (row >= m.rows) return;
    constexpr size_t kCacheLine = 64 / sizeof(T);
    for (size_t c = 0; c < m.cols; c += kCacheLine) {
      hwy::Prefetch(m.row(row) + c);
    }
  }

  void Finish(size_t row) const {
    constexpr T kLn2 = static_cast<T>(0.69314718055994530942);
    constexpr T kInf = std::numeric_limits<T>::infinity();
    const AttentionRow<T>& r = rows_[row];
    const bool blind = r.keys.empty();
    for (size_t c = 0; c < v_.cols; ++c) {
      r.o[c] = blind ? 0 : o_[row * o_stride_ + c] / sum_[row];
    }
    if (r.lse != nullptr) {
      *r.lse = blind ? -kInf : maximum_[row] * kLn2 + std::log(sum_[row]);
    }
  }

  const MatrixView<const T> k_;
  const MatrixView<const T> v_;
  const T factor_;
  const size_t q_stride_;
  const size_t o_stride_;
  T* const q_;        // [kMaxRows][q_stride_], scaled, zeros beyond key_dim
  T* const o_;        // [kMaxRows][o_stride_], relative to maximum_
  T* const weights_;  // [count_][weights_stride_], before that scores
  const AttentionRow<T>* rows_ = nullptr;
  size_t count_ = 0;
  size_t weights_stride_ = 0;
  T maximum_[kMaxRows];
  T sum_[kMaxRows];
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
