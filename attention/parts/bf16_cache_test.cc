// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/bf16_cache.h"

#include <string>

#include "attention/kernels/bf16.h"
#include "attention/tensor/tensor.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// [batch, tokens, heads, dim] filled with numbers that Bf16 has none of.
Tensor Thirds(const Shape& shape, float first) {
  Tensor x(DType::kFloat32, shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.data<float>()[i] = (first + static_cast<float>(i)) / 3;
  }
  return x;
}

TEST(Bf16KeyValueCache, KeepsEverySequenceApartAsItGrows) {
  constexpr int64_t kBatch = 2, kHeads = 3, kKey = 5, kValue = 2;
  Bf16KeyValueCache cache(kBatch, kHeads, kKey, kValue);
  EXPECT_EQ(cache.bytes(), 0);
  int64_t total = 0;
  for (const int64_t n : {1, 70, 3, 40}) {
    const Tensor keys = Thirds({kBatch, n, kHeads, kKey}, 100 * total);
    const Tensor values = Thirds({kBatch, n, kHeads, kValue}, -100 * total);
    cache.Append(keys, values);
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t t = 0; t < n; ++t) {
          for (int64_t c = 0; c < kKey; ++c) {
            ASSERT_EQ(
                cache.Keys(b, h)(total + t, c).bits,
                kernels::RoundToBf16(keys.Sequence<float>(b, h)(t, c)).bits);
          }
          for (int64_t c = 0; c < kValue; ++c) {
            ASSERT_EQ(
                cache.Values(b, h)(total + t, c).bits,
                kernels::RoundToBf16(values.Sequence<float>(b, h)(t, c)).bits);
          }
        }
      }
    }
    total += n;
    EXPECT_EQ(cache.tokens(), total);
  }
  // Two bytes a number and nothing else.
  EXPECT_EQ(cache.bytes(), 2 * kBatch * total * kHeads * (kKey + kValue));
  EXPECT_EQ(cache.BytesAfter(total), cache.bytes());

  Bf16KeyValueCache other(kBatch, kHeads, kKey, kValue);
  const std::string bytes = cache.Serialize();
  ASSERT_EQ(static_cast<int64_t>(bytes.size()), cache.bytes());
  EXPECT_FALSE(other.Restore(bytes, total - 1).ok());
  ASSERT_TRUE(other.Restore(bytes, total).ok());
  EXPECT_EQ(other.Serialize(), bytes);
  // A restored cache goes on as the original does.
  for (Bf16KeyValueCache* each : {&cache, &other}) {
    each->Append(Thirds({kBatch, 90, kHeads, kKey}, 7),
                 Thirds({kBatch, 90, kHeads, kValue}, 9));
  }
  EXPECT_EQ(other.Serialize(), cache.Serialize());
}

TEST(Bf16KeyValueCache, KeepsKeysAlone) {
  Bf16KeyValueCache cache(2, 1, 3, /*value_dim=*/0);
  cache.Append(Thirds({2, 4, 1, 3}, 1), Tensor(DType::kFloat32, {2, 4, 1, 0}));
  EXPECT_EQ(cache.bytes(), 2 * 2 * 4 * 3);
  Bf16KeyValueCache other(2, 1, 3, 0);
  ASSERT_TRUE(other.Restore(cache.Serialize(), 4).ok());
  EXPECT_EQ(other.Keys(1, 0)(3, 2).bits, cache.Keys(1, 0)(3, 2).bits);
}

}  // namespace
}  // namespace mneme
