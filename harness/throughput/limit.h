// SPDX-License-Identifier: Apache-2.0
//
// The shortest time in which a machine could do a piece of work (a roofline
// with named memory levels):
//
//   limit = max(FLOPs / peak + exps * c_exp, bytes / bandwidth)
//
// where peak, c_exp (seconds for one exponential) and bandwidth are ceilings
// measured on that machine.
//
// Memory overlaps with arithmetic, so the longer one counts. Exponentials do
// not overlap with multiply-adds: they are made of them. On Zen 5 a vector of
// FastExp2NonPositive takes 3.2 cycles, and for 3 of them its six products keep
// both ports of multiply-adds busy; on Intel all its 12 operations share ports
// with them. Only a matrix unit (AMX) computes products while the vector ports
// compute exponentials, so there the longer of the two counts.
//
// The bandwidth is that of the level in which the working set lives: what one
// call touches, again and again or once more in the next repetition. Work that
// only reads is held to the rate of reading. Work that writes as well is held
// to the rate of reading and writing at once, if that is higher: caches do both
// at the same time (on Zen 5 they move twice the bytes of reading alone). Few
// kernels write as much as they read, so their limit may be too short. It is
// not too long but for L1, whose loads and stores have ports of their own: two
// reads for each write may be a third faster there than either loop.

#ifndef MNEME_HARNESS_THROUGHPUT_LIMIT_H_
#define MNEME_HARNESS_THROUGHPUT_LIMIT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attention/operator.h"
#include "harness/throughput/ceilings.h"

namespace mneme {

struct Limit {
  double compute_seconds = 0;
  double memory_seconds = 0;
  Ceiling level = Ceiling::kDram;  // where the working set lives

  double seconds() const;
  // What binds: "compute", "L1", "L2", "L3" or "DRAM".
  absl::string_view binding() const;
};

// The smallest level that holds the working set and was measured. With several
// threads each is thought to work on its share of it.
Ceiling LevelOf(double working_set_bytes, const Ceilings& ceilings);

enum class Traffic { kReads, kReadWrite };

// `products` says which unit does the FLOPs: kMultiplyAdd, kBf16 or kAmx.
// FailedPrecondition if a ceiling that is needed was not measured;
// InvalidArgument for another `products`.
absl::StatusOr<Limit> LimitOf(const Cost& cost, double working_set_bytes,
                              const Ceilings& ceilings, Traffic traffic,
                              Ceiling products = Ceiling::kMultiplyAdd);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_LIMIT_H_
