// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/simd.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

// This file is compiled for each target, as kernels are, so that the dispatch
// of another translation unit than simd.cc is what is tested.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/simd_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target.h must come first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {

std::string DispatchedTarget() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {
namespace {

HWY_EXPORT(DispatchedTarget);

std::string Dispatched() { return HWY_DYNAMIC_DISPATCH(DispatchedTarget)(); }

TEST(SimdTest, TheBestSupportedTargetIsTheDefault) {
  const std::vector<std::string> supported = SupportedSimdTargets();
  ASSERT_FALSE(supported.empty());
  EXPECT_EQ(SimdTarget(), supported.front());
  EXPECT_EQ(Dispatched(), supported.front());
}

TEST(SimdTest, KernelsFollowTheChosenTarget) {
  for (const std::string& name : SupportedSimdTargets()) {
    ASSERT_TRUE(UseSimdTarget(name).ok());
    EXPECT_EQ(SimdTarget(), name);
    EXPECT_EQ(Dispatched(), name);
  }
  ASSERT_TRUE(UseSimdTarget("best").ok());
  EXPECT_EQ(SimdTarget(), SupportedSimdTargets().front());
  EXPECT_EQ(Dispatched(), SupportedSimdTargets().front());
}

TEST(SimdTest, RestrictingLeavesTheListsAsTheyWere) {
  const std::vector<std::string> supported = SupportedSimdTargets();
  const std::vector<std::string> unsupported = UnsupportedSimdTargets();
  ASSERT_TRUE(UseSimdTarget(supported.back()).ok());
  EXPECT_EQ(SupportedSimdTargets(), supported);
  EXPECT_EQ(UnsupportedSimdTargets(), unsupported);
  // The way back up from a worse target is open.
  ASSERT_TRUE(UseSimdTarget(supported.front()).ok());
  EXPECT_EQ(SimdTarget(), supported.front());
  ASSERT_TRUE(UseSimdTarget("best").ok());
}

TEST(SimdTest, AnUnknownTargetIsRefusedAndChangesNothing) {
  const std::string before = SimdTarget();
  for (const char* name : {"AVX9", "avx2", ""}) {
    const absl::Status status = UseSimdTarget(name);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    for (const std::string& supported : SupportedSimdTargets()) {
      EXPECT_NE(status.message().find(supported), std::string::npos) << status;
    }
  }
  for (const std::string& name : UnsupportedSimdTargets()) {
    EXPECT_FALSE(UseSimdTarget(name).ok()) << name;
  }
  EXPECT_EQ(SimdTarget(), before);
  EXPECT_EQ(Dispatched(), before);
}

}  // namespace
}  // namespace mneme::kernels
#endif  // HWY_ONCE
