// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/simd.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "hwy/highway.h"
#include "hwy/targets.h"

namespace mneme::kernels {
namespace {

// Names of the targets in a Highway bit mask; better targets have lower bits.
std::vector<std::string> Names(int64_t targets) {
  std::vector<std::string> names;
  for (; targets != 0; targets &= targets - 1) {
    names.push_back(hwy::TargetName(targets & -targets));
  }
  return names;
}

// What this CPU can run of what was compiled in, whatever is disabled now. The
// CPU does not change, so it is found once, before UseSimdTarget can restrict
// anything.
int64_t RunnableTargets() {
  static const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return targets;
}

}  // namespace

std::string SimdTarget() {
  return Names(hwy::SupportedTargets() & HWY_TARGETS).front();
}

std::vector<std::string> SupportedSimdTargets() {
  return Names(RunnableTargets());
}

std::vector<std::string> UnsupportedSimdTargets() {
  return Names(HWY_TARGETS & ~RunnableTargets());
}

absl::Status UseSimdTarget(absl::string_view name) {
  int64_t target = RunnableTargets();
  if (name != "best") {
    while (target != 0 && name != hwy::TargetName(target & -target)) {
      target &= target - 1;
    }
    if (target == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot run SIMD target \"", name, "\"; this CPU and build have ",
          absl::StrJoin(SupportedSimdTargets(), ", "), ", or best"));
    }
    target &= -target;
  }
  // Despite its name this is how to restrict dispatch: after DisableTargets,
  // each call of SupportedTargets (Highway 1.0.3) would detect anew and, as a
  // side effect, let the disabled targets back in. It also resets the choice
  // that all HWY_DYNAMIC_DISPATCH share, so the next one chooses anew.
  hwy::SetSupportedTargetsForTest(target);
  return absl::OkStatus();
}

}  // namespace mneme::kernels
