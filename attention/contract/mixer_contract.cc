// SPDX-License-Identifier: Apache-2.0
//
// What every mixer must prove: the forms agree, decoding continues a prefill,
// the future is invisible, and the tape's gradients of input and parameters
// equal central differences, all through the code that trains, in float64.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "attention/contract/contract_util.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {
namespace {

// A mixer with its parameters, and a way to run it.
struct Layer {
  static constexpr int64_t kWidth = 12;

  ParameterSet parameters;
  std::unique_ptr<Mixer> mixer;

  Layer(const Variant& variant, DType dtype, int64_t short_conv)
      : parameters(dtype, /*seed=*/1) {
    MixerConfig config;
    config.width = kWidth;
    config.heads = 2;
    config.max_length = kLengths.back();
    config.layers = 2;
    config.short_conv = short_conv;
    config.options = TestOptions(variant);
    config.name = "mixer";
    config.parameters = &parameters;
    auto made = variant.make_mixer(config);
    EXPECT_TRUE(made.ok()) << made.status();
    if (made.ok()) mixer = *std::move(made);
  }

  // One pass with residual = x.
  Variable Pass(Variable x, Form form, CompositeState* state) const {
    CrossLayer shared;
    MixerCall call;
    call.residual = call.x = x;
    call.form = form;
    call.state = state;
    call.shared = &shared;
    return mixer->Forward(call);
  }

  // The same without a gradient.
  Tensor Forward(const Tensor& x, Form form, CompositeState* state = nullptr) {
    Arena arena;
    Tape tape(&arena, x.dtype(), nullptr);
    Variable y = Pass(tape.Input(x), form, state);
    EXPECT_TRUE(tape.status().ok()) << tape.status();
    return y.valid() ? y.value().Clone() : Tensor(x.dtype(), x.shape());
  }
};

// body(variant, short_conv) for every variant, without and with the shared
// short convolution.
void ForEachLayer(
    const std::function<void(const Variant&, int64_t short_conv)>& body) {
  ForEachVariant([&](const Variant& variant) {
    for (int64_t short_conv : {0, 3}) {
      SCOPED_TRACE("short_conv " + std::to_string(short_conv));
      body(variant, short_conv);
    }
  });
}

Tensor Inputs(int64_t length, DType dtype, uint64_t seed) {
  return RandomTensor(dtype, {2, length, Layer::kWidth}, seed);
}

TEST(MixerContract, FormsAndPrecisionsAgree) {
  ForEachLayer([](const Variant& variant, int64_t short_conv) {
    Layer doubles(variant, DType::kFloat64, short_conv);
    Layer floats(variant, DType::kFloat32, short_conv);
    ASSERT_TRUE(doubles.mixer && floats.mixer);
    for (int64_t length : kLengths) {
      const Tensor x = Inputs(length, DType::kFloat64, 1);
      const Tensor expected = doubles.Forward(x, Form::kParallel);
      for (Form form : {Form::kChunked, Form::kRecurrent}) {
        EXPECT_LE(RelativeError(doubles.Forward(x, form), expected), 1e-11)
            << FormName(form) << ", length " << length;
      }
      // Projections and norms around the operator add their own rounding.
      EXPECT_LE(
          RelativeError(floats.Forward(x.Cast(DType::kFloat32), Form::kChunked),
                        expected),
          10 * variant.descriptor.tolerance)
          << "length " << length;
    }
  });
}

TEST(MixerContract, DecodingContinuesAPrefill) {
  ForEachLayer([](const Variant& variant, int64_t short_conv) {
    if (!variant.descriptor.streaming) return;
    Layer layer(variant, DType::kFloat64, short_conv);
    ASSERT_TRUE(layer.mixer);
    const int64_t length = kLengths.back();
    const Tensor x = Inputs(length, DType::kFloat64, 2);
    const Tensor whole = layer.Forward(x, Form::kParallel);
    for (int64_t prefill : {int64_t{0}, int64_t{1}, kChunk + 1}) {
      auto state = layer.mixer->NewState(2, DType::kFloat64);
      if (prefill > 0) {
        EXPECT_LE(RelativeError(layer.Forward(Tokens(x, 0, prefill),
                                              Form::kChunked, state.get()),
                                Tokens(whole, 0, prefill)),
                  1e-11);
      }
      auto restored = layer.mixer->NewState(2, DType::kFloat64);
      const absl::Status status =
          restored->Restore(state->Serialize(), prefill);
      ASSERT_TRUE(status.ok()) << status;
      for (int64_t t = prefill; t < length; ++t) {
        EXPECT_LE(RelativeError(layer.Forward(Tokens(x, t, 1), Form::kRecurrent,
                                              restored.get()),
                                Tokens(whole, t, 1)),
                  1e-11)
            << "prefill " << prefill << ", token " << t;
      }
      EXPECT_EQ(static_cast<int64_t>(restored->Serialize().size()),
                restored->BytesAfter(length));
    }
  });
}

TEST(MixerContract, NoOutputSeesTheFuture) {
  ForEachLayer([](const Variant& variant, int64_t short_conv) {
    if (!variant.descriptor.causal) return;
    Layer layer(variant, DType::kFloat32, short_conv);
    ASSERT_TRUE(layer.mixer);
    const int64_t length = kLengths.back(), cut = kChunk + 2;
    const Tensor x = Inputs(length, DType::kFloat32, 3);
    Tensor changed = x.Clone();
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t i = cut * Layer::kWidth; i < length * Layer::kWidth; ++i) {
        changed.data<float>()[b * length * Layer::kWidth + i] = 5;
      }
    }
    for (Form form : {Form::kParallel, Form::kChunked, Form::kRecurrent}) {
      EXPECT_TRUE(BitEqual(Tokens(layer.Forward(changed, form), 0, cut),
                           Tokens(layer.Forward(x, form), 0, cut)))
          << FormName(form);
    }
  });
}

TEST(MixerContract, GradientsEqualCentralDifferences) {
  ForEachLayer([](const Variant& variant, int64_t short_conv) {
    Layer layer(variant, DType::kFloat64, short_conv);
    ASSERT_TRUE(layer.mixer);
    for (int64_t length : {int64_t{1}, 2 * kChunk + 5}) {
      const Tensor x = Inputs(length, DType::kFloat64, 4);
      const Tensor seed = RandomTensor(DType::kFloat64, x.shape(), 5);
      Arena arena;
      GradientBuffer gradients(layer.parameters);
      Tape tape(&arena, DType::kFloat64, &gradients);
      Variable in = tape.Input(x, /*needs_gradient=*/true);
      Variable y = layer.Pass(in, Form::kChunked, nullptr);
      ASSERT_TRUE(y.valid()) << tape.status();
      const absl::Status status = tape.Backward(y, seed);
      ASSERT_TRUE(status.ok()) << status;
      const auto loss = [&]() {
        const Tensor out = layer.Forward(x, Form::kChunked);
        double sum = 0;
        for (int64_t i = 0; i < out.elements(); ++i) {
          sum += out.data<double>()[i] * seed.data<double>()[i];
        }
        return sum;
      };
      ExpectGradient(x, in.gradient(), /*entries=*/40, loss, "input");
      for (const auto& parameter : layer.parameters.all()) {
        ExpectGradient(parameter->value, gradients.Of(*parameter),
                       /*entries=*/12, loss, parameter->name);
      }
    }
  });
}

}  // namespace
}  // namespace mneme::contract
