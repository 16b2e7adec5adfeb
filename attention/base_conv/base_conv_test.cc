// SPDX-License-Identifier: Apache-2.0
//
// What the contract test cannot know: that the layers of the layout `zoology`
// are what their paper defines.

#include <cmath>
#include <string>
#include <vector>

#include "attention/parts/layer_testing.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using layer_testing::kLayers, layer_testing::kLength, layer_testing::kWidth;
using layer_testing::Rows, layer_testing::Times;

TEST(BaseConv, LayersOfZoologyAreWhatThePaperDefines) {
  layer_testing::Stack stack("base_conv", {{"layout", "zoology"}});
  stack.Randomise();
  Rows x = layer_testing::RandomRows();
  const Rows actual = stack.Forward(x);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto p = [&](const std::string& name) {
      return stack.Of(layer, name);
    };
    const bool is_long = layer == 1;
    Rows filter;  // taps, newest token first
    if (is_long) {
      Rows features;
      for (int j = 0; j < kLength; ++j) {
        const double phase = 1e-4 * 2 * std::acos(-1.0) * j / kLength;
        features.push_back(
            {j / (kLength - 1.0), std::cos(phase), -std::sin(phase)});
      }
      const Rows hidden = layer_testing::Apply(
          Times(features, p("filter_in"), 16, p("filter_in_bias")),
          [](double value) { return value > 0 ? value : 0; });
      filter = Times(hidden, p("filter_out"), kWidth, p("filter_out_bias"));
    } else {
      for (int j = 0; j < 3; ++j) {
        const double* tap = p("filter") + j * kWidth;
        filter.emplace_back(tap, tap + kWidth);
      }
    }
    const Rows gate = Times(x, p("gate"), kWidth, p("gate_bias"));
    Rows y = x;
    for (int t = 0; t < kLength; ++t) {
      for (int c = 0; c < kWidth; ++c) {
        double sum = is_long ? x[t][c] : p("filter_bias")[c];
        for (int j = 0; j < static_cast<int>(filter.size()) && j <= t; ++j) {
          sum += filter[j][c] * x[t - j][c];
        }
        // The layer's own addition, and the residual's.
        y[t][c] += sum * gate[t][c] + x[t][c];
      }
    }
    x = y;
  }
  for (int t = 0; t < kLength; ++t) {
    for (int c = 0; c < kWidth; ++c) {
      EXPECT_NEAR(actual[t][c], x[t][c], 1e-9 * (1 + std::abs(x[t][c])))
          << "token " << t << ", channel " << c;
    }
  }
}

}  // namespace
}  // namespace mneme
