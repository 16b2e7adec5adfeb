// SPDX-License-Identifier: Apache-2.0
//
// What every kernel test shares: running on all SIMD targets, reproducible
// random inputs, and one way to compare.

#ifndef MNEME_ATTENTION_KERNELS_KERNEL_TESTING_H_
#define MNEME_ATTENTION_KERNELS_KERNEL_TESTING_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Runs body once on each SIMD target that this CPU supports, naming the target
// in failures, and lists on stdout the targets it could not run. Restores the
// best target afterwards.
void ForEachSimdTarget(const std::function<void()>& body);

// n reproducible values, normally distributed with the given deviation.
template <typename T>
std::vector<T> RandomValues(size_t n, uint64_t seed, double deviation = 1.0);

// Expects |actual - expected| <= absolute + relative * |expected| for each
// element, NaN and infinities equal; reports the worst element once.
template <typename T>
void ExpectNear(const std::vector<double>& expected,
                const std::vector<T>& actual, double relative, double absolute,
                const char* what);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_KERNEL_TESTING_H_
