// SPDX-License-Identifier: Apache-2.0
//
// The additive recurrence backwards by one token, row by row of the state: the
// backward of chunk = 1, and of a last chunk of one token.

#if defined(MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_BACKWARD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_BACKWARD_INL_H_
#undef MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_BACKWARD_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
struct TokenBackward {
  const AdditiveRecurrence<T>& a;
  MatrixView<const T> d_o;  // [length, value_dim]
  const T* d_den;           // [length]; null: none
  const T* state;           // before the token, as it was saved
  // By the state behind the token, and then by the one before it; d_z only with
  // a normaliser.
  Tile<T> d_s;
  T* d_z;
  T* d_v_sum;  // scratch of Padded(value_dim) entries
};

// Adds the gradients of token t.
template <typename T>
HWY_NOINLINE void StepBackward(
    const TokenBackward<T>& b, size_t t,
    const AdditiveRecurrenceGradients<T>& gradients) {
  const AdditiveRecurrence<T>& a = b.a;
  const size_t key_dim = a.q.cols, value_dim = a.v.cols;
  const bool wants_d_decay =
      a.log_decay != nullptr && gradients.d_log_decay != nullptr;
  const T* const z_before = b.state + key_dim * value_dim;
  const hn::ScalableTag<T> d;
  const T decay = DecayFactor(a.log_decay, t);
  const auto factor = hn::Set(d, decay);
  const T* v = a.v.row(t);
  const T* d_o = b.d_o.row(t);
  const T d_den = b.d_den == nullptr ? 0 : b.d_den[t];
  const T strength = a.strength == nullptr ? 1 : a.strength[t];
  T d_decay = 0, d_strength = 0;
  std::fill_n(b.d_v_sum, Padded<T>(value_dim), T{0});
  for (size_t row = 0; row < key_dim; ++row) {
    const T q_scaled = a.scale * a.q(t, row);
    const auto q = hn::Set(d, q_scaled);
    const T k_scaled = strength * a.k(t, row);
    const auto k = hn::Set(d, k_scaled);
    const T* s_before = b.state + row * value_dim;
    T* d_s = b.d_s.row(row);
    auto d_q_sum = hn::Zero(d);
    auto d_k_sum = hn::Zero(d);
    auto d_decay_sum = hn::Zero(d);
    ForEachVector(d, value_dim, [&](size_t c, const auto& lanes) HWY_ATTR {
      const auto d_out = lanes.Load(d_o + c);
      const auto value = lanes.Load(v + c);
      const auto gradient = hn::MulAdd(q, d_out, hn::Load(d, d_s + c));
      const auto kept = hn::Mul(factor, lanes.Load(s_before + c));
      const auto s = hn::MulAdd(k, value, kept);
      d_q_sum = hn::MulAdd(s, d_out, d_q_sum);
      d_k_sum = hn::MulAdd(gradient, value, d_k_sum);
      d_decay_sum = hn::MulAdd(gradient, kept, d_decay_sum);
      hn::Store(hn::MulAdd(k, gradient, hn::Load(d, b.d_v_sum + c)), d,
                b.d_v_sum + c);
      hn::Store(hn::Mul(factor, gradient), d, d_s + c);
    });
    T d_q = hn::GetLane(hn::SumOfLanes(d, d_q_sum));
    T d_k = hn::GetLane(hn::SumOfLanes(d, d_k_sum));
    if (wants_d_decay) {
      d_decay += hn::GetLane(hn::SumOfLanes(d, d_decay_sum));
    }
    if (a.normaliser) {
      const T kept = decay * z_before[row];
      const T gradient = b.d_z[row] + q_scaled * d_den;
      d_q += (kept + k_scaled) * d_den;
      d_k += gradient;
      d_decay += gradient * kept;
      b.d_z[row] = decay * gradient;
    }
    if (gradients.d_q.data != nullptr) {
      gradients.d_q(t, row) += a.scale * d_q;
    }
    if (gradients.d_k.data != nullptr) {
      gradients.d_k(t, row) += strength * d_k;
    }
    d_strength += d_k * a.k(t, row);
  }
  const T skip = a.skip == nullptr ? 0 : *a.skip;
  T d_skip = 0;
  for (size_t c = 0; c < value_dim; ++c) {
    d_skip += d_o[c] * v[c];
    if (gradients.d_v.data != nullptr) {
      gradients.d_v(t, c) += b.d_v_sum[c] + skip * d_o[c];
    }
  }
  if (gradients.d_strength != nullptr) {
    gradients.d_strength[t] += d_strength;
  }
  if (gradients.d_skip != nullptr) *gradients.d_skip += d_skip;
  if (wants_d_decay) gradients.d_log_decay[t] += d_decay;
}

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_ADDITIVE_STEP_BACKWARD_INL_H_
