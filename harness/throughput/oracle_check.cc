// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/oracle_check.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "harness/throughput/problem.h"

namespace mneme {
namespace {

// What the largest value of a block counts at least. Smaller gradients drown in
// the rounding of others: of one token attention's are differences that cancel.
// Means over many tokens have small ones: this is divided by the root of the
// length.
constexpr double kSmallestGradient = 0.1;
// So that outputs that are all zero may differ by nothing that matters.
constexpr double kSmallestOutput = 1e-6;

double Largest(const double* values, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::abs(values[i]));
  }
  return largest;
}

// NaN if there is one.
double LargestDifference(const float* a, const double* b, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, difference);
  }
  return largest;
}

// Of `what` [batch, length, ...], or of parameters, which have no tokens: see
// oracle_check.h. `least` is what the largest value of a block counts at least.
absl::Status Compare(const Tensor& actual, const Tensor& oracle,
                     double tolerance, absl::string_view what, double least,
                     bool has_tokens = true) {
  if (actual.elements() != oracle.elements()) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " has shape ", actual.shape().ToString(),
                     ", the oracle's ", oracle.shape().ToString()));
  }
  const int64_t all = oracle.elements();
  const int64_t length = has_tokens ? oracle.dim(1) : 1;
  const int64_t sequence = has_tokens ? all / oracle.dim(0) : all;
  const int64_t row = sequence / length;
  const double floor =
      std::max(least, kBlockFloor * Largest(oracle.data<double>(), all));
  for (int64_t start = 0; start < all; start += sequence) {
    for (int64_t t = 0; t < length; t += kBlockTokens) {
      const int64_t first = start + t * row;
      const int64_t n = std::min(kBlockTokens, length - t) * row;
      const double* expected = oracle.data<double>() + first;
      const double error =
          LargestDifference(actual.data<float>() + first, expected, n) /
          std::max(floor, Largest(expected, n));
      if (error <= tolerance) continue;
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s differs from that in float64 by %.2g of the largest value from "
          "token %d to %d; %.2g is allowed",
          what, error, t, t + n / row - 1, tolerance));
    }
  }
  return absl::OkStatus();
}

// What a workload computed.
absl::Status Compare(const Problem& problem, const std::vector<Tensor>& actual,
                     const Oracle::Results& expected, double tolerance,
                     absl::string_view where) {
  if (problem.phase != Phase::kBackward) {
    return Compare(actual[0], expected[0], tolerance,
                   absl::StrCat("its output", where), kSmallestOutput);
  }
  const std::vector<InputSpec> specs = problem.op->Inputs();
  if (actual.size() != specs.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("it has ", actual.size(), " gradients, the operator ",
                     specs.size(), " inputs"));
  }
  const double least =
      kSmallestGradient / std::sqrt(static_cast<double>(problem.dims.length));
  for (size_t i = 0; i < specs.size(); ++i) {
    const bool has_tokens = specs[i].axes.substr(0, 2) == "BL";
    absl::Status status =
        Compare(actual[i], expected[i], tolerance,
                absl::StrCat("its gradient of ", specs[i].name, where), least,
                has_tokens);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckFinite(const std::vector<Tensor>& outputs) {
  for (const Tensor& x : outputs) {
    // A sum of squares in doubles is finite if and only if all of them are.
    double sum = 0;
    for (int64_t i = 0; i < x.elements(); ++i) {
      sum += static_cast<double>(x.data<float>()[i]) * x.data<float>()[i];
    }
    if (!std::isfinite(sum)) {
      return absl::FailedPreconditionError(
          "it gives infinities or NaNs at this shape");
    }
  }
  return absl::OkStatus();
}

// Mneme's own products of bfloat16. What is to be differentiated is not, and
// who has a tolerance of its own multiplies as it likes.
bool IsInBf16(const Contender& contender, const Problem& problem) {
  return problem.phase != Phase::kBackward && contender.tolerance <= 0 &&
         problem.op->MultipliesBf16();
}

// Of outputs, or of gradients, of the shortened problem.
double ToleranceOf(const Contender& contender, const Problem& problem) {
  const VariantDescriptor& d = problem.variant->descriptor;
  const bool backward = problem.phase == Phase::kBackward;
  double tolerance = contender.tolerance;
  if (tolerance <= 0) {
    tolerance = backward && problem.op->MultipliesBf16()
                    ? d.tolerance
                    : ToleranceUnder(d, problem.options);
  }
  tolerance *= IsInBf16(contender, problem) ? kBf16Slack : kOracleSlack;
  return backward ? std::max(kGradientTolerance, kGradientSlack * tolerance)
                  : tolerance;
}

// All that the workload computed, with the operator's own in float64: far from
// the beginning, where no loop for every sum gets to in time.
absl::Status CompareWhole(const Contender& contender,
                          const std::vector<Tensor>& outputs, double tolerance,
                          Oracle* oracle) {
  if (!oracle->WholeForm()) return absl::OkStatus();
  const absl::StatusOr<Oracle::Results>& expected = oracle->ResultsOfWhole();
  if (!expected.ok()) return expected.status();
  // Roundings of a long recurrence add up like the steps of a random walk. To
  // bfloat16 every number is rounded once, and sums are not.
  const Problem& problem = oracle->problem();
  const double lengths =
      static_cast<double>(problem.dims.length) / kCheckedTokens;
  if (!IsInBf16(contender, problem)) {
    tolerance *= std::sqrt(std::max(1.0, lengths));
  }
  return Compare(problem, outputs, *expected, tolerance, " at this shape");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Workload>> MakeChecked(
    const Contender& contender, Oracle* oracle) {
  const Problem& problem = oracle->problem();
  if (problem.phase == Phase::kTrain) {
    absl::StatusOr<std::unique_ptr<Workload>> workload =
        contender.make(problem);
    if (!workload.ok()) return workload;
    if (absl::Status s = (*workload)->Run(); !s.ok()) return s;
    return workload;
  }
  const double tolerance = ToleranceOf(contender, problem);
  const Problem& shortened = oracle->shortened();
  {
    absl::StatusOr<std::unique_ptr<Workload>> small = contender.make(shortened);
    if (!small.ok()) return small;
    if (absl::Status s = (*small)->Run(); !s.ok()) return s;
    const absl::StatusOr<Oracle::Results>& expected =
        oracle->ResultsOfShortened();
    if (!expected.ok()) return expected.status();
    if (absl::Status s =
            Compare(shortened, (*small)->Outputs(), *expected, tolerance, "");
        !s.ok()) {
      return s;
    }
  }
  absl::StatusOr<std::unique_ptr<Workload>> workload = contender.make(problem);
  if (!workload.ok()) return workload;
  if (absl::Status s = (*workload)->Run(); !s.ok()) return s;
  const std::vector<Tensor> outputs = (*workload)->Outputs();
  if (absl::Status s = CheckFinite(outputs); !s.ok()) return s;
  if (problem.phase == Phase::kPrefill && StartsAlike(problem)) {
    const std::vector<Tensor> first = {
        FirstTokens(outputs[0], shortened.dims.length)};
    if (absl::Status s = Compare(problem, first, *oracle->ResultsOfShortened(),
                                 tolerance, " at this shape");
        !s.ok()) {
      return s;
    }
  }
  if (problem.dims.batch > 1 || problem.dims.length > kCheckedTokens) {
    if (absl::Status s = CompareWhole(contender, outputs, tolerance, oracle);
        !s.ok()) {
      return s;
    }
  }
  return workload;
}

}  // namespace mneme
