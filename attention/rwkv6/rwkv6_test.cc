// SPDX-License-Identifier: Apache-2.0
//
// The layer against its equations, and its initial values.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "attention/parts/layer_testing.h"
#include "gtest/gtest.h"

namespace mneme::layer_testing {
namespace {

constexpr int64_t kMixRank = 32, kDecayRank = 64;

TEST(Rwkv6, LayersAreWhatThePaperDefines) {
  Stack stack("rwkv6");
  stack.Randomise();
  Rows x = RandomRows();
  const Rows actual = stack.Forward(x);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto p = [&](const std::string& name) {
      return stack.Of(layer, name);
    };
    const auto low_rank = [&](const Rows& from, const std::string& name,
                              int64_t rank) {
      const Rows inner = Times(from, p(name + "_down"), rank);
      return Times(Apply(inner, [](double a) { return std::tanh(a); }),
                   p(name + "_up"), kWidth, p(name));
    };
    const Rows base = Mixed(x, p("base_mix"));
    const auto mixed = [&](const std::string& name) {
      const Rows mu = low_rank(base, name + "_mix", kMixRank);
      return Mixed(x, [&](int64_t t, int64_t c) { return mu[t][c]; });
    };
    const auto path = [&](const std::string& name) {
      return Times(mixed(name), p(name), kWidth);
    };
    const Rows r = path("receptance"), k = path("key"), v = path("value"),
               g = path("gate");
    const Rows w = low_rank(mixed("decay"), "decay", kDecayRank);
    Rows o(kLength, std::vector<double>(kWidth));
    for (int64_t h = 0; h < kWidth; h += kDim) {
      double state[kDim][kDim] = {};
      for (int64_t t = 0; t < kLength; ++t) {
        for (int64_t i = 0; i < kDim; ++i) {
          for (int64_t j = 0; j < kDim; ++j) {
            const double kv = k[t][h + i] * v[t][h + j];
            o[t][h + j] += r[t][h + i] * (state[i][j] + p("bonus")[h + i] * kv);
            state[i][j] = std::exp(-std::exp(w[t][h + i])) * state[i][j] + kv;
          }
        }
      }
    }
    o = HeadNorm(o, p("norm"), p("norm_bias"));
    for (int64_t t = 0; t < kLength; ++t) {
      for (int64_t c = 0; c < kWidth; ++c) {
        o[t][c] *= g[t][c] * Sigmoid(g[t][c]);
      }
    }
    Accumulate(Times(o, p("out"), kWidth), &x);
  }
  ExpectNear(actual, x);
}

// The published code's own expressions.
TEST(Rwkv6, MixturesDecaysAndBonusesStartAsPublished) {
  const Stack stack("rwkv6");
  for (int layer = 0; layer < kLayers; ++layer) {
    const double ratio_0_to_1 = layer / (kLayers - 1.0);
    const double ratio_1_to_almost_0 = 1 - layer / static_cast<double>(kLayers);
    const auto p = [&](const char* name) { return stack.Of(layer, name); };
    for (const char* name : {"base_mix", "decay_mix", "key_mix"}) {
      ExpectChannels(p(name), [&](double c) {
        return 1 - std::pow(c / kWidth, ratio_1_to_almost_0);
      });
    }
    ExpectChannels(p("value_mix"), [&](double c) {
      return 1 -
             (std::pow(c / kWidth, ratio_1_to_almost_0) + 0.3 * ratio_0_to_1);
    });
    for (const char* name : {"receptance_mix", "gate_mix"}) {
      ExpectChannels(p(name), [&](double c) {
        return 1 - std::pow(c / kWidth, 0.5 * ratio_1_to_almost_0);
      });
    }
    ExpectChannels(p("decay"), [&](double c) {
      return -6 + 5 * std::pow(c / (kWidth - 1), 0.7 + 1.3 * ratio_0_to_1);
    });
    ExpectChannels(p("bonus"), [&](double c) {
      return ratio_0_to_1 * (1 - c / (kWidth - 1)) +
             (std::fmod(c + 1, 3) - 1) * 0.1;
    });
  }
}

}  // namespace
}  // namespace mneme::layer_testing
