// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/kernel_testing.h"

#include <cmath>
#include <iomanip>
#include <iostream>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "attention/kernels/simd.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

// SplitMix64, a generator whose sequence is the same on every platform, unlike
// the distributions of <random>.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  // Uniform in (0, 1].
  double Uniform() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>((z >> 11) + 1) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

// However the body ends, the tests after it run on what they expect.
struct ScopedBest {
  ~ScopedBest() {
    const absl::Status status = UseSimdTarget("best");
    EXPECT_TRUE(status.ok()) << status;
  }
};

}  // namespace

void ForEachSimdTarget(const std::function<void()>& body) {
  const ScopedBest best;
  for (const std::string& target : SupportedSimdTargets()) {
    const absl::Status status = UseSimdTarget(target);
    ASSERT_TRUE(status.ok()) << status;
    SCOPED_TRACE("SIMD target " + target);
    body();
  }
  for (const std::string& target : UnsupportedSimdTargets()) {
    std::cout << "not run, no support in this CPU: SIMD target " << target
              << "\n";
  }
}

template <typename T>
std::vector<T> RandomValues(size_t n, uint64_t seed, double deviation) {
  constexpr double kTwoPi = 6.283185307179586;
  SplitMix64 random(seed);
  std::vector<T> values(n);
  for (T& value : values) {
    // Box and Muller's transform of two uniform numbers.
    const double radius = std::sqrt(-2 * std::log(random.Uniform()));
    const double angle = kTwoPi * random.Uniform();
    value = static_cast<T>(deviation * radius * std::cos(angle));
  }
  return values;
}

template <typename T>
void ExpectNear(const std::vector<double>& expected,
                const std::vector<T>& actual, double relative, double absolute,
                const char* what) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  // The worst element is the one with the greatest excess over its bound, as a
  // multiple of the bound.
  double worst = 1;
  size_t worst_index = 0;
  size_t failures = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double want = expected[i];
    const double got = static_cast<double>(actual[i]);
    double excess;
    if (std::isnan(want) || std::isnan(got)) {
      excess = std::isnan(want) && std::isnan(got) ? 0 : kInfinity;
    } else if (std::isinf(want) || std::isinf(got)) {
      excess = want == got ? 0 : kInfinity;
    } else {
      const double difference = std::abs(got - want);
      const double bound = absolute + relative * std::abs(want);
      // 0 / 0 would be NaN: an exact match passes a bound of zero.
      excess = difference == 0 ? 0 : difference / bound;
    }
    if (excess > 1) ++failures;
    if (excess > worst) {
      worst = excess;
      worst_index = i;
    }
  }
  if (failures == 0) return;
  ADD_FAILURE() << what << ": " << failures << " of " << expected.size()
                << " elements are wrong; the worst is element " << worst_index
                << ", " << worst << " times the bound: expected "
                << std::setprecision(17) << expected[worst_index] << ", got "
                << actual[worst_index];
}

template std::vector<float> RandomValues(size_t, uint64_t, double);
template std::vector<double> RandomValues(size_t, uint64_t, double);
template void ExpectNear(const std::vector<double>&, const std::vector<float>&,
                         double, double, const char*);
template void ExpectNear(const std::vector<double>&, const std::vector<double>&,
                         double, double, const char*);

}  // namespace mneme::kernels
