// SPDX-License-Identifier: Apache-2.0
//
// The gradient by the log decays of a chunk.
//
// The output is linear in each decay between two tokens, so that the gradient
// by g_t is the sum, over all pairs (key j < t <= query i), of what the pair
// contributes to the loss: W_ij = (dL / d P_ij) P_ij inside the chunk, with the
// state before the chunk as a key before all tokens and the gradient of the
// state behind it as a query after them. Every term has e^{g_t} as a factor.
// Summing them, rather than the shorter differences of q . d_q and k . d_k,
// keeps the result accurate for e^{g_t} near zero, where those cancel.

#if defined(MNEME_ATTENTION_KERNELS_DECAY_GRADIENT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_DECAY_GRADIENT_INL_H_
#undef MNEME_ATTENTION_KERNELS_DECAY_GRADIENT_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_DECAY_GRADIENT_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
class DecayGradient {
 public:
  // Takes scratch for chunks of up to max_chunk tokens.
  template <class Take>
  void LayOut(size_t max_chunk, const Take& take) {
    const size_t tiles = RoundUp(max_chunk, kTile) / kTile;
    for (T** tokens : {&within_, &queries_, &keys_}) {
      *tokens = take(tiles * kTile);
    }
    for (T** totals : {&query_totals_, &key_totals_, &between_, &pairs_}) {
      *totals = take(tiles);
    }
    partial_ = {take(kTile * hn::Lanes(d_)), hn::Lanes(d_)};
  }

  void Start(size_t length) {
    length_ = length;
    for (T* tokens : {within_, queries_, keys_}) {
      std::fill_n(tokens, length, T{0});
    }
    for (T* totals : {query_totals_, key_totals_, between_, pairs_}) {
      std::fill_n(totals, Tiles(), T{0});
    }
    whole_ = 0;
  }

  // W inside one tile; zero for j > i.
  void AddWithin(size_t tile, Tile<T> w) {
    const size_t rows = Rows(tile);
    for (size_t j = 0; j < rows; j += hn::Lanes(d_)) {
      // Row t of partial becomes the sum over i >= t of columns j < t.
      auto sum = hn::Zero(d_);
      for (size_t t = rows; t-- > j;) {
        sum = hn::Add(sum, hn::Load(d_, w.row(t) + j));
        const auto past = hn::IfThenElseZero(hn::FirstN(d_, t - j), sum);
        T* partial = partial_.row(t);
        const auto other = j == 0 ? hn::Zero(d_) : hn::Load(d_, partial);
        hn::Store(hn::Add(other, past), d_, partial);
      }
    }
    for (size_t t = 0; t < rows; ++t) {
      within_[tile * kTile + t] += SumPartial(t);
    }
  }

  // W between a tile of keys and a later one of queries. Calls must be ordered
  // by keys, with EndKeys() after each tile of them.
  void AddBetween(size_t key_tile, size_t query_tile, Tile<T> w) {
    T* keys = keys_ + key_tile * kTile;
    T* queries = queries_ + query_tile * kTile;
    for (size_t i = 0; i < Rows(query_tile); ++i) {
      auto sum = hn::Zero(d_);
      for (size_t j = 0; j < kTile; j += hn::Lanes(d_)) {
        const auto row = hn::Load(d_, w.row(i) + j);
        sum = hn::Add(sum, row);
        hn::Store(hn::Add(hn::Load(d_, keys + j), row), d_, keys + j);
      }
      const T total = hn::GetLane(hn::SumOfLanes(d_, sum));
      queries[i] += total;
      pairs_[query_tile] += total;
    }
  }

  // Pairs count for all tiles in between.
  void EndKeys(size_t key_tile) {
    T later = 0;
    for (size_t tile = Tiles(); tile-- > key_tile + 1;) {
      between_[tile] += later;
      later += pairs_[tile];
      pairs_[tile] = 0;
    }
  }

  // Scratch of a vector for each token of a tile, for the two functions below.
  Tile<T> Partial() const { return partial_; }

  // The state with a tile's queries: row by row the sum of the lanes.
  void AddStateToQueries(size_t tile) {
    query_totals_[tile] += AddPartial(tile, queries_);
  }

  // A tile's keys with the gradient of the state behind the chunk.
  void AddKeysToState(size_t tile) {
    key_totals_[tile] += AddPartial(tile, keys_);
  }

  // The state before the chunk with the gradient of the one behind it.
  void AddStateToState(T value) { whole_ += value; }

  // d_log_decay += gradient.
  void Finish(T* d_log_decay) const {
    T earlier = 0;
    for (size_t tile = 0; tile < Tiles(); ++tile) {
      T sum = whole_ + between_[tile] + earlier;
      for (size_t later = tile + 1; later < Tiles(); ++later) {
        sum += query_totals_[later];
      }
      const size_t begin = tile * kTile;
      const size_t end = begin + Rows(tile);
      T queries = 0;
      for (size_t t = end; t-- > begin;) {
        queries += queries_[t];
        d_log_decay[t] += queries + within_[t] + sum;
      }
      T keys = 0;
      for (size_t t = begin; t < end; ++t) {
        d_log_decay[t] += keys;
        keys += keys_[t];
      }
      earlier += key_totals_[tile];
    }
  }

 private:
  size_t Tiles() const { return (length_ + kTile - 1) / kTile; }
  size_t Rows(size_t tile) const {
    return std::min(kTile, length_ - tile * kTile);
  }

  T SumPartial(size_t row) const {
    return hn::GetLane(hn::SumOfLanes(d_, hn::Load(d_, partial_.row(row))));
  }

  T AddPartial(size_t tile, T* tokens) {
    T total = 0;
    for (size_t i = 0; i < Rows(tile); ++i) {
      const T sum = SumPartial(i);
      tokens[tile * kTile + i] += sum;
      total += sum;
    }
    return total;
  }

  static constexpr hn::ScalableTag<T> d_{};

  size_t length_ = 0;
  // By token: pairs inside its tile; and, to be summed over the rest of its
  // tile, those of a query with earlier and of a key with later tiles.
  T* within_ = nullptr;
  T* queries_ = nullptr;
  T* keys_ = nullptr;
  // By tile: its queries with the state, its keys with the state, all pairs
  // around it, and pairs of the present keys with its queries.
  T* query_totals_ = nullptr;
  T* key_totals_ = nullptr;
  T* between_ = nullptr;
  T* pairs_ = nullptr;
  Tile<T> partial_;
  T whole_ = 0;
};

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_DECAY_GRADIENT_INL_H_
