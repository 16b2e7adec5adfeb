// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/kernels/bf16_product.h"
#include "attention/kernels/denormals.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/bf16_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/bf16_rows-inl.h"
#include "attention/kernels/bf16_tile_attention-inl.h"
#include "attention/kernels/finite-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {

void ByTiles(const Bf16Unit& unit, const Bf16AttentionHead* heads, size_t count,
             MatrixView<const Bf16> k, MatrixView<const Bf16> v, float scale,
             const AttentionMask& mask) {
  Bf16TileAttention attention(unit, k, v, scale, mask);
  unit.begin();
  for (size_t i = 0; i < count; ++i) attention.Run(heads[i].q, heads[i].o);
  unit.end();
}

// As many queries at once as share the keys: one of each head, or the few of
// one head. With `alone` one at a time.
void ByRows(const Bf16AttentionHead* heads, size_t count,
            MatrixView<const Bf16> k, MatrixView<const Bf16> v, float scale,
            const AttentionMask& mask, bool alone) {
  constexpr float kLog2E = 1.44269504f;
  Bf16RowAttention attention(k, v, scale * kLog2E);
  const size_t queries = heads[0].q.rows;
  const size_t at_once = alone ? 1 : kBf16FewQueries;
  Bf16Row rows[kBf16FewQueries];
  size_t filled = 0;
  for (size_t i = 0; i < queries; ++i) {
    for (size_t h = 0; h < count; ++h) {
      rows[filled++] = {heads[h].q.row(i), heads[h].o.row(i),
                        VisibleKeys(mask, k.rows, i)};
      if (filled < at_once && (h + 1 < count || i + 1 < queries)) continue;
      attention.Run(rows, filled);
      filled = 0;
    }
  }
}

void ForwardOnUnit(const Bf16Unit* unit, const Bf16AttentionHead* heads,
                   size_t count, MatrixView<const Bf16> k,
                   MatrixView<const Bf16> v, float scale,
                   const AttentionMask& mask) {
  const bool few = heads[0].q.rows <= kBf16FewQueries;
  // Tiles multiply what is hidden by weights of 0, which NaN survives.
  if (few || !AllFinite(k) || !AllFinite(v)) {
    ByRows(heads, count, k, v, scale, mask, /*alone=*/!few);
  } else {
    ByTiles(*unit, heads, count, k, v, scale, mask);
  }
}

// Keys and values as floats, where there are no units.
void Expand(MatrixView<const Bf16> from, float* to) {
  for (size_t r = 0; r < from.rows; ++r) {
    const Bf16* const row = from.row(r);
    for (size_t c = 0; c < from.cols; ++c) *to++ = ToFloat(row[c]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(ForwardOnUnit);
HWY_EXPORT(Expand);

namespace {

void ForwardInFloats(const Bf16AttentionHead* heads, size_t count,
                     MatrixView<const Bf16> k, MatrixView<const Bf16> v,
                     float scale, const AttentionMask& mask) {
  // Grows and stays: see SoftmaxScratch.
  thread_local std::vector<float> memory;
  const size_t keys = k.rows * k.cols, values = v.rows * v.cols;
  if (memory.size() < keys + values) memory.resize(keys + values);
  float* const k_data = memory.data();
  float* const v_data = k_data + keys;
  HWY_DYNAMIC_DISPATCH(Expand)(k, k_data);
  HWY_DYNAMIC_DISPATCH(Expand)(v, v_data);
  for (size_t i = 0; i < count; ++i) {
    SoftmaxAttentionForward(heads[i].q,
                            MatrixView<const float>(k_data, k.rows, k.cols),
                            MatrixView<const float>(v_data, v.rows, v.cols),
                            scale, mask, heads[i].o, nullptr);
  }
}

}  // namespace

void Bf16AttentionForward(const Bf16AttentionHead* heads, size_t count,
                          MatrixView<const Bf16> k, MatrixView<const Bf16> v,
                          float scale, const AttentionMask& mask) {
  if (count == 0 || heads[0].q.rows == 0) return;
  const Bf16Unit* const unit = ActiveBf16Unit();
  if (unit == nullptr && heads[0].q.rows > kBf16FewQueries) {
    ForwardInFloats(heads, count, k, v, scale, mask);
    return;
  }
  const ScopedFlushDenormals flush;
  HWY_DYNAMIC_DISPATCH(ForwardOnUnit)(unit, heads, count, k, v, scale, mask);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
