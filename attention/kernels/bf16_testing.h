// SPDX-License-Identifier: Apache-2.0
//
// What the tests of kernels on a Bf16Unit share.

#ifndef MNEME_ATTENTION_KERNELS_BF16_TESTING_H_
#define MNEME_ATTENTION_KERNELS_BF16_TESTING_H_

#include <functional>

namespace mneme::kernels {

// Runs body with each unit in use (UseBf16Unit): amx in hardware or emulated,
// the portable one on every SIMD target. Lists on stdout those that could not
// run. Restores the choice of the best.
void ForEachBf16Unit(const std::function<void()>& body);

// On every SIMD target with the unit that is best there, which on lesser ones
// is none, and then with each unit.
void ForEachSimdTargetAndBf16Unit(const std::function<void()>& body);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_BF16_TESTING_H_
