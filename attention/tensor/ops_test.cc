// SPDX-License-Identifier: Apache-2.0
//
// Every operation: its value against a direct computation, its gradients
// against central differences in float64, and its refusal of wrong shapes.

#include "attention/tensor/ops.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using Function = std::function<Variable(const std::vector<Variable>&)>;

Tensor Normals(const Shape& shape, uint64_t seed) {
  Tensor x(DType::kFloat64, shape);
  Random random(seed, StreamId("ops_test"));
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.data<double>()[i] = random.Normal();
  }
  return x;
}

double Dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    sum += a.data<double>()[i] * b.data<double>()[i];
  }
  return sum;
}

// Checks d sum(f(inputs) * seed) / d inputs for a random seed, with each input
// used once and then with f applied twice and added, which exercises adding to
// gradients that are not fresh.
void CheckGradients(const std::vector<Tensor>& inputs, const Function& f) {
  for (bool twice : {false, true}) {
    const auto evaluate = [&](Tape* tape, std::vector<Variable>* leaves) {
      for (const Tensor& x : inputs) leaves->push_back(tape->Input(x, true));
      Variable y = f(*leaves);
      return twice ? Add(y, f(*leaves)) : y;
    };
    Arena arena;
    Tape tape(&arena, DType::kFloat64, nullptr);
    std::vector<Variable> leaves;
    Variable y = evaluate(&tape, &leaves);
    ASSERT_TRUE(y.valid()) << tape.status();
    const Tensor seed = Normals(y.shape(), 99);
    ASSERT_TRUE(tape.Backward(y, seed).ok());
    const auto loss = [&]() {
      Arena scratch;
      Tape forward(&scratch, DType::kFloat64, nullptr);
      std::vector<Variable> ignored;
      return Dot(evaluate(&forward, &ignored).value(), seed);
    };
    constexpr double kStep = 1e-6;
    for (size_t i = 0; i < inputs.size(); ++i) {
      for (int64_t j = 0; j < inputs[i].elements(); ++j) {
        double& x = inputs[i].data<double>()[j];
        const double kept = x;
        x = kept + kStep;
        const double above = loss();
        x = kept - kStep;
        const double below = loss();
        x = kept;
        const double numeric = (above - below) / (2 * kStep);
        ASSERT_NEAR(leaves[i].gradient().data<double>()[j], numeric,
                    1e-5 + 1e-3 * std::abs(numeric))
            << "input " << i << ", entry " << j << (twice ? ", twice" : "");
      }
    }
  }
}

TEST(Ops, LinearMultipliesAndAddsBias) {
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  Variable x = tape.Input(Tensor::FromValues<double>({1, 2}, {2, 3}));
  Variable w = tape.Input(Tensor::FromValues<double>({2, 2}, {1, 10, 100, 7}));
  Variable b = tape.Input(Tensor::FromValues<double>({2}, {0.5, -1}));
  EXPECT_EQ(Linear(x, w, b).value().ToDoubles(),
            (std::vector<double>{302.5, 40}));
  EXPECT_EQ(LinearResidual(x, x, w).value().ToDoubles(),
            (std::vector<double>{304, 44}));
  EXPECT_EQ(LinearTransposed(x, w).value().ToDoubles(),
            (std::vector<double>{32, 221}));
}

TEST(Ops, LinearGradients) {
  CheckGradients({Normals({2, 3, 4}, 1), Normals({4, 5}, 2), Normals({5}, 3)},
                 [](const auto& v) { return Linear(v[0], v[1], v[2]); });
  CheckGradients(
      {Normals({3, 5}, 1), Normals({3, 4}, 2), Normals({4, 5}, 3)},
      [](const auto& v) { return LinearResidual(v[0], v[1], v[2]); });
  CheckGradients({Normals({3, 4}, 1), Normals({6, 4}, 2)},
                 [](const auto& v) { return LinearTransposed(v[0], v[1]); });
}

TEST(Ops, ElementwiseGradients) {
  CheckGradients({Normals({2, 7}, 1), Normals({2, 7}, 2)},
                 [](const auto& v) { return Multiply(v[0], v[1]); });
  CheckGradients({Normals({2, 7}, 1)},
                 [](const auto& v) { return Multiply(v[0], v[0]); });
  CheckGradients({Normals({2, 7}, 1), Normals({2, 7}, 2)},
                 [](const auto& v) { return SiluGate(v[0], v[1]); });
  CheckGradients({Normals({9}, 3)},
                 [](const auto& v) { return Scale(v[0], -2.5); });
  // A factor for each row, and for each of two rows in turn.
  CheckGradients({Normals({3, 2, 5}, 1), Normals({3, 2}, 2)},
                 [](const auto& v) { return ScaleRows(v[0], v[1]); });
  CheckGradients({Normals({3, 2, 5}, 1), Normals({2}, 2)},
                 [](const auto& v) { return ScaleRows(v[0], v[1]); });
  for (kernels::Unary f :
       {kernels::Unary::kExp, kernels::Unary::kSigmoid, kernels::Unary::kSilu,
        kernels::Unary::kGelu, kernels::Unary::kTanh, kernels::Unary::kSoftplus,
        kernels::Unary::kLogSigmoid, kernels::Unary::kEluPlusOne,
        kernels::Unary::kSquare, kernels::Unary::kSin}) {
    CheckGradients({Normals({17}, 4)},
                   [f](const auto& v) { return Map(f, v[0]); });
  }
}

