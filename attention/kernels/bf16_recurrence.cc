// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_recurrence.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "attention/kernels/bf16_product.h"
#include "attention/kernels/denormals.h"
#include "attention/kernels/softmax_internal.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/bf16_recurrence.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Whether no number is infinite or NaN, either of which 0 * x makes NaN.
bool AllFinite(MatrixView<const float> m) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto zero = hn::Zero(d);
  auto even = zero, odd = zero;
  for (size_t r = 0; r < m.rows; ++r) {
    const float* const row = m.row(r);
    size_t c = 0;
    for (; c + 2 * lanes <= m.cols; c += 2 * lanes) {
      even = hn::MulAdd(zero, hn::LoadU(d, row + c), even);
      odd = hn::MulAdd(zero, hn::LoadU(d, row + c + lanes), odd);
    }
    for (; c < m.cols; ++c) {
      even = hn::MulAdd(zero, hn::Set(d, row[c]), even);
    }
  }
  return hn::AllTrue(d, hn::Eq(hn::Add(even, odd), zero));
}

class Bf16Recurrence {
 public:
  Bf16Recurrence(const Bf16Unit& unit, const AdditiveRecurrence<float>& a,
                 float* state, MatrixView<float> o, float* den)
      : unit_(unit),
        a_(a),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        key_depth_(RoundUp(key_dim_, kBf16Columns)),
        value_rows_(RoundUp(value_dim_, kBf16Rows)),
        state_(state),
        o_(o),
        den_(a.normaliser ? den : nullptr) {
    const size_t transposed =
        std::max(value_rows_ * kChunk, key_depth_ * kQueries);
    SoftmaxScratch<float> floats(6, value_rows_ * (key_depth_ + kQueries) +
                                        kChunk * key_depth_ + transposed +
                                        kChunk * kQueries + key_depth_);
    s_ = floats.Take(value_rows_ * key_depth_);
    sums_ = floats.Take(value_rows_ * kQueries);
    k_ = floats.Take(kChunk * key_depth_);
    transposed_ = floats.Take(transposed);
    scores_ = floats.Take(kChunk * kQueries);
    z_ = floats.Take(key_depth_);
    SoftmaxScratch<uint32_t> pairs(
        6, (value_rows_ * (key_depth_ + kChunk) + 2 * kChunk * key_depth_ +
            kQueries * (key_depth_ + kChunk)) /
               2);
    const auto rows = [&](size_t elements) {
      return reinterpret_cast<Bf16*>(pairs.Take(elements / 2));
    };
    s_rows_ = rows(value_rows_ * key_depth_);
    k_rows_ = rows(kChunk * key_depth_);
    v_rows_ = rows(value_rows_ * kChunk);
    k_pairs_ = pairs.Take(kChunk * key_depth_ / 2);
    q_pairs_ = pairs.Take(kQueries * key_depth_ / 2);
    weights_ = pairs.Take(kQueries * kChunk / 2);
  }

  // Returns how many tokens are done: all before the first chunk in which some
  // input is not finite.
  size_t Run() {
    ReadState();
    size_t done = 0;
    while (done < a_.q.rows) {
      const size_t length = std::min(kChunk, a_.q.rows - done);
      if (!AllFinite(a_.q.Rows(done, length)) ||
          !AllFinite(a_.k.Rows(done, length)) ||
          !AllFinite(a_.v.Rows(done, length))) {
        break;
      }
      RunChunk(done, length);
      done += length;
    }
    WriteState();
    return done;
  }

 private:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr size_t kN = kLanes<float>;
  static constexpr size_t kQueries = kBf16Columns;
  static constexpr size_t kChunk = 64;

  void ReadState() {
    std::fill_n(s_, value_rows_ * key_depth_, 0.0f);
    std::fill_n(z_, key_depth_, 0.0f);
    Transpose<Old::kIgnore>(state_, value_dim_, key_dim_, value_dim_, 1.0f, s_,
                            key_depth_);
    if (a_.normaliser) {
      std::copy_n(state_ + key_dim_ * value_dim_, key_dim_, z_);
    }
  }

  void WriteState() const {
    Transpose<Old::kIgnore>(s_, key_depth_, value_dim_, key_dim_, 1.0f, state_,
                            value_dim_);
    if (a_.normaliser) {
      std::copy_n(z_, key_dim_, state_ + key_dim_ * value_dim_);
    }
  }

