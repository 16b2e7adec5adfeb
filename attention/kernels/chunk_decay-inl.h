// SPDX-License-Identifier: Apache-2.0
//
// The decay e^{g_{j+1} + ... + g_i} from token j to token i >= j of a chunk.
//
// It is the product of the factors e^{g_t} in [0, 1] in between, and computed
// as such: there is no difference of sums that could cancel, overflow or, after
// a hard reset (g = -inf), be inf - inf; and a chunk of C tokens costs C
// exponentials, not C^2 / 2. Inside a tile the products run token by token, and
// beyond it from tile to tile, so that errors grow with at most kTile roundings
// per tile. Products below the smallest normal number become zero: arithmetic
// on subnormal numbers is up to a hundred times slower.

#if defined(MNEME_ATTENTION_KERNELS_CHUNK_DECAY_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_CHUNK_DECAY_INL_H_
#undef MNEME_ATTENTION_KERNELS_CHUNK_DECAY_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_CHUNK_DECAY_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// NaN stays.
template <typename T>
HWY_INLINE T FlushSubnormal(T x) {
  return x < std::numeric_limits<T>::min() ? T{0} : x;
}

template <class D, class V>
HWY_INLINE V FlushSubnormals(D d, V x) {
  const V smallest = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::min());
  return hn::IfThenZeroElse(hn::Lt(x, smallest), x);
}

// e^g for one token; 1 without decay.
template <typename T>
HWY_INLINE T DecayFactor(const T* log_decay, size_t t) {
  if (log_decay == nullptr) return 1;
  const hn::CappedTag<T, 1> d;
  return hn::GetLane(FastExpNonPositive(d, hn::Set(d, log_decay[t])));
}

// Within a tile decays are products along at most this many tokens, times a
// product along whole runs: short chains of multiplications, which wait for
// each other, and many independent ones.
constexpr size_t kRun = 16;

template <typename T>
class ChunkDecay {
 public:
  // Takes scratch for chunks of up to max_chunk tokens.
  template <class Take>
  void LayOut(size_t max_chunk, const Take& take) {
    const size_t n = RoundUp(max_chunk, kTile);
    factor_ = take(n);
    from_run_ = take(n);
    from_start_ = take(n);
    to_end_ = take(n);
    scaled_ = take(kTile);
    tile_.stride = Tile<T>::Stride(kTile);
    tile_.data = take(kTile * tile_.stride);
  }

  void Start(const T* log_decay, size_t length) {
    length_ = length;
    const hn::ScalableTag<T> d;
    ForEachVector(d, length, [&](size_t t, const auto& lanes) HWY_ATTR {
      lanes.Store(FastExpNonPositive(d, lanes.Load(log_decay + t)),
                  factor_ + t);
    });
    T product = 1;
    for (size_t t = 0; t < length; ++t) {
      if (t % kRun == 0) product = 1;
      product *= factor_[t];
      from_run_[t] = FlushSubnormal(product);
    }
    for (size_t tile = 0; tile < Tiles(); ++tile) {
      ComputeWithin(tile);
      const size_t begin = tile * kTile;
      const size_t rows = Rows(tile);
      for (size_t i = 0; i < rows; ++i) {
        from_start_[begin + i] =
            FlushSubnormal(factor_[begin] * tile_.row(i)[0]);
      }
      std::copy_n(tile_.row(rows - 1), rows, to_end_ + begin);
    }
  }

  // From the chunk's start to (and including) a tile's tokens, and from behind
  // them to its end. Valid until the next call.
  const T* FromChunkStart(size_t tile) {
    return Scaled(from_start_ + tile * kTile, Across(0, tile), Rows(tile));
  }
  const T* ToChunkEnd(size_t tile) {
    return Scaled(to_end_ + tile * kTile, Across(tile + 1, Tiles()),
                  Rows(tile));
  }

  // Across whole tiles [first, last).
  T Across(size_t first, size_t last) const {
    T product = 1;
    for (size_t tile = first; tile < last; ++tile) {
      product =
          FlushSubnormal(product * from_start_[tile * kTile + Rows(tile) - 1]);
    }
    return product;
  }
  T AcrossChunk() const { return Across(0, Tiles()); }

  // Decays between the tokens of one tile: entry (i, j) for j <= i; others are
  // unspecified. Valid until the next call.
  Tile<T> Within(size_t tile) {
    if (within_ != tile) ComputeWithin(tile);
    return tile_;
  }

  // Decays from each token j of a tile to each token i of a later one, between
  // which lie whole tiles that decay by gap. Valid until the next call.
  Tile<T> Between(size_t key_tile, size_t query_tile, T gap) {
    const hn::ScalableTag<T> d;
    const T* to_end = to_end_ + key_tile * kTile;
    const T* from_start = from_start_ + query_tile * kTile;
    within_ = kNone;
    for (size_t i = 0; i < Rows(query_tile); ++i) {
      const auto factor = hn::Set(d, FlushSubnormal(gap * from_start[i]));
      for (size_t j = 0; j < kTile; j += hn::Lanes(d)) {
        hn::Store(hn::Mul(factor, hn::Load(d, to_end + j)), d,
                  tile_.row(i) + j);
      }
    }
    return tile_;
  }

 private:
  size_t Tiles() const { return (length_ + kTile - 1) / kTile; }
  size_t Rows(size_t tile) const {
    return std::min(kTile, length_ - tile * kTile);
  }

  void ComputeWithin(size_t tile) {
    const hn::ScalableTag<T> d;
    const auto iota = hn::Iota(d, 0);
    const auto one = hn::Set(d, T{1});
    const T* factor = factor_ + tile * kTile;
    const T* from_run = from_run_ + tile * kTile;
    const size_t rows = Rows(tile);
    for (size_t j = 0; j < rows; j += hn::Lanes(d)) {
      // Down to the end of the run that the columns begin in.
      auto decay = hn::Zero(d);
      size_t i = j;
      for (; i < std::min(rows, RoundUp(j + hn::Lanes(d), kRun)); ++i) {
        decay = FlushSubnormals(d, hn::Mul(decay, hn::Set(d, factor[i])));
        const auto self = hn::Eq(iota, hn::Set(d, static_cast<T>(i) - j));
        decay = hn::IfThenElse(self, one, decay);
        hn::Store(decay, d, tile_.row(i) + j);
      }
      // Then run by run.
      while (i < rows) {
        const auto before = decay;
        for (size_t end = std::min(rows, i + kRun); i < end; ++i) {
          decay = FlushSubnormals(d, hn::Mul(before, hn::Set(d, from_run[i])));
          hn::Store(decay, d, tile_.row(i) + j);
        }
      }
    }
    within_ = tile;
  }

  const T* Scaled(const T* factors, T scale, size_t n) {
    if (scale == 1) return factors;
    for (size_t i = 0; i < n; ++i) {
      scaled_[i] = FlushSubnormal(factors[i] * scale);
    }
    return scaled_;
  }

  static constexpr size_t kNone = static_cast<size_t>(-1);

  size_t length_ = 0;
  T* factor_ = nullptr;      // e^g
  T* from_run_ = nullptr;    // from the start of the token's run
  T* from_start_ = nullptr;  // from the tile's start
  T* to_end_ = nullptr;      // to the tile's end
  T* scaled_ = nullptr;
  Tile<T> tile_;
  size_t within_ = kNone;  // the tile that tile_ is about
};

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_CHUNK_DECAY_INL_H_
