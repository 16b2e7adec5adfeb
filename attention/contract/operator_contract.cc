// SPDX-License-Identifier: Apache-2.0
//
// What every operator must prove: one function in all forms, equal to its
// oracle; decoding that continues a prefill; no look at the future; gradients
// equal to central differences; a state of exactly the declared bytes; and sane
// behaviour on denormal, huge and non-finite numbers.

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/contract/contract_util.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {
namespace {

constexpr Form kForms[] = {Form::kParallel, Form::kChunked, Form::kRecurrent};

// Sizes with nothing in common, grouped heads where the operator has them.
std::vector<Dims> SizesToTry(const Operator& op, int64_t length) {
  bool grouped = false;
  for (const InputSpec& spec : op.Inputs()) {
    grouped = grouped || spec.axes.find('G') != std::string::npos;
  }
  std::vector<Dims> sizes = {{1, length, 1, 1, 4, 3}, {3, length, 4, 4, 6, 5}};
  if (grouped) sizes.push_back({2, length, 6, 2, 8, 7});
  return sizes;
}

// One evaluation that owns what it needs.
struct Evaluation {
  std::vector<Tensor> inputs;
  OperatorCall call;

  Evaluation(std::vector<Tensor> in, Form form, State* state = nullptr)
      : inputs(std::move(in)) {
    call.inputs = inputs;
    call.form = form;
    call.state = state;
  }
  const Tensor& operator()(const Operator& op) {
    const absl::Status status = RunOperator(op, &call);
    EXPECT_TRUE(status.ok()) << status;
    return call.output;
  }
};

Tensor Forward(const Operator& op, std::vector<Tensor> inputs, Form form,
               State* state = nullptr) {
  return Evaluation(std::move(inputs), form, state)(op);
}

Tensor Oracle(const Operator& op, const std::vector<Tensor>& inputs,
              const Dims& dims) {
  std::vector<Tensor> doubles;
  for (const Tensor& x : inputs) doubles.push_back(x.Cast(DType::kFloat64));
  OperatorCall call;
  call.inputs = doubles;
  call.dims = dims;
  call.output = Tensor(DType::kFloat64,
                       {dims.batch, dims.length, dims.heads, dims.value_dim});
  const absl::Status status = op.Reference(call);
  EXPECT_TRUE(status.ok()) << status;
  return call.output;
}

// Whether an input holds something for every token; others are parameters of
// the mechanism, the same for the whole sequence.
bool PerToken(const InputSpec& spec) {
  return spec.axes.find('L') != std::string::npos;
}

std::vector<Tensor> TokensOf(const Operator& op,
                             const std::vector<Tensor>& inputs, int64_t first,
                             int64_t count) {
  const std::vector<InputSpec> specs = op.Inputs();
  std::vector<Tensor> part;
  for (size_t i = 0; i < inputs.size(); ++i) {
    part.push_back(PerToken(specs[i]) ? Tokens(inputs[i], first, count)
                                      : inputs[i]);
  }
  return part;
}

// body(variant, op, dims) for every variant, length and size.
void ForEachCase(const std::function<void(const Variant&, const Operator&,
                                          const Dims&)>& body) {
  ForEachVariant([&](const Variant& variant) {
    auto op = variant.make_operator(TestOptions(variant));
    ASSERT_TRUE(op.ok()) << op.status();
    for (int64_t length : kLengths) {
      for (const Dims& dims : SizesToTry(**op, length)) {
        SCOPED_TRACE("length " + std::to_string(length) + ", batch " +
                     std::to_string(dims.batch) + ", heads " +
                     std::to_string(dims.heads) + "/" +
                     std::to_string(dims.kv_heads));
        body(variant, **op, dims);
      }
    }
  });
}

TEST(OperatorContract, EveryFormEqualsTheOracle) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
    for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const auto inputs = RandomInputs(op.Inputs(), dims, dtype, 1);
      const Tensor expected = Oracle(op, inputs, dims);
      const double bound =
          dtype == DType::kFloat32 ? variant.descriptor.tolerance : 1e-11;
      for (Form form : kForms) {
        EXPECT_LE(RelativeError(Forward(op, inputs, form), expected), bound)
            << FormName(form) << ", "
            << (dtype == DType::kFloat32 ? "float32" : "float64");
      }
    }
  });
}

