// SPDX-License-Identifier: Apache-2.0

#include "attention/state.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

// [batch, tokens, heads, dim] filled with first, first + 1, ...
Tensor Counting(Shape shape, float first) {
  Tensor x(DType::kFloat32, shape);
  for (int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] = first + i;
  return x;
}

TEST(DenseState, RoundTripsAndRefusesOtherSizes) {
  DenseState state(DType::kFloat32, {2, 3});
  state.tensor().data<float>()[4] = 7;
  DenseState other(DType::kFloat32, {2, 3});
  ASSERT_TRUE(other.Restore(state.Serialize(), /*tokens=*/5).ok());
  EXPECT_EQ(other.tensor().data<float>()[4], 7);
  EXPECT_EQ(state.bytes(), 24);
  const absl::Status status = other.Restore("short", 5);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("24"), absl::string_view::npos) << status;
}

TEST(KeyValueCache, KeepsEverySequenceApartAsItGrows) {
  constexpr int64_t kBatch = 2, kHeads = 2, kKey = 2, kValue = 1;
  KeyValueCache cache(DType::kFloat32, kBatch, kHeads, kKey, kValue);
  EXPECT_EQ(cache.bytes(), 0);
  // Appends of 1, 20 and 3 tokens force two reallocations.
  int64_t total = 0;
  for (int64_t n : {1, 20, 3}) {
    cache.Append(Counting({kBatch, n, kHeads, kKey}, 100 * total),
                 Counting({kBatch, n, kHeads, kValue}, -100 * total));
    total += n;
    EXPECT_EQ(cache.tokens(), total);
  }
  // Token 21 is the first of the last call: sequence 1 starts at entry 12 of
  // its keys, head 1 two further.
  EXPECT_EQ(cache.Keys<float>(1, 1)(21, 0), 2100 + 12 + 2);
  EXPECT_EQ(cache.Values<float>(1, 1)(21, 0), -2100 + 6 + 1);
  EXPECT_EQ(cache.Keys<float>(0, 0)(0, 1), 1);
  EXPECT_EQ(cache.bytes(), 4 * kBatch * total * kHeads * (kKey + kValue));
  EXPECT_EQ(cache.bytes(), cache.BytesAfter(total));

  KeyValueCache other(DType::kFloat32, kBatch, kHeads, kKey, kValue);
  ASSERT_TRUE(other.Restore(cache.Serialize(), total).ok());
  for (int64_t t = 0; t < total; ++t) {
    EXPECT_EQ(other.Keys<float>(1, 0)(t, 1), cache.Keys<float>(1, 0)(t, 1));
    EXPECT_EQ(other.Values<float>(1, 1)(t, 0), cache.Values<float>(1, 1)(t, 0));
  }
  EXPECT_FALSE(other.Restore(cache.Serialize(), total - 1).ok());
}

TEST(KeyValueCache, KeepsKeysAlone) {
  KeyValueCache cache(DType::kFloat32, /*batch=*/2, 1, 3, /*value_dim=*/0);
  int64_t total = 0;
  for (int64_t n : {1, 20}) {
    cache.Append(Counting({2, n, 1, 3}, 100 * total),
                 Tensor(DType::kFloat32, {2, n, 1, 0}));
    total += n;
  }
  EXPECT_EQ(cache.bytes(), 4 * 2 * total * 3);
  KeyValueCache other(DType::kFloat32, 2, 1, 3, 0);
  ASSERT_TRUE(other.Restore(cache.Serialize(), total).ok());
  EXPECT_EQ(other.Keys<float>(1, 0)(1, 2), 100 + 60 + 2);
}

TEST(CompositeState, ConcatenatesPartsAndRestoresGrowingOnes) {
  const auto make = [] {
    auto state = std::make_unique<CompositeState>(DType::kFloat32, 1);
    state->Add(std::make_unique<DenseState>(DType::kFloat32, Shape({3})));
    state->Add(std::make_unique<KeyValueCache>(DType::kFloat32, 1, 1, 2, 2));
    return state;
  };
  auto state = make();
  static_cast<DenseState*>(state->part(0))->tensor().data<float>()[2] = 5;
  static_cast<KeyValueCache*>(state->part(1))
      ->Append(Counting({1, 4, 1, 2}, 0), Counting({1, 4, 1, 2}, 50));
  state->Advance(4);
  EXPECT_EQ(state->bytes(), 12 + 4 * 4 * 4);
  auto other = make();
  ASSERT_TRUE(other->Restore(state->Serialize(), state->position()).ok());
  EXPECT_EQ(other->position(), 4);
  EXPECT_EQ(other->Serialize(), state->Serialize());
  EXPECT_FALSE(make()->Restore(state->Serialize(), 3).ok());
}

}  // namespace
}  // namespace mneme
