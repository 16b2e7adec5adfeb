// SPDX-License-Identifier: Apache-2.0
//
// The layer against its equations, and its initial values.

#include <cmath>
#include <cstdint>

#include "attention/parts/layer_testing.h"
#include "gtest/gtest.h"

namespace mneme::layer_testing {
namespace {

TEST(Rwkv4, LayersAreWhatThePaperDefines) {
  Stack stack("rwkv4");
  stack.Randomise();
  Rows x = RandomRows();
  const Rows actual = stack.Forward(x);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto p = [&](const char* name) { return stack.Of(layer, name); };
    const Rows r =
        Times(Mixed(x, p("receptance_mix")), p("receptance"), kWidth);
    const Rows k = Times(Mixed(x, p("key_mix")), p("key"), kWidth);
    const Rows v = Times(Mixed(x, p("value_mix")), p("value"), kWidth);
    Rows y = r;
    for (int64_t c = 0; c < kWidth; ++c) {
      const double w = -std::exp(p("decay")[c]);
      for (int64_t t = 0; t < kLength; ++t) {
        double num = 0, den = 0;
        for (int64_t i = 0; i <= t; ++i) {
          const double weight =
              std::exp(k[i][c] + (i == t ? p("bonus")[c]
                                         : static_cast<double>(t - 1 - i) * w));
          num += weight * v[i][c];
          den += weight;
        }
        y[t][c] = Sigmoid(r[t][c]) * num / den;
      }
    }
    Accumulate(Times(y, p("out"), kWidth), &x);
  }
  ExpectNear(actual, x);
}

// The published code's own expressions, in which a mixture holds time_mix of
// the current token.
TEST(Rwkv4, StartsAsPublished) {
  const Stack stack("rwkv4");
  for (int layer = 0; layer < kLayers; ++layer) {
    const double ratio_0_to_1 = layer / (kLayers - 1.0);
    const double ratio_1_to_almost_0 = 1 - layer / static_cast<double>(kLayers);
    const auto p = [&](const char* name) { return stack.Of(layer, name); };
    ExpectChannels(p("key_mix"), [&](double c) {
      return 1 - std::pow(c / kWidth, ratio_1_to_almost_0);
    });
    ExpectChannels(p("value_mix"), [&](double c) {
      return 1 -
             (std::pow(c / kWidth, ratio_1_to_almost_0) + 0.3 * ratio_0_to_1);
    });
    ExpectChannels(p("receptance_mix"), [&](double c) {
      return 1 - std::pow(c / kWidth, 0.5 * ratio_1_to_almost_0);
    });
    ExpectChannels(p("decay"), [&](double c) {
      return -5 + 8 * std::pow(c / (kWidth - 1), 0.7 + 1.3 * ratio_0_to_1);
    });
    ExpectChannels(p("bonus"), [&](double c) {
      return std::log(0.3) + 0.5 * (std::fmod(c + 1, 3) - 1);
    });
    for (const char* name : {"receptance", "key", "out"}) {
      for (int64_t i = 0; i < kWidth * kWidth; ++i) EXPECT_EQ(p(name)[i], 0);
    }
  }
}

}  // namespace
}  // namespace mneme::layer_testing
