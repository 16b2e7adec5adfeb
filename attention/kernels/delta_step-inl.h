// SPDX-License-Identifier: Apache-2.0
//
// One token of the delta rules (gated_delta.h, generalized_delta.h), for many
// heads: with f the decays, x what reads the state for the correction u, and y
// the decayed query,
//
//   u = b (c - S^T x),   o = s (S^T y + (q . w) u [+ (q . k) v]),
//   S <- diag(f) S + w u^T [+ k v^T].
//
// u needs all of S before any of S may change, so that a state passes through
// the core twice: read, then corrected. While a head's state is corrected, out
// of the cache that reading it has filled, that of the next head is read: then
// loads that come from afar, stores and multiply-adds share all of the time.
// Measured on Zen 5, heads of 64 x 64 floats in L2: one head after the other
// takes 1.4 times as long.

#if defined(MNEME_ATTENTION_KERNELS_DELTA_STEP_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_DELTA_STEP_INL_H_
#undef MNEME_ATTENTION_KERNELS_DELTA_STEP_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_DELTA_STEP_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

// The token and the state of one head. In the gated rule c is v, and there are
// no terms in brackets; in the generalised one c is zero.
template <typename T>
struct Token {
  const T* reader;     // x
  const T* query;      // y
  const T* writer;     // w
  const T* value_key;  // k; not used when gated
  const T* value;      // v
  const T* factor;     // f, a row's every `stride` entries; null if constant
  size_t stride;
  T strength, scale;  // b, s
  T query_writer;     // q . w
  T query_key;        // q . k; not used when gated
  T* state;           // [key_dim, value_dim], contiguous
  T* o;
};

// kVectors vectors of a state's columns: what they answered to x and y, and
// then the correction.
template <class V, size_t kVectors>
struct Strip {
  V u[kVectors], to_query[kVectors], value[kVectors];
};

// The steps of a strip, by which terms there are: Begin, Read for each row,
// End, which makes u and the output, and then Correct for each row.
template <bool kDecay, bool kGeneralized>
struct Rule {
  template <size_t kVectors, class D, class Access, typename T>
  static HWY_INLINE void Begin(D d, const Access& access, const Token<T>& x,
                               size_t col,
                               Strip<hn::VFromD<D>, kVectors>& strip) {
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      strip.value[i] = access.Load(x.value + col + i * hn::Lanes(d));
      strip.u[i] = kGeneralized ? hn::Zero(d) : strip.value[i];
      strip.to_query[i] = hn::Zero(d);
    });
  }

  template <size_t kVectors, class D, class Access, typename T>
  static HWY_INLINE void Read(D d, const Access& access, const Token<T>& x,
                              size_t r, const T* row,
                              Strip<hn::VFromD<D>, kVectors>& strip) {
    const auto reader = hn::Set(d, x.reader[r]), q = hn::Set(d, x.query[r]);
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      const auto s = access.Load(row + i * hn::Lanes(d));
      strip.u[i] = hn::NegMulAdd(reader, s, strip.u[i]);
      strip.to_query[i] = hn::MulAdd(q, s, strip.to_query[i]);
    });
  }

  template <size_t kVectors, class D, class Access, typename T>
  static HWY_INLINE void End(D d, const Access& access, const Token<T>& x,
                             size_t col,
                             Strip<hn::VFromD<D>, kVectors>& strip) {
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      strip.u[i] = hn::Mul(hn::Set(d, x.strength), strip.u[i]);
      auto o =
          hn::MulAdd(hn::Set(d, x.query_writer), strip.u[i], strip.to_query[i]);
      if constexpr (kGeneralized) {
        o = hn::MulAdd(hn::Set(d, x.query_key), strip.value[i], o);
      }
      access.Store(hn::Mul(hn::Set(d, x.scale), o),
                   x.o + col + i * hn::Lanes(d));
    });
  }

  template <size_t kVectors, class D, class Access, typename T>
  static HWY_INLINE void Correct(D d, const Access& access, const Token<T>& x,
                                 size_t r, T* row,
                                 const Strip<hn::VFromD<D>, kVectors>& strip) {
    using V = hn::VFromD<D>;
    const V writer = hn::Set(d, x.writer[r]);
    const V factor = hn::Set(d, kDecay ? x.factor[r * x.stride] : T{1});
    const V key = hn::Set(d, kGeneralized ? x.value_key[r] : T{0});
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      V s = access.Load(row + i * hn::Lanes(d));
      if constexpr (kDecay) s = hn::Mul(factor, s);
      if constexpr (kGeneralized) s = hn::MulAdd(key, strip.value[i], s);
      access.Store(hn::MulAdd(writer, strip.u[i], s), row + i * hn::Lanes(d));
    });
  }
};