  void RunChunk(size_t begin, size_t length) {
    // Tokens beyond the sequence are zeros.
    tokens_ = RoundUp(length, kBf16Step);
    FindDecays(begin, length);
    PackKeys(begin, length);
    PackValues(begin, length);
    RoundRows(s_, value_rows_ * key_depth_, s_rows_);
    PrefetchChunk(begin + kChunk);
    for (size_t first = 0; first < length; first += kQueries) {
      Attend(begin, first, std::min(kQueries, length - first));
    }
    AddToState();
  }

  // Decays from the chunk's start to behind each token, in powers of 2 (to_),
  // and as factors from the start and to the end. A token keeps at least
  // 2^-128, which is nothing among floats, so that after a reset differences
  // are still numbers.
  void FindDecays(size_t begin, size_t length) {
    constexpr float kLog2E = 1.44269504f, kNothing = -128;
    const D d;
    float sum = 0;
    for (size_t t = 0; t < kChunk; ++t) {
      if (a_.log_decay != nullptr && t < length) {
        sum += std::max(a_.log_decay[begin + t] * kLog2E, kNothing);
      }
      to_[t] = sum;
    }
    for (size_t t = 0; t < kChunk; t += kN) {
      const V to = hn::Load(d, to_ + t);
      hn::Store(FastExp2NonPositive(d, to), d, from_start_ + t);
      hn::Store(FastExp2NonPositive(d, hn::Sub(hn::Set(d, sum), to)), d,
                to_end_ + t);
    }
    across_ = hn::GetLane(FastExp2NonPositive(d, hn::Set(d, sum)));
  }

  // Rows of a head may lie far apart, which hardware does not foresee.
  void PrefetchChunk(size_t begin) const {
    const size_t end = std::min(begin + kChunk, a_.q.rows);
    constexpr size_t kCacheLine = 64 / sizeof(float);
    for (size_t t = begin; t < end; ++t) {
      for (size_t c = 0; c < key_dim_; c += kCacheLine) {
        hwy::Prefetch(a_.q.row(t) + c);
        hwy::Prefetch(a_.k.row(t) + c);
      }
      for (size_t c = 0; c < value_dim_; c += kCacheLine) {
        hwy::Prefetch(a_.v.row(t) + c);
      }
    }
  }

  static HWY_INLINE void RoundRows(const float* from, size_t n, Bf16* to) {
    const D d;
    for (size_t i = 0; i < n; i += kN) {
      StoreRounded(d, hn::Load(d, from + i), kN, to + i);
    }
  }

  // to = pairs of two rows.
  static HWY_INLINE void RoundPairs(V first, V second, uint32_t* to) {
    const D d;
    const hn::RebindToUnsigned<D> du;
    hn::Store(hn::Or(RoundedBits(d, first),
                     hn::ShiftLeft<16>(RoundedBits(d, second))),
              du, to);
  }

  // Keys as rows, and as pairs of tokens decayed to the chunk's end.
  HWY_NOINLINE void PackKeys(size_t begin, size_t length) {
    const D d;
    CopyPadded(a_.k.row(begin), a_.k.stride, length, key_dim_, k_, key_depth_);
    std::fill(k_ + length * key_depth_, k_ + tokens_ * key_depth_, 0.0f);
    RoundRows(k_, tokens_ * key_depth_, k_rows_);
    for (size_t t = 0; t < tokens_; t += 2) {
      const float* const rows = k_ + t * key_depth_;
      const V first = hn::Set(d, to_end_[t]);
      const V second = hn::Set(d, to_end_[t + 1]);
      for (size_t c = 0; c < key_depth_; c += kN) {
        RoundPairs(hn::Mul(first, hn::Load(d, rows + c)),
                   hn::Mul(second, hn::Load(d, rows + key_depth_ + c)),
                   k_pairs_ + t / 2 * key_depth_ + c);
      }
    }
  }

  // Transposed.
  HWY_NOINLINE void PackValues(size_t begin, size_t length) {
    if (length != tokens_ || value_dim_ != value_rows_) {
      std::fill_n(transposed_, value_rows_ * tokens_, 0.0f);
    }
    Transpose<Old::kIgnore>(a_.v.row(begin), a_.v.stride, length, value_dim_,
                            1.0f, transposed_, tokens_);
    RoundRows(transposed_, value_rows_ * tokens_, v_rows_);
  }

