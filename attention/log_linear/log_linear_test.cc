// SPDX-License-Identifier: Apache-2.0
//
// What the contract test cannot see, whose sequences have all levels that they
// need: that fewer are right as well, and more; that the state has a matrix for
// each bit of the position, and that it stops growing where the levels end.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kLength = 77;

std::unique_ptr<Operator> NewOperator() {
  const Variant& variant = **Variants().Find("log_linear");
  const auto options =
      Options::Parse(variant.descriptor.options, {{"chunk", "16"}});
  EXPECT_TRUE(options.ok()) << options.status();
  return *variant.make_operator(*options);
}

Dims DimsOf(int64_t levels) {
  Dims dims;
  dims.batch = 2;
  dims.length = kLength;
  dims.heads = 4;
  dims.kv_heads = 2;
  dims.key_dim = 5;
  dims.value_dim = 3;
  dims.own['N'] = levels;
  return dims;
}

double Difference(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.ToDoubles(), y = b.ToDoubles();
  EXPECT_EQ(x.size(), y.size());
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::abs(x[i] - y[i]));
  }
  return largest;
}

TEST(LogLinear, AllLevelsEqualTheOracleInEveryForm) {
  const auto op = NewOperator();
  for (int64_t levels : {1, 2, 5, 8, 63}) {
    const Dims dims = DimsOf(levels);
    const auto inputs = RandomInputs(op->Inputs(), dims, DType::kFloat64, 1);
    OperatorCall oracle;
    oracle.inputs = inputs;
    oracle.dims = dims;
    oracle.output = Tensor(DType::kFloat64, {2, kLength, 4, 3});
    ASSERT_TRUE(op->Reference(oracle).ok());
    for (Form form : {Form::kParallel, Form::kChunked, Form::kRecurrent}) {
      OperatorCall call;
      call.inputs = inputs;
      call.form = form;
      ASSERT_TRUE(RunOperator(*op, &call).ok());
      EXPECT_LT(Difference(call.output, oracle.output), 1e-11)
          << FormName(form) << ", " << levels << " levels";
    }
  }
}

// From every kind of position: one more bucket, some that meet, all of them.
TEST(LogLinear, StepsEqualTheOracle) {
  const auto op = NewOperator();
  for (int64_t levels : {1, 2, 5, 8, 63}) {
    const Dims dims = DimsOf(levels);
    const auto inputs = RandomInputs(op->Inputs(), dims, DType::kFloat64, 1);
    const auto tokens_of = [&](int64_t first, int64_t count) {
      std::vector<Tensor> some;
      for (const Tensor& x : inputs) {
        std::vector<int64_t> sizes(x.shape().dims().begin(),
                                   x.shape().dims().end());
        sizes[1] = count;
        Tensor part(DType::kFloat64, Shape(sizes));
        const int64_t row = x.elements() / (dims.batch * kLength);
        for (int64_t b = 0; b < dims.batch; ++b) {
          std::copy_n(x.data<double>() + (b * kLength + first) * row,
                      count * row, part.data<double>() + b * count * row);
        }
        some.push_back(part);
      }
      return some;
    };
    OperatorCall all;
    all.inputs = inputs;
    all.dims = dims;
    all.output = Tensor(DType::kFloat64, {2, kLength, 4, 3});
    ASSERT_TRUE(op->Reference(all).ok());
    const auto state = op->NewState(dims, DType::kFloat64);
    constexpr int64_t kPrompt = 13;
    for (int64_t begin = 0; begin < kLength;) {
      const int64_t count = begin == 0 ? kPrompt : 1;
      const std::vector<Tensor> some = tokens_of(begin, count);
      OperatorCall call;
      call.inputs = some;
      call.state = state.get();
      ASSERT_TRUE(RunOperator(*op, &call).ok());
      for (int64_t b = 0; b < dims.batch; ++b) {
        for (int64_t i = 0; i < count * 12; ++i) {
          EXPECT_NEAR(call.output.data<double>()[b * count * 12 + i],
                      all.output.data<double>()[(b * kLength + begin) * 12 + i],
                      1e-11)
              << levels << " levels, token " << begin;
        }
      }
      begin += count;
    }
    // And left what a prompt of all tokens leaves.
    const auto whole = op->NewState(dims, DType::kFloat64);
    OperatorCall call;
    call.inputs = inputs;
    call.state = whole.get();
    ASSERT_TRUE(RunOperator(*op, &call).ok());
    const std::string stepped = state->Serialize(),
                      at_once = whole->Serialize();
    ASSERT_EQ(stepped.size(), at_once.size());
    for (size_t i = 0; i < stepped.size(); i += sizeof(double)) {
      double a, b;
      std::memcpy(&a, &stepped[i], sizeof(a));
      std::memcpy(&b, &at_once[i], sizeof(b));
      EXPECT_NEAR(a, b, 1e-11) << levels << " levels";
    }
  }
}

