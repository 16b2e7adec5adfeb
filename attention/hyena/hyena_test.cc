// SPDX-License-Identifier: Apache-2.0
//
// What the contract test cannot know: the filter and the layer against their
// definitions, that the filter does not depend on the sequence, and what is
// refused.

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "attention/hyena/implicit_filter.h"
#include "attention/parts/layer_testing.h"
#include "attention/variant.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kLongest = 11, kWidth = 4, kHidden = 5;

const Variant& Hyena() { return **Variants().Find("hyena"); }

MixerConfig Config(ParameterSet* parameters) {
  MixerConfig config;
  config.width = kWidth;
  config.max_length = kLongest;
  config.options = *Options::Parse(Hyena().descriptor.options);
  config.name = "m";
  config.parameters = parameters;
  return config;
}

// The first rows of the filter.
std::vector<double> Rows(const ImplicitFilter& filter, int64_t length) {
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  Variable rows = filter.Rows(&tape, length);
  EXPECT_TRUE(rows.valid()) << tape.status();
  return rows.valid() ? rows.value().ToDoubles() : std::vector<double>();
}

// The filter at u of the longest sequence, whose features are x, for parameters
// of(name).
template <typename Of>
std::vector<double> DefinedRow(const Of& of, std::vector<double> x, double u,
                               int64_t hidden, int64_t width) {
  for (const std::string layer :
       {"filter_layer0", "filter_layer1", "filter_layer2"}) {
    std::vector<double> y(hidden);
    for (int64_t j = 0; j < hidden; ++j) {
      y[j] = of(layer + "_bias")[j];
      for (size_t i = 0; i < x.size(); ++i) {
        y[j] += x[i] * of(layer)[i * hidden + j];
      }
      y[j] = std::sin(of("filter_frequency")[j] * y[j]);
    }
    x = y;
  }
  std::vector<double> row(width);
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t i = 0; i < hidden; ++i) {
      row[c] += x[i] * of("filter_out")[i * width + c];
    }
    // Between 1% after 1.5 and after 0.3 sequences.
    const double rate = 1 / 1.5 + c / (width - 1.0) * (1 / 0.3 - 1 / 1.5);
    row[c] *= std::pow(0.01, rate * u);
  }
  return row;
}

TEST(ImplicitFilter, IsWhatThePaperDefines) {
  ParameterSet parameters(DType::kFloat64, /*seed=*/3);
  const ImplicitFilter filter(Config(&parameters), kHidden, /*frequency=*/2);
  std::map<std::string, const double*> p;
  for (const auto& parameter : parameters.all()) {
    // Unlike its neighbours' of the same kind.
    for (int64_t i = 0; parameter->name == "m.filter_frequency" && i < kHidden;
         ++i) {
      EXPECT_EQ(parameter->value.data<double>()[i], 2);
      parameter->value.data<double>()[i] += 0.1 * i;
    }
    p[parameter->name] = parameter->value.data<double>();
    EXPECT_FALSE(parameter->decay) << parameter->name;
    EXPECT_DOUBLE_EQ(parameter->learning_rate_scale,
                     parameter->name == "m.filter_positions" ? 0.01 : 1);
  }
  const double pi = std::acos(-1.0);
  const std::vector<double> actual = Rows(filter, kLongest);
  for (int64_t t = 0; t < kLongest; ++t) {
    const double phase = 1e-4 * 2 * pi * t / kLongest;
    const std::vector<double> row =
        DefinedRow([&](const std::string& name) { return p["m." + name]; },
                   {t / (kLongest - 1.0), std::cos(phase), -std::sin(phase)},
                   t / (kLongest - 1.0), kHidden, kWidth);
    for (int64_t c = 0; c < kWidth; ++c) {
      EXPECT_NEAR(actual[t * kWidth + c], row[c], 1e-12)
          << "position " << t << ", channel " << c;
    }
  }
}