  // Queries [first, first + count) of the chunk become columns of pairs; their
  // transpose in floats stays in transposed_.
  HWY_NOINLINE void PackQueries(size_t row, size_t count) {
    const D d;
    if (count != kQueries || key_dim_ != key_depth_) {
      std::fill_n(transposed_, key_depth_ * kQueries, 0.0f);
    }
    Transpose<Old::kIgnore>(a_.q.row(row), a_.q.stride, count, key_dim_, 1.0f,
                            transposed_, kQueries);
    for (size_t p = 0; p < key_depth_ / 2; ++p) {
      const float* const rows = transposed_ + 2 * p * kQueries;
      for (size_t i = 0; i < kQueries; i += kN) {
        RoundPairs(hn::Load(d, rows + i), hn::Load(d, rows + kQueries + i),
                   q_pairs_ + p * kQueries + i);
      }
    }
  }

  void Attend(size_t begin, size_t first, size_t count) {
    const D d;
    PackQueries(begin + first, count);
    // What the state holds, decayed to each query.
    unit_.multiply({value_rows_,
                    key_depth_,
                    {s_rows_, key_depth_, kBf16Step},
                    {q_pairs_, kQueries},
                    sums_,
                    kQueries,
                    /*add=*/false});
    for (size_t i = 0; i < kQueries; i += kN) {
      const V factor =
          hn::Mul(hn::Set(d, a_.scale), hn::Load(d, from_start_ + first + i));
      for (size_t c = 0; c < value_rows_ * kQueries; c += kQueries) {
        hn::Store(hn::Mul(factor, hn::Load(d, sums_ + c + i)), d,
                  sums_ + c + i);
      }
      if (den_ == nullptr) continue;
      V sum = hn::Zero(d);
      for (size_t c = 0; c < key_dim_; ++c) {
        sum = hn::MulAdd(hn::Set(d, z_[c]),
                         hn::Load(d, transposed_ + c * kQueries + i), sum);
      }
      hn::Store(hn::Mul(factor, sum), d, totals_ + i);
    }
    // What the chunk's own tokens add, up to the queries'.
    const size_t keys = first + kQueries;
    unit_.multiply({keys,
                    key_depth_,
                    {k_rows_, key_depth_, kBf16Step},
                    {q_pairs_, kQueries},
                    scores_,
                    kQueries,
                    /*add=*/false});
    for (size_t i = 0; i < kQueries; i += kN) Weigh(first, keys, i);
    unit_.multiply({value_rows_,
                    keys,
                    {v_rows_, tokens_, kBf16Step},
                    {weights_, kQueries},
                    sums_,
                    kQueries,
                    /*add=*/true});
    if (a_.divide) Divide();
    Transpose<Old::kIgnore>(sums_, kQueries, value_dim_, count, 1.0f,
                            o_.row(begin + first), o_.stride);
    if (den_ != nullptr) std::copy_n(totals_, count, den_ + begin + first);
  }

  void Divide() {
    const D d;
    for (size_t i = 0; i < kQueries; i += kN) {
      const V den = hn::Add(hn::Load(d, totals_ + i), hn::Set(d, a_.eps));
      const V inverse = hn::Div(hn::Set(d, 1.0f), den);
      for (size_t c = i; c < value_dim_ * kQueries; c += kQueries) {
        hn::Store(hn::Mul(inverse, hn::Load(d, sums_ + c)), d, sums_ + c);
      }
    }
  }

  // Scores of queries first + lane, ... times their decays become weights.
  HWY_NOINLINE void Weigh(size_t first, size_t keys, size_t lane) {
    const D d;
    const bool decays = a_.log_decay != nullptr;
    const V scale = hn::Set(d, a_.scale);
    const V to_query = hn::Load(d, to_ + first + lane);
    const V query = hn::Iota(d, static_cast<float>(first + lane));
    V sum = hn::Zero(d);
    constexpr size_t kTogether = 4;
    for (size_t key = 0; key < keys; key += kTogether) {
      V weight[kTogether];
      HWY_UNROLL(4) for (size_t r = 0; r < kTogether; ++r) {
        weight[r] = hn::Sub(to_query, hn::Set(d, to_[key + r]));
      }
      // Above 0 for hidden keys, of which nothing is used.
      if (decays) CoarseExp2NonPositive<kTogether>(d, weight);
      HWY_UNROLL(4) for (size_t r = 0; r < kTogether; ++r) {
        const V score =
            hn::Mul(scale, hn::Load(d, scores_ + (key + r) * kQueries + lane));
        weight[r] = decays ? hn::Mul(score, weight[r]) : score;
        // Before the first query of the vector no key is hidden.
        if (key + kTogether > first + lane) {
          const V at = hn::Set(d, static_cast<float>(key + r));
          weight[r] = hn::IfThenElseZero(hn::Ge(query, at), weight[r]);
        }
        sum = hn::Add(sum, weight[r]);
      }
      HWY_UNROLL(2) for (size_t r = 0; r < kTogether; r += 2) {
        RoundPairs(weight[r], weight[r + 1],
                   weights_ + (key + r) / 2 * kQueries + lane);
      }
    }
    if (den_ == nullptr) return;
    hn::Store(hn::Add(sum, hn::Load(d, totals_ + lane)), d, totals_ + lane);
  }