TEST(OperatorContract, ShapeMistakesAreErrors) {
  ForEachVariant([](const Variant& variant) {
    auto op = variant.make_operator(TestOptions(variant));
    ASSERT_TRUE(op.ok()) << op.status();
    const Dims dims = {2, 5, 2, 2, 4, 4};
    auto inputs = RandomInputs((*op)->Inputs(), dims, DType::kFloat32, 1);
    inputs[0] = Tensor(DType::kFloat32, {2, 5, 2, 4, 1});
    OperatorCall call;
    call.inputs = inputs;
    EXPECT_FALSE(RunOperator(**op, &call).ok());
    inputs[0] = Tensor(DType::kFloat32, {2, 6, 2, 4});
    call.inputs = inputs;
    EXPECT_FALSE(RunOperator(**op, &call).ok());
  });
}

TEST(OperatorContract, DecodingContinuesAPrefill) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
    if (!variant.descriptor.streaming) return;
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat64, 2);
    const Tensor whole = Forward(op, inputs, Form::kParallel);
    // Half in one form, the rest token by token through a second state that is
    // restored from the first one's bytes.
    const int64_t prefill = dims.length / 2;
    for (Form form : kForms) {
      auto state = op.NewState(dims, DType::kFloat64);
      if (prefill > 0) {
        EXPECT_LE(RelativeError(Forward(op, TokensOf(op, inputs, 0, prefill),
                                        form, state.get()),
                                Tokens(whole, 0, prefill)),
                  1e-11);
      }
      auto restored = op.NewState(dims, DType::kFloat64);
      const std::string bytes = state->Serialize();
      ASSERT_EQ(static_cast<int64_t>(bytes.size()), state->bytes());
      const absl::Status status = restored->Restore(bytes, prefill);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_FALSE(restored->Restore(bytes + "x", prefill).ok());
      for (int64_t t = prefill; t < dims.length; ++t) {
        EXPECT_LE(RelativeError(Forward(op, TokensOf(op, inputs, t, 1),
                                        Form::kRecurrent, restored.get()),
                                Tokens(whole, t, 1)),
                  1e-11)
            << FormName(form) << " prefill, decode of token " << t;
      }
    }
  });
}

TEST(OperatorContract, StateHasTheDeclaredBytes) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
    if (!variant.descriptor.streaming) return;
    auto state = op.NewState(dims, DType::kFloat32);
    Forward(op, RandomInputs(op.Inputs(), dims, DType::kFloat32, 3),
            Form::kChunked, state.get());
    EXPECT_EQ(static_cast<int64_t>(state->Serialize().size()),
              op.StateBytes(dims));
    EXPECT_EQ(state->BytesAfter(dims.length), op.StateBytes(dims));
  });
}

TEST(OperatorContract, NoOutputSeesTheFuture) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
    if (!variant.descriptor.causal || dims.length < 2) return;
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 4);
    const int64_t cut = dims.length / 2;
    // A future of NaN is the strictest: it survives any multiplication by 0.
    for (double future : {7.0, std::nan("")}) {
      auto changed = inputs;
      for (size_t i = 0; i < changed.size(); ++i) {
        if (!PerToken(op.Inputs()[i])) continue;
        Tensor& x = changed[i];
        x = x.Clone();
        const int64_t row = x.elements() / (dims.batch * dims.length);
        for (int64_t b = 0; b < dims.batch; ++b) {
          for (int64_t j = cut * row; j < dims.length * row; ++j) {
            x.data<float>()[b * dims.length * row + j] = future;
          }
        }
      }
      for (Form form : kForms) {
        const Tensor expected = Tokens(Forward(op, inputs, form), 0, cut);
        const Tensor actual = Tokens(Forward(op, changed, form), 0, cut);
        SCOPED_TRACE(absl::StrCat(FormName(form), ", future ", future));
        if (std::isnan(future)) {
          // A kernel may take another path around a NaN, with other rounding.
          EXPECT_LE(RelativeError(actual, expected),
                    variant.descriptor.tolerance);
        } else {
          EXPECT_TRUE(BitEqual(actual, expected));
        }
      }
    }
  });
}