TEST(Hyena, LayersAreWhatThePaperDefines) {
  using layer_testing::kLength, layer_testing::kWidth, layer_testing::Times;
  constexpr int64_t kTaps = 3;
  layer_testing::Stack stack("hyena",
                             {{"filter_width", std::to_string(kHidden)}});
  stack.Randomise();
  layer_testing::Rows x = layer_testing::RandomRows();
  const layer_testing::Rows actual = stack.Forward(x);
  for (int layer = 0; layer < layer_testing::kLayers; ++layer) {
    const auto p = [&](const std::string& name) {
      return stack.Of(layer, name);
    };
    // Projected, then convolved with three taps.
    const auto path = [&](const std::string& name) {
      const layer_testing::Rows from =
          Times(x, p(name), kWidth, p(name + "_bias"));
      layer_testing::Rows to = from;
      for (int64_t t = 0; t < kLength; ++t) {
        for (int64_t c = 0; c < kWidth; ++c) {
          to[t][c] = p(name + "_conv_bias")[c];
          for (int64_t i = 0; i < kTaps && i <= t; ++i) {
            to[t][c] += p(name + "_conv")[i * kWidth + c] * from[t - i][c];
          }
        }
      }
      return to;
    };
    const layer_testing::Rows x0 = path("x0"), x1 = path("x1"),
                              v = path("value");
    layer_testing::Rows h, y = x0;
    for (int64_t t = 0; t < kLength; ++t) {
      // Positions are trained: their features are drawn at random here.
      const double* position = p("filter_positions") + 3 * t;
      h.push_back(DefinedRow(p, {position, position + 3}, t / (kLength - 1.0),
                             kHidden, kWidth));
    }
    for (int64_t t = 0; t < kLength; ++t) {
      for (int64_t c = 0; c < kWidth; ++c) {
        double sum = p("bias")[c] * x1[t][c] * v[t][c];
        for (int64_t s = 0; s <= t; ++s) {
          sum += h[t - s][c] * x1[s][c] * v[s][c];
        }
        y[t][c] = x0[t][c] * sum;
      }
    }
    layer_testing::Accumulate(Times(y, p("out"), kWidth, p("out_bias")), &x);
  }
  layer_testing::ExpectNear(actual, x);
}

TEST(ImplicitFilter, DependsOnTheLongestSequenceAndNotOnThisOne) {
  ParameterSet parameters(DType::kFloat64, /*seed=*/3);
  const ImplicitFilter filter(Config(&parameters), kHidden, 1);
  std::vector<double> all = Rows(filter, kLongest);
  all.resize(3 * kWidth);
  EXPECT_EQ(Rows(filter, 3), all);
}

TEST(Hyena, AFilterShorterThanTheSequenceIsRefused) {
  auto op = Hyena().make_operator(*Options::Parse(Hyena().descriptor.options));
  ASSERT_TRUE(op.ok()) << op.status();
  Dims dims;
  dims.length = 4;
  dims.value_dim = 2;
  dims.own['S'] = 5;
  const auto inputs =
      RandomInputs((*op)->Inputs(), dims, DType::kFloat32, /*seed=*/1);
  auto state = (*op)->NewState(dims, DType::kFloat32);
  const auto run = [&]() {
    OperatorCall call;
    call.inputs = inputs;
    call.state = state.get();
    return RunOperator(**op, &call);
  };
  EXPECT_TRUE(run().ok());
  const absl::Status status = run();  // tokens 5 to 8
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("h has 5 taps for a sequence of 8 tokens"));
  // And changed nothing.
  EXPECT_EQ(state->bytes(), state->BytesAfter(4));
}

TEST(Hyena, ALayerKnowsItsLongestSequence) {
  ParameterSet parameters(DType::kFloat32, /*seed=*/3);
  MixerConfig config = Config(&parameters);
  auto mixer = Hyena().make_mixer(config);
  ASSERT_TRUE(mixer.ok()) << mixer.status();
  const auto pass = [&](int64_t length) {
    Arena arena;
    Tape tape(&arena, DType::kFloat32, nullptr);
    CrossLayer shared;
    MixerCall call;
    call.x = call.residual =
        tape.Input(Tensor(DType::kFloat32, {1, length, kWidth}));
    call.shared = &shared;
    (*mixer)->Forward(call);
    return tape.status();
  };
  EXPECT_TRUE(pass(kLongest).ok());
  EXPECT_THAT(std::string(pass(kLongest + 1).message()),
              testing::HasSubstr("made for 11 tokens"));
  config.max_length = 0;
  config.name = "unbounded";
  EXPECT_FALSE(Hyena().make_mixer(config).ok());
}

}  // namespace
}  // namespace mneme
