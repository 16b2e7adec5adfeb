// SPDX-License-Identifier: Apache-2.0

#include "attention/operator.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

const std::vector<InputSpec> kSpecs = {
    {"q", "BLHK", "queries"},
    {"k", "BLGK", "keys"},
    {"v", "BLGV", "values"},
    {"g", "BLH", "log decay", Domain::kNonPositive}};

std::vector<Tensor> Inputs(std::vector<Shape> shapes) {
  std::vector<Tensor> inputs;
  for (Shape& shape : shapes) inputs.emplace_back(DType::kFloat32, shape);
  return inputs;
}

std::string Error(std::vector<Shape> shapes) {
  return std::string(InferDims(kSpecs, Inputs(shapes)).status().message());
}

TEST(InferDims, ReadsEveryAxis) {
  const auto dims = InferDims(
      kSpecs, Inputs({{2, 5, 6, 4}, {2, 5, 3, 4}, {2, 5, 3, 7}, {2, 5, 6}}));
  ASSERT_TRUE(dims.ok()) << dims.status();
  EXPECT_EQ(dims->batch, 2);
  EXPECT_EQ(dims->length, 5);
  EXPECT_EQ(dims->heads, 6);
  EXPECT_EQ(dims->kv_heads, 3);
  EXPECT_EQ(dims->key_dim, 4);
  EXPECT_EQ(dims->value_dim, 7);
  EXPECT_EQ(InputShape(kSpecs[2], *dims), Shape({2, 5, 3, 7}));
}

TEST(InferDims, NamesWhatDoesNotFit) {
  const std::string keys =
      Error({{2, 5, 6, 4}, {2, 5, 3, 9}, {2, 5, 3, 7}, {2, 5, 6}});
  EXPECT_NE(keys.find("input k"), std::string::npos) << keys;
  EXPECT_NE(keys.find("key_dim"), std::string::npos) << keys;
  const std::string rank =
      Error({{2, 5, 6, 4}, {2, 5, 3, 4}, {2, 5, 21}, {2, 5, 6}});
  EXPECT_NE(rank.find("input v"), std::string::npos) << rank;
  const std::string groups =
      Error({{2, 5, 6, 4}, {2, 5, 4, 4}, {2, 5, 4, 7}, {2, 5, 6}});
  EXPECT_NE(groups.find("divide"), std::string::npos) << groups;
  const std::string empty =
      Error({{2, 0, 6, 4}, {2, 0, 3, 4}, {2, 0, 3, 7}, {2, 0, 6}});
  EXPECT_NE(empty.find("its length is empty"), std::string::npos) << empty;
  auto mixed = Inputs({{2, 5, 6, 4}, {2, 5, 3, 4}, {2, 5, 3, 7}, {2, 5, 6}});
  mixed[2] = Tensor(DType::kFloat64, mixed[2].shape());
  EXPECT_FALSE(InferDims(kSpecs, mixed).ok());
  EXPECT_FALSE(InferDims(kSpecs, {}).ok());
}

TEST(RandomInputs, StayInTheirDomain) {
  Dims dims;
  dims.length = 100;
  const auto inputs = RandomInputs(kSpecs, dims, DType::kFloat64, 1);
  for (double g : inputs[3].ToDoubles()) EXPECT_LE(g, 0);
  EXPECT_EQ(inputs[0].ToDoubles(),
            RandomInputs(kSpecs, dims, DType::kFloat64, 1)[0].ToDoubles());
}

TEST(NeutralInputs, LeaveTheMemoryAlone) {
  std::vector<InputSpec> specs = kSpecs;
  specs.push_back({"b", "BLK", "keys of all heads", Domain::kUnitNorm});
  specs.push_back({"beta", "BLH", "write strengths", Domain::kUnit});
  specs.push_back({"skip", "H", "weights of the input"});
  const Tensor q = Tensor::FromValues<float>({1, 2, 1, 2}, {3, 4, 0, 2});
  const Tensor v = Tensor::FromValues<float>({1, 2, 1, 1}, {5, 6});
  const auto inputs = NeutralInputs(
      specs, {{"q", q}, {"k", q}, {"v", v}, {"b", q}}, {{"skip", 7}});
  ASSERT_TRUE(inputs.ok()) << inputs.status();
  ASSERT_TRUE(InferDims(specs, *inputs).ok());
  EXPECT_EQ((*inputs)[0].ToDoubles(), q.ToDoubles());
  EXPECT_EQ((*inputs)[2].ToDoubles(), v.ToDoubles());
  EXPECT_EQ((*inputs)[3].ToDoubles(), std::vector<double>({0, 0}));
  const std::vector<double> unit = (*inputs)[4].ToDoubles();
  EXPECT_FLOAT_EQ(unit[0], 0.6);
  EXPECT_EQ(unit[3], 1);
  EXPECT_EQ(q.data<float>()[0], 3) << "changed what was given";
  EXPECT_EQ((*inputs)[5].ToDoubles(), std::vector<double>({1, 1}));
  EXPECT_EQ((*inputs)[6].ToDoubles(), std::vector<double>({7}));
}

TEST(NeutralInputs, RefuseWhatHasNoNeutralValue) {
  const Tensor q(DType::kFloat32, {1, 2, 1, 2});
  std::vector<InputSpec> specs = {{"q", "BLHK", "queries"},
                                  {"w", "HK", "weights"}};
  EXPECT_EQ(NeutralInputs(specs, {{"q", q}}).status().code(),
            absl::StatusCode::kUnimplemented);
  specs[1] = {"w", "PH", "gates", Domain::kUnit};
  EXPECT_EQ(NeutralInputs(specs, {{"q", q}}).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST(NeutralInputs, RefuseNamesThatNoInputHas) {
  const Tensor q(DType::kFloat32, {1, 2, 1, 2});
  const std::vector<InputSpec> specs = {{"q", "BLHK", "queries"},
                                        {"g", "BLH", "gates", Domain::kUnit}};
  EXPECT_TRUE(NeutralInputs(specs, {{"q", q}}, {{"g", 0}}).ok());
  EXPECT_EQ(NeutralInputs(specs, {{"q", q}, {"k", q}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Form, NamesRoundTrip) {
  for (Form form : {Form::kParallel, Form::kChunked, Form::kRecurrent}) {
    ASSERT_TRUE(ParseForm(FormName(form)).ok());
    EXPECT_EQ(*ParseForm(FormName(form)), form);
  }
  const absl::Status status = ParseForm("chunkd").status();
  EXPECT_NE(status.message().find("chunked"), absl::string_view::npos);
}

}  // namespace
}  // namespace mneme