TEST(LogLinear, MadeUpInputsHaveTheLevelsThatTheirLengthNeeds) {
  const auto op = NewOperator();
  constexpr int64_t kCases[][2] = {{1, 1},     {2, 2},      {3, 3},
                                   {64, 7},    {65, 8},     {4096, 13},
                                   {4160, 14}, {131072, 18}};
  for (const auto& [length, levels] : kCases) {
    Dims dims = DimsOf(0);
    dims.length = length;
    EXPECT_EQ(op->OwnAxis('N', dims), levels) << length;
  }
}

TEST(LogLinear, StateHasAMatrixForEachBitOfThePosition) {
  const auto op = NewOperator();
  constexpr int64_t kMatrices = 2 * 4 * 5 * 3;  // of one level
  // {tokens, levels, matrices}: the last level holds whatever is older.
  constexpr int64_t kCases[][3] = {{0, 8, 0},  {1, 8, 1},  {64, 8, 1},
                                   {77, 8, 4}, {63, 8, 6}, {63, 4, 3},
                                   {77, 4, 2}, {76, 2, 1}, {77, 1, 1}};
  for (const auto& [tokens, levels, matrices] : kCases) {
    Dims dims = DimsOf(levels);
    dims.length = tokens;
    const auto state = op->NewState(dims, DType::kFloat32);
    const auto inputs = RandomInputs(op->Inputs(), dims, DType::kFloat32, 2);
    OperatorCall call;
    call.inputs = inputs;
    call.state = state.get();
    if (tokens > 0) {
      ASSERT_TRUE(RunOperator(*op, &call).ok());
    }
    EXPECT_EQ(static_cast<int64_t>(state->Serialize().size()),
              4 * matrices * kMatrices);
    EXPECT_EQ(state->bytes(), op->StateBytes(dims));
  }
}

TEST(LogLinear, CostCountsWhatIsComputed) {
  Dims dims;
  dims.length = 3;
  dims.heads = 2;
  dims.key_dim = 2;
  dims.value_dim = 3;
  dims.own['N'] = 5;
  // Three tokens with themselves: a product of queries and keys for both heads,
  // and for each its weight and a product with values.
  constexpr double kPairs = 3 * (2 * 2 + 2 * (3 + 2 * 3));
  // Token 1 reads the bucket of token 0, token 2 that of both; two were
  // written; one faded and joined another.
  constexpr double kMatrices =
      2 * 2 * ((2 * 6 + 2 * 3 + 1) + (2 * 6 + 3)) + 2 * 2 * 6;
  const Cost cost = NewOperator()->ForwardCost(dims, Form::kRecurrent);
  EXPECT_EQ(cost.flops, kPairs + kMatrices);
  EXPECT_EQ(cost.exps, 6);
  // Token 3 reads those of tokens 0 and 1 and of token 2, which meet at level
  // 3 and are one matrix for each head afterwards.
  const Cost step = NewOperator()->StepCost(dims);
  EXPECT_EQ(step.flops, kPairs / 3 + 2 * (2 * (2 * 6 + 2 * 3 + 1) +
                                          (2 * 6 + 3) + 2 * 2 * 6));
  EXPECT_EQ(step.exps, 2);
  EXPECT_EQ(step.bytes, 4 * (2 * 2 + 2 * (2 * 3 + 1 + 5) + 2 * 6 * (2 + 1)));
}

TEST(LogLinear, AStateOfOtherLevelsIsRefused) {
  const auto op = NewOperator();
  const auto state = op->NewState(DimsOf(4), DType::kFloat32);
  const auto inputs = RandomInputs(op->Inputs(), DimsOf(5), DType::kFloat32, 2);
  OperatorCall call;
  call.inputs = inputs;
  call.state = state.get();
  const absl::Status status = RunOperator(*op, &call);
  EXPECT_NE(status.message().find("4 levels, lambda has 5"), std::string::npos)
      << status;
}

}  // namespace
}  // namespace mneme
