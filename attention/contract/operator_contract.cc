// SPDX-License-Identifier: Apache-2.0
//
// What every operator must prove: one function in all forms, equal to its
// oracle; decoding that continues a prefill and a state of exactly the declared
// bytes, or no state at all; no look at the future, or one if it says so; and
// sane behaviour on denormal, huge and non-finite numbers. Gradients are next
// door.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/contract/operator_cases.h"
#include "attention/kernels/parallel.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {
namespace {

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
  OnEverySimdTarget([] { ForEachCase(ExpectFormsEqualOracle); });
}

// The sizes that models train at, with the chunk they train with.
TEST(OperatorContract, TrainedSizesEqualTheOracle) {
  for (const std::string& name : Variants().Names()) {
    SCOPED_TRACE("variant " + name);
    const Variant& variant = **Variants().Find(name);
    if (variant.make_operator == nullptr) continue;
    auto op =
        variant.make_operator(*Options::Parse(variant.descriptor.options));
    ASSERT_TRUE(op.ok()) << op.status();
    OnEverySimdTarget([&] {
      ExpectFormsEqualOracle(variant, **op,
                             WithOwnAxes(**op, {2, 131, 2, 2, 32, 64, {}}));
    });
  }
}

TEST(OperatorContract, ShapeMistakesAreErrors) {
  ForEachOperator([](const Variant&, const Operator& op) {
    const Dims dims = WithOwnAxes(op, {2, 5, 2, 2, 4, 4, {}});
    auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 1);
    inputs[0] = Tensor(DType::kFloat32, {2, 5, 2, 4, 1});
    OperatorCall call;
    call.inputs = inputs;
    EXPECT_FALSE(RunOperator(op, &call).ok());
    // Another length, if a second input has a length to disagree with.
    const std::vector<InputSpec> specs = op.Inputs();
    if (std::none_of(specs.begin() + 1, specs.end(), PerToken)) return;
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
    Dims more_heads = dims, wider_keys = dims, wider_values = dims;
    more_heads.heads = more_heads.kv_heads = 4;
    wider_keys.key_dim = wider_values.value_dim = 8;
    Dims one_token = dims;
    one_token.length = 1;
    for (Dims sizes : {more_heads, wider_keys, wider_values}) {
      sizes.length = 1;
      // Not every mechanism has keys, or keeps something for each head.
      if (op.StateBytes(sizes) == op.StateBytes(one_token)) continue;
      for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
        const auto state = op.NewState(sizes, dtype);
        std::vector<Tensor> cast;
        for (const Tensor& x : inputs) cast.push_back(x.Cast(dtype));
        Evaluation run(cast, Form::kChunked, state.get());
        EXPECT_FALSE(RunOperator(op, &run.call).ok());
      }
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

TEST(OperatorContract, WhatCannotDecodeHasNoState) {
  ForEachOperator([](const Variant& variant, const Operator& op) {
    if (variant.descriptor.streaming) return;
    const Dims dims = WithOwnAxes(op, {2, 3, 2, 2, 4, 4, {}});
    EXPECT_EQ(op.NewState(dims, DType::kFloat32), nullptr);
    EXPECT_EQ(op.StateBytes(dims), 0);
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 1);
    DenseState state(DType::kFloat32, {2, 1});
    OperatorCall call;
    call.inputs = inputs;
    call.state = &state;
    EXPECT_TRUE(absl::IsUnimplemented(RunOperator(op, &call)));
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

// Tasks whose later tokens give answers away are kept from what is not causal,
// so nothing may call itself that for no reason.
TEST(OperatorContract, WhatIsNotCausalSeesTheFuture) {
  ForEachCase([](const Variant& variant, const Operator& op, const Dims& dims) {
    if (variant.descriptor.causal || dims.length < 2) return;
    const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat64, 4);
    const auto last = RandomInputs(op.Inputs(), dims, DType::kFloat64, 44);
    auto changed = inputs;
    for (size_t i = 0; i < changed.size(); ++i) {
      if (op.Inputs()[i].axes.substr(0, 2) != "BL") continue;
      Tensor& x = changed[i];
      x = x.Clone();
      const int64_t row = x.elements() / (dims.batch * dims.length);
      for (int64_t b = 1; b <= dims.batch; ++b) {
        const int64_t at = (b * dims.length - 1) * row;
        std::copy_n(last[i].data<double>() + at, row, x.data<double>() + at);
      }
    }
    for (Form form : kForms) {
      EXPECT_GT(RelativeError(Tokens(Forward(op, changed, form), 0, 1),
                              Tokens(Forward(op, inputs, form), 0, 1)),
                1e-6)
          << FormName(form);
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

TEST(OperatorContract, ThreadsDoNotChangeABitOfDecoding) {
  kernels::ThreadPool pool(3);
  ForEachCase(
      [&](const Variant& variant, const Operator& op, const Dims& dims) {
        if (!variant.descriptor.streaming) return;
        const auto inputs = RandomInputs(op.Inputs(), dims, DType::kFloat32, 9);
        const auto state = op.NewState(dims, DType::kFloat32);
        const auto threaded = op.NewState(dims, DType::kFloat32);
        for (int64_t t = 0; t < std::min<int64_t>(3, dims.length); ++t) {
          const auto token = TokensOf(op, inputs, t, 1);
          Evaluation run(token, Form::kRecurrent);
          run.call.state = threaded.get();
          run.call.pool = &pool;
          EXPECT_TRUE(BitEqual(
              run(op), Forward(op, token, Form::kRecurrent, state.get())));
        }
        EXPECT_EQ(threaded->Serialize(), state->Serialize());
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