// The strips of kVectors vectors in columns [first, last) of all heads. Tokens
// are copied, as vector stores might alias them anywhere else. Rows are read
// before those of the head before are corrected: they often lie a multiple of
// 4 KiB apart, and some cores take a load for one of what was just stored
// there.
template <class Rule, size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepStrips(D d, const Access& access, const Token<T>* tokens,
                           size_t heads, size_t rows, size_t cols, size_t first,
                           size_t last) {
  Strip<hn::VFromD<D>, kVectors> strip, next;
  const size_t width = kVectors * hn::Lanes(d);
  Token<T> x = tokens[0];
  Rule::template Begin<kVectors>(d, access, x, first, strip);
  for (size_t r = 0; r < rows; ++r) {
    Rule::template Read<kVectors>(d, access, x, r, x.state + r * cols + first,
                                  strip);
  }
  Rule::template End<kVectors>(d, access, x, first, strip);
  T* corrected = x.state + first;
  size_t col = first + width;
  for (size_t h = 0; h < heads; ++h) {
    for (; col < last; col += width) {
      const Token<T> y = tokens[h];
      Rule::template Begin<kVectors>(d, access, y, col, next);
      for (size_t r = 0; r < rows; ++r) {
        Rule::template Read<kVectors>(d, access, y, r, y.state + r * cols + col,
                                      next);
        Rule::template Correct<kVectors>(d, access, x, r, corrected + r * cols,
                                         strip);
      }
      Rule::template End<kVectors>(d, access, y, col, next);
      strip = next;
      x = y;
      corrected = y.state + col;
    }
    col = first;
  }
  for (size_t r = 0; r < rows; ++r) {
    Rule::template Correct<kVectors>(d, access, x, r, corrected + r * cols,
                                     strip);
  }
}

// All columns, in strips as wide as the registers allow: the rows of a state
// are contiguous. heads >= 1.
template <class Rule, size_t kWidest, typename T>
HWY_NOINLINE void StepHeads(const Token<T>* tokens, size_t heads, size_t rows,
                            size_t cols) {
  const hn::ScalableTag<T> d;
  const AllLanes<decltype(d)> all;
  size_t col = 0;
  const auto step = [&](auto vectors) HWY_ATTR {
    const size_t width = vectors * hn::Lanes(d);
    const size_t last = col + (cols - col) / width * width;
    if (col == last) return;
    StepStrips<Rule, vectors>(d, all, tokens, heads, rows, cols, col, last);
    col = last;
  };
  if constexpr (kWidest >= 4) step(std::integral_constant<size_t, 4>());
  step(std::integral_constant<size_t, 2>());
  step(std::integral_constant<size_t, 1>());
  if (col < cols) {
    const FirstLanes<decltype(d)> rest{cols - col};
    StepStrips<Rule, 1>(d, rest, tokens, heads, rows, cols, col, cols);
  }
}

// Tokens of as many heads are prepared at a time: their decays and decayed
// queries should stay in L1 while states pass through it.
constexpr size_t kHeadsAtOnce = 8;

// Steps the tokens that prepare(i, scratch) makes of heads i in [0, heads).
// scratch has room for per_head entries.
template <typename T, class Prepare, class Step>
HWY_INLINE void StepAllHeads(size_t heads, size_t per_head,
                             const Prepare& prepare, const Step& step) {
  T* scratch = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    scratch = take(std::min(heads, kHeadsAtOnce) * per_head);
  });
  Token<T> tokens[kHeadsAtOnce];
  for (size_t begin = 0; begin < heads; begin += kHeadsAtOnce) {
    const size_t count = std::min(kHeadsAtOnce, heads - begin);
    for (size_t i = 0; i < count; ++i) {
      tokens[i] = prepare(begin + i, scratch + i * per_head);
    }
    step(tokens, count);
  }
}

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_DELTA_STEP_INL_H_
