// SPDX-License-Identifier: Apache-2.0
//
// Which SIMD instruction set the kernels dispatch to. Highway chooses at run
// time; results differ in the last bits between targets, so the one in use is
// part of every result record.

#ifndef MNEME_ATTENTION_KERNELS_SIMD_H_
#define MNEME_ATTENTION_KERNELS_SIMD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mneme::kernels {

// Name of the target that kernels run on now: "AVX3", "AVX2", "SSE4", ...
std::string SimdTarget();

// Every target that was compiled in and that this CPU can run, best first.
std::vector<std::string> SupportedSimdTargets();

// Targets that were compiled in but that this CPU cannot run.
std::vector<std::string> UnsupportedSimdTargets();

// Restricts dispatch, for the whole process, to one supported target; "best"
// lifts the restriction. InvalidArgument names the supported ones.
absl::Status UseSimdTarget(absl::string_view name);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_SIMD_H_
