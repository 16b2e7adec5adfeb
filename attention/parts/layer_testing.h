// SPDX-License-Identifier: Apache-2.0
//
// For tests of layers against the equations of their papers: a stack of them
// whose parameters are all drawn at random, and the steps that such equations
// are made of, on plain rows and for one sequence. The contract test compares
// an operator with its equations, but a layer with itself alone (forms,
// decoding, gradients).

#ifndef MNEME_ATTENTION_PARTS_LAYER_TESTING_H_
#define MNEME_ATTENTION_PARTS_LAYER_TESTING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::layer_testing {

constexpr int64_t kWidth = 6, kHeads = 2, kDim = kWidth / kHeads, kLength = 7;
constexpr int kLayers = 3;

using Rows = std::vector<std::vector<double>>;  // [kLength][channels]

// Layers mixer0, mixer1, ... with initial values as they are.
class Stack {
 public:
  explicit Stack(const std::string& variant, const OptionValues& values = {}) {
    const Variant& v = **Variants().Find(variant);
    MixerConfig config;
    config.width = kWidth;
    config.heads = kHeads;
    config.layers = kLayers;
    config.max_length = kLength;
    config.options = *Options::Parse(v.descriptor.options, values);
    config.parameters = &parameters_;
    for (config.layer = 0; config.layer < kLayers; ++config.layer) {
      config.name = absl::StrCat("mixer", config.layer);
      mixers_.push_back(*v.make_mixer(config));
    }
  }

  void Randomise() {
    for (const auto& parameter : parameters_.all()) {
      Random random(2, StreamId(parameter->name));
      double* x = parameter->value.data<double>();
      for (int64_t i = 0; i < parameter->value.elements(); ++i) {
        x[i] = 0.5 * random.Normal();
      }
    }
  }

  // Parameter `name` of a layer.
  const double* Of(int layer, const std::string& name) const {
    const std::string path = absl::StrCat("mixer", layer, ".", name);
    for (const auto& parameter : parameters_.all()) {
      if (parameter->name == path) return parameter->value.data<double>();
    }
    ADD_FAILURE() << "no parameter " << path;
    return nullptr;
  }

  // x through all layers, each of which adds to it.
  Rows Forward(const Rows& x) const {
    Arena arena;
    Tape tape(&arena, DType::kFloat64, nullptr);
    Tensor input(DType::kFloat64, {1, kLength, kWidth});
    for (int64_t t = 0; t < kLength; ++t) {
      std::copy_n(x[t].data(), kWidth, input.data<double>() + t * kWidth);
    }
    CrossLayer shared;
    Variable y = tape.Input(input);
    for (const auto& mixer : mixers_) {
      MixerCall call;
      call.residual = call.x = y;
      call.shared = &shared;
      y = mixer->Forward(call);
    }
    EXPECT_TRUE(tape.status().ok()) << tape.status();
    Rows rows;
    for (int64_t t = 0; t < kLength; ++t) {
      const double* row = y.value().data<double>() + t * kWidth;
      rows.emplace_back(row, row + kWidth);
    }
    return rows;
  }

 private:
  ParameterSet parameters_{DType::kFloat64, /*seed=*/1};
  std::vector<std::unique_ptr<Mixer>> mixers_;
};

inline Rows RandomRows() {
  Random random(3, StreamId("layer test"));
  Rows x(kLength, std::vector<double>(kWidth));
  for (auto& row : x) {
    for (double& value : row) value = random.Normal();
  }
  return x;
}

inline double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// f(x) for every entry.
template <typename F>
Rows Apply(Rows x, const F& f) {
  for (auto& row : x) {
    for (double& value : row) value = f(value);
  }
  return x;
}

// x W + bias, with W [channels of x, out] and bias [out] or null.
inline Rows Times(const Rows& x, const double* w, int64_t out,
                  const double* bias = nullptr) {
  Rows y;
  for (const auto& row : x) {
    std::vector<double> sums(out);
    for (int64_t j = 0; j < out; ++j) {
      if (bias != nullptr) sums[j] = bias[j];
      for (size_t i = 0; i < row.size(); ++i)
        sums[j] += row[i] * w[i * out + j];
    }
    y.push_back(sums);
  }
  return y;
}

// RWKV's token shift: (1 - mu) of the token and mu of the one before, where
// mu(t, c).
template <typename Mu>
Rows Mixed(const Rows& x, const Mu& mu) {
  Rows y = x;
  for (int64_t t = 0; t < kLength; ++t) {
    for (int64_t c = 0; c < kWidth; ++c) {
      const double before = t == 0 ? 0 : x[t - 1][c];
      y[t][c] = (1 - mu(t, c)) * x[t][c] + mu(t, c) * before;
    }
  }
  return y;
}
inline Rows Mixed(const Rows& x, const double* mu) {
  return Mixed(x, [mu](int64_t, int64_t c) { return mu[c]; });
}

// RWKV's norm: every head of every token to mean 0 and variance 1, then gain
// and bias.
inline Rows HeadNorm(Rows x, const double* gain, const double* bias) {
  for (auto& row : x) {
    for (int64_t h = 0; h < kWidth; h += kDim) {
      double mean = 0, variance = 0;
      for (int64_t c = h; c < h + kDim; ++c) mean += row[c] / kDim;
      for (int64_t c = h; c < h + kDim; ++c) {
        variance += (row[c] - mean) * (row[c] - mean) / kDim;
      }
      for (int64_t c = h; c < h + kDim; ++c) {
        row[c] =
            (row[c] - mean) / std::sqrt(variance + 64e-5) * gain[c] + bias[c];
      }
    }
  }
  return x;
}

inline void Accumulate(const Rows& from, Rows* to) {
  for (int64_t t = 0; t < kLength; ++t) {
    for (int64_t c = 0; c < kWidth; ++c) (*to)[t][c] += from[t][c];
  }
}

inline void ExpectNear(const Rows& actual, const Rows& expected) {
  for (int64_t t = 0; t < kLength; ++t) {
    for (int64_t c = 0; c < kWidth; ++c) {
      EXPECT_NEAR(actual[t][c], expected[t][c],
                  1e-10 * std::max(1.0, std::abs(expected[t][c])))
          << "token " << t << ", channel " << c;
    }
  }
}

// f(c) for every channel c.
template <typename F>
void ExpectChannels(const double* actual, const F& f) {
  for (int64_t c = 0; c < kWidth; ++c) {
    EXPECT_NEAR(actual[c], f(static_cast<double>(c)), 1e-12) << "channel " << c;
  }
}

}  // namespace mneme::layer_testing

#endif  // MNEME_ATTENTION_PARTS_LAYER_TESTING_H_
