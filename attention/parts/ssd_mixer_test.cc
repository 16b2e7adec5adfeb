// SPDX-License-Identifier: Apache-2.0
//
// Mamba-2's layer against its equations, with its own recurrence and with that
// of log-linear attention.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "attention/parts/layer_testing.h"
#include "gtest/gtest.h"

namespace mneme::layer_testing {
namespace {

constexpr int64_t kState = 5, kTaps = 4, kInner = 2 * kWidth;
constexpr int64_t kHeadDim = kInner / kHeads;

double Silu(double x) { return x * Sigmoid(x); }
double Softplus(double x) { return std::log1p(std::exp(x)); }

// The convolution of every channel with its taps, newest token first.
Rows Convolved(const Rows& x, const double* taps, const double* bias) {
  Rows y = x;
  const int64_t channels = x[0].size();
  for (int64_t t = 0; t < kLength; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      y[t][c] = bias[c];
      for (int64_t i = 0; i < kTaps && i <= t; ++i) {
        y[t][c] += taps[i * channels + c] * x[t - i][c];
      }
    }
  }
  return y;
}

// weight(layer, u, t, j, head): of token j in what t reads, beside the decay.
template <typename Weight>
void ExpectLayers(const std::string& variant, const Weight& weight) {
  Stack stack(variant, {{"state_dim", std::to_string(kState)},
                        {"conv", std::to_string(kTaps)}});
  stack.Randomise();
  Rows u = RandomRows();
  const Rows actual = stack.Forward(u);
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto p = [&](const std::string& name) {
      return stack.Of(layer, name);
    };
    const auto path = [&](const std::string& name, int64_t out) {
      return Apply(Convolved(Times(u, p(name), out), p(name + "_conv"),
                             p(name + "_conv_bias")),
                   Silu);
    };
    const Rows x = path("x", kInner), b = path("b", kState),
               c = path("c", kState);
    const Rows z = Times(u, p("z"), kInner);
    const Rows dt = Apply(Times(u, p("dt"), kHeads, p("dt_bias")), Softplus);
    Rows y(kLength, std::vector<double>(kInner));
    for (int64_t t = 0; t < kLength; ++t) {
      double square = 0;
      for (int64_t i = 0; i < kInner; ++i) {
        const int64_t h = i / kHeadDim;
        double log_decay = 0, sum = p("d")[h] * x[t][i];
        for (int64_t j = t; j >= 0; --j) {
          double score = 0;
          for (int64_t n = 0; n < kState; ++n) score += c[t][n] * b[j][n];
          sum += weight(stack, layer, u, t, j, h) * std::exp(log_decay) *
                 score * dt[j][h] * x[j][i];
          log_decay -= std::exp(p("a_log")[h]) * dt[j][h];
        }
        y[t][i] = sum * Silu(z[t][i]);
        square += y[t][i] * y[t][i] / kInner;
      }
      for (int64_t i = 0; i < kInner; ++i) {
        y[t][i] *= p("norm")[i] / std::sqrt(square + 1e-5);
      }
    }
    Accumulate(Times(y, p("out"), kWidth), &u);
  }
  ExpectNear(actual, u);
}

TEST(SsdMixer, Mamba2IsWhatThePaperDefines) {
  ExpectLayers("mamba2", [](const Stack&, int, const Rows&, int64_t, int64_t,
                            int64_t) { return 1.0; });
}

TEST(SsdMixer, LogLinearIsWhatThePaperDefines) {
  constexpr int64_t kLevels = 4;  // of positions 0 to 6
  ExpectLayers("log_linear", [](const Stack& stack, int layer, const Rows& u,
                                int64_t t, int64_t j, int64_t h) {
    // A bucket is what one of the steps p -> p without its lowest set bit
    // passes over, from p = t down; its level is that bit's number, from 1 on.
    int64_t level = 0;
    for (int64_t end = t; j < end; end &= end - 1) {
      level = 1;
      while ((end >> (level - 1)) % 2 == 0) ++level;
      if (j >= (end & (end - 1))) break;
    }
    double sum = 0;
    for (int64_t i = 0; i < kWidth; ++i) {
      sum += u[t][i] *
             stack.Of(layer, "lambda")[(i * kHeads + h) * kLevels + level];
    }
    return Softplus(stack.Of(layer, "lambda_factor")[h * kLevels + level] *
                    sum);
  });
}

}  // namespace
}  // namespace mneme::layer_testing
