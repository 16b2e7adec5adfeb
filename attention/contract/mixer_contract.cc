// SPDX-License-Identifier: Apache-2.0
//
// What every mixer must prove: the forms agree, decoding continues a prefill,
// the future is invisible, and the tape's gradients of input and parameters
// equal central differences, all through the code that trains, in float64.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/contract/contract_util.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {
namespace {

// A stack of mixers as in a model, without what stands between them: layers
// share parameters, position and what they hand to one another.
struct Stack {
  static constexpr int64_t kWidth = 12;
  static constexpr int kLayers = 3;

  ParameterSet parameters;
  std::vector<std::unique_ptr<Mixer>> mixers;

  Stack(const Variant& variant, const Options& options, DType dtype,
        int64_t short_conv)
      : parameters(dtype, /*seed=*/1) {
    MixerConfig config;
    config.width = kWidth;
    config.heads = 2;
    config.max_length = kLengths.back();
    config.layers = kLayers;
    config.short_conv = short_conv;
    config.options = options;
    config.parameters = &parameters;
    for (config.layer = 0; config.layer < kLayers; ++config.layer) {
      config.name = absl::StrCat("mixer", config.layer);
      auto made = variant.make_mixer(config);
      EXPECT_TRUE(made.ok()) << made.status();
      if (made.ok()) mixers.push_back(*std::move(made));
    }
    EXPECT_TRUE(parameters.status().ok()) << parameters.status();
    WakeZeros();
  }

  // Fills what starts at zero: an output projection or a gate of zeros would
  // hide all that stands before it, and prove it right whatever it is.
  void WakeZeros() {
    for (size_t i = 0; i < parameters.all().size(); ++i) {
      const Tensor& value = parameters.all()[i]->value;
      const std::vector<double> values = value.ToDoubles();
      if (std::any_of(values.begin(), values.end(),
                      [](double x) { return x != 0; })) {
        continue;
      }
      const Tensor noise =
          RandomTensor(value.dtype(), value.shape(), 100 + i, /*scale=*/0.3);
      std::memcpy(value.raw(), noise.raw(), value.bytes());
    }
  }

  bool complete() const { return mixers.size() == kLayers; }

  std::unique_ptr<CompositeState> NewState(int64_t batch, DType dtype) const {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    for (const auto& mixer : mixers) state->Add(mixer->NewState(batch, dtype));
    return state;
  }

  Variable Pass(Variable x, Form form, CompositeState* state) const {
    CrossLayer shared;
    for (size_t i = 0; i < mixers.size() && x.valid(); ++i) {
      MixerCall call;
      call.residual = call.x = x;
      call.form = form;
      call.shared = &shared;
      if (state != nullptr) {
        call.state = static_cast<CompositeState*>(state->part(i));
      }
      const int64_t length = x.shape().dim(1);
      x = mixers[i]->Forward(call);
      if (call.state != nullptr) call.state->Advance(length);
    }
    return x;
  }

  // The same without a gradient.
  Tensor Forward(const Tensor& x, Form form, CompositeState* state = nullptr) {
    Arena arena;
    Tape tape(&arena, x.dtype(), nullptr);
    Variable y = Pass(tape.Input(x), form, state);
    EXPECT_TRUE(tape.status().ok()) << tape.status();
    return y.valid() ? y.value().Clone() : Tensor(x.dtype(), x.shape());
  }