TEST(Ops, NormGradients) {
  CheckGradients({Normals({4, 6}, 1), Normals({6}, 2), Normals({6}, 3)},
                 [](const auto& v) {
                   return Norm(kernels::NormKind::kLayer, v[0], v[1], v[2],
                               1e-5);
                 });
  CheckGradients({Normals({4, 6}, 1)}, [](const auto& v) {
    return Norm(kernels::NormKind::kRms, v[0], {}, {}, 1e-6);
  });
}

TEST(Ops, CausalConvGradients) {
  CheckGradients({Normals({2, 5, 3}, 1), Normals({4, 3}, 2), Normals({3}, 3)},
                 [](const auto& v) { return CausalConv(v[0], v[1], v[2]); });
  CheckGradients({Normals({2, 2, 3}, 1), Normals({4, 3}, 2)},
                 [](const auto& v) { return CausalConv(v[0], v[1]); });
}

TEST(Ops, RotaryKeepsLengthsAndHasTheRightGradient) {
  const auto frequencies = kernels::RotaryFrequencies(6);
  for (auto pairing :
       {kernels::RotaryPairing::kAdjacent, kernels::RotaryPairing::kHalves}) {
    const Tensor x = Normals({2, 4, 3, 6}, 1);
    Arena arena;
    Tape tape(&arena, DType::kFloat64, nullptr);
    const Tensor y = Rotary(tape.Input(x), frequencies, pairing, 11).value();
    EXPECT_NEAR(Dot(x, x), Dot(y, y), 1e-10);
    CheckGradients({x}, [&](const auto& v) {
      return Rotary(v[0], frequencies, pairing, 11);
    });
  }
}

TEST(Ops, LookupGradients) {
  const std::vector<int32_t> ids = {3, 0, 3, 1};  // row 3 twice
  CheckGradients({Normals({4, 3}, 1)},
                 [&](const auto& v) { return Embedding(v[0], ids, 2, 2); });
  const std::vector<int64_t> rows = {4, 4, 0};
  CheckGradients({Normals({5, 3}, 1)},
                 [&](const auto& v) { return GatherRows(v[0], rows); });
}

TEST(Ops, DropoutDropsAPartAndKeepsTheMean) {
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  constexpr int kNumbers = 40000;
  Tensor ones(DType::kFloat64, {4, kNumbers / 4});
  for (int i = 0; i < kNumbers; ++i) ones.data<double>()[i] = 1;
  const Variable x = tape.Input(ones);
  const std::vector<double> y = Dropout(x, 0.25, 1, 0).value().ToDoubles();
  double sum = 0;
  int dropped = 0;
  for (double value : y) {
    sum += value;
    dropped += value == 0;
    EXPECT_TRUE(value == 0 || std::abs(value - 1 / 0.75) < 1e-12);
  }
  // Within five standard deviations.
  EXPECT_NEAR(dropped, 0.25 * kNumbers, 5 * std::sqrt(0.1875 * kNumbers));
  EXPECT_NEAR(sum, (kNumbers - dropped) / 0.75, 1e-6);
  EXPECT_EQ(Dropout(x, 0, 1, 0).value().ToDoubles(), ones.ToDoubles());
  CheckGradients({Normals({2, 3, 5}, 1)},
                 [](const auto& v) { return Dropout(v[0], 0.5, 3, 7); });
  EXPECT_FALSE(Dropout(x, 1, 1, 0).valid());
  EXPECT_FALSE(tape.status().ok());
}

TEST(Ops, DropoutDependsOnTheSequencesNumberAlone) {
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  const Tensor x = Normals({6, 10, 2}, 1);
  const auto drop = [&](const Tensor& part, uint64_t seed, uint64_t first) {
    return Dropout(tape.Input(part), 0.5, seed, first).value().ToDoubles();
  };
  const std::vector<double> whole = drop(x, 3, 100);
  std::vector<double> parts = drop(x.Slice(0, {2, 10, 2}), 3, 100);
  const std::vector<double> rest = drop(x.Slice(40, {4, 10, 2}), 3, 102);
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
  EXPECT_NE(drop(x, 3, 106), whole);
  EXPECT_NE(drop(x, 4, 100), whole);
}

TEST(Ops, CrossEntropyValueAndGradient) {
  const std::vector<int32_t> labels = {1, 0};
  Arena arena;
  Tape tape(&arena, DType::kFloat64, nullptr);
  Variable logits =
      tape.Input(Tensor::FromValues<double>({2, 2}, {0, 0, 0, std::log(3)}));
  std::vector<double> losses;
  std::vector<int32_t> predictions;
  Variable loss = CrossEntropy(logits, labels, 0.5, &losses, &predictions);
  EXPECT_NEAR(losses[0], std::log(2), 1e-12);
  EXPECT_NEAR(losses[1], std::log(4), 1e-12);
  EXPECT_NEAR(loss.value().ToDoubles()[0], 0.5 * std::log(8), 1e-12);
  EXPECT_EQ(predictions, (std::vector<int32_t>{0, 1}));
  CheckGradients({Normals({3, 5}, 1)}, [](const auto& v) {
    return CrossEntropy(v[0], {4, 0, 2}, 0.25);
  });
}

