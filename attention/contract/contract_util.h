// SPDX-License-Identifier: Apache-2.0
//
// Shared by the operator and the mixer half of the variant contract test.

#ifndef MNEME_ATTENTION_CONTRACT_CONTRACT_UTIL_H_
#define MNEME_ATTENTION_CONTRACT_CONTRACT_UTIL_H_

#include <functional>
#include <string>
#include <vector>

#include "attention/tensor/tensor.h"
#include "attention/variant.h"

namespace mneme::contract {

// The chunk the tests ask for, so that short sequences span several.
inline constexpr int64_t kChunk = 8;

// Sequence lengths around the chunk: one token, C - 1, C, C + 1, and one that
// is odd and spans several chunks.
inline const std::vector<int64_t> kLengths = {1, kChunk - 1, kChunk, kChunk + 1,
                                              2 * kChunk + 5};

// Central differences: step, and the bound |diff| <= absolute + relative |ref|.
inline constexpr double kStep = 1e-6;
inline constexpr double kGradientAbsolute = 1e-5;
inline constexpr double kGradientRelative = 1e-3;

// Runs body for every variant linked into the test, under its defaults and each
// of its variations, naming them in failures. Where there is an option `chunk`
// it is kChunk. Fails when no variant is linked in. Stops at a fatal failure.
void ForEachVariant(
    const std::function<void(const Variant&, const Options&)>& body);

// Runs body on every SIMD target of this CPU, naming it in failures: a float32
// result has other rounding errors on each.
void OnEverySimdTarget(const std::function<void()>& body);

// Largest |a - b| / max(floor, largest |b|); infinity when NaNs differ.
double RelativeError(const Tensor& actual, const Tensor& expected,
                     double floor = 1);

// Whether all bytes agree.
bool BitEqual(const Tensor& a, const Tensor& b);

// Compares gradient with the central differences of loss() by entries of x:
// all, or `entries` of them drawn at random. After a fatal failure there is no
// gradient, and nothing is compared.
void ExpectGradient(const Tensor& x, const Tensor& gradient, int64_t entries,
                    const std::function<double()>& loss,
                    const std::string& what);

// Standard normal values times scale.
Tensor RandomTensor(DType dtype, const Shape& shape, uint64_t seed,
                    double scale = 1);

// Tokens [first, first + count) of a [batch, length, ...] tensor, copied.
Tensor Tokens(const Tensor& x, int64_t first, int64_t count);

}  // namespace mneme::contract

#endif  // MNEME_ATTENTION_CONTRACT_CONTRACT_UTIL_H_
