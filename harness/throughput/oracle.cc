// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/oracle.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "attention/tensor/random.h"
#include "harness/throughput/problem.h"
#include "harness/throughput/problem_cost.h"

namespace mneme {
namespace {

// Of central differences of sums of thousands of terms, in float64.
constexpr double kStep = 1e-6;
constexpr double kDifferenceTolerance = 1e-5;
// Of the largest that such a sum can be: its rounding, over the step, is this
// times the tolerance at most.
constexpr double kSmallestDifference = 1e-4;

// What float64 does in a few seconds, and in how much memory.
constexpr double kMostFlops = 1e11;
// Token by token: each goes through the whole of a state or a cache.
constexpr double kMostRecurrentFlops = kMostFlops / 8;
constexpr double kMostBytes = 1e9;

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

absl::StatusOr<Tensor> Forward(const Problem& problem,
                               const std::vector<Tensor>& inputs) {
  OperatorCall call = CallOn(problem, inputs);
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

// What the operator itself says in float64.
absl::StatusOr<std::vector<Tensor>> GradientsInDoubles(const Problem& problem) {
  const std::vector<Tensor> inputs = InDoubles(problem.inputs);
  const Tensor d_output = problem.d_output.Cast(DType::kFloat64);
  OperatorCall call = CallOn(problem, inputs);
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

// The operator's own gradients in float64, with the differences of its oracle.
absl::Status CheckDerivatives(const Problem& problem,
                              const std::vector<Tensor>& gradients) {
  const std::vector<InputSpec> specs = problem.op->Inputs();
  const std::vector<Tensor> inputs = InDoubles(problem.inputs);
  const Tensor d_output = problem.d_output.Cast(DType::kFloat64);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& gradient = gradients[i];
    const Tensor direction = Direction(inputs[i], static_cast<int64_t>(i));
    double side[2], largest = 0;
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
      largest = std::max(
          largest, std::sqrt(Dot(*output, *output) * Dot(d_output, d_output)));
    }
    const double numeric = (side[0] - side[1]) / (2 * kStep);
    // What errors of all entries, alike relative to the gradient's length,
    // would make of the product.
    const double scale =
        std::abs(numeric) + kSmallestDifference * largest +
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

absl::StatusOr<Oracle::Results> ShortenedResults(const Problem& problem) {
  if (problem.phase != Phase::kBackward) {
    absl::StatusOr<Tensor> output = ExpectedOutput(problem, Reference);
    if (!output.ok()) return output.status();
    return Oracle::Results{*output};
  }
  absl::StatusOr<Oracle::Results> gradients = GradientsInDoubles(problem);
  if (!gradients.ok()) return gradients;
  absl::Status status = CheckDerivatives(problem, *gradients);
  if (!status.ok()) return status;
  return gradients;
}

absl::StatusOr<Oracle::Results> WholeResults(const Problem& problem) {
  if (problem.phase == Phase::kBackward) return GradientsInDoubles(problem);
  absl::StatusOr<Tensor> output = ExpectedOutput(problem, Forward);
  if (!output.ok()) return output.status();
  return Oracle::Results{*output};
}

bool IsAffordable(const Problem& problem, Form form) {
  Problem whole = problem;
  whole.form = form;
  if (problem.phase == Phase::kDecode) whole.phase = Phase::kPrefill;
  constexpr double kSizes = sizeof(double) / sizeof(float);
  double bytes = kSizes * WorkingSet(whole);
  if (form == Form::kParallel) {
    // Scores, their weights and the gradients of both, of a head a thread.
    const int64_t threads = problem.pool ? problem.pool->threads() : 1;
    const auto heads = static_cast<double>(
        std::min(threads, problem.dims.batch * problem.dims.heads));
    const auto length = static_cast<double>(problem.dims.length);
    bytes += heads * 4 * sizeof(double) * length * length;
  }
  const double most =
      form == Form::kRecurrent ? kMostRecurrentFlops : kMostFlops;
  return CostOf(whole).flops <= most && bytes <= kMostBytes;
}

}  // namespace

Oracle::Oracle(const Problem& problem) : problem_(problem) {}

const Problem& Oracle::shortened() {
  if (!shortened_) shortened_ = Shortened(problem_);
  return *shortened_;
}

const absl::StatusOr<Oracle::Results>& Oracle::ResultsOfShortened() {
  if (!of_shortened_) of_shortened_ = ShortenedResults(shortened());
  return *of_shortened_;
}

const absl::StatusOr<Oracle::Results>& Oracle::ResultsOfWhole() {
  if (of_whole_) return *of_whole_;
  Problem problem = problem_;
  problem.form = *WholeForm();
  of_whole_ = WholeResults(problem);
  return *of_whole_;
}

int64_t Oracle::Bytes() const {
  int64_t bytes = 0;
  if (shortened_) {
    for (size_t i = 0; i < shortened_->inputs.size(); ++i) {
      const Tensor& x = shortened_->inputs[i];
      if (x.raw() != problem_.inputs[i].raw()) bytes += x.bytes();
    }
    bytes += shortened_->d_output.bytes();
  }
  for (const auto* results : {&of_shortened_, &of_whole_}) {
    if (!*results || !(*results)->ok()) continue;
    for (const Tensor& x : ***results) bytes += x.bytes();
  }
  return bytes;
}

absl::optional<Form> Oracle::WholeForm() const {
  Form other, own = problem_.form;
  if (problem_.phase == Phase::kDecode) {
    other = Form::kParallel;
    own = Form::kChunked;
  } else {
    // A backward that takes one token at a time may keep the states of all.
    const Form farthest =
        problem_.phase == Phase::kBackward ? Form::kParallel : Form::kRecurrent;
    other = own == farthest ? Form::kChunked : farthest;
  }
  for (const Form form : {other, own}) {
    if (IsAffordable(problem_, form)) return form;
  }
  return absl::nullopt;
}

}  // namespace mneme
