// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/log_linear_step.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/kernels/fenwick.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/log_linear_step.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace log_linear {
namespace hn = hwy::HWY_NAMESPACE;

// More levels than positions have bits.
constexpr size_t kMostLevels = 64;

// Of how many heads tokens are prepared at a time. Each matrix passes through
// the core for all of them before the next one does: loads run on from head to
// head.
constexpr size_t kHeadsAtOnce = 8;

// Matrices that meet in one pass, at most: what it holds should be in
// registers.
constexpr size_t kMostMet = 3;

// Matrices of the buckets before a position, and which weights they are read
// with.
template <typename T>
struct Matrices {
  T* data[kMostLevels];
  size_t weight[kMostLevels];
  size_t count = 0;

  void Add(T* matrix, size_t with) {
    data[count] = matrix;
    weight[count++] = with;
  }
};

// All of them, by what becomes of them: those that meet do so in the first,
// that of level 1, which is to be made new if there are none.
template <typename T>
struct Levels {
  Matrices<T> kept, met;

  Levels(const Fenwick& fenwick, int64_t position, T* const* buckets) {
    const int meet = fenwick.Meeting(position, position + 1);
    met.data[0] = buckets[1];
    fenwick.ForEachBefore(position, [&](const Bucket& bucket) {
      Matrices<T>& where = bucket.level > meet ? kept : met;
      where.Add(buckets[bucket.level], fenwick.Weight(bucket.level));
    });
  }
};

// The token of one head.
template <typename T>
struct Token {
  const T* q;
  const T* k;
  const T* v;
  const T* lambda;
  T own;  // lambda^0 (q . k)
  T decay;
  size_t offset;  // of the head's columns in a matrix
  T* o;
};

// The tokens of some heads, and the sizes of their part of a matrix. To be
// passed by value, as vector stores might alias them anywhere else.
template <typename T>
struct Heads {
  const Token<T>* tokens;
  size_t count;
  size_t rows, stride;
};

// S <- f S, o += lambda f q^T S, for kVectors vectors of columns.
template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void Keep(D d, const Access& access, Heads<T> heads, size_t col,
                     T* s, size_t weight) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  for (size_t h = 0; h < heads.count; ++h) {
    const Token<T> token = heads.tokens[h];
    const V f = hn::Set(d, token.decay);
    V read[kVectors];
    Unroll<kVectors>([&](auto i) HWY_ATTR { read[i] = hn::Zero(d); });
    T* row = s + token.offset + col;
    for (size_t r = 0; r < heads.rows; ++r, row += heads.stride) {
      const V q = hn::Set(d, token.q[r]);
      Unroll<kVectors>([&](auto i) HWY_ATTR {
        const V faded = hn::Mul(f, access.Load(row + i * lanes));
        access.Store(faded, row + i * lanes);
        read[i] = hn::MulAdd(q, faded, read[i]);
      });
    }
    const V lambda = hn::Set(d, token.lambda[weight]);
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      T* const o = token.o + col + i * lanes;
      access.Store(hn::MulAdd(lambda, read[i], access.Load(o)), o);
    });
  }
}

// kMet matrices that meet: S <- f sum S^l + k v^T, o += f sum lambda^l q^T S^l,
// row by row. kAgain: S <- S + f sum S^l, where S is none of them. GCC must be
// told to inline lambdas in lambdas, and would spill all these vectors.
template <size_t kMet, bool kAgain, size_t kVectors, class D, class Access,
          typename T>
HWY_INLINE void Meet(D d, const Access& access, Heads<T> heads, size_t col,
                     T* const* met, const size_t* weights, T* s) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  for (size_t h = 0; h < heads.count; ++h) {
    const Token<T> token = heads.tokens[h];
    const V f = hn::Set(d, token.decay);
    V v[kVectors], o[kVectors];
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      v[i] = access.Load(token.v + col + i * lanes);
      o[i] = access.Load(token.o + col + i * lanes);
    });
    V lambda[kMet + 1];
    const T* from[kMet + 1];
    Unroll<kMet>([&](auto l) HWY_ATTR {
      lambda[l] = hn::Mul(f, hn::Set(d, token.lambda[weights[l]]));
      from[l] = met[l] + token.offset + col;
    });
    T* to = s + token.offset + col;
    for (size_t r = 0; r < heads.rows; ++r, to += heads.stride) {
      const V q = hn::Set(d, token.q[r]), k = hn::Set(d, token.k[r]);
      V next[kVectors];
      Unroll<kVectors>([&](auto i) HWY_ATTR {
        next[i] = kAgain ? access.Load(to + i * lanes) : hn::Mul(k, v[i]);
      });
      V sum[kVectors];
      Unroll<kMet>([&](auto l) HWY_ATTR __attribute__((always_inline)) {
        const V weight = hn::Mul(q, lambda[l]);
        Unroll<kVectors>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
          const V x = access.Load(from[l] + i * lanes);
          sum[i] = l == 0 ? x : hn::Add(sum[i], x);
          o[i] = hn::MulAdd(weight, x, o[i]);
        });
        from[l] += heads.stride;
      });
      Unroll<kVectors>([&](auto i) HWY_ATTR {
        if constexpr (kMet > 0) next[i] = hn::MulAdd(f, sum[i], next[i]);
        access.Store(next[i], to + i * lanes);
      });
    }
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      access.Store(o[i], token.o + col + i * lanes);
    });
  }
}

