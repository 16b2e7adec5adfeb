// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/oracle_check.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/tensor/random.h"
#include "harness/throughput/problem.h"
#include "harness/throughput/problem_cost.h"

namespace mneme {
namespace {

// Of central differences of sums of thousands of terms, in float64.
constexpr double kStep = 1e-6;
constexpr double kDifferenceTolerance = 1e-5;

// What float64 does in a few seconds, and in how much memory.
constexpr double kMostFlops = 1e11;
constexpr double kMostBytes = 1e9;

// Gradients that are smaller throughout drown in the rounding of others.
constexpr double kSmallestGradient = 1e-2;

std::vector<Tensor> InDoubles(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> doubles;
  for (const Tensor& x : tensors) doubles.push_back(x.Cast(DType::kFloat64));
  return doubles;
}

// The output for these inputs, in float64: by the oracle, or by the operator.
using OutputFunction =
    absl::StatusOr<Tensor>(const Problem&, const std::vector<Tensor>& inputs);

absl::StatusOr<Tensor> Reference(const Problem& problem,
                                 const std::vector<Tensor>& inputs) {
  OperatorCall call;
  call.inputs = inputs;
  absl::StatusOr<Dims> dims = InferDims(problem.op->Inputs(), inputs);
  if (!dims.ok()) return dims.status();
  call.dims = *dims;
  call.form = problem.form;
  call.output = Tensor(DType::kFloat64, {dims->batch, dims->length, dims->heads,
                                         dims->value_dim});
  if (absl::Status s = problem.op->Reference(call); !s.ok()) return s;
  return call.output;
}

OperatorCall CallOf(const Problem& problem, const std::vector<Tensor>& inputs) {
  OperatorCall call;
  call.inputs = inputs;
  call.form = problem.form;
  call.pool = problem.pool;
  return call;
}

absl::StatusOr<Tensor> Forward(const Problem& problem,
                               const std::vector<Tensor>& inputs) {
  OperatorCall call = CallOf(problem, inputs);
  if (absl::Status s = RunOperator(*problem.op, &call); !s.ok()) return s;
  return call.output;
}

// [a, b] along tokens.
Tensor Joined(const Tensor& a, const Tensor& b) {
  std::vector<int64_t> sizes(a.shape().dims().begin(), a.shape().dims().end());
  sizes[1] += b.dim(1);
  Tensor joined(a.dtype(), Shape(sizes));
  const int64_t of_a = a.elements() / a.dim(0), of_b = b.elements() / b.dim(0);
  double* to = joined.data<double>();
  for (int64_t sequence = 0; sequence < a.dim(0); ++sequence) {
    to = std::copy_n(a.data<double>() + sequence * of_a, of_a, to);
    to = std::copy_n(b.data<double>() + sequence * of_b, of_b, to);
  }
  return joined;
}

// The last token of each sequence, of [batch, length, heads, dim].
Tensor LastTokens(const Tensor& x) {
  Tensor last(x.dtype(), {x.dim(0), 1, x.dim(2), x.dim(3)});
  const int64_t row = x.dim(2) * x.dim(3);
  for (int64_t sequence = 0; sequence < x.dim(0); ++sequence) {
    const int64_t token = (sequence + 1) * x.dim(1) - 1;
    std::copy_n(x.data<double>() + token * row, row,
                last.data<double>() + sequence * row);
  }
  return last;
}

// What the workload has to give.
absl::StatusOr<Tensor> ExpectedOutput(const Problem& problem,
                                      OutputFunction* output) {
  std::vector<Tensor> inputs = InDoubles(problem.inputs);
  if (problem.phase != Phase::kDecode) return output(problem, inputs);
  const std::vector<InputSpec> specs = problem.op->Inputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (specs[i].axes.substr(0, 2) != "BL") continue;
    inputs[i] = Joined(inputs[i], problem.step[i].Cast(DType::kFloat64));
  }
  absl::StatusOr<Tensor> whole = output(problem, inputs);
  if (!whole.ok()) return whole;
  return LastTokens(*whole);
}

// Errors count in parts of the largest value, or of `floor` if that is less.
absl::Status CompareOutput(const Tensor& actual, const Tensor& oracle,
                           double tolerance, absl::string_view what,
                           double floor = 1) {
  if (actual.elements() != oracle.elements()) {
    return absl::FailedPreconditionError(
        absl::StrCat("its output has shape ", actual.shape().ToString(),
                     ", the oracle's ", oracle.shape().ToString()));
  }
  const double* e = oracle.data<double>();
  double largest = floor, error = 0;
  for (int64_t i = 0; i < oracle.elements(); ++i) {
    largest = std::max(largest, std::abs(e[i]));
    const double difference = std::abs(actual.data<float>()[i] - e[i]);
    // Also catches NaN.
    if (!(difference <= error)) error = difference;
  }
  error /= largest;
  if (error <= tolerance) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("%s differs from that in float64 by %.2g of its largest "
                      "value; %.2g is allowed",
                      what, error, tolerance));
}

