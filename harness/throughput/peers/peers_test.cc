// SPDX-License-Identifier: Apache-2.0

// Each peer that is linked in computes what the variant's oracle says. The
// lengths are beside the peers' blocks, and there are fewer heads of keys than
// of queries where the variant knows that.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/kernels/parallel.h"
#include "attention/operator.h"
#include "attention/variant.h"
#include "gtest/gtest.h"
#include "harness/throughput/contender.h"

namespace mneme {
namespace {

// Rows [first, first + count) of axis 1.
Tensor Tokens(const Tensor& x, int64_t first, int64_t count) {
  const int64_t row = x.elements() / (x.dim(0) * x.dim(1));
  std::vector<float> values;
  for (int64_t b = 0; b < x.dim(0); ++b) {
    const float* from = x.data<float>() + (b * x.dim(1) + first) * row;
    values.insert(values.end(), from, from + count * row);
  }
  return Tensor::FromValues<float>({x.dim(0), count, x.dim(2), x.dim(3)},
                                   values);
}

// What a variant's float64 oracle makes of float32 inputs.
Tensor Expected(const Operator& op, const std::vector<Tensor>& inputs,
                const Dims& dims) {
  std::vector<Tensor> wide;
  for (const Tensor& input : inputs)
    wide.push_back(input.Cast(DType::kFloat64));
  OperatorCall call;
  call.inputs = wide;
  call.dims = dims;
  call.output = Tensor(DType::kFloat64,
                       {dims.batch, dims.length, dims.heads, dims.value_dim});
  EXPECT_TRUE(op.Reference(call).ok());
  return call.output.Cast(DType::kFloat32);
}

// What the operator itself makes of the gradients in float64; that they are
// right is for its contract test.
std::vector<Tensor> ExpectedGradients(const Operator& op,
                                      const std::vector<Tensor>& inputs,
                                      const Tensor& d_output) {
  std::vector<Tensor> wide, gradients;
  for (const Tensor& input : inputs) {
    wide.push_back(input.Cast(DType::kFloat64));
    gradients.emplace_back(DType::kFloat64, input.shape());
  }
  OperatorCall call;
  call.inputs = wide;
  call.keep = true;
  EXPECT_TRUE(RunOperator(op, &call).ok());
  EXPECT_TRUE(
      op.Backward(call, d_output.Cast(DType::kFloat64), gradients).ok());
  for (Tensor& gradient : gradients) gradient = gradient.Cast(DType::kFloat32);
  return gradients;
}

void ExpectNear(const Tensor& expected, const Tensor& actual,
                const Contender& contender) {
  ASSERT_EQ(actual.shape(), expected.shape());
  double worst = 0;
  for (int64_t i = 0; i < actual.elements(); ++i) {
    const double e = expected.data<float>()[i], a = actual.data<float>()[i];
    const double error = std::abs(a - e) / std::max(std::abs(e), 1.0);
    if (!(error <= worst)) worst = error;
  }
  EXPECT_LE(worst, contender.tolerance) << contender.name;
}

int Check(const std::string& variant, Phase phase, Dims dims,
          kernels::ThreadPool* pool) {
  Problem problem;
  problem.phase = phase;
  problem.variant = *Variants().Find(variant);
  problem.options = *Options::Parse(problem.variant->descriptor.options);
  const std::unique_ptr<Operator> op =
      *problem.variant->make_operator(problem.options);
  problem.op = op.get();
  problem.pool = pool;
  std::vector<Tensor> inputs =
      RandomInputs(op->Inputs(), dims, DType::kFloat32, /*seed=*/dims.length);
  std::vector<Tensor> expected = {Expected(*op, inputs, dims)};
  problem.dims = dims;
  if (phase == Phase::kBackward) {
    problem.inputs = inputs;
    problem.d_output =
        RandomInputs({{"d_o", "BLHV", ""}}, dims, DType::kFloat32, 1)[0];
    expected = ExpectedGradients(*op, inputs, problem.d_output);
  } else if (phase == Phase::kDecode) {
    const int64_t context = --problem.dims.length;
    for (const Tensor& input : inputs) {
      problem.step.push_back(Tokens(input, context, 1));
      problem.inputs.push_back(Tokens(input, 0, context));
    }
    expected = {Tokens(expected[0], context, 1)};
  } else {
    problem.inputs = inputs;
  }

  const std::vector<const Contender*> contenders = ContendersOf(variant, phase);
  for (const Contender* contender : contenders) {
    const auto workload = contender->make(problem);
    if (!workload.ok()) {
      ADD_FAILURE() << contender->name << ": " << workload.status();
      continue;
    }
    if (phase == Phase::kBackward) {
      // What gradients are added to is made anew outside of what is timed.
      EXPECT_GT((*workload)->RunsBeforeRewind(), 0) << contender->name;
    }
    // Once more, on what the first run left behind.
    for (int i = 0; i < 2; ++i) {
      if (i > 0 && (*workload)->RunsBeforeRewind() > 0) {
        const absl::Status status = (*workload)->Rewind();
        EXPECT_TRUE(status.ok()) << contender->name << ": " << status;
      }
      const absl::Status status = (*workload)->Run();
      EXPECT_TRUE(status.ok()) << contender->name << ": " << status;
      const std::vector<Tensor> outputs = (*workload)->Outputs();
      EXPECT_EQ(outputs.size(), expected.size()) << contender->name;
      for (size_t j = 0; j < std::min(outputs.size(), expected.size()); ++j) {
        ExpectNear(expected[j], outputs[j], *contender);
      }
    }
  }
  return contenders.size();
}

Dims SizesOf(int64_t length, int64_t heads, int64_t kv_heads) {
  Dims dims;
  dims.batch = 2;
  dims.length = length;
  dims.heads = heads;
  dims.kv_heads = kv_heads;
  dims.key_dim = 24;
  dims.value_dim = 17;
  return dims;
}

class PeersTest : public testing::TestWithParam<int64_t> {};

TEST_P(PeersTest, SoftmaxAttention) {
  kernels::ThreadPool pool(2);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    for (const int64_t kv_heads : {1, 2, 4}) {
      const Dims dims = SizesOf(GetParam(), 4, kv_heads);
      EXPECT_GT(Check("softmax", phase, dims, nullptr), 0);
      EXPECT_GT(Check("softmax", phase, dims, &pool), 0);
    }
  }
}

TEST_P(PeersTest, GradientsOfSoftmaxAttention) {
  kernels::ThreadPool pool(2);
  for (const int64_t kv_heads : {1, 4}) {
    Dims dims = SizesOf(GetParam(), 4, kv_heads);
    const int contenders = Check("softmax", Phase::kBackward, dims, nullptr);
    EXPECT_GT(contenders, 0);
    EXPECT_EQ(Check("softmax", Phase::kBackward, dims, &pool), contenders);
    // Products that are alike in all but what they are scaled by.
    dims.value_dim = dims.key_dim;
    EXPECT_EQ(Check("softmax", Phase::kBackward, dims, nullptr), contenders);
  }
}

// Of keys as well as of queries.
TEST(GradientPeersTest, OverSeveralTiles) {
  kernels::ThreadPool pool(2);
  const Dims dims = SizesOf(1100, 4, 2);
  EXPECT_GT(Check("softmax", Phase::kBackward, dims, nullptr), 0);
  EXPECT_GT(Check("softmax", Phase::kBackward, dims, &pool), 0);
}

TEST_P(PeersTest, LinearAttention) {
  kernels::ThreadPool pool(2);
  const Dims dims = SizesOf(GetParam(), 3, 3);
  EXPECT_GT(Check("linear", Phase::kPrefill, dims, nullptr), 0);
  EXPECT_GT(Check("linear", Phase::kPrefill, dims, &pool), 0);
}

INSTANTIATE_TEST_SUITE_P(Lengths, PeersTest,
                         testing::Values(2, 63, 128, 129, 300));

}  // namespace
}  // namespace mneme
