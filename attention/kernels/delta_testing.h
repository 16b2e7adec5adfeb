// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the delta rules share.

#ifndef MNEME_ATTENTION_KERNELS_DELTA_TESTING_H_
#define MNEME_ATTENTION_KERNELS_DELTA_TESTING_H_

#include <cmath>
#include <cstddef>
#include <limits>

namespace mneme::kernels {

enum class Strength { kZero, kSlow, kStrong, kResets };

// Entry i of log decays of this strength, made of a random number.
inline double LogDecay(Strength strength, size_t i, double noise) {
  switch (strength) {
    case Strength::kZero:
      return 0;
    case Strength::kSlow:
      return -0.05 * std::abs(noise);
    case Strength::kStrong:
      return i % 3 == 0 ? 0 : i % 3 == 1 ? -20 - noise : -1e-3;
    case Strength::kResets:
      return i % 5 == 3 ? -std::numeric_limits<double>::infinity()
                        : -0.1 * std::abs(noise);
  }
  return 0;
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_DELTA_TESTING_H_