// What the operator itself says in float64.
absl::StatusOr<std::vector<Tensor>> GradientsInDoubles(
    const Problem& problem, const std::vector<Tensor>& inputs,
    const Tensor& d_output) {
  OperatorCall call = CallOf(problem, inputs);
  call.keep = true;
  if (absl::Status s = RunOperator(*problem.op, &call); !s.ok()) return s;
  std::vector<Tensor> gradients;
  for (const Tensor& x : inputs) {
    gradients.emplace_back(DType::kFloat64, x.shape());
  }
  const absl::Status status = problem.op->Backward(call, d_output, gradients);
  if (!status.ok()) return status;
  return gradients;
}

double Dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    sum += a.data<double>()[i] * b.data<double>()[i];
  }
  return sum;
}

// A direction with entries of about the size of x's, so that each step stays in
// the domain of the input: no log decay becomes positive.
Tensor Direction(const Tensor& x, int64_t index) {
  Tensor direction = x.Clone();
  Random random(/*seed=*/0, StreamId("throughput directions"), index);
  double* values = direction.data<double>();
  for (int64_t i = 0; i < direction.elements(); ++i) {
    values[i] *= random.Normal();
  }
  return direction;
}

// Entry by entry, with those of the operator itself, which are returned.
absl::StatusOr<std::vector<Tensor>> CompareGradients(
    const Problem& problem, const std::vector<Tensor>& gradients,
    double tolerance) {
  const std::vector<InputSpec> specs = problem.op->Inputs();
  if (gradients.size() != specs.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("it has ", gradients.size(), " gradients, the operator ",
                     specs.size(), " inputs"));
  }
  absl::StatusOr<std::vector<Tensor>> expected =
      GradientsInDoubles(problem, InDoubles(problem.inputs),
                         problem.d_output.Cast(DType::kFloat64));
  if (!expected.ok()) return expected;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (absl::Status s = CompareOutput(
            gradients[i], (*expected)[i], tolerance,
            absl::StrCat("its gradient of ", specs[i].name), kSmallestGradient);
        !s.ok()) {
      return s;
    }
  }
  return expected;
}

// The operator's own gradients in float64, with the differences of its oracle.
absl::Status CheckDerivatives(const Problem& problem,
                              const std::vector<Tensor>& gradients) {
  const std::vector<InputSpec> specs = problem.op->Inputs();
  const std::vector<Tensor> inputs = InDoubles(problem.inputs);
  const Tensor d_output = problem.d_output.Cast(DType::kFloat64);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& gradient = gradients[i];
    const Tensor direction = Direction(inputs[i], static_cast<int64_t>(i));
    double side[2];
    for (int s : {0, 1}) {
      std::vector<Tensor> moved = inputs;
      moved[i] = inputs[i].Clone();
      for (int64_t j = 0; j < moved[i].elements(); ++j) {
        moved[i].data<double>()[j] +=
            (s == 0 ? kStep : -kStep) * direction.data<double>()[j];
      }
      const absl::StatusOr<Tensor> output = Reference(problem, moved);
      if (!output.ok()) return output.status();
      side[s] = Dot(*output, d_output);
    }
    const double numeric = (side[0] - side[1]) / (2 * kStep);
    // What errors of all entries, alike relative to the gradient's length,
    // would make of the product.
    const double scale =
        std::abs(numeric) +
        std::sqrt(Dot(gradient, gradient) * Dot(direction, direction) /
                  std::max<double>(1, gradient.elements()));
    const double error =
        std::abs(Dot(gradient, direction) - numeric) / std::max(scale, 1e-30);
    if (!(error <= kDifferenceTolerance)) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "the operator's gradient of %s differs from the differences of its "
          "oracle by %.2g; %.2g is allowed",
          specs[i].name, error, kDifferenceTolerance));
    }
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

