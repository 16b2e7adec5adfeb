// SPDX-License-Identifier: Apache-2.0
//
// The layer against its equations, the first layer's values in the later ones
// included, and its initial values.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "attention/parts/layer_testing.h"
#include "gtest/gtest.h"

namespace mneme::layer_testing {
namespace {

constexpr int64_t kRank = 32;  // of all projections at this width

TEST(Rwkv7, LayersAreWhatThePaperDefines) {
  Stack stack("rwkv7");
  stack.Randomise();
  Rows x = RandomRows(), v_first;
  const Rows actual = stack.Forward(x);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto p = [&](const std::string& name) {
      return stack.Of(layer, name);
    };
    const auto mixed = [&](const std::string& name) {
      return Mixed(x, p(name + "_mix"));
    };
    const auto path = [&](const std::string& name) {
      return Times(mixed(name), p(name), kWidth);
    };
    const auto tanh = [](double a) { return std::tanh(a); };
    const auto low_rank = [&](const Rows& from, const std::string& name,
                              const auto& f) {
      return Times(Apply(Times(from, p(name + "_down"), kRank), f),
                   p(name + "_up"), kWidth, name == "gate" ? nullptr : p(name));
    };
    const auto same = [](double a) { return a; };
    const Rows r = path("receptance"), k = path("key");
    Rows v = path("value");
    const Rows w = low_rank(mixed("decay"), "decay", tanh);
    const Rows eta = Apply(low_rank(mixed("rate"), "rate", same), Sigmoid);
    const Rows gate = low_rank(mixed("gate"), "gate", Sigmoid);
    if (layer == 0) {
      v_first = v;
    } else {
      const Rows share =
          Apply(low_rank(mixed("value"), "residual", same), Sigmoid);
      for (int64_t t = 0; t < kLength; ++t) {
        for (int64_t c = 0; c < kWidth; ++c) {
          v[t][c] += (v_first[t][c] - v[t][c]) * share[t][c];
        }
      }
    }
    Rows written = k, o(kLength, std::vector<double>(kWidth));
    for (int64_t h = 0; h < kWidth; h += kDim) {
      double state[kDim][kDim] = {};  // [value][key], as in the paper
      for (int64_t t = 0; t < kLength; ++t) {
        double removed[kDim], norm = 0;
        for (int64_t i = 0; i < kDim; ++i) {
          const int64_t c = h + i;
          removed[i] = k[t][c] * p("removal")[c];
          norm += removed[i] * removed[i];
          written[t][c] = k[t][c] * (1 + (eta[t][c] - 1) * p("replacement")[c]);
        }
        for (double& entry : removed) entry /= std::sqrt(norm + 1e-12);
        for (int64_t j = 0; j < kDim; ++j) {
          double answer = 0;
          for (int64_t i = 0; i < kDim; ++i) answer += state[j][i] * removed[i];
          for (int64_t i = 0; i < kDim; ++i) {
            const int64_t c = h + i;
            const double decay = std::exp(-std::exp(-0.5) * Sigmoid(w[t][c]));
            state[j][i] = state[j][i] * decay -
                          answer * removed[i] * eta[t][c] +
                          v[t][h + j] * written[t][c];
            o[t][h + j] += state[j][i] * r[t][c];
          }
        }
      }
    }
    o = HeadNorm(o, p("norm"), p("norm_bias"));
    for (int64_t t = 0; t < kLength; ++t) {
      for (int64_t h = 0; h < kWidth; h += kDim) {
        double bonus = 0;
        for (int64_t c = h; c < h + kDim; ++c) {
          bonus += r[t][c] * written[t][c] * p("bonus")[c];
        }
        for (int64_t c = h; c < h + kDim; ++c) {
          o[t][c] = (o[t][c] + bonus * v[t][c]) * gate[t][c];
        }
      }
    }
    Accumulate(Times(o, p("out"), kWidth), &x);
  }
  ExpectNear(actual, x);
}

TEST(Rwkv7, RanksAreThePublishedOnes) {
  // max(32, round(share * width^0.5 / 32) * 32) for shares of 2.5, 2.5, 1.7 and
  // 5, where round(2.5) is 2.
  constexpr int64_t kRanks[][5] = {{64, 32, 32, 32, 32},
                                   {256, 32, 32, 32, 64},
                                   {768, 64, 64, 32, 128},
                                   {1024, 64, 64, 64, 160}};
  const Variant& variant = **Variants().Find("rwkv7");
  for (const auto& [width, decay, rate, residual, gate] : kRanks) {
    ParameterSet parameters(DType::kFloat32, /*seed=*/1);
    MixerConfig config;
    config.width = width;
    config.layer = 1;
    config.layers = 2;
    config.options = *Options::Parse(variant.descriptor.options);
    config.parameters = &parameters;
    ASSERT_TRUE(variant.make_mixer(config).ok());
    const std::map<std::string, int64_t> ranks = {{".decay_down", decay},
                                                  {".rate_down", rate},
                                                  {".residual_down", residual},
                                                  {".gate_down", gate}};
    for (const auto& parameter : parameters.all()) {
      const auto rank = ranks.find(parameter->name);
      if (rank == ranks.end()) continue;
      EXPECT_EQ(parameter->value.dim(1), rank->second)
          << parameter->name << " at width " << width;
    }
  }
}

// The published code's own expressions.
TEST(Rwkv7, StartsAsPublished) {
  const Stack stack("rwkv7");
  for (int layer = 0; layer < kLayers; ++layer) {
    const double ratio_0_to_1 = layer / (kLayers - 1.0);
    const double ratio_1_to_almost_0 = 1 - layer / static_cast<double>(kLayers);
    const auto p = [&](const char* name) { return stack.Of(layer, name); };
    const auto expect_mix = [&](const char* name, double power) {
      ExpectChannels(p(name), [&](double c) {
        return 1 - std::pow(c / kWidth, power * ratio_1_to_almost_0);
      });
    };
    expect_mix("receptance_mix", 0.2);
    expect_mix("decay_mix", 0.9);
    expect_mix("key_mix", 0.7);
    expect_mix("value_mix", 0.7);
    expect_mix("rate_mix", 0.9);
    expect_mix("gate_mix", 0.2);
    const auto linear = [](double c) { return c / (kWidth - 1) - 0.5; };
    const auto zigzag = [](double c) {
      const double half = (kDim - 1) / 2.0;
      const double z = (std::fmod(c, kDim) - half) / half;
      return z * std::abs(z);
    };
    ExpectChannels(p("decay"), [&](double c) {
      const double www =
          -6 + 6 * std::pow(c / (kWidth - 1), 1 + std::pow(ratio_0_to_1, 0.3));
      return www + 0.5 + zigzag(c) * 2.5;
    });
    ExpectChannels(p("rate"), [&](double c) {
      return -0.19 + zigzag(c) * 0.3 + linear(c) * 0.4;
    });
    if (layer > 0) {
      ExpectChannels(p("residual"),
                     [&](double c) { return 0.73 - linear(c) * 0.4; });
    }
    ExpectChannels(p("removal"),
                   [&](double c) { return 0.71 - linear(c) * 0.1; });
    ExpectChannels(p("replacement"), [](double) { return 1.02; });
    ExpectChannels(p("bonus"), [](double) { return -0.04; });
    ExpectChannels(p("norm"), [&](double) {
      return std::pow((1.0 + layer) / kLayers, 0.7);
    });
    ExpectChannels(p("norm_bias"), [](double) { return 0.0; });
    for (const char* name : {"decay_down", "rate_down", "gate_down"}) {
      EXPECT_TRUE(std::all_of(p(name), p(name) + kWidth * kRank,
                              [](double a) { return a == 0; }));
    }
    EXPECT_TRUE(std::all_of(p("out"), p("out") + kWidth * kWidth,
                            [](double a) { return a == 0; }));
  }
}

}  // namespace
}  // namespace mneme::layer_testing
