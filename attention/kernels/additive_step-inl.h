// SPDX-License-Identifier: Apache-2.0
//
// One token of the additive recurrence, as decoding takes them: the state is
// read and written once, row by row, which is all the traffic there need be.

#if defined(MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_INL_H_
#undef MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// One token of the recurrence, with
//
//   S' = decay S + strength k v^T,   o = scale S'^T q + own v.
//
// from and to are the state S before and after; they may be the same.
template <typename T>
struct Token {
  const T* q;
  const T* k;
  const T* v;
  T scale;
  Tile<const T> from;
  Tile<T> to;
  T* o;
  T decay = 1;                // e^g, kScalarDecay
  const T* decays = nullptr;  // by row, else
  T strength = 1;
  T own = 0;
};

// How a token decays and is read: kReadsFirst reads S for S', as RWKV-6 does.
enum class Step { kScalarDecay, kVectorDecay, kReadsFirst };

// One row of the state: decay, rank-1 update and read. Not a lambda, because
// GCC inlines those too late to keep the sums in registers.
template <Step kStep, size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepRow(D d, const Token<T>& token, size_t row, size_t col,
                        const Access& access, hn::VFromD<D> decay,
                        const hn::VFromD<D> (&v)[kVectors],
                        hn::VFromD<D> (&sums)[kVectors]) {
  const size_t lanes = hn::Lanes(d);
  const T* from = token.from.row(row) + col;
  T* to = token.to.row(row) + col;
  const auto k = hn::Set(d, token.k[row]);
  const auto q = hn::Set(d, token.q[row]);
  if constexpr (kStep != Step::kScalarDecay) {
    decay = hn::Set(d, token.decays[row]);
  }
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    const auto before = access.Load(from + i * lanes);
    const auto state = hn::MulAdd(before, decay, hn::Mul(k, v[i]));
    access.Store(state, to + i * lanes);
    sums[i] =
        hn::MulAdd(q, kStep == Step::kReadsFirst ? before : state, sums[i]);
  });
}

// Columns [col, col + kVectors vectors) of the state, in one pass. access is
// AllLanes or FirstLanes. kRows rows at a time are read into sums of their own,
// to have enough multiply-adds in flight.
template <Step kStep, size_t kRows, size_t kVectors, class D, class Access,
          typename T>
HWY_INLINE void StepColumns(D d, const Token<T>& token, size_t key_dim,
                            size_t col, const Access& access) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  const V decay = hn::Set(d, token.decay);
  const V strength = hn::Set(d, token.strength);
  V v[kVectors];
  V sums[kRows][kVectors];
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    v[i] = hn::Mul(strength, access.Load(token.v + col + i * lanes));
    Unroll<kRows>([&](auto r) HWY_ATTR { sums[r][i] = hn::Zero(d); });
  });
  size_t row = 0;
  for (; row + kRows <= key_dim; row += kRows) {
    Unroll<kRows>([&](auto r) HWY_ATTR {
      StepRow<kStep>(d, token, row + r, col, access, decay, v, sums[r]);
    });
  }
  for (; row < key_dim; ++row) {
    StepRow<kStep>(d, token, row, col, access, decay, v, sums[0]);
  }
  const V scale = hn::Set(d, token.scale);
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    V sum = sums[0][i];
    Unroll<kRows - 1>([&](auto r)
                          HWY_ATTR { sum = hn::Add(sum, sums[r + 1][i]); });
    sum = hn::Mul(sum, scale);
    if (token.own != 0) {
      sum = hn::MulAdd(hn::Set(d, token.own),
                       access.Load(token.v + col + i * lanes), sum);
    }
    access.Store(sum, token.o + col + i * lanes);
  });
}

// Steps the tokens of `heads` heads, one state after the other, in strips of
// columns as wide as the registers allow: the rows of a state are contiguous.
// Four vectors of a row are enough sums: with two rows at a time Zen 5 takes
// 1.15 times as long. A token is copied, as vector stores might alias it
// anywhere else.
template <Step kStep, typename T>
HWY_NOINLINE void StepHeads(const Token<T>* tokens, size_t heads,
                            size_t key_dim, size_t value_dim) {
  const hn::ScalableTag<T> d;
  const AllLanes<decltype(d)> all;
  const size_t lanes = hn::Lanes(d);
  for (size_t h = 0; h < heads; ++h) {
    const Token<T> token = tokens[h];
    size_t col = 0;
    if constexpr (kBlockRows == 8) {  // 32 registers
      for (; col + 8 * lanes <= value_dim; col += 8 * lanes) {
        StepColumns<kStep, 1, 8>(d, token, key_dim, col, all);
      }
    }
    for (; col + 4 * lanes <= value_dim; col += 4 * lanes) {
      StepColumns<kStep, 1, 4>(d, token, key_dim, col, all);
    }
    for (; col + 2 * lanes <= value_dim; col += 2 * lanes) {
      StepColumns<kStep, 2, 2>(d, token, key_dim, col, all);
    }
    for (; col + lanes <= value_dim; col += lanes) {
      StepColumns<kStep, 4, 1>(d, token, key_dim, col, all);
    }
    if (col < value_dim) {
      const FirstLanes<decltype(d)> rest{value_dim - col};
      StepColumns<kStep, 1, 1>(d, token, key_dim, col, rest);
    }
  }
}

// Of how many heads tokens are prepared at a time: what is made for them should
// stay in L1 while states pass through it.
constexpr size_t kHeadsAtOnce = 8;

// Steps the tokens that prepare(i, scratch) makes of heads i in [0, heads).
// scratch has room for per_head entries.
template <Step kStep, typename T, class Prepare>
HWY_INLINE void StepAllHeads(size_t heads, size_t per_head, size_t key_dim,
                             size_t value_dim, const Prepare& prepare) {
  T* scratch = nullptr;
  LayOutScratch<T>([&](const auto& take) {
    scratch = take(std::min(heads, kHeadsAtOnce) * per_head);
  });
  Token<T> tokens[kHeadsAtOnce];
  for (size_t begin = 0; begin < heads; begin += kHeadsAtOnce) {
    const size_t count = std::min(kHeadsAtOnce, heads - begin);
    for (size_t i = 0; i < count; ++i) {
      tokens[i] = prepare(begin + i, scratch + i * per_head);
    }
    StepHeads<kStep>(tokens, count, key_dim, value_dim);
  }
}

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_INL_H_