// All of an output, or of gradients, with the operator's own in float64: far
// from the beginning, where no loop for every sum gets to in time. Roundings of
// a long recurrence add up like the steps of a random walk. What the operator
// does wrong in float64 as well only the shortened problem shows.
absl::Status CompareWithDoubles(const Problem& problem,
                                const std::vector<Tensor>& outputs,
                                double tolerance, double gradient_tolerance) {
  Problem whole = problem;
  if (problem.phase == Phase::kDecode) whole.phase = Phase::kPrefill;
  constexpr double kSizes = sizeof(double) / sizeof(float);
  if (CostOf(whole).flops > kMostFlops ||
      kSizes * WorkingSet(whole) > kMostBytes) {
    return absl::OkStatus();
  }
  const Dims& dims = problem.dims;
  const double growth = std::sqrt(
      std::max(1.0, static_cast<double>(dims.length) / kCheckedTokens));
  if (problem.phase == Phase::kBackward) {
    return CompareGradients(problem, outputs, growth * gradient_tolerance)
        .status();
  }
  const absl::StatusOr<Tensor> expected = ExpectedOutput(problem, Forward);
  if (!expected.ok()) return expected.status();
  return CompareOutput(outputs[0], *expected, growth * tolerance,
                       "its output at this shape");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Workload>> MakeChecked(
    const Contender& contender, const Problem& problem) {
  if (problem.phase == Phase::kTrain) {
    absl::StatusOr<std::unique_ptr<Workload>> workload =
        contender.make(problem);
    if (!workload.ok()) return workload;
    if (absl::Status s = (*workload)->Run(); !s.ok()) return s;
    return workload;
  }
  const double tolerance =
      kOracleSlack *
      (contender.tolerance > 0
           ? contender.tolerance
           : ToleranceUnder(problem.variant->descriptor, problem.options));
  const double gradient_tolerance =
      std::max(kGradientTolerance, kGradientSlack * tolerance);
  const Problem shortened = Shortened(problem);
  Tensor oracle;
  {
    absl::StatusOr<std::unique_ptr<Workload>> small = contender.make(shortened);
    if (!small.ok()) return small;
    if (absl::Status s = (*small)->Run(); !s.ok()) return s;
    if (problem.phase == Phase::kBackward) {
      const absl::StatusOr<std::vector<Tensor>> gradients =
          CompareGradients(shortened, (*small)->Outputs(), gradient_tolerance);
      if (!gradients.ok()) return gradients.status();
      if (absl::Status s = CheckDerivatives(shortened, *gradients); !s.ok()) {
        return s;
      }
    } else {
      absl::StatusOr<Tensor> expected = ExpectedOutput(shortened, Reference);
      if (!expected.ok()) return expected.status();
      oracle = *expected;
      if (absl::Status s = CompareOutput((*small)->Outputs()[0], oracle,
                                         tolerance, "its output");
          !s.ok()) {
        return s;
      }
    }
  }
  absl::StatusOr<std::unique_ptr<Workload>> workload = contender.make(problem);
  if (!workload.ok()) return workload;
  if (absl::Status s = (*workload)->Run(); !s.ok()) return s;
  const std::vector<Tensor> outputs = (*workload)->Outputs();
  if (absl::Status s = CheckFinite(outputs); !s.ok()) return s;
  if (problem.phase == Phase::kPrefill && StartsAlike(problem)) {
    if (absl::Status s =
            CompareOutput(FirstTokens(outputs[0], shortened.dims.length),
                          oracle, tolerance, "the beginning of its output");
        !s.ok()) {
      return s;
    }
  }
  if (problem.dims.batch > 1 || problem.dims.length > kCheckedTokens) {
    if (absl::Status s =
            CompareWithDoubles(problem, outputs, tolerance, gradient_tolerance);
        !s.ok()) {
      return s;
    }
  }
  return workload;
}

}  // namespace mneme
