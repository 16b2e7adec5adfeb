// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_recurrence.h"

#include <cstddef>

#include "attention/kernels/bf16_product.h"
#include "attention/kernels/denormals.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/bf16_recurrence.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/bf16_chunks-inl.h"
#include "attention/kernels/finite-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {

template <class Rounding>
size_t RunWith(const Bf16Unit& unit, const AdditiveRecurrence<float>& a,
               float* state, MatrixView<float> o, float* den) {
  Bf16Recurrence<Rounding> recurrence(unit, a, state, o, den);
  unit.begin();
  const size_t done = recurrence.Run();
  unit.end();
  return done;
}

// Returns how many tokens are done.
size_t RunOnUnit(const Bf16Unit& unit, const AdditiveRecurrence<float>& a,
                 float* state, MatrixView<float> o, float* den) {
  const size_t size = AdditiveStateSize(a.q.cols, a.v.cols, a.normaliser);
  if (!AllFinite({state, 1, size})) return 0;
  // The portable unit is what tests compare the others with.
  const bool hardware =
      &unit != Bf16PortableUnit() && Bf16Avx512Unit() != nullptr;
  const auto run =
      hardware ? RunWith<HardwareRounding> : RunWith<SoftwareRounding>;
  return run(unit, a, state, o, den);
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
  if (unit != nullptr && !a.elu_features && a.strength == nullptr &&
      a.skip == nullptr && a.chunk > 1 && a.q.rows >= kFewTokens) {
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
  if (a.strength != nullptr) rest.strength = a.strength + done;
  AdditiveRecurrenceForward(rest, state, o.Rows(done, left),
                            den == nullptr ? nullptr : den + done, nullptr);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
