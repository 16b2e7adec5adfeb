// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/problem.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "attention/tensor/random.h"

namespace mneme {
namespace {

constexpr uint64_t kSeed = 0;

bool PerToken(const InputSpec& spec) { return spec.axes.substr(0, 2) == "BL"; }

bool IsOwn(char axis) {
  return std::string("BLHGKV").find(axis) == std::string::npos;
}

// The tokens of x, over and over again, as many as `length`.
Tensor Repeated(const Tensor& x, int64_t length) {
  std::vector<int64_t> sizes(x.shape().dims().begin(), x.shape().dims().end());
  const int64_t drawn = sizes[1];
  sizes[1] = length;
  Tensor y(x.dtype(), Shape(sizes));
  const size_t row = x.bytes() / (sizes[0] * drawn);
  for (int64_t b = 0; b < sizes[0]; ++b) {
    const char* from = static_cast<const char*>(x.raw()) + b * drawn * row;
    char* to = static_cast<char*>(y.raw()) + b * length * row;
    for (int64_t t = 0; t < length; t += drawn) {
      std::memcpy(to + t * row, from, std::min(drawn, length - t) * row);
    }
  }
  return y;
}

std::vector<Tensor> Inputs(const Operator& op, const Dims& dims) {
  const std::vector<InputSpec> specs = op.Inputs();
  Dims drawn = dims;
  drawn.length = std::min(dims.length, kDrawnTokens);
  std::vector<Tensor> inputs =
      RandomInputs(specs, drawn, DType::kFloat32, kSeed);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (PerToken(specs[i]) && drawn.length != dims.length) {
      inputs[i] = Repeated(inputs[i], dims.length);
    }
  }
  return inputs;
}

Tensor Normal(const Shape& shape) {
  Tensor x(DType::kFloat32, shape);
  Random random(kSeed, StreamId("throughput"));
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.data<float>()[i] = static_cast<float>(random.Normal());
  }
  return x;
}

// Fills in the arrays.
void Draw(Problem* problem) {
  const Operator& op = *problem->op;
  Dims& dims = problem->dims;
  Dims longest = dims;  // filters, say, must reach as far as decoding will
  if (problem->phase == Phase::kDecode) {
    longest.length += DecodedTokens(dims.length);
  }
  for (const InputSpec& spec : op.Inputs()) {
    for (const char axis : spec.axes) {
      if (IsOwn(axis)) dims.own[axis] = op.OwnAxis(axis, longest);
    }
  }
  problem->inputs = Inputs(op, dims);
  if (problem->phase == Phase::kDecode) {
    Dims one = dims;
    one.length = 1;
    problem->step = RandomInputs(op.Inputs(), one, DType::kFloat32, kSeed + 1);
    // Parameters of the mechanism are the same for all tokens.
    const std::vector<InputSpec> specs = op.Inputs();
    for (size_t i = 0; i < specs.size(); ++i) {
      if (!PerToken(specs[i])) problem->step[i] = problem->inputs[i];
    }
  }
  if (problem->phase == Phase::kBackward) {
    problem->d_output =
        Repeated(Normal({dims.batch, std::min(dims.length, kDrawnTokens),
                         dims.heads, dims.value_dim}),
                 dims.length);
  }
}

}  // namespace

Problem MakeProblem(Phase phase, const Variant& variant, const Options& options,
                    const Operator* op, Form form, const ThroughputShape& shape,
                    kernels::ThreadPool* pool) {
  Problem problem;
  problem.phase = phase;
  problem.variant = &variant;
  problem.options = options;
  problem.op = op;
  problem.form = form;
  problem.dims = {shape.batch,    shape.length,   shape.heads, shape.heads,
                  shape.head_dim, shape.head_dim, {}};
  problem.pool = pool;
  if (phase != Phase::kTrain) Draw(&problem);
  return problem;
}

OperatorCall CallOn(const Problem& problem, const std::vector<Tensor>& inputs) {
  OperatorCall call;
  call.inputs = inputs;
  call.form = problem.form;
  call.pool = problem.pool;
  return call;
}

int64_t DecodedTokens(int64_t context) {
  return std::max<int64_t>(1, context / 64);
}

bool StartsAlike(const Problem& problem) {
  if (!problem.variant->descriptor.causal) return false;
  for (const InputSpec& spec : problem.op->Inputs()) {
    if (spec.axes[0] == 'B' && !PerToken(spec)) return false;
    if (std::any_of(spec.axes.begin(), spec.axes.end(), IsOwn)) return false;
  }
  return true;
}

Tensor FirstTokens(const Tensor& x, int64_t tokens) {
  std::vector<int64_t> sizes(x.shape().dims().begin(), x.shape().dims().end());
  sizes[0] = 1;
  sizes[1] = tokens;
  return x.Slice(0, Shape(sizes)).Clone();
}

Problem Shortened(const Problem& problem) {
  Problem shortened = problem;
  Dims& dims = shortened.dims;
  dims.batch = 1;
  dims.length = std::min(dims.length, kCheckedTokens);
  if (!StartsAlike(problem)) {
    Draw(&shortened);
    return shortened;
  }
  const std::vector<InputSpec> specs = problem.op->Inputs();
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!PerToken(specs[i])) continue;
    shortened.inputs[i] = FirstTokens(problem.inputs[i], dims.length);
    if (!problem.step.empty()) {
      shortened.step[i] = FirstTokens(problem.step[i], 1);
    }
  }
  if (!problem.d_output.empty()) {
    shortened.d_output = FirstTokens(problem.d_output, dims.length);
  }
  return shortened;
}

}  // namespace mneme
