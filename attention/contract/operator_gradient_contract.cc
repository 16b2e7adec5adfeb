// SPDX-License-Identifier: Apache-2.0
//
// What every operator's Backward must prove: it equals central differences in
// every form, with and without threads, adds to what is there, leaves out what
// nobody wants, and keeps its accuracy in float32.

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/contract/operator_cases.h"
#include "attention/kernels/parallel.h"

namespace mneme::contract {
namespace {

// Gradients of sum(output * d_output), added to what `gradients` holds. Fatal
// if there are none: what follows would be noise, and is left out.
void Backward(const Operator& op, const std::vector<Tensor>& inputs, Form form,
              const Tensor& d_output, const std::vector<Tensor>& gradients,
              kernels::ThreadPool* pool = nullptr) {
  if (testing::Test::HasFatalFailure()) return;
  Evaluation run(inputs, form);
  run.call.keep = true;
  run.call.pool = pool;
  run(op);
  const absl::Status status = op.Backward(run.call, d_output, gradients);
  ASSERT_TRUE(status.ok()) << status;
}

std::vector<Tensor> ZerosLike(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> zeros;
  for (const Tensor& x : inputs) zeros.emplace_back(x.dtype(), x.shape());
  return zeros;
}

TEST(OperatorContract, BackwardEqualsCentralDifferences) {
  kernels::ThreadPool pool(3);
  ForEachCase([&](const Variant&, const Operator& op, const Dims& dims) {
    if (dims.heads == 4 && dims.length > kChunk + 1) return;  // others suffice
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat64, 5);
    const Tensor d_output =
        RandomTensor(DType::kFloat64,
                     {dims.batch, dims.length, dims.heads, dims.value_dim}, 6);
    const auto loss = [&]() {
      const Tensor y = Forward(op, inputs, Form::kParallel);
      double sum = 0;
      for (int64_t i = 0; i < y.elements(); ++i) {
        sum += y.data<double>()[i] * d_output.data<double>()[i];
      }
      return sum;
    };
    for (Form form : kForms) {
      const auto gradients = ZerosLike(inputs), again = ZerosLike(inputs);
      Backward(op, inputs, form, d_output, gradients);
      Backward(op, inputs, form, d_output, again, &pool);
      for (size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_TRUE(BitEqual(gradients[i], again[i])) << "repeated on threads";
        ExpectGradient(inputs[i], gradients[i], /*entries=*/40, loss,
                       absl::StrCat(op.Inputs()[i].name, ", ", FormName(form)));
      }
    }
  });
}

TEST(OperatorContract, BackwardAddsToWhatIsThereAndSkipsWhatIsUnwanted) {
  ForEachCase([](const Variant&, const Operator& op, const Dims& dims) {
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat64, 5);
    const Tensor d_output =
        RandomTensor(DType::kFloat64,
                     {dims.batch, dims.length, dims.heads, dims.value_dim}, 6);
    const auto plain = ZerosLike(inputs);
    Backward(op, inputs, Form::kChunked, d_output, plain);
    std::vector<Tensor> onto;
    for (const Tensor& x : inputs) {
      onto.push_back(RandomTensor(DType::kFloat64, x.shape(), 11));
    }
    Backward(op, inputs, Form::kChunked, d_output, onto);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor before =
          RandomTensor(DType::kFloat64, inputs[i].shape(), 11);
      for (int64_t j = 0; j < before.elements(); ++j) {
        ASSERT_NEAR(onto[i].data<double>()[j] - before.data<double>()[j],
                    plain[i].data<double>()[j],
                    1e-10 * (1 + std::abs(plain[i].data<double>()[j])))
            << op.Inputs()[i].name;
      }
    }
    for (size_t skip = 0; skip < inputs.size(); ++skip) {
      auto some = ZerosLike(inputs);
      some[skip] = Tensor();
      Backward(op, inputs, Form::kChunked, d_output, some);
      for (size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_TRUE(i == skip || BitEqual(some[i], plain[i]))
            << op.Inputs()[i].name << " without " << op.Inputs()[skip].name;
      }
    }
  });
}

void ExpectFloat32BackwardNearFloat64(const Variant& variant,
                                      const Operator& op, const Dims& dims) {
  const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 7);
  const Tensor d_output =
      RandomTensor(DType::kFloat32,
                   {dims.batch, dims.length, dims.heads, dims.value_dim}, 8);
  std::vector<Tensor> results[2];
  for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
    std::vector<Tensor> cast;
    for (const Tensor& x : inputs) cast.push_back(x.Cast(dtype));
    Evaluation run(cast, Form::kChunked);
    run.call.keep = true;
    run(op);
    std::vector<Tensor>& gradients = results[dtype == DType::kFloat64];
    for (const Tensor& x : inputs) gradients.emplace_back(dtype, x.shape());
    const absl::Status status =
        op.Backward(run.call, d_output.Cast(dtype), gradients);
    ASSERT_TRUE(status.ok()) << status;
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    // A backward chains about three forward-sized sums.
    EXPECT_LE(RelativeError(results[0][i], results[1][i]),
              10 * variant.descriptor.tolerance)
        << op.Inputs()[i].name;
  }
}

TEST(OperatorContract, Float32BackwardIsNearFloat64OnEverySimdTarget) {
  OnEverySimdTarget([] { ForEachCase(ExpectFloat32BackwardNearFloat64); });
}

}  // namespace
}  // namespace mneme::contract
