// SPDX-License-Identifier: Apache-2.0
//
// The backbone through every variant that is linked in.

#include "harness/model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "attention/tensor/ops.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kVocabulary = 11, kLength = 9, kBatch = 2;

std::unique_ptr<Model> Make(const Variant& variant, const OptionValues& values,
                            DType dtype = DType::kFloat64) {
  OptionValues all = {{"width", "8"}};
  all.insert(all.end(), values.begin(), values.end());
  auto options = Options::Parse(ModelOptionSpecs(), all);
  EXPECT_TRUE(options.ok()) << options.status();
  auto defaults = Options::Parse(variant.descriptor.options);
  EXPECT_TRUE(defaults.ok()) << defaults.status();
  auto model = Model::Create(variant, *defaults, *options, kVocabulary, kLength,
                             dtype, /*seed=*/3);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

std::vector<int32_t> SomeTokens() {
  std::vector<int32_t> tokens;
  for (int i = 0; i < kBatch * kLength; ++i) tokens.push_back(i * 7 % 11);
  return tokens;
}

template <typename Body>
void ForEachModel(const Body& body) {
  for (const std::string& name : Variants().Names()) {
    for (const OptionValues& values :
         {OptionValues{},
          OptionValues{
              {"mlp_factor", "2"}, {"positions", "true"}, {"short_conv", "0"}},
          OptionValues{
              {"mlp", "swiglu"}, {"mlp_factor", "1"}, {"norm_bias", "true"}},
          OptionValues{{"mlp", "norm"}, {"init", "normal"}}}) {
      SCOPED_TRACE(name);
      body(**Variants().Find(name), values);
    }
  }
}

// Logits of two positions of the second sequence, of which one token is
// replaced.
std::vector<double> LogitsWith(const Model& model, int changed, int32_t token) {
  std::vector<int32_t> tokens = SomeTokens();
  tokens[kLength + changed] = token;
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  Variable logits = model.Logits(
      model.Hidden(&tape, tokens, kBatch, kLength, Form::kChunked, nullptr),
      {kLength + 2, kLength + 5});
  EXPECT_TRUE(logits.valid()) << tape.status();
  const double* values = logits.value().data<double>();
  return {values, values + logits.value().elements()};
}

double Loss(const Model& model, GradientBuffer* gradients) {
  const std::vector<int64_t> rows = {2, 5, 16};
  const std::vector<int32_t> labels = {1, 0, 10};
  Arena arena;
  Tape tape(&arena, DType::kFloat64, gradients);
  Variable hidden = model.Hidden(&tape, SomeTokens(), kBatch, kLength,
                                 Form::kChunked, nullptr);
  Variable loss = CrossEntropy(model.Logits(hidden, rows), labels, 1.0);
  EXPECT_TRUE(loss.valid()) << tape.status();
  if (gradients != nullptr) {
    EXPECT_TRUE(tape.Backward(loss).ok());
  }
  return loss.value().data<double>()[0];
}

// Compares some entries of each parameter's gradient, about `checked` of them.
void ExpectGradientsOfLoss(const Model& model, int64_t checked) {
  GradientBuffer gradients(model.parameters());
  Loss(model, &gradients);
  for (const auto& p : model.parameters().all()) {
    const int64_t n = p->value.elements();
    for (int64_t i = 0; i < n; i += std::max<int64_t>(1, n / checked)) {
      double& w = p->value.data<double>()[i];
      const double kept = w;
      constexpr double kStep = 1e-6;
      w = kept + kStep;
      const double above = Loss(model, nullptr);
      w = kept - kStep;
      const double below = Loss(model, nullptr);
      w = kept;
      const double numeric = (above - below) / (2 * kStep);
      ASSERT_NEAR(gradients.Of(*p).data<double>()[i], numeric,
                  1e-5 + 1e-3 * std::abs(numeric))
          << p->name << " entry " << i;
    }
  }
}

TEST(Model, GradientsEqualCentralDifferences) {
  ForEachModel([](const Variant& variant, const OptionValues& values) {
    ExpectGradientsOfLoss(*Make(variant, values), 5);
  });
}

std::unique_ptr<Model> MakeLastPositionModel() {
  const Variant& variant = **Variants().Find("softmax");
  auto model = Model::Create(
      variant, *Options::Parse(variant.descriptor.options),
      *Options::Parse(ModelOptionSpecs(), {{"width", "8"}}), kVocabulary,
      kLength, DType::kFloat64, /*seed=*/3, Readout::kLastPosition);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

// Positions before the last change a causal model's own states, but what is
// asked of the last one knows all of them.
TEST(Model, TheLastPositionAnswersForAll) {
  const auto last = MakeLastPositionModel();
  const auto each = Make(**Variants().Find("softmax"), {});
  // Behind both positions asked for: only the last position sees it.
  EXPECT_EQ(LogitsWith(*each, 7, 1), LogitsWith(*each, 7, 2));
  EXPECT_NE(LogitsWith(*last, 7, 1), LogitsWith(*last, 7, 2));
  // From one state different positions are read differently.
  const std::vector<double> logits = LogitsWith(*last, 7, 1);
  EXPECT_NE(std::vector<double>(logits.begin(), logits.begin() + kVocabulary),
            std::vector<double>(logits.begin() + kVocabulary, logits.end()));
}

TEST(Model, GradientsOfTheLastPositionEqualCentralDifferences) {
  ExpectGradientsOfLoss(*MakeLastPositionModel(), 40);
}

TEST(Model, DecodesAsItPrefills) {
  ForEachModel([](const Variant& variant, const OptionValues& values) {
    const auto model = Make(variant, values);
    if (!variant.descriptor.streaming) {
      EXPECT_EQ(model->NewState(1), nullptr);
      return;
    }
    std::vector<int32_t> sequence;
    for (int i = 0; i < kLength; ++i) sequence.push_back(i * 5 % 11);
    Arena arena;
    Tape tape(&arena, DType::kFloat64, nullptr);
    const Tensor whole =
        model->Hidden(&tape, sequence, 1, kLength, Form::kParallel, nullptr)
            .value();
    auto state = model->NewState(1);
    for (int t = 0; t < kLength; ++t) {
      Variable h = model->Hidden(&tape, {sequence[t]}, 1, 1, Form::kRecurrent,
                                 state.get());
      ASSERT_TRUE(h.valid()) << tape.status();
      for (int c = 0; c < 8; ++c) {
        ASSERT_NEAR(h.value().data<double>()[c],
                    whole.data<double>()[t * 8 + c], 1e-10)
            << "token " << t;
      }
    }
    EXPECT_GT(state->SerializedBytes(), 0);
  });
}

// The standard deviation of a parameter's values.
double Deviation(const Model& model, const std::string& name) {
  for (const auto& p : model.parameters().all()) {
    if (p->name != name) continue;
    double sum = 0;
    for (double x : p->value.ToDoubles()) sum += x * x;
    return std::sqrt(sum / p->value.elements());
  }
  ADD_FAILURE() << "no parameter " << name;
  return 0;
}

TEST(Model, NormalInitDrawsEveryDenseLayerAgain) {
  const OptionValues size = {{"width", "64"}, {"layers", "2"}};
  const auto make = [&](const std::string& variant, const std::string& init) {
    OptionValues values = size;
    values.insert(values.end(), {{"init", init}, {"mlp_factor", "1"}});
    return Make(**Variants().Find(variant), values);
  };
  const double own = 1 / std::sqrt(3.0 * 64);  // uniform on +-in^-1/2
  auto model = make("softmax", "own");
  EXPECT_NEAR(Deviation(*model, "block0.mixer.query"), own, 0.05 * own);
  model = make("softmax", "normal");
  for (const std::string block : {"block0", "block1"}) {
    EXPECT_NEAR(Deviation(*model, block + ".mixer.query"), 0.02, 0.001);
    EXPECT_NEAR(Deviation(*model, block + ".mlp_in"), 0.02, 0.001);
    EXPECT_NEAR(Deviation(*model, block + ".mixer.out"), 0.01, 0.0005);
    EXPECT_NEAR(Deviation(*model, block + ".mlp_out"), 0.01, 0.0005);
  }
  model = Make(**Variants().Find("softmax"),
               {{"width", "64"}, {"init", "normal"}, {"init_layers", "8"}});
  EXPECT_NEAR(Deviation(*model, "block0.mixer.out"), 0.005, 0.00025);
  EXPECT_EQ(Deviation(*make("hyena", "normal"), "block0.mixer.out_bias"), 0);
  EXPECT_NE(Deviation(*make("hyena", "own"), "block0.mixer.out_bias"), 0);
  // RWKV-4's own starts with zeros.
  EXPECT_EQ(Deviation(*make("rwkv4", "own"), "block0.mixer.key"), 0);
  model = make("rwkv4", "uniform");
  EXPECT_NEAR(Deviation(*model, "block0.mixer.key"), own, 0.05 * own);
  EXPECT_NEAR(Deviation(*model, "block1.mixer.out"), own, 0.05 * own);
  // RWKV-7's output starts with zeros.
  EXPECT_EQ(Deviation(*make("rwkv7", "own"), "block0.mixer.out"), 0);
  model = make("rwkv7", "normal");
  EXPECT_NEAR(Deviation(*model, "block0.mixer.receptance"), 0.02, 0.001);
  EXPECT_NEAR(Deviation(*model, "block0.mixer.out"), 0.01, 0.0005);
}

TEST(Model, TheIdentityForAnMlpAddsTheNorm) {
  const Variant& softmax = **Variants().Find("softmax");
  const auto model = Make(softmax, {{"layers", "1"}, {"mlp", "norm"}});
  const auto without = Make(softmax, {{"layers", "1"}});
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  const auto hidden = [&](const Model& m) {
    return m
        .Hidden(&tape, SomeTokens(), kBatch, kLength, Form::kChunked, nullptr)
        .value()
        .ToDoubles();
  };
  const std::vector<double> x = hidden(*without), y = hidden(*model);
  for (size_t row = 0; row < x.size(); row += 8) {
    double mean = 0, square = 0;
    for (int c = 0; c < 8; ++c) mean += x[row + c] / 8;
    for (int c = 0; c < 8; ++c) {
      square += (x[row + c] - mean) * (x[row + c] - mean) / 8;
    }
    for (int c = 0; c < 8; ++c) {
      const double norm = (x[row + c] - mean) / std::sqrt(square + 1e-5);
      ASSERT_NEAR(y[row + c], x[row + c] + norm, 1e-10);
    }
  }
}

TEST(Model, RefusesHeadsThatDoNotDivideTheWidth) {
  const Variant& variant = **Variants().Find("softmax");
  auto options =
      Options::Parse(ModelOptionSpecs(), {{"width", "10"}, {"heads", "4"}});
  auto model =
      Model::Create(variant, *Options::Parse(variant.descriptor.options),
                    *options, kVocabulary, kLength, DType::kFloat32, 0);
  EXPECT_FALSE(model.ok());
  EXPECT_NE(model.status().message().find("model.heads"),
            absl::string_view::npos);
}

}  // namespace
}  // namespace mneme