TEST(OperatorContract, BackwardEqualsCentralDifferences) {
  ForEachCase([](const Variant&, const Operator& op, const Dims& dims) {
    if (dims.heads == 4 && dims.length > kChunk + 1) return;  // others suffice
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat64, 5);
    const Tensor d_output =
        RandomTensor(DType::kFloat64,
                     {dims.batch, dims.length, dims.heads, dims.value_dim}, 6);
    for (Form form : {Form::kParallel, Form::kChunked}) {
      Evaluation run(inputs, form);
      run.call.keep = true;
      run(op);
      std::vector<Tensor> gradients, again;
      for (const Tensor& x : inputs) {
        gradients.emplace_back(x.dtype(), x.shape());
        again.emplace_back(x.dtype(), x.shape());
      }
      ASSERT_TRUE(op.Backward(run.call, d_output, gradients).ok());
      ASSERT_TRUE(op.Backward(run.call, d_output, again).ok());
      const auto loss = [&]() {
        const Tensor y = Forward(op, inputs, Form::kParallel);
        double sum = 0;
        for (int64_t i = 0; i < y.elements(); ++i) {
          sum += y.data<double>()[i] * d_output.data<double>()[i];
        }
        return sum;
      };
      for (size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_TRUE(BitEqual(gradients[i], again[i]));
        ExpectGradient(
            inputs[i], gradients[i], /*entries=*/40, loss,
            op.Inputs()[i].name + ", " + std::string(FormName(form)));
      }
      // An unwanted gradient is left out, and the others do not change.
      for (size_t skip = 0; skip < inputs.size(); ++skip) {
        std::vector<Tensor> some;
        for (size_t i = 0; i < inputs.size(); ++i) {
          some.push_back(i == skip
                             ? Tensor()
                             : Tensor(DType::kFloat64, inputs[i].shape()));
        }
        ASSERT_TRUE(op.Backward(run.call, d_output, some).ok());
        for (size_t i = 0; i < inputs.size(); ++i) {
          EXPECT_TRUE(i == skip || BitEqual(some[i], gradients[i]));
        }
      }
    }
  });
}

TEST(OperatorContract, Float32BackwardIsNearFloat64) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
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
      ASSERT_TRUE(op.Backward(run.call, d_output.Cast(dtype), gradients).ok());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      // A backward chains about three forward-sized sums.
      EXPECT_LE(RelativeError(results[0][i], results[1][i]),
                10 * variant.descriptor.tolerance)
          << op.Inputs()[i].name;
    }
  });
}

TEST(OperatorContract, ThreadsDoNotChangeABit) {
  kernels::ThreadPool pool(3);
  ForEachCase([&](const Variant&, const Operator& op, const Dims& dims) {
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 9);
    for (Form form : kForms) {
      Evaluation run(inputs, form);
      run.call.pool = &pool;
      EXPECT_TRUE(BitEqual(run(op), Forward(op, inputs, form)));
    }
  });
}

TEST(OperatorContract, DenormalHugeAndNonFiniteInputs) {
  ForEachVariant([](const Variant& variant) {
    auto made = variant.make_operator(TestOptions(variant));
    ASSERT_TRUE(made.ok()) << made.status();
    const Operator& op = **made;
    const Dims dims = {1, 2 * kChunk + 3, 2, 2, 4, 4};
    const auto specs = op.Inputs();
    const auto scaled = [&](double factor) {
      auto inputs = RandomInputs(specs, dims, DType::kFloat32, 10);
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (specs[i].domain != Domain::kReal) continue;
        for (int64_t j = 0; j < inputs[i].elements(); ++j) {
          inputs[i].data<float>()[j] *= static_cast<float>(factor);
        }
      }
      return inputs;
    };
    // 1e-39 is denormal; 1e4 squared times 1e4 is far from overflow but far
    // from anything a norm would let through.
    for (double factor : {1e-39, 1e4}) {
      const auto inputs = scaled(factor);
      const Tensor expected = Oracle(op, inputs, dims);
      for (Form form : kForms) {
        EXPECT_LE(RelativeError(Forward(op, inputs, form), expected),
                  // The argument of an exponential of size 1e8 has an absolute
                  // error of 1e8 * 2^-24: relative accuracy is lost by nature,
                  // but not finiteness or magnitude.
                  factor > 1 ? 1.0 : variant.descriptor.tolerance)
            << FormName(form) << ", inputs of size " << factor;
      }
    }
    // A NaN or an infinity must not hide: the token that holds it, and with it
    // the test's check of the past by NoOutputSeesTheFuture, is enough.
    for (double poison : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      auto inputs = scaled(1);
      const int64_t token = kChunk + 1;
      size_t values = 0;
      while (specs[values].axes.find('V') == std::string::npos) ++values;
      const int64_t width = inputs[values].elements() / dims.length;
      inputs[values].data<float>()[token * width] = poison;
      for (Form form : kForms) {
        const Tensor y = Forward(op, inputs, form);
        bool poisoned = false;
        const Tensor here = Tokens(y, token, 1);
        for (int64_t i = 0; i < here.elements(); ++i) {
          poisoned = poisoned || !std::isfinite(here.data<float>()[i]);
        }
        EXPECT_TRUE(poisoned) << FormName(form) << " hides " << poison;
      }
    }
  });
}

}  // namespace
}  // namespace mneme::contract
