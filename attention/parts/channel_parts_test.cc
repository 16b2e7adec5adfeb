// SPDX-License-Identifier: Apache-2.0
//
// Scans whose channels threads share, with more channels than one part has and
// fewer sequences than threads: results are those of one thread, to the last
// bit, also where states are kept for the backward or continued; and those of
// the definition. Gradients that parts share are the sums of all.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using Results = std::vector<std::vector<double>>;

class ChannelParts : public testing::TestWithParam<std::string> {
 protected:
  ChannelParts() {
    const Variant& variant = **Variants().Find(GetParam());
    op_ =
        *variant.make_operator(*Options::Parse(variant.descriptor.options, {}));
    dims_.batch = 2;
    dims_.length = 37;
    dims_.heads = dims_.kv_heads = 5;
    dims_.key_dim = 3;
    dims_.value_dim = 61;
    inputs_ = RandomInputs(op_->Inputs(), dims_, DType::kFloat64, 1);
  }

  OperatorCall Call(kernels::ThreadPool* pool) const {
    OperatorCall call;
    call.inputs = inputs_;
    call.pool = pool;
    return call;
  }

  // Output and gradients; then output and state of a call with a state.
  Results Run(kernels::ThreadPool* pool) const {
    Results results;
    OperatorCall call = Call(pool);
    call.keep = true;
    EXPECT_TRUE(RunOperator(*op_, &call).ok());
    results.push_back(call.output.ToDoubles());
    std::vector<Tensor> gradients;
    for (const Tensor& input : inputs_) {
      gradients.emplace_back(DType::kFloat64, input.shape());
    }
    EXPECT_TRUE(op_->Backward(call, call.output, gradients).ok());
    for (const Tensor& d : gradients) results.push_back(d.ToDoubles());

    OperatorCall streamed = Call(pool);
    const auto state = op_->NewState(dims_, DType::kFloat64);
    streamed.state = state.get();
    EXPECT_TRUE(RunOperator(*op_, &streamed).ok());
    results.push_back(streamed.output.ToDoubles());
    const auto& tensor = static_cast<DenseState*>(state.get())->tensor();
    results.push_back(tensor.ToDoubles());
    return results;
  }

  std::unique_ptr<Operator> op_;
  Dims dims_;
  std::vector<Tensor> inputs_;
};

TEST_P(ChannelParts, ChangeNoResult) {
  const Results alone = Run(nullptr);
  kernels::ThreadPool three(3);
  EXPECT_EQ(Run(&three), alone);

  OperatorCall reference = Call(nullptr);
  reference.dims = dims_;
  reference.output = Tensor(DType::kFloat64, Shape({2, 37, 5, 61}));
  ASSERT_TRUE(op_->Reference(reference).ok());
  const std::vector<double> expected = reference.output.ToDoubles();
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(alone[0][i], expected[i], 1e-11) << i;
  }
}

// Of half the sum of squares of the outputs, along a direction of all inputs.
TEST_P(ChannelParts, GradientsAddUp) {
  const Results results = Run(nullptr);  // output, gradients by input, ...
  const std::vector<Tensor> at = inputs_;
  const std::vector<Tensor> direction =
      RandomInputs(op_->Inputs(), dims_, DType::kFloat64, 2);
  const auto loss = [&](double step) {
    for (size_t i = 0; i < at.size(); ++i) {
      inputs_[i] = Tensor(DType::kFloat64, at[i].shape());
      for (int64_t j = 0; j < at[i].elements(); ++j) {
        inputs_[i].data<double>()[j] =
            at[i].data<double>()[j] + step * direction[i].data<double>()[j];
      }
    }
    OperatorCall call = Call(nullptr);
    EXPECT_TRUE(RunOperator(*op_, &call).ok());
    double sum = 0;
    for (double y : call.output.ToDoubles()) sum += y * y / 2;
    return sum;
  };
  double expected = 0;
  for (size_t i = 0; i < at.size(); ++i) {
    for (int64_t j = 0; j < at[i].elements(); ++j) {
      expected += results[1 + i][j] * direction[i].data<double>()[j];
    }
  }
  constexpr double kStep = 1e-6;
  const double difference = (loss(kStep) - loss(-kStep)) / (2 * kStep);
  EXPECT_NEAR(difference, expected, 1e-6 * std::abs(expected));
}

INSTANTIATE_TEST_SUITE_P(Scans, ChannelParts,
                         testing::Values("mamba", "rwkv4"));

}  // namespace
}  // namespace mneme
