// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/limit.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

// Of `units` of a ceiling. Nothing takes no time, whatever its rate.
absl::StatusOr<double> Seconds(double units, const Ceilings& ceilings,
                               Ceiling ceiling) {
  if (units == 0) return 0.0;
  const double rate = ceilings.Rate(ceiling);
  if (!(rate > 0)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the ceiling of ", CeilingName(ceiling), " was not measured"));
  }
  return units / rate;
}

// What moves most bytes to and from a level, of `traffic`.
Ceiling FastestOf(Ceiling level, Traffic traffic, const Ceilings& ceilings) {
  if (traffic == Traffic::kReads) return level;
  const Ceiling read_write =
      kReadWrites[std::find(std::begin(kReads), std::end(kReads), level) -
                  std::begin(kReads)];
  return ceilings.Rate(read_write) > ceilings.Rate(level) ? read_write : level;
}

}  // namespace

double Limit::seconds() const {
  return std::max(compute_seconds, memory_seconds);
}

absl::string_view Limit::binding() const {
  return compute_seconds >= memory_seconds ? "compute" : CeilingName(level);
}

Ceiling LevelOf(double working_set_bytes, const Ceilings& ceilings) {
  for (size_t i = 0; i < ceilings.cache_bytes.size(); ++i) {
    if (working_set_bytes <= static_cast<double>(ceilings.cache_bytes[i]) &&
        ceilings.Rate(kReads[i]) > 0) {
      return kReads[i];
    }
  }
  return Ceiling::kDram;
}

absl::StatusOr<Limit> LimitOf(const Cost& cost, double working_set_bytes,
                              const Ceilings& ceilings, Traffic traffic,
                              Ceiling products) {
  if (products != Ceiling::kMultiplyAdd && products != Ceiling::kBf16 &&
      products != Ceiling::kAmx) {
    return absl::InvalidArgumentError(
        absl::StrCat(CeilingName(products), " computes no products"));
  }
  Limit limit;
  limit.level = LevelOf(working_set_bytes, ceilings);
  const auto flops = Seconds(cost.flops, ceilings, products);
  if (!flops.ok()) return flops.status();
  const auto exps = Seconds(cost.exps, ceilings, Ceiling::kExp);
  if (!exps.ok()) return exps.status();
  const auto bytes =
      Seconds(cost.bytes, ceilings, FastestOf(limit.level, traffic, ceilings));
  if (!bytes.ok()) return bytes.status();
  limit.compute_seconds =
      products == Ceiling::kAmx ? std::max(*flops, *exps) : *flops + *exps;
  limit.memory_seconds = *bytes;
  return limit;
}

}  // namespace mneme
