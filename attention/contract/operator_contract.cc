// SPDX-License-Identifier: Apache-2.0
//
// What every operator must prove: one function in all forms, equal to its
// oracle; decoding that continues a prefill; no look at the future; gradients
// equal to central differences; a state of exactly the declared bytes; and sane
// behaviour on denormal, huge and non-finite numbers.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/contract/contract_util.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/simd.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {
namespace {

constexpr Form kForms[] = {Form::kParallel, Form::kChunked, Form::kRecurrent};

// dims with a size for every axis that is the operator's own.
Dims WithOwnAxes(const Operator& op, Dims dims) {
  for (const InputSpec& spec : op.Inputs()) {
    for (char letter : spec.axes) {
      if (std::string("BLHGKV").find(letter) == std::string::npos) {
        dims.own[letter] = 3;
      }
    }
  }
  return dims;
}

// Sizes with nothing in common, grouped heads where the operator has them.
std::vector<Dims> SizesToTry(const Operator& op, int64_t length) {
  bool grouped = false;
  for (const InputSpec& spec : op.Inputs()) {
    grouped = grouped || spec.axes.find('G') != std::string::npos;
  }
  std::vector<Dims> sizes = {{1, length, 1, 1, 4, 3, {}},
                             {3, length, 4, 4, 6, 5, {}}};
  if (grouped) sizes.push_back({2, length, 6, 2, 8, 7, {}});
  for (Dims& dims : sizes) dims = WithOwnAxes(op, dims);
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

// body(variant, op) for every variant that has an operator.
void ForEachOperator(
    const std::function<void(const Variant&, const Operator&)>& body) {
  ForEachVariant([&](const Variant& variant, const Options& options) {
    if (variant.make_operator == nullptr) return;
    auto op = variant.make_operator(options);
    ASSERT_TRUE(op.ok()) << op.status();
    body(variant, **op);
  });
}

// body(variant, op, dims) for every operator, length and size.
void ForEachCase(const std::function<void(const Variant&, const Operator&,
                                          const Dims&)>& body) {
  ForEachOperator([&](const Variant& variant, const Operator& op) {
    for (int64_t length : kLengths) {
      for (const Dims& dims : SizesToTry(op, length)) {
        SCOPED_TRACE("length " + std::to_string(length) + ", batch " +
                     std::to_string(dims.batch) + ", heads " +
                     std::to_string(dims.heads) + "/" +
                     std::to_string(dims.kv_heads));
        body(variant, op, dims);
      }
    }
  });
}

// Every form of one case, in both precisions, against the oracle.
void ExpectFormsEqualOracle(const Variant& variant, const Operator& op,
                            const Dims& dims) {
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
}

TEST(OperatorContract, EveryFormEqualsTheOracleOnEverySimdTarget) {
  for (const std::string& target : kernels::SupportedSimdTargets()) {
    SCOPED_TRACE(target);
    ASSERT_TRUE(kernels::UseSimdTarget(target).ok());
    ForEachCase(ExpectFormsEqualOracle);
  }
  ASSERT_TRUE(kernels::UseSimdTarget("best").ok());
}

// The sizes that models train at, with the chunk they train with.
TEST(OperatorContract, TrainedSizesEqualTheOracle) {
  ForEachVariant([](const Variant& variant, const Options&) {
    if (variant.make_operator == nullptr) return;
    auto op =
        variant.make_operator(*Options::Parse(variant.descriptor.options));
    ASSERT_TRUE(op.ok()) << op.status();
    ExpectFormsEqualOracle(variant, **op,
                           WithOwnAxes(**op, {2, 131, 2, 2, 32, 64, {}}));
  });
}

TEST(OperatorContract, ShapeMistakesAreErrors) {
  ForEachOperator([](const Variant&, const Operator& op) {
    const Dims dims = WithOwnAxes(op, {2, 5, 2, 2, 4, 4, {}});
    auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 1);
    inputs[0] = Tensor(DType::kFloat32, {2, 5, 2, 4, 1});
    OperatorCall call;
    call.inputs = inputs;
    EXPECT_FALSE(RunOperator(op, &call).ok());
    inputs[0] = Tensor(DType::kFloat32, {2, 6, 2, 4});
    call.inputs = inputs;
    EXPECT_FALSE(RunOperator(op, &call).ok());
  });
}

// Runs [0, first) in one form, the rest in another from a second state that is
// restored from the first one's bytes, and compares with one whole run.
void ExpectContinues(const Operator& op, const Dims& dims,
                     const std::vector<Tensor>& inputs, const Tensor& whole,
                     int64_t first, Form before, Form after, double bound) {
  SCOPED_TRACE(absl::StrCat(first, " tokens ", FormName(before), ", then ",
                            FormName(after)));
  const DType dtype = inputs[0].dtype();
  auto state = op.NewState(dims, dtype);
  if (first > 0) {
    EXPECT_LE(RelativeError(Forward(op, TokensOf(op, inputs, 0, first), before,
                                    state.get()),
                            Tokens(whole, 0, first)),
              bound);
  }
  auto restored = op.NewState(dims, dtype);
  const std::string bytes = state->Serialize();
  ASSERT_EQ(static_cast<int64_t>(bytes.size()), state->bytes());
  const absl::Status status = restored->Restore(bytes, first);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_FALSE(restored->Restore(bytes + "x", first).ok());
  // Recurrent decoding takes its tokens in calls of one, the others in one.
  const int64_t step =
      after == Form::kRecurrent ? 1 : std::max<int64_t>(1, dims.length - first);
  for (int64_t t = first; t < dims.length; t += step) {
    EXPECT_LE(RelativeError(Forward(op, TokensOf(op, inputs, t, step), after,
                                    restored.get()),
                            Tokens(whole, t, step)),
              bound)
        << "from token " << t;
  }
}

TEST(OperatorContract, EveryFormContinuesFromEveryOther) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
    if (!variant.descriptor.streaming) return;
    for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const auto inputs = RandomInputs(op.Inputs(), dims, dtype, 2);
      const Tensor whole = Forward(op, inputs, Form::kParallel);
      const double bound =
          dtype == DType::kFloat32 ? 2 * variant.descriptor.tolerance : 1e-11;
      for (int64_t first : {int64_t{0}, int64_t{1}, kChunk - 1, kChunk + 1}) {
        if (first > dims.length) continue;
        for (Form before : kForms) {
          for (Form after : kForms) {
            ExpectContinues(op, dims, inputs, whole, first, before, after,
                            bound);
          }
        }
      }
    }
  });
}