  // Gradients of sum(output * seed) by the parameters and, returned, by x.
  Tensor Backward(const Tensor& x, const Tensor& seed, Form form,
                  GradientBuffer* gradients) {
    Arena arena;
    Tape tape(&arena, x.dtype(), gradients);
    Variable in = tape.Input(x, /*needs_gradient=*/true);
    Variable y = Pass(in, form, nullptr);
    const absl::Status status = tape.Backward(y, seed);
    // Fatal: what follows would be noise.
    [&] { ASSERT_TRUE(status.ok()) << status; }();
    return status.ok() ? in.gradient().Clone() : Tensor(x.dtype(), x.shape());
  }
};

// body(variant, options, short_conv) for every variant, without and with the
// shared short convolution.
void ForEachStack(const std::function<void(const Variant&, const Options&,
                                           int64_t short_conv)>& body) {
  ForEachVariant([&](const Variant& variant, const Options& options) {
    for (int64_t short_conv : {0, 3}) {
      SCOPED_TRACE("short_conv " + std::to_string(short_conv));
      body(variant, options, short_conv);
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

Tensor Inputs(int64_t length, DType dtype, uint64_t seed) {
  return RandomTensor(dtype, {2, length, Stack::kWidth}, seed);
}

TEST(MixerContract, FormsAndPrecisionsAgree) {
  ForEachStack([](const Variant& variant, const Options& options,
                  int64_t short_conv) {
    Stack doubles(variant, options, DType::kFloat64, short_conv);
    Stack floats(variant, options, DType::kFloat32, short_conv);
    ASSERT_TRUE(doubles.complete() && floats.complete());
    for (int64_t length : kLengths) {
      const Tensor x = Inputs(length, DType::kFloat64, 1);
      const Tensor expected = doubles.Forward(x, Form::kParallel);
      for (Form form : {Form::kChunked, Form::kRecurrent}) {
        EXPECT_LE(RelativeError(doubles.Forward(x, form), expected), 1e-10)
            << FormName(form) << ", length " << length;
      }
      // Projections and norms around three operators add their own rounding.
      EXPECT_LE(
          RelativeError(floats.Forward(x.Cast(DType::kFloat32), Form::kChunked),
                        expected),
          30 * variant.descriptor.tolerance)
          << "length " << length;
    }
  });
}

TEST(MixerContract, DecodingContinuesAPrefill) {
  ForEachStack([](const Variant& variant, const Options& options,
                  int64_t short_conv) {
    if (!variant.descriptor.streaming) return;
    Stack stack(variant, options, DType::kFloat64, short_conv);
    ASSERT_TRUE(stack.complete());
    const int64_t length = kLengths.back();
    const Tensor x = Inputs(length, DType::kFloat64, 2);
    const Tensor whole = stack.Forward(x, Form::kParallel);
    for (int64_t prefill : {int64_t{0}, int64_t{1}, kChunk + 1}) {
      auto state = stack.NewState(2, DType::kFloat64);
      if (prefill > 0) {
        EXPECT_LE(RelativeError(stack.Forward(Tokens(x, 0, prefill),
                                              Form::kChunked, state.get()),
                                Tokens(whole, 0, prefill)),
                  1e-10);
      }
      auto restored = stack.NewState(2, DType::kFloat64);
      const absl::Status status =
          restored->Restore(state->Serialize(), prefill);
      ASSERT_TRUE(status.ok()) << status;
      for (int64_t t = prefill; t < length; ++t) {
        EXPECT_LE(RelativeError(stack.Forward(Tokens(x, t, 1), Form::kRecurrent,
                                              restored.get()),
                                Tokens(whole, t, 1)),
                  1e-10)
            << "prefill " << prefill << ", token " << t;
      }
      EXPECT_EQ(static_cast<int64_t>(restored->Serialize().size()),
                restored->BytesAfter(length));
    }
  });
}

TEST(MixerContract, WhatCannotDecodeHasNoState) {
  ForEachStack(
      [](const Variant& variant, const Options& options, int64_t short_conv) {
        if (variant.descriptor.streaming) return;
        Stack stack(variant, options, DType::kFloat32, short_conv);
        ASSERT_TRUE(stack.complete());
        for (const auto& mixer : stack.mixers) {
          EXPECT_EQ(mixer->NewState(2, DType::kFloat32), nullptr);
        }
      });
}

TEST(MixerContract, AStateOfAnotherBatchIsAnError) {
  ForEachStack(
      [](const Variant& variant, const Options& options, int64_t short_conv) {
        if (!variant.descriptor.streaming) return;
        Stack stack(variant, options, DType::kFloat32, short_conv);
        ASSERT_TRUE(stack.complete());
        auto state = stack.NewState(/*batch=*/4, DType::kFloat32);
        Arena arena;
        Tape tape(&arena, DType::kFloat32, nullptr);
        stack.Pass(tape.Input(Inputs(3, DType::kFloat32, 1)), Form::kRecurrent,
                   state.get());
        EXPECT_FALSE(tape.status().ok());
      });
}

TEST(MixerContract, NoOutputSeesTheFuture) {
  ForEachStack([](const Variant& variant, const Options& options,
                  int64_t short_conv) {
    if (!variant.descriptor.causal) return;
    Stack stack(variant, options, DType::kFloat32, short_conv);
    ASSERT_TRUE(stack.complete());
    const int64_t length = kLengths.back(), cut = kChunk + 2;
    const Tensor x = Inputs(length, DType::kFloat32, 3);
    Tensor changed = x.Clone();
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t i = cut * Stack::kWidth; i < length * Stack::kWidth; ++i) {
        changed.data<float>()[b * length * Stack::kWidth + i] = 5;
      }
    }
    for (Form form : {Form::kParallel, Form::kChunked, Form::kRecurrent}) {
      EXPECT_TRUE(BitEqual(Tokens(stack.Forward(changed, form), 0, cut),
                           Tokens(stack.Forward(x, form), 0, cut)))
          << FormName(form);
    }
  });
}

TEST(MixerContract, GradientsEqualCentralDifferences) {
  ForEachStack([](const Variant& variant, const Options& options,
                  int64_t short_conv) {
    Stack stack(variant, options, DType::kFloat64, short_conv);
    ASSERT_TRUE(stack.complete());
    for (int64_t length : {int64_t{1}, 2 * kChunk + 5}) {
      const Tensor x = Inputs(length, DType::kFloat64, 4);
      const Tensor seed = RandomTensor(DType::kFloat64, x.shape(), 5);
      GradientBuffer gradients(stack.parameters);
      const Tensor d_x = stack.Backward(x, seed, Form::kChunked, &gradients);
      const auto loss = [&]() {
        const Tensor out = stack.Forward(x, Form::kChunked);
        double sum = 0;
        for (int64_t i = 0; i < out.elements(); ++i) {
          sum += out.data<double>()[i] * seed.data<double>()[i];
        }
        return sum;
      };
      ExpectGradient(x, d_x, /*entries=*/40, loss, "input");
      for (const auto& parameter : stack.parameters.all()) {
        ExpectGradient(parameter->value, gradients.Of(*parameter),
                       /*entries=*/8, loss, parameter->name);
      }
    }
  });
}

TEST(MixerContract, Float32GradientsAreNearFloat64) {
  ForEachStack(
      [](const Variant& variant, const Options& options, int64_t short_conv) {
        Stack doubles(variant, options, DType::kFloat64, short_conv);
        Stack floats(variant, options, DType::kFloat32, short_conv);
        ASSERT_TRUE(doubles.complete() && floats.complete());
        const Tensor x = Inputs(2 * kChunk + 5, DType::kFloat32, 6);
        const Tensor seed = RandomTensor(DType::kFloat32, x.shape(), 7);
        GradientBuffer exact(doubles.parameters), rounded(floats.parameters);
        doubles.Backward(x.Cast(DType::kFloat64), seed.Cast(DType::kFloat64),
                         Form::kChunked, &exact);
        floats.Backward(x, seed, Form::kChunked, &rounded);
        for (size_t i = 0; i < floats.parameters.all().size(); ++i) {
          EXPECT_LE(RelativeError(rounded.Of(*floats.parameters.all()[i]),
                                  exact.Of(*doubles.parameters.all()[i])),
                    100 * variant.descriptor.tolerance)
              << floats.parameters.all()[i]->name;
        }
      });
}

}  // namespace
}  // namespace mneme::contract