  HWY_NOINLINE void AddToState() {
    const D d;
    const V across = hn::Set(d, across_);
    if (across_ != 1) {
      for (size_t i = 0; i < value_rows_ * key_depth_; i += kN) {
        hn::Store(hn::Mul(across, hn::Load(d, s_ + i)), d, s_ + i);
      }
    }
    for (size_t c = 0; c < key_depth_; c += kBf16Columns) {
      unit_.multiply({value_rows_,
                      tokens_,
                      {v_rows_, tokens_, kBf16Step},
                      {k_pairs_ + c, key_depth_},
                      s_ + c,
                      key_depth_,
                      /*add=*/true});
    }
    if (!a_.normaliser) return;
    for (size_t c = 0; c < key_depth_; c += kN) {
      V sum = hn::Mul(across, hn::Load(d, z_ + c));
      for (size_t t = 0; t < tokens_; ++t) {
        sum = hn::MulAdd(hn::Set(d, to_end_[t]),
                         hn::Load(d, k_ + t * key_depth_ + c), sum);
      }
      hn::Store(sum, d, z_ + c);
    }
  }

  const Bf16Unit& unit_;
  const AdditiveRecurrence<float>& a_;
  const size_t key_dim_, value_dim_;
  const size_t key_depth_;   // key_dim in whole steps
  const size_t value_rows_;  // value_dim in whole groups of rows
  float* const state_;
  const MatrixView<float> o_;
  float* const den_;
  size_t tokens_ = 0;  // of the chunk, in whole steps

  float* s_;           // [value_rows_][key_depth_], the state, transposed
  float* z_;           // [key_depth_]
  float* k_;           // [kChunk][key_depth_]
  float* transposed_;  // values, then queries of the tile
  float* sums_;        // [value_rows_][kQueries], outputs
  float* scores_;      // [kChunk][kQueries]
  Bf16* s_rows_;       // s_, rounded
  Bf16* k_rows_;       // [kChunk][key_depth_]
  Bf16* v_rows_;       // [value_rows_][tokens_]
  uint32_t* k_pairs_;  // [kChunk / 2][key_depth_], decayed to the end
  uint32_t* q_pairs_;  // [key_depth_ / 2][kQueries]
  uint32_t* weights_;  // [kChunk / 2][kQueries]
  float across_ = 1;   // decay across the chunk
  HWY_ALIGN float to_[kChunk];
  HWY_ALIGN float from_start_[kChunk];
  HWY_ALIGN float to_end_[kChunk];
  HWY_ALIGN float totals_[kQueries];  // denominators
};

// Returns how many tokens are done.
size_t RunOnUnit(const Bf16Unit& unit, const AdditiveRecurrence<float>& a,
                 float* state, MatrixView<float> o, float* den) {
  const size_t size = AdditiveStateSize(a.q.cols, a.v.cols, a.normaliser);
  if (!AllFinite({state, 1, size})) return 0;
  Bf16Recurrence recurrence(unit, a, state, o, den);
  unit.begin();
  const size_t done = recurrence.Run();
  unit.end();
  return done;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(RunOnUnit);

void Bf16AdditiveForward(const AdditiveRecurrence<float>& a, float* state,
                         MatrixView<float> o, float* den) {
  // Fewer fill no tile.
  constexpr size_t kFewTokens = 16;
  const Bf16Unit* const unit = ActiveBf16Unit();
  size_t done = 0;
  if (unit != nullptr && !a.elu_features && a.chunk > 1 &&
      a.q.rows >= kFewTokens) {
    const ScopedFlushDenormals flush;
    done = HWY_DYNAMIC_DISPATCH(RunOnUnit)(*unit, a, state, o, den);
  }
  if (done == a.q.rows) return;
  AdditiveRecurrence<float> rest = a;
  const size_t left = a.q.rows - done;
  rest.q = a.q.Rows(done, left);
  rest.k = a.k.Rows(done, left);
  rest.v = a.v.Rows(done, left);
  if (a.log_decay != nullptr) rest.log_decay = a.log_decay + done;
  AdditiveRecurrenceForward(rest, state, o.Rows(done, left),
                            den == nullptr ? nullptr : den + done, nullptr);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
