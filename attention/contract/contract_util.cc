// SPDX-License-Identifier: Apache-2.0

#include "attention/contract/contract_util.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention/kernels/simd.h"
#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme::contract {

void ForEachVariant(
    const std::function<void(const Variant&, const Options&)>& body) {
  const std::vector<std::string> names = Variants().Names();
  ASSERT_FALSE(names.empty()) << "no variant is linked into this test";
  for (const std::string& name : names) {
    SCOPED_TRACE("variant " + name);
    absl::StatusOr<const Variant*> variant = Variants().Find(name);
    ASSERT_TRUE(variant.ok()) << variant.status();
    const VariantDescriptor& d = (*variant)->descriptor;
    std::vector<OptionValues> variations = d.variations;
    variations.insert(variations.begin(), OptionValues());
    for (OptionValues values : variations) {
      std::string trace = "options";
      for (const auto& [key, value] : values) trace += " " + key + "=" + value;
      SCOPED_TRACE(trace);
      for (const OptionSpec& spec : d.options) {
        if (spec.name == "chunk") {
          values.insert(values.begin(), {"chunk", std::to_string(kChunk)});
        }
      }
      absl::StatusOr<Options> options = Options::Parse(d.options, values);
      ASSERT_TRUE(options.ok()) << options.status();
      // Tests ask for the tolerance under these options.
      Variant chosen = **variant;
      chosen.descriptor.tolerance = ToleranceUnder(d, *options);
      body(chosen, *options);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void OnEverySimdTarget(const std::function<void()>& body) {
  for (const std::string& target : kernels::SupportedSimdTargets()) {
    SCOPED_TRACE(target);
    ASSERT_TRUE(kernels::UseSimdTarget(target).ok());
    body();
    // What cannot go on for one target cannot for the next: say it once.
    if (testing::Test::HasFatalFailure()) break;
  }
  ASSERT_TRUE(kernels::UseSimdTarget("best").ok());
}

double RelativeError(const Tensor& actual, const Tensor& expected,
                     double floor) {
  const std::vector<double> a = actual.ToDoubles(), e = expected.ToDoubles();
  if (a.size() != e.size()) return std::numeric_limits<double>::infinity();
  double largest = floor, error = 0;
  for (double x : e) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) != std::isnan(e[i])) {
      return std::numeric_limits<double>::infinity();
    }
    if (!std::isnan(a[i]) && a[i] != e[i]) {
      error = std::max(error, std::abs(a[i] - e[i]));
    }
  }
  return error / largest;
}

bool BitEqual(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() &&
         std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

void ExpectGradient(const Tensor& x, const Tensor& gradient, int64_t entries,
                    const std::function<double()>& loss,
                    const std::string& what) {
  if (testing::Test::HasFatalFailure()) return;
  ASSERT_EQ(x.dtype(), DType::kFloat64);
  ASSERT_EQ(x.elements(), gradient.elements()) << what;
  const int64_t n = x.elements();
  // Not a regular stride: it would meet the same column of every row.
  Random random(/*seed=*/n, StreamId("gradient entries"));
  for (int64_t k = 0; k < std::min(n, entries); ++k) {
    const int64_t i = n <= entries ? k : random.Below(n);
    double& value = x.data<double>()[i];
    const double kept = value;
    value = kept + kStep;
    const double above = loss();
    value = kept - kStep;
    const double below = loss();
    value = kept;
    const double numeric = (above - below) / (2 * kStep);
    ASSERT_NEAR(gradient.data<double>()[i], numeric,
                kGradientAbsolute + kGradientRelative * std::abs(numeric))
        << what << ", entry " << i << " of " << n;
  }
}

Tensor RandomTensor(DType dtype, const Shape& shape, uint64_t seed,
                    double scale) {
  Tensor values(DType::kFloat64, shape);
  Random random(seed, StreamId("contract"));
  for (int64_t i = 0; i < values.elements(); ++i) {
    values.data<double>()[i] = scale * random.Normal();
  }
  return values.Cast(dtype);
}

Tensor Tokens(const Tensor& x, int64_t first, int64_t count) {
  std::vector<int64_t> sizes(x.shape().dims().begin(), x.shape().dims().end());
  const size_t row = x.bytes() / (sizes[0] * sizes[1]);
  const int64_t length = sizes[1];
  sizes[1] = count;
  Tensor part(x.dtype(), Shape(sizes));
  for (int64_t b = 0; b < sizes[0]; ++b) {
    std::memcpy(static_cast<char*>(part.raw()) + b * count * row,
                static_cast<const char*>(x.raw()) + (b * length + first) * row,
                count * row);
  }
  return part;
}

}  // namespace mneme::contract
