// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/additive_heads.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/bf16_recurrence.h"
#include "attention/parts/one_token.h"

namespace mneme {
namespace {

using kernels::MatrixView;

// The numbers that an array has for the tokens of one (batch, head); null if it
// is empty.
template <typename T>
T* TokensOf(const Tensor& t, int64_t b, int64_t h) {
  if (t.empty()) return nullptr;
  return t.data<T>() + (b % t.dim(0) * t.dim(1) + h) * t.dim(2);
}

// The kernel's view of one (batch, head).
template <typename T>
kernels::AdditiveRecurrence<T> OneHead(const AdditiveHeads& a, int64_t b,
                                       int64_t h) {
  kernels::AdditiveRecurrence<T> head;
  head.q = a.query.Sequence<T>(b, h % a.query.dim(2));
  head.k = a.key.Sequence<T>(b, h % a.key.dim(2));
  head.v = a.value.Sequence<T>(b, h);
  head.log_decay = TokensOf<T>(a.log_decay, b, h);
  head.strength = TokensOf<T>(a.strength, b, h);
  if (!a.skip.empty()) head.skip = a.skip.data<T>() + h;
  head.scale = static_cast<T>(a.scale);
  head.chunk = static_cast<size_t>(a.chunk);
  head.normaliser = a.normaliser;
  head.elu_features = a.elu_features;
  head.divide = a.divide;
  head.eps = static_cast<T>(a.eps);
  return head;
}

// Calls run(b, h, i) with i = b * heads + h for every head of the batch.
template <typename Run>
void ForEachHead(const AdditiveHeads& a, const Run& run) {
  const int64_t heads = a.value.dim(2);
  kernels::ParallelFor(a.pool, a.value.dim(0) * heads,
                       [&](size_t i, int) { run(i / heads, i % heads, i); });
}

// The same with the heads of a sequence one after the other when they add to
// the gradients of shared queries or keys.
template <typename Run>
void ForEachHeadBackward(const AdditiveHeads& a, const Run& run) {
  const int64_t heads = a.value.dim(2);
  if (a.query.dim(2) == heads && a.key.dim(2) == heads) {
    ForEachHead(a, run);
    return;
  }
  kernels::ParallelFor(a.pool, a.value.dim(0), [&](size_t b, int) {
    for (int64_t h = 0; h < heads; ++h) run(b, h, b * heads + h);
  });
}

size_t StateSize(const AdditiveHeads& a) {
  return kernels::AdditiveStateSize(a.query.dim(3), a.value.dim(3),
                                    a.normaliser);
}

size_t SavedSize(const AdditiveHeads& a) {
  return kernels::AdditiveSavedSize(a.query.dim(1), a.chunk, StateSize(a));
}

template <typename T>
MatrixView<T> OptionalSequence(const Tensor& t, int64_t b, int64_t h) {
  return t.empty() ? MatrixView<T>() : t.Sequence<T>(b, h % t.dim(2));
}

// The rows of heads [h, h + count) of sequence b, or as many times the one that
// they share.
template <typename T>
MatrixView<const T> TokenRows(const Tensor& x, int64_t b, int64_t h,
                              int64_t count) {
  const int64_t heads = x.dim(2), dim = x.dim(3);
  const bool shared = heads == 1;
  return {x.data<T>() + (b * heads + (shared ? 0 : h)) * dim,
          static_cast<size_t>(count), static_cast<size_t>(dim),
          static_cast<size_t>(shared ? 0 : dim)};
}

}  // namespace

int64_t ChunkOf(Form form, int64_t length, int64_t chunked) {
  switch (form) {
    case Form::kParallel:
      return std::max<int64_t>(length, 1);
    case Form::kChunked:
      return chunked;
    case Form::kRecurrent:
      return 1;
  }
  return chunked;
}

std::unique_ptr<DenseState> NewAdditiveState(const Dims& dims, int64_t key_dim,
                                             bool normaliser, DType dtype) {
  const int64_t size =
      kernels::AdditiveStateSize(key_dim, dims.value_dim, normaliser);
  return std::make_unique<DenseState>(dtype,
                                      Shape({dims.batch, dims.heads, size}));
}

void AdditiveHeadsForward(const AdditiveHeads& a, State* state,
                          const Tensor& output, const Tensor& denominator,
                          Arena* arena, Tensor* saved) {
  const int64_t batch = a.query.dim(0), length = a.query.dim(1),
                heads = a.value.dim(2);
  const int64_t size = StateSize(a);
  const DType dtype = a.query.dtype();
  if (saved != nullptr) {
    const Shape shape({batch * heads, static_cast<int64_t>(SavedSize(a))});
    *saved =
        arena == nullptr ? Tensor(dtype, shape) : Tensor(arena, dtype, shape);
  }
  DispatchDType(dtype, [&](auto zero) {
    using T = decltype(zero);
    // A step has its own numbers for every sequence.
    const auto shared = [&](const Tensor& t) {
      return !t.empty() && t.dim(0) != batch;
    };
    if (TakesOneToken(length, state, saved != nullptr) &&
        !shared(a.log_decay) && !shared(a.strength)) {
      const auto numbers = [](const Tensor& t) {
        return t.empty() ? nullptr : t.data<T>();
      };
      return AdditiveHeadsStep<T>(
          a, {numbers(a.log_decay), numbers(a.strength), numbers(a.skip)},
          state, output, denominator);
    }
    ForEachHead(a, [&](int64_t b, int64_t h, int64_t i) {
      std::vector<T> scratch;
      T* head_state;
      if (state != nullptr) {
        head_state =
            static_cast<DenseState*>(state)->tensor().data<T>() + i * size;
      } else {
        scratch.resize(size);
        head_state = scratch.data();
      }
      T* const den =
          denominator.empty() ? nullptr : denominator.data<T>() + i * length;
      if constexpr (std::is_same<T, float>::value) {
        if (a.bf16 && saved == nullptr) {
          kernels::Bf16AdditiveForward(OneHead<T>(a, b, h), head_state,
                                       output.Sequence<T>(b, h), den);
          return;
        }
      }
      kernels::AdditiveRecurrenceForward(
          OneHead<T>(a, b, h), head_state, output.Sequence<T>(b, h), den,
          saved == nullptr ? nullptr : saved->data<T>() + i * saved->dim(1));
    });
  });
}

template <typename T>
void AdditiveHeadsStep(const AdditiveHeads& a, const TokenFactors<T>& factors,
                       State* state, const Tensor& output,
                       const Tensor& denominator) {
  const int64_t heads = a.value.dim(2);
  T* const states = static_cast<DenseState*>(state)->tensor().data<T>();
  kernels::AdditiveRecurrence<T> all;
  all.scale = static_cast<T>(a.scale);
  all.normaliser = a.normaliser;
  all.elu_features = a.elu_features;
  all.divide = a.divide;
  all.eps = static_cast<T>(a.eps);
  ForHeadRanges(
      a.pool, a.value.dim(0), heads, [&](int64_t b, int64_t h, int64_t count) {
        const int64_t first = b * heads + h;
        const auto from = [](const T* x, int64_t i) {
          return x == nullptr ? nullptr : x + i;
        };
        kernels::AdditiveRecurrence<T> some = all;
        some.q = TokenRows<T>(a.query, b, h, count);
        some.k = TokenRows<T>(a.key, b, h, count);
        some.v = TokenRows<T>(a.value, b, h, count);
        some.log_decay = from(factors.log_decay, first);
        some.strength = from(factors.strength, first);
        some.skip = from(factors.skip, h);
        kernels::AdditiveRecurrenceStep(
            some, states + first * StateSize(a),
            RowsOfHeads<T>(output).Rows(first, count),
            denominator.empty() ? nullptr : denominator.data<T>() + first);
      });
}

template void AdditiveHeadsStep(const AdditiveHeads&,
                                const TokenFactors<float>&, State*,
                                const Tensor&, const Tensor&);
template void AdditiveHeadsStep(const AdditiveHeads&,
                                const TokenFactors<double>&, State*,
                                const Tensor&, const Tensor&);

void AdditiveHeadsBackward(const AdditiveHeads& a, const Tensor& saved,
                           const Tensor& d_output, const Tensor& d_denominator,
                           const AdditiveHeadsGradients& gradients) {
  const int64_t length = a.query.dim(1), size = StateSize(a);
  DispatchDType(a.query.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ForEachHeadBackward(a, [&](int64_t b, int64_t h, int64_t i) {
      kernels::AdditiveRecurrenceGradients<T> head;
      head.d_q = OptionalSequence<T>(gradients.query, b, h);
      head.d_k = OptionalSequence<T>(gradients.key, b, h);
      head.d_v = OptionalSequence<T>(gradients.value, b, h);
      head.d_log_decay = TokensOf<T>(gradients.log_decay, b, h);
      head.d_strength = TokensOf<T>(gradients.strength, b, h);
      if (!gradients.skip.empty()) head.d_skip = gradients.skip.data<T>() + i;
      std::vector<T> d_state(size);  // nothing reads the final state
      kernels::AdditiveRecurrenceBackward(
          OneHead<T>(a, b, h), saved.data<T>() + i * saved.dim(1),
          d_output.Sequence<T>(b, h),
          d_denominator.empty() ? nullptr
                                : d_denominator.data<T>() + i * length,
          d_state.data(), head);
    });
  });
}

