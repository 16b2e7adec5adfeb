// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/tensor.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

bool Aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % Arena::kAlignment == 0;
}

TEST(Shape, CountsElementsAndRows) {
  const Shape shape({2, 3, 4});
  EXPECT_EQ(shape.elements(), 24);
  EXPECT_EQ(shape.rows(), 6);
  EXPECT_EQ(shape.dim(-1), 4);
  EXPECT_EQ(shape.WithLast(5), Shape({2, 3, 5}));
  EXPECT_EQ(shape.ToString(), "[2, 3, 4]");
  EXPECT_EQ(Shape().elements(), 1) << "a scalar has one element";
  EXPECT_EQ(Shape({0, 7}).elements(), 0);
}

TEST(Tensor, OwnsZeroFilledAlignedMemory) {
  const Tensor x(DType::kFloat32, {3, 5});
  EXPECT_TRUE(Aligned(x.raw()));
  EXPECT_EQ(x.ToDoubles(), std::vector<double>(15, 0.0));
  EXPECT_TRUE(Tensor().empty());
  EXPECT_FALSE(Tensor(DType::kFloat64, {0}).empty());
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
  const Tensor x = Tensor::FromValues<float>({2, 2}, {1, 2, 3, 4});
  const Tensor shared = x.Reshaped({4}), clone = x.Clone();
  x.data<float>()[3] = 9;
  EXPECT_EQ(shared.ToDoubles(), (std::vector<double>{1, 2, 3, 9}));
  EXPECT_EQ(clone.ToDoubles(), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(x.Slice(2, {2}).ToDoubles(), (std::vector<double>{3, 9}));
}

TEST(Tensor, CastsBothWays) {
  const Tensor x = Tensor::FromValues<double>({2}, {1.5, -2.25});
  EXPECT_EQ(x.Cast(DType::kFloat32).dtype(), DType::kFloat32);
  EXPECT_EQ(x.Cast(DType::kFloat32).ToDoubles(), x.ToDoubles());
}

TEST(Tensor, SequenceIsOneHeadInPlace) {
  // [batch 2, length 3, heads 2, dim 2], element value = its index.
  std::vector<float> values(24);
  for (int i = 0; i < 24; ++i) values[i] = i;
  const Tensor x = Tensor::FromValues({2, 3, 2, 2}, values);
  const auto head = x.Sequence<float>(/*b=*/1, /*h=*/1);
  EXPECT_EQ(head.rows, 3u);
  EXPECT_EQ(head.stride, 4u);
  EXPECT_EQ(head(2, 1), ((1 * 3 + 2) * 2 + 1) * 2 + 1);
}

TEST(Arena, GivesDistinctAlignedMemoryAndReusesIt) {
  Arena arena;
  char* a = static_cast<char*>(arena.Allocate(1));
  char* b = static_cast<char*>(arena.Allocate(100));
  EXPECT_TRUE(Aligned(a));
  EXPECT_TRUE(Aligned(b));
  EXPECT_GE(b - a, 1);
  arena.Reset();
  EXPECT_EQ(arena.Allocate(1), a) << "one block is kept across resets";
}

TEST(Arena, MergesBlocksAfterAReset) {
  Arena arena;
  constexpr size_t kBig = size_t{3} << 20;
  arena.Allocate(kBig);
  arena.Allocate(kBig);
  EXPECT_EQ(arena.peak_bytes(), 2 * kBig);
  arena.Reset();
  char* first = static_cast<char*>(arena.Allocate(kBig));
  char* second = static_cast<char*>(arena.Allocate(kBig));
  EXPECT_EQ(second - first, static_cast<ptrdiff_t>(kBig)) << "one block now";
}

TEST(Arena, TensorsComeFromItOrOwnTheirMemory) {
  Arena arena;
  const Tensor x(&arena, DType::kFloat64, {4});
  EXPECT_EQ(arena.peak_bytes(), 64u);
  const Tensor y(nullptr, DType::kFloat64, {4});
  EXPECT_EQ(y.ToDoubles(), std::vector<double>(4, 0.0));
  EXPECT_EQ(arena.peak_bytes(), 64u);
}

}  // namespace
}  // namespace mneme
