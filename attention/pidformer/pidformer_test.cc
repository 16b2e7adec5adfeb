// SPDX-License-Identifier: Apache-2.0
//
// How the first layer's values reach every later one. Of a stack in which only
// layer l writes to the residual stream, v^0 feeds the output through the
// controller alone, with a factor that the equations give.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int kLayers = 5;
constexpr int64_t kWidth = 4, kLength = 3;

Tensor Values(uint64_t seed) {
  Tensor x(DType::kFloat64, {1, kLength, kWidth});
  Random random(seed, StreamId("pidformer test"));
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.data<double>()[i] = random.Normal();
  }
  return x;
}

// The factor of v^0 in u^l for p, i, d, beta as by default. E^l holds
// 0.3 beta (1 + 0.7 + ... + 0.7^{l-1}) of it, and the derivative all of it, in
// layer 2 only.
double Factor(int layer) {
  double integral = 0;  // in E^{layer - 1}
  for (int l = 1; l < layer; ++l) integral = 0.3 * 0.1 + 0.7 * integral;
  return 0.8 * 0.1 + 0.5 * integral + (layer == 2 ? 0.05 : 0);
}

TEST(Pidformer, TheFirstValuesGetAGradientFromEveryLayer) {
  EXPECT_NEAR(Factor(1), 0.08, 1e-12);
  EXPECT_NEAR(Factor(2), 0.145, 1e-12);
  EXPECT_NEAR(Factor(3), 0.1055, 1e-12);
  const Variant& variant = **Variants().Find("pidformer");
  for (int layer = 1; layer < kLayers; ++layer) {
    ParameterSet parameters(DType::kFloat64, /*seed=*/1);
    MixerConfig config;
    config.width = kWidth;
    config.heads = 2;
    config.layers = kLayers;
    config.options = *Options::Parse(variant.descriptor.options);
    config.parameters = &parameters;
    std::vector<std::unique_ptr<Mixer>> mixers;
    for (config.layer = 0; config.layer < kLayers; ++config.layer) {
      config.name = absl::StrCat("mixer", config.layer);
      mixers.push_back(*variant.make_mixer(config));
    }
    const std::string writer = absl::StrCat("mixer", layer, ".out");
    const Parameter *first_value = nullptr, *out = nullptr;
    for (const auto& parameter : parameters.all()) {
      if (parameter->name == "mixer0.value") first_value = parameter.get();
      if (parameter->name == writer) out = parameter.get();
      const std::string& name = parameter->name;
      if (name.substr(name.size() - 3) == "out" && name != writer) {
        parameter->value.FillZero();
      }
    }
    ASSERT_TRUE(first_value != nullptr && out != nullptr);

    Arena arena;
    GradientBuffer gradients(parameters);
    Tape tape(&arena, DType::kFloat64, &gradients);
    const Tensor input = Values(1), seed = Values(2);
    CrossLayer shared;
    Variable x = tape.Input(input);
    for (const auto& mixer : mixers) {
      MixerCall call;
      call.residual = call.x = x;
      call.shared = &shared;
      x = mixer->Forward(call);
    }
    ASSERT_TRUE(tape.Backward(x, seed).ok());

    const Tensor gradient = gradients.Of(*first_value);
    for (int64_t r = 0; r < kWidth; ++r) {
      for (int64_t c = 0; c < kWidth; ++c) {
        double expected = 0;  // x^T (seed W_out^T)
        for (int64_t t = 0; t < kLength; ++t) {
          for (int64_t w = 0; w < kWidth; ++w) {
            expected += input.data<double>()[t * kWidth + r] *
                        seed.data<double>()[t * kWidth + w] *
                        out->value.data<double>()[c * kWidth + w];
          }
        }
        EXPECT_NEAR(gradient.data<double>()[r * kWidth + c],
                    Factor(layer) * expected, 1e-12)
            << "layer " << layer;
      }
    }
  }
}

}  // namespace
}  // namespace mneme
