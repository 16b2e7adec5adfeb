// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/shape.h"

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(ShapeTest, TextAndBack) {
  const absl::StatusOr<ThroughputShape> shape = ParseShape("4x2048x16x128");
  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_TRUE(*shape == (ThroughputShape{4, 2048, 16, 128}));
  EXPECT_EQ(shape->ToString(), "4x2048x16x128");
}

TEST(ShapeTest, MistakesAreNamed) {
  for (const char* text :
       {"", "1x2", "1x2x3x4x5", "ax1x1x1", "1x0x1x1", "1x-2x1x1", "1x2048x8x",
        "1x99999999x1x1", "16777216x16777216x1x1"}) {
    const absl::Status status = ParseShape(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_NE(status.message().find(absl::StrCat("\"", text, "\"")),
              std::string::npos)
        << status;
  }
}

TEST(ShapeTest, Names) {
  EXPECT_EQ(ParseShapes("growth")->front().length, 512);
  EXPECT_EQ(ParseShapes("growth")->back().length, 131072);
  EXPECT_EQ(ParseShapes("growth")->size(), 9);
  EXPECT_EQ(ParseShapes("fla")->size(), 2);
  EXPECT_EQ(ParseShapes("1x2x3x4")->size(), 1);
  EXPECT_FALSE(ParseShapes("grwth").ok());
}

}  // namespace
}  // namespace mneme
