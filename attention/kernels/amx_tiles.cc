// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/amx_tiles.h"

#include <cmath>
#include <cstring>
#include <initializer_list>

#include "attention/kernels/denormals.h"

namespace mneme::kernels {
namespace {

float AsFloat(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

float First(uint32_t pair) { return AsFloat(pair << 16); }
float Second(uint32_t pair) { return AsFloat(pair & 0xFFFF0000u); }

}  // namespace

const char* AmxTiles::Configure(const AmxConfig& config) {
  if (config.palette > 1) return "no such palette";
  if (config.palette == 0) return Release();
  for (const uint8_t byte : config.reserved) {
    if (byte != 0) return "a reserved byte of the configuration is not zero";
  }
  for (int i = 0; i < 16; ++i) {
    const int rows = config.rows[i], row_bytes = config.row_bytes[i];
    if (i >= kTiles && (rows != 0 || row_bytes != 0)) {
      return "a ninth tile is configured";
    }
    if (rows > kRows) return "a tile has more than 16 rows";
    if (row_bytes > kRowBytes) return "a row has more than 64 bytes";
    if ((rows == 0) != (row_bytes == 0)) {
      return "a tile has rows without bytes, or bytes without rows";
    }
  }
  *this = AmxTiles();
  configured_ = true;
  start_row_ = config.start_row;
  for (int i = 0; i < kTiles; ++i) {
    tiles_[i].rows = config.rows[i];
    tiles_[i].row_bytes = config.row_bytes[i];
  }
  return nullptr;
}

const char* AmxTiles::Release() {
  *this = AmxTiles();
  return nullptr;
}

const char* AmxTiles::RefuseTile(int tile) const {
  if (!configured_) return "no configuration is loaded on this thread";
  if (tile < 0 || tile >= kTiles) return "no such tile";
  if (tiles_[tile].rows == 0) return "the configuration has no such tile";
  return nullptr;
}

const char* AmxTiles::RefuseTransfer(int tile) const {
  if (const char* const why = RefuseTile(tile)) return why;
  if (tiles_[tile].row_bytes % 4 != 0) return "a row is not whole numbers";
  if (start_row_ >= tiles_[tile].rows) return "start_row is not in the tile";
  return nullptr;
}

const char* AmxTiles::Zero(int tile) {
  if (const char* const why = RefuseTile(tile)) return why;
  std::memset(tiles_[tile].data, 0, sizeof(tiles_[tile].data));
  start_row_ = 0;
  return nullptr;
}

const char* AmxTiles::Load(int tile, const char* from, ptrdiff_t stride) {
  if (const char* const why = RefuseTransfer(tile)) return why;
  Tile& t = tiles_[tile];
  for (int r = start_row_; r < t.rows; ++r) {
    std::memcpy(t.data[r], from + r * stride, t.row_bytes);
  }
  start_row_ = 0;
  return nullptr;
}

const char* AmxTiles::Store(int tile, char* to, ptrdiff_t stride) {
  if (const char* const why = RefuseTransfer(tile)) return why;
  const Tile& t = tiles_[tile];
  for (int r = start_row_; r < t.rows; ++r) {
    std::memcpy(to + r * stride, t.data[r], t.row_bytes);
  }
  start_row_ = 0;
  return nullptr;
}

const char* AmxTiles::Dot(int sum, int a, int b) {
  if (sum == a || sum == b || a == b) return "two operands are the same tile";
  for (const int tile : {sum, a, b}) {
    if (const char* const why = RefuseTile(tile)) return why;
    if (tiles_[tile].row_bytes % 4 != 0) return "a row is not whole numbers";
  }
  const Tile &t = tiles_[sum], &ta = tiles_[a], &tb = tiles_[b];
  if (t.rows != ta.rows) return "the sum has not as many rows as A";
  if (t.row_bytes != tb.row_bytes) return "the sum's rows are not as B's";
  if (ta.row_bytes / 4 != tb.rows) return "A has not as many pairs as B rows";
  AddDots(ta, tb, &tiles_[sum]);
  start_row_ = 0;
  return nullptr;
}

// Products of the first and of the second numbers of pairs are summed apart,
// from zero and with one rounding each, to the nearest; only then are the two
// added to one another and to the sum. Denormals are zeros before and after
// each operation.
void AmxTiles::AddDots(const Tile& a, const Tile& b, Tile* sum) {
  const ScopedFlushDenormals flush;
  const int columns = sum->row_bytes / 4;
  for (int r = 0; r < sum->rows; ++r) {
    float first[kRowBytes / 4] = {}, second[kRowBytes / 4] = {};
    for (int k = 0; k < b.rows; ++k) {
      const float a_first = First(a.data[r][k]),
                  a_second = Second(a.data[r][k]);
      for (int n = 0; n < columns; ++n) {
        first[n] = std::fma(a_first, First(b.data[k][n]), first[n]);
        second[n] = std::fma(a_second, Second(b.data[k][n]), second[n]);
      }
    }
    for (int n = 0; n < columns; ++n) {
      const float added = AsFloat(sum->data[r][n]) + (first[n] + second[n]);
      std::memcpy(&sum->data[r][n], &added, sizeof(added));
    }
  }
}

}  // namespace mneme::kernels
