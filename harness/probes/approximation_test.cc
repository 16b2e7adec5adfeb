// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/approximation.h"

#include <algorithm>
#include <string>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kTrials = 4;
constexpr uint64_t kSeed = 0;

ApproximationCurve Curve(const Variant& variant,
                         const Approximation& approximation,
                         const OptionValues& set = {}) {
  auto curve =
      MeasureApproximation(variant, approximation, set, kTrials, kSeed);
  EXPECT_TRUE(curve.ok()) << curve.status();
  return curve.ok() ? *std::move(curve) : ApproximationCurve();
}

ApproximationCurve Curve(const std::string& name) {
  const Variant& variant = **Variants().Find(name);
  return Curve(variant, variant.descriptor.approximations.at(0));
}

double Error(const ApproximationCurve& curve, int64_t size) {
  for (const ApproximationPoint& point : curve.points()) {
    if (point.size() == size) return point.error().mean();
  }
  ADD_FAILURE() << "no point at " << curve.knob() << "=" << size;
  return 0;
}

// Whatever variant says that it approximates something.
TEST(ApproximationTest, SizesRiseAndErrorsFallWithThem) {
  for (const std::string& name : Variants().Names()) {
    const Variant& variant = **Variants().Find(name);
    for (const Approximation& a : variant.descriptor.approximations) {
      SCOPED_TRACE(name + " by " + a.knob);
      Approximation ends = a;  // the whole curve takes longer
      ends.sizes = {a.sizes.front(), a.sizes.back()};
      EXPECT_TRUE(std::is_sorted(a.sizes.begin(), a.sizes.end()));
      const ApproximationCurve curve = Curve(variant, ends);
      ASSERT_EQ(curve.points_size(), 2);
      const Measurement& small = curve.points(0).error();
      const Measurement& large = curve.points(1).error();
      if (a.knob == kPatterns) {  // more to remember, not more to do it with
        EXPECT_GT(large.mean(), small.mean());
      } else {
        EXPECT_LT(large.high(), small.low());
      }
    }
  }
}

TEST(ApproximationTest, PatternsThatSeeEverythingAreExact) {
  for (const char* name : {"bigbird", "linformer", "linformer_encoder"}) {
    const ApproximationCurve curve = Curve(name);
    EXPECT_LT(curve.points(curve.points_size() - 1).error().high(), 1e-5)
        << name;
    EXPECT_GT(curve.points(0).error().low(), 0.3) << name;
  }
}

// A mean of n independent estimates is n^-1/2 as far off.
TEST(ApproximationTest, PerformersErrorFallsWithTheRootOfItsFeatures) {
  const Variant& performer = **Variants().Find("performer");
  Approximation a = performer.descriptor.approximations.at(0);
  a.deviation = 0.25;
  a.sizes = {64, 1024};
  const ApproximationCurve curve = Curve(performer, a);
  EXPECT_NEAR(Error(curve, 64) / Error(curve, 1024), 4, 1.2);
  a.deviation = 1;  // the same features, and a far larger variance
  EXPECT_GT(Error(Curve(performer, a), 1024), 10 * Error(curve, 1024));
}

TEST(ApproximationTest, RedrawsDiffer) {
  const Variant& performer = **Variants().Find("performer");
  Approximation a = performer.descriptor.approximations.at(0);
  a.sizes = {64};
  const double redrawn = Error(Curve(performer, a), 64);
  EXPECT_NE(Error(Curve(performer, a, {{"seed", "0"}}), 64), redrawn);
}

TEST(ApproximationTest, PatternsAreRetrievedUntilThereAreTooMany) {
  for (const char* name : {"hopfield", "memory_machine"}) {
    const ApproximationCurve curve = Curve(name);
    // The cue is 0.5 away.
    EXPECT_LT(Error(curve, 8), 0.1) << name;
    EXPECT_EQ(curve.exact(), kStoredPattern);
  }
  // One update instead of two cleans up less.
  const Variant& hopfield = **Variants().Find("hopfield");
  Approximation one = hopfield.descriptor.approximations.at(0);
  one.fixed = {{"updates", "1"}};
  one.sizes = {32};
  EXPECT_GT(Error(Curve(hopfield, one), 32), Error(Curve("hopfield"), 32));
}

// BigBird's last pairs of blocks that do not see each other are a small part.
TEST(ApproximationTest, BigBirdEncoderNearsFullSoftmax) {
  const ApproximationCurve curve = Curve("bigbird_encoder");
  EXPECT_LT(Error(curve, 59), 0.15);
  EXPECT_GT(Error(curve, 59), 1e-3);
}

// A BigBird that sees all the past is causal softmax, and that is far from
// softmax in both directions but not without relation to it.
TEST(ApproximationTest, FullSoftmaxLooksBothWays) {
  const Variant& bigbird = **Variants().Find("bigbird");
  Approximation a = bigbird.descriptor.approximations.at(0);
  a.of = kFullSoftmax;
  a.sizes = {0, 61};
  const ApproximationCurve curve = Curve(bigbird, a);
  EXPECT_GT(Error(curve, 61), 0.5);
  EXPECT_LT(Error(curve, 61), 0.9 * Error(curve, 0));
}

TEST(ApproximationTest, UnknownNamesAreRefused) {
  const Variant& performer = **Variants().Find("performer");
  Approximation a = performer.descriptor.approximations.at(0);
  a.of = "sofmax";
  const auto refused = [&] {
    return MeasureApproximation(performer, a, {}, 1, 0).status();
  };
  EXPECT_EQ(refused().code(), absl::StatusCode::kNotFound);
  a.of = "softmax";
  a.knob = "futures";
  EXPECT_EQ(refused().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mneme
