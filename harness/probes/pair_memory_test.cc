// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/pair_memory.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kBatch = 2, kPairs = 21, kDim = 8;

Tensor Normals(int64_t length, uint64_t seed) {
  Dims dims;
  dims.batch = kBatch;
  dims.length = length;
  dims.key_dim = kDim;
  return RandomInputs({{{"x", "BLHK", ""}}}, dims, DType::kFloat32, seed)[0];
}

// Tokens of a [kBatch, length, 1, kDim] array.
Tensor Part(const Tensor& x, int64_t first, int64_t count) {
  const Tensor part(DType::kFloat32, {kBatch, count, 1, kDim});
  for (int64_t b = 0; b < kBatch; ++b) {
    std::copy_n(x.data<float>() + (b * x.dim(1) + first) * kDim, count * kDim,
                part.data<float>() + b * count * kDim);
  }
  return part;
}

void ForEachMemory(
    const std::function<void(const Operator&, PairMemory*)>& body) {
  int memories = 0;
  for (const std::string& name : Variants().Names()) {
    SCOPED_TRACE(name);
    const Variant& variant = **Variants().Find(name);
    if (variant.make_operator == nullptr) continue;
    auto options = Options::Parse(variant.descriptor.options);
    ASSERT_TRUE(options.ok());
    auto op = variant.make_operator(*options);
    ASSERT_TRUE(op.ok()) << op.status();
    auto memory = PairMemory::Create(op->get(), kBatch, kDim, kDim);
    if (absl::IsUnimplemented(memory.status())) {
      EXPECT_FALSE(memory.status().message().empty());
      continue;
    }
    ASSERT_TRUE(memory.ok()) << memory.status();
    ++memories;
    body(**op, &*memory);
  }
  EXPECT_GE(memories, 15) << "too few variants hold pairs";
}

// What the operator says when it takes all pairs at once and the last token
// asks.
TEST(PairMemoryTest, ReadsWhatTheOperatorReads) {
  const Tensor keys = Normals(kPairs, 1), values = Normals(kPairs, 2);
  const Tensor queries = Normals(3, 3);
  ForEachMemory([&](const Operator& op, PairMemory* memory) {
    // In two pieces, as curves are measured.
    ASSERT_TRUE(memory->Write(Part(keys, 0, 9), Part(values, 0, 9)).ok());
    ASSERT_TRUE(memory->Write(Part(keys, 9, 11), Part(values, 9, 11)).ok());
    const auto answers = memory->Read(Part(keys, kPairs - 1, 1),
                                      Part(values, kPairs - 1, 1), queries);
    ASSERT_TRUE(answers.ok()) << answers.status();
    for (int64_t r = 0; r < 3; ++r) {
      Tensor asked = keys.Clone();
      for (int64_t b = 0; b < kBatch; ++b) {
        std::copy_n(queries.data<float>() + (b * 3 + r) * kDim, kDim,
                    asked.data<float>() + ((b + 1) * kPairs - 1) * kDim);
      }
      const auto inputs = op.PairInputs(asked, keys, values);
      ASSERT_TRUE(inputs.ok()) << inputs.status();
      OperatorCall call;
      call.inputs = *inputs;
      call.form = Form::kParallel;
      ASSERT_TRUE(RunOperator(op, &call).ok());
      for (int64_t b = 0; b < kBatch; ++b) {
        for (int64_t c = 0; c < kDim; ++c) {
          EXPECT_NEAR(answers->Sequence<float>(b, 0)(r, c),
                      call.output.Sequence<float>(b, 0)(kPairs - 1, c), 2e-4);
        }
      }
    }
  });
}

TEST(PairMemoryTest, ReadingDoesNotWrite) {
  const Tensor keys = Normals(kPairs, 1), values = Normals(kPairs, 2);
  const Tensor key = Part(keys, kPairs - 1, 1);
  const Tensor value = Part(values, kPairs - 1, 1);
  ForEachMemory([&](const Operator&, PairMemory* memory) {
    ASSERT_TRUE(memory->Write(Part(keys, 0, 20), Part(values, 0, 20)).ok());
    const int64_t bytes = memory->StateBytes();
    const auto first = memory->Read(key, value, keys);
    const auto second = memory->Read(key, value, keys);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(first->ToDoubles(), second->ToDoubles());
    EXPECT_EQ(memory->StateBytes(), bytes);
  });
}

TEST(PairMemoryTest, StateIsThatOfOneMemory) {
  const Variant& softmax = **Variants().Find("softmax");
  const auto op =
      softmax.make_operator(*Options::Parse(softmax.descriptor.options));
  auto memory = PairMemory::Create(op->get(), kBatch, kDim, kDim);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(memory->StateBytes(), 0);
  ASSERT_TRUE(memory->Write(Normals(5, 1), Normals(5, 2)).ok());
  EXPECT_EQ(memory->StateBytes(), 5 * 2 * kDim * sizeof(float));
}

}  // namespace
}  // namespace mneme