TEST(OperatorContract, AStateOfAnotherCallIsRefused) {
  ForEachOperator([](const Variant& variant, const Operator& op) {
    if (!variant.descriptor.streaming) return;
    const Dims dims = WithOwnAxes(op, {2, 3, 2, 2, 4, 4, {}});
    Dims other = dims;
    other.batch = 3;
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 1);
    const std::unique_ptr<State> states[] = {
        op.NewState(other, DType::kFloat32),
        op.NewState(dims, DType::kFloat64)};
    for (const auto& state : states) {
      OperatorCall call;
      call.inputs = inputs;
      call.state = state.get();
      EXPECT_FALSE(RunOperator(op, &call).ok());
    }
    const auto fitting = op.NewState(dims, DType::kFloat32);
    OperatorCall call;
    call.inputs = inputs;
    call.state = fitting.get();
    call.keep = true;
    EXPECT_FALSE(RunOperator(op, &call).ok()) << "keep with a state";
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
    const auto others = RandomInputs(op.Inputs(), dims, DType::kFloat32, 44);
    for (double future : {0.0, std::nan("")}) {
      auto changed = inputs;
      for (size_t i = 0; i < changed.size(); ++i) {
        if (!PerToken(op.Inputs()[i])) continue;
        Tensor& x = changed[i];
        x = x.Clone();
        const int64_t row = x.elements() / (dims.batch * dims.length);
        for (int64_t b = 0; b < dims.batch; ++b) {
          for (int64_t j = cut * row; j < dims.length * row; ++j) {
            const int64_t at = b * dims.length * row + j;
            x.data<float>()[at] =
                std::isnan(future) ? future : others[i].data<float>()[at];
          }
        }
      }
      for (Form form : kForms) {
        const Tensor expected = Tokens(Forward(op, inputs, form), 0, cut);
        const Tensor actual = Tokens(Forward(op, changed, form), 0, cut);
        SCOPED_TRACE(absl::StrCat(FormName(form), std::isnan(future)
                                                      ? ", a future of NaN"
                                                      : ", another future"));
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

// Gradients of sum(output * d_output), added to what `gradients` holds.
void Backward(const Operator& op, const std::vector<Tensor>& inputs, Form form,
              const Tensor& d_output, const std::vector<Tensor>& gradients,
              kernels::ThreadPool* pool = nullptr) {
  Evaluation run(inputs, form);
  run.call.keep = true;
  run.call.pool = pool;
  run(op);
  const absl::Status status = op.Backward(run.call, d_output, gradients);
  EXPECT_TRUE(status.ok()) << status;
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

// Inputs whose real-valued arrays are multiplied by a factor.
std::vector<Tensor> ScaledInputs(const Operator& op, const Dims& dims,
                                 double factor) {
  const std::vector<InputSpec> specs = op.Inputs();
  auto inputs = RandomInputs(specs, dims, DType::kFloat32, 10);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (specs[i].domain != Domain::kReal) continue;
    for (int64_t j = 0; j < inputs[i].elements(); ++j) {
      inputs[i].data<float>()[j] *= static_cast<float>(factor);
    }
  }
  return inputs;
}

// The first input that holds values for every token.
size_t ValueInput(const Operator& op) {
  const std::vector<InputSpec> specs = op.Inputs();
  size_t i = 0;
  while (
      i + 1 < specs.size() &&
      (specs[i].axes.find('V') == std::string::npos || !PerToken(specs[i]))) {
    ++i;
  }
  return i;
}

const Dims kExtremeDims = {1, 2 * kChunk + 3, 2, 2, 4, 4, {}};

TEST(OperatorContract, SmallAndDenormalInputsKeepTheirAccuracy) {
  ForEachOperator([](const Variant& variant, const Operator& op) {
    const Dims dims = WithOwnAxes(op, kExtremeDims);
    // Relative to the largest output, however small: zeros do not pass. At
    // 1e-5 the products of three factors are still normal numbers.
    const auto small = ScaledInputs(op, dims, 1e-5);
    const Tensor expected = Oracle(op, small, dims);
    // At 1e-39 inputs are denormal, and so may be, or vanish, the outputs.
    const auto denormal = ScaledInputs(op, dims, 1e-39);
    const Tensor tiny = Oracle(op, denormal, dims);
    for (Form form : kForms) {
      EXPECT_LE(RelativeError(Forward(op, small, form), expected, 0),
                10 * variant.descriptor.tolerance)
          << FormName(form);
      EXPECT_LE(RelativeError(Forward(op, denormal, form), tiny, 1e-30), 1e-6)
          << FormName(form);
    }
  });
}

TEST(OperatorContract, HugeInputsGiveFiniteOutputs) {
  ForEachOperator([](const Variant&, const Operator& op) {
    const Dims dims = WithOwnAxes(op, kExtremeDims);
    // A score of 1e10 has an absolute rounding error far above 1, so softmax's
    // choice between near ties is lost by nature; finiteness and size are not.
    const auto huge = ScaledInputs(op, dims, 1e5);
    const std::vector<double> oracle = Oracle(op, huge, dims).ToDoubles();
    double largest = 0;
    for (double x : oracle) largest = std::max(largest, std::abs(x));
    for (Form form : kForms) {
      double seen = 0;
      for (double y : Forward(op, huge, form).ToDoubles()) {
        ASSERT_TRUE(std::isfinite(y)) << FormName(form);
        seen = std::max(seen, std::abs(y));
      }
      EXPECT_GT(seen, largest / 4) << FormName(form);
      EXPECT_LT(seen, largest * 4) << FormName(form);
    }
  });
}

TEST(OperatorContract, NonFiniteInputsDoNotHide) {
  ForEachOperator([](const Variant&, const Operator& op) {
    const Dims dims = WithOwnAxes(op, kExtremeDims);
    for (double poison : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      auto inputs = ScaledInputs(op, dims, 1);
      const int64_t token = kChunk + 1;
      const size_t values = ValueInput(op);
      const int64_t width = inputs[values].elements() / dims.length;
      inputs[values].data<float>()[token * width] = poison;
      for (Form form : kForms) {
        bool poisoned = false;
        for (double y :
             Tokens(Forward(op, inputs, form), token, 1).ToDoubles()) {
          poisoned = poisoned || !std::isfinite(y);
        }
        EXPECT_TRUE(poisoned) << FormName(form) << " hides " << poison;
      }
    }
  });
}

}  // namespace
}  // namespace mneme::contract