double CausalPairs(int64_t length, int64_t block) {
  const double whole = length / block, rest = length % block;
  return (whole * block * (block + 1) + rest * (rest + 1)) / 2;
}

Cost AdditiveHeadsCost(const Dims& dims, int64_t key_dim, int64_t chunk,
                       bool decay, bool normaliser) {
  const double heads = static_cast<double>(dims.batch) * dims.heads;
  const double tokens = heads * dims.length;
  const double pairs = heads * CausalPairs(dims.length, chunk);
  const double chunks = heads * ((dims.length + chunk - 1) / chunk);
  const double k = key_dim, v = dims.value_dim + (normaliser ? 1 : 0);
  Cost cost;
  // Scores and their product with values over the causal half of a chunk, then
  // the chunk's read of and write to the state.
  cost.flops = tokens * 4 * k * v;
  if (chunk == 1) {
    // A token alone writes to the state, which fades, and then reads it.
    if (decay) cost.flops += tokens * k * v;
  } else {
    cost.flops += pairs * 2 * (k + v);
  }
  if (decay) cost.exps = tokens;
  if (decay && chunk > 1) {
    // Decays are made of the tokens' own, e^g: between two tokens of a chunk
    // by one product, and used by another; what is read from the state and the
    // keys that go there fade by the token, the state by the chunk.
    cost.flops += 2 * (pairs - tokens) + tokens * (k + v) + chunks * k * v;
  }
  // Inputs and outputs, and the state before and after.
  cost.bytes = sizeof(float) *
               (tokens * (2 * k + 2 * dims.value_dim) + heads * 2 * k * v);
  return cost;
}

double CausalScoresFlops(const Dims& dims, int64_t key_dim, int64_t chunk) {
  if (chunk == 1) return 0;  // tokens alone have none
  return 2.0 * dims.batch * dims.heads * CausalPairs(dims.length, chunk) *
         key_dim;
}

}  // namespace mneme