TEST(Ops, WrongShapesFailTheTapeOnceAndCalmly) {
  Arena arena;
  Tape tape(&arena, DType::kFloat32, nullptr);
  Variable x = tape.Input(Tensor(DType::kFloat32, {2, 3}));
  Variable w = tape.Input(Tensor(DType::kFloat32, {4, 5}));
  Variable bad = Linear(x, w);
  EXPECT_FALSE(bad.valid());
  const std::string first(tape.status().message());
  EXPECT_NE(first.find("[2, 3]"), std::string::npos) << first;
  EXPECT_NE(first.find("[4, 5]"), std::string::npos) << first;
  // Everything built on the failure is invalid too, and the first error stays.
  EXPECT_FALSE(Map(kernels::Unary::kExp, Add(bad, x)).valid());
  EXPECT_FALSE(Multiply(x, w).valid());
  EXPECT_FALSE(ScaleRows(x, w).valid());
  EXPECT_EQ(tape.status().message(), first);
  EXPECT_FALSE(tape.Backward(bad).ok());
  tape.Reset();
  EXPECT_TRUE(tape.status().ok());
}

TEST(Ops, OutOfRangeIdsAreErrors) {
  Arena arena;
  Tape tape(&arena, DType::kFloat32, nullptr);
  Variable table = tape.Input(Tensor(DType::kFloat32, {4, 2}));
  EXPECT_FALSE(Embedding(table, {0, 4}, 1, 2).valid());
  tape.Reset();
  table = tape.Input(Tensor(DType::kFloat32, {4, 2}));
  EXPECT_FALSE(GatherRows(table, {-1}).valid());
  tape.Reset();
  table = tape.Input(Tensor(DType::kFloat32, {4, 2}));
  EXPECT_FALSE(CrossEntropy(table, {0, 1, 2, 0}, 1).valid());
}

TEST(Tape, ParameterGradientsAddUpInTheBuffer) {
  ParameterSet parameters(DType::kFloat64, /*seed=*/1);
  Parameter* w = parameters.Add("w", {2, 2}, Init::Normal(1));
  Parameter* unused = parameters.Add("unused", {3}, Init::Constant(2));
  GradientBuffer gradients(parameters);
  Arena arena;
  Tape tape(&arena, DType::kFloat64, &gradients);
  Variable x = tape.Input(Tensor::FromValues<double>({1, 2}, {1, 2}));
  Variable y = Add(Linear(x, tape.Use(*w)), Linear(x, tape.Use(*w)));
  const Tensor seed = Tensor::FromValues<double>({1, 2}, {1, 10});
  ASSERT_TRUE(tape.Backward(y, seed).ok());
  EXPECT_EQ(gradients.Of(*w).ToDoubles(), (std::vector<double>{2, 20, 4, 40}));
  EXPECT_EQ(gradients.Of(*unused).ToDoubles(), std::vector<double>(3, 0.0));
}

TEST(Tape, RepeatedBackwardIsBitEqual) {
  ParameterSet parameters(DType::kFloat32, /*seed=*/1);
  Parameter* w = parameters.Add("w", {33, 17}, Init::Normal(1));
  std::vector<std::vector<double>> results;
  for (int run = 0; run < 2; ++run) {
    GradientBuffer gradients(parameters);
    Arena arena;
    Tape tape(&arena, DType::kFloat32, &gradients);
    Variable x = tape.Input(Normals({50, 33}, 1).Cast(DType::kFloat32));
    Variable y = Map(kernels::Unary::kGelu, Linear(x, tape.Use(*w)));
    ASSERT_TRUE(
        tape.Backward(y, Normals(y.shape(), 2).Cast(DType::kFloat32)).ok());
    results.push_back(gradients.flat().ToDoubles());
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(ParameterSet, DrawsByNameAndPrecisionAgrees) {
  ParameterSet one(DType::kFloat64, 7), two(DType::kFloat32, 7);
  one.Add("a", {5}, Init::Normal(1));
  const Parameter* b = one.Add("b", {64}, Init::Uniform(0.5));
  const Parameter* same = two.Add("b", {64}, Init::Uniform(0.5));
  for (int i = 0; i < 64; ++i) {
    EXPECT_LE(std::abs(b->value.data<double>()[i]), 0.5);
    EXPECT_EQ(static_cast<float>(b->value.data<double>()[i]),
              same->value.data<float>()[i]);
  }
  EXPECT_EQ(one.elements(), 69);
  EXPECT_EQ(b->offset, 5);
  one.Redraw(Init::Uniform(0.25), one.all()[1].get());
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(static_cast<float>(2 * b->value.data<double>()[i]),
              same->value.data<float>()[i]);
  }
}

}  // namespace
}  // namespace mneme