// Calls pass with the constant `count`, at most kMostMet.
template <class Pass>
HWY_INLINE void WithCount(size_t count, const Pass& pass) {
  Unroll<kMostMet + 1>([&](auto n) HWY_ATTR {
    if (n == count) pass(n);
  });
}

// Columns [col, col + kVectors vectors).
template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepColumns(D d, const Access& access, const Levels<T>& levels,
                            Heads<T> heads, size_t col) {
  const size_t lanes = hn::Lanes(d);
  for (size_t h = 0; h < heads.count; ++h) {
    const Token<T> token = heads.tokens[h];
    Unroll<kVectors>([&](auto i) HWY_ATTR {
      const auto v = access.Load(token.v + col + i * lanes);
      access.Store(hn::Mul(hn::Set(d, token.own), v),
                   token.o + col + i * lanes);
    });
  }
  for (size_t l = 0; l < levels.kept.count; ++l) {
    Keep<kVectors>(d, access, heads, col, levels.kept.data[l],
                   levels.kept.weight[l]);
  }
  T* const* const met = levels.met.data;
  const size_t* const weights = levels.met.weight;
  size_t done = std::min(kMostMet, levels.met.count);
  WithCount(done, [&](auto n) HWY_ATTR {
    Meet<n, false, kVectors>(d, access, heads, col, met, weights, met[0]);
  });
  while (done < levels.met.count) {
    const size_t some = std::min(kMostMet, levels.met.count - done);
    WithCount(some, [&](auto n) HWY_ATTR {
      Meet<n, true, kVectors>(d, access, heads, col, met + done, weights + done,
                              met[0]);
    });
    done += some;
  }
}

// In strips as wide as the registers allow.
template <typename T>
HWY_NOINLINE void StepHeads(const Levels<T>& levels, Heads<T> heads,
                            size_t value_dim) {
  const hn::ScalableTag<T> d;
  const AllLanes<decltype(d)> all;
  const size_t lanes = hn::Lanes(d);
  size_t col = 0;
  for (; col + 4 * lanes <= value_dim; col += 4 * lanes) {
    StepColumns<4>(d, all, levels, heads, col);
  }
  for (; col + lanes <= value_dim; col += lanes) {
    StepColumns<1>(d, all, levels, heads, col);
  }
  if (col < value_dim) {
    const FirstLanes<decltype(d)> rest{value_dim - col};
    StepColumns<1>(d, rest, levels, heads, col);
  }
}

// Head h of group i.
template <typename T>
HWY_INLINE Token<T> TokenOf(const LogLinear<T>& a, size_t i, size_t h,
                            MatrixView<T> o) {
  const hn::ScalableTag<T> d;
  const size_t key_dim = a.in.k.cols, value_dim = a.in.v.cols / a.heads;
  Token<T> token;
  token.q = a.in.q.row(i);
  token.k = a.in.k.row(i);
  token.v = a.in.v.row(i) + h * value_dim;
  token.lambda = a.in.lambda.row(i) + h * (a.in.lambda.cols / a.heads);
  token.own = token.lambda[0] *
              SumVectors(d, key_dim,
                         [&](auto sum, size_t c, const auto& lanes) HWY_ATTR {
                           return hn::MulAdd(lanes.Load(token.q + c),
                                             lanes.Load(token.k + c), sum);
                         });
  token.decay = recurrence::DecayFactor(a.in.g.row(i), h);
  token.offset = i * key_dim * a.in.v.cols + h * value_dim;
  token.o = o.row(i) + h * value_dim;
  return token;
}

template <typename T>
void RunStep(const LogLinear<T>& a, int64_t position, T* const* buckets,
             MatrixView<T> o) {
  const Fenwick fenwick(a.in.lambda.cols / a.heads);
  const Levels<T> levels(fenwick, position, buckets);
  const size_t all = a.in.q.rows * a.heads;
  Token<T> tokens[kHeadsAtOnce];
  for (size_t begin = 0; begin < all; begin += kHeadsAtOnce) {
    const size_t count = std::min(kHeadsAtOnce, all - begin);
    for (size_t n = 0; n < count; ++n) {
      tokens[n] = TokenOf(a, (begin + n) / a.heads, (begin + n) % a.heads, o);
    }
    StepHeads<T>(levels, {tokens, count, a.in.k.cols, a.in.v.cols},
                 a.in.v.cols / a.heads);
  }
}

}  // namespace log_linear

void LogLinearStepFloat(const LogLinear<float>& a, int64_t position,
                        float* const* buckets, MatrixView<float> o) {
  log_linear::RunStep(a, position, buckets, o);
}
void LogLinearStepDouble(const LogLinear<double>& a, int64_t position,
                         double* const* buckets, MatrixView<double> o) {
  log_linear::RunStep(a, position, buckets, o);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(LogLinearStepFloat);
HWY_EXPORT(LogLinearStepDouble);

void LogLinearStep(const LogLinear<float>& a, int64_t position,
                   float* const* buckets, MatrixView<float> o) {
  HWY_DYNAMIC_DISPATCH(LogLinearStepFloat)(a, position, buckets, o);
}
void LogLinearStep(const LogLinear<double>& a, int64_t position,
                   double* const* buckets, MatrixView<double> o) {
  HWY_DYNAMIC_DISPATCH(LogLinearStepDouble)(a, position, buckets, o);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
