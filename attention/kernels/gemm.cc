// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/gemm.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/gemm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// foreach_target.h must come first.
#include "attention/kernels/gemm-inl.h"
#include "attention/kernels/gemm_tile-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Longest run of k that a tile sums in registers. A packed panel of B then
// takes at most 32 KiB, which leaves a third of a 48 KiB L1 cache to A and C.
// Longer sums are cut into equal parts, each added to C, which also bounds the
// rounding error of a long sum.
constexpr size_t kMaxDepth = 256;

// A block of A is read once per group of panels; so much of it should stay in
// L2. More rows would repay packing B better.
constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr size_t kHalfL2Bytes = size_t{512} << 10;

// A group is as many panels as fit L1, but if A is larger than this, so many:
// they come from L2 then, which keeps up, while a tile of A, which would come
// from further away, is in L1 for all of them.
constexpr size_t kGroupOfLargeA = 4;

// A tile of C is touched once, all of it at the tile's end. It is prefetched
// when it is read, and when it is so large that even a store would wait for it.
constexpr size_t kCachedBytes = size_t{8} << 20;

// A row-major B is read in place, rather than packed, if few rows of A are to
// repay packing, the fewer the larger the memory that a part of it is strewn
// over: a panel's rows, at equal distances, use a part of each cache only, the
// least if each is on a page of its own.
constexpr size_t kAlwaysInPlaceBytes = size_t{64} << 10;  // fits L1, nearly
constexpr size_t kPageBytes = 4096;
constexpr size_t kManyRows = 12 * kTileRows;
constexpr size_t kSomeRows = 4 * kTileRows;
constexpr size_t kFewRows = 2 * kTileRows;

// A transposed B is transposed in registers, not packed, up to this many rows.
constexpr size_t kTransposingRows = 3;

template <typename T, class F>
HWY_INLINE void MapTile(const F& f, MatrixView<T> c) {
  const hn::ScalableTag<T> d;
  for (size_t i = 0; i < c.rows; ++i) {
    T* row = c.row(i);
    ForEachVector(d, c.cols, [&](size_t j, const auto& lanes) HWY_ATTR {
      lanes.Store(f(d, lanes.Load(row + j)), row + j);
    });
  }
}

// Runs over a tile of C that was just stored and is still in L1.
template <typename T>
HWY_NOINLINE void ActivateTile(Activation activation, MatrixView<T> c) {
  switch (activation) {
    case Activation::kIdentity:
      break;
    case Activation::kRelu:
      return MapTile(Relu(), c);
    case Activation::kSilu:
      return MapTile(Silu(), c);
    case Activation::kGelu:
      return MapTile(Gelu(), c);
    case Activation::kSigmoid:
      return MapTile(Sigmoid(), c);
  }
}

template <typename T>
using TileFunction = void (*)(const TileArguments<T>&);

// Tiles of kVecs vectors with 1, 2, ... rows.
template <typename T, size_t kVecs, size_t... kIndex>
constexpr std::array<TileFunction<T>, sizeof...(kIndex)> MakeTiles(
    std::index_sequence<kIndex...>) {
  return {&Tile<kIndex + 1, kVecs, T>...};
}
template <typename T, size_t kVecs>
constexpr auto kTiles =
    MakeTiles<T, kVecs>(std::make_index_sequence<MaxTileRows(kVecs)>());

template <typename T, size_t kVecs, size_t... kIndex>
constexpr std::array<TileFunction<T>, sizeof...(kIndex)> MakeTransposingTiles(
    std::index_sequence<kIndex...>) {
  return {&TransposingTile<kIndex + 1, kVecs, T>...};
}
template <typename T, size_t kVecs>
constexpr auto kTransposingTiles = MakeTransposingTiles<T, kVecs>(
    std::make_index_sequence<kTransposingRows>());

// A vertical stripe of B, ready for tiles.
template <typename T>
struct Panel {
  size_t column;
  size_t cols;
  const TileFunction<T>* tiles;  // with 1, 2, ... rows
  const T* b;
  size_t b_stride;
};

// One GemmTiled call, for one run of k.
template <typename T>
class Multiplication {
 public:
  Multiplication(Transpose transpose_a, Transpose transpose_b,
                 MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c,
                 size_t first_k, size_t depth, const GemmEpilogue<T>& epilogue)
      : transpose_b_(transpose_b == Transpose::kYes),
        b_(b),
        c_(c),
        depth_(depth),
        epilogue_(epilogue),
        prefetch_c_(epilogue.beta != 0 ||
                    c.rows * c.stride * sizeof(T) > kCachedBytes) {
    if (depth == 0) return;  // a and b may be null
    const bool transposed = transpose_a == Transpose::kYes;
    a_ = a.data + first_k * (transposed ? a.stride : 1);
    a_row_stride_ = transposed ? 1 : a.stride;
    a_k_stride_ = transposed ? a.stride : 1;
    b_.data += first_k * (transpose_b_ ? 1 : b.stride);
    const size_t span = depth * b.stride * sizeof(T);
    const size_t some_rows =
        b.stride * sizeof(T) < kPageBytes ? kManyRows : kSomeRows;
    in_place_ = transpose_b_
                    ? c.rows <= kTransposingRows && depth % kBlock<T> == 0
                    : c.rows <= kFewRows || span <= kAlwaysInPlaceBytes ||
                          (c.rows <= some_rows && span <= kHalfL2Bytes);
  }

  void Run() {
    const size_t block = std::max(
        kTileRows, kBlockBytes / (std::max<size_t>(depth_, 1) * sizeof(T)));
    for (size_t i = 0; i < c_.rows; i += block) {
      const size_t rows = std::min(block, c_.rows - i);
      for (size_t j = 0; j < c_.cols;) {
        j = PreparePanels(j);
        MultiplyRows(i, rows);
      }
    }
  }

 private:
  static constexpr hn::ScalableTag<T> kTag{};
  static constexpr size_t kLanes = hn::MaxLanes(kTag);
  static constexpr size_t kPanelSize = kMaxDepth * kTileVecs * kLanes;
  static constexpr size_t kPackedSize = kGroupOfLargeA * kPanelSize;
  static constexpr size_t kMaxPanels = 8;

  // Makes a group of panels of columns from j on, all for tiles of the same
  // height. Returns the column after them.
  size_t PreparePanels(size_t j) {
    const bool large_a = c_.rows * depth_ * sizeof(T) > kHalfL2Bytes;
    const size_t group_size = large_a ? kPackedSize : kPanelSize;
    size_t used = 0;
    for (panels_ = 0; j < c_.cols && panels_ < kMaxPanels; ++panels_) {
      const size_t vecs = PanelVecs(c_.cols - j);
      const size_t size = depth_ * vecs * kLanes;
      const size_t rows = MaxTileRows(vecs);
      if (panels_ == 0) {
        tile_rows_ = rows;
      } else if (rows != tile_rows_ || used + size > group_size) {
        break;
      }
      panel_[panels_] = MakePanel(j, vecs, packed_ + used);
      used += size;
      j += panel_[panels_].cols;
    }
    return j;
  }

  // Width, in vectors, of the panel of the next cols columns of B.
  size_t PanelVecs(size_t cols) const {
    const size_t whole = cols / kLanes;
    const size_t vecs = hwy::DivCeil(cols, kLanes);
    if (in_place_ && c_.rows <= kTileRows && whole != 0) {
      // Few rows need many vectors to keep enough multiply-adds in flight, and
      // long contiguous reads of B to keep the prefetchers going; they do not
      // repay packing, which is left to what is not a whole vector.
      size_t wide = transpose_b_ ? kTileVecs : kMaxVecs;
      while (wide > whole || MaxTileRows(wide) < c_.rows) wide /= 2;
      return wide;
    }
    if (vecs == kLastTileVecs && depth_ * vecs * kLanes <= kPanelSize) {
      return vecs;
    }
    return std::min(vecs, kTileVecs);
  }

  // A panel of vecs vectors from column j on, in place or packed.
  Panel<T> MakePanel(size_t j, size_t vecs, T* to) const {
    Panel<T> panel;
    panel.column = j;
    panel.cols = std::min(vecs * kLanes, c_.cols - j);
    panel.tiles = TilesOf(vecs);
    if (in_place_ && panel.cols == vecs * kLanes) {
      if (transpose_b_) panel.tiles = TransposingTilesOf(vecs);
      panel.b = b_.data + (transpose_b_ ? j * b_.stride : j);
      panel.b_stride = b_.stride;
      return panel;
    }
    panel.b = to;
    panel.b_stride = vecs * kLanes;
    if (depth_ == 0) return panel;
    if (transpose_b_) {
      PackTransposed(b_.row(j), b_.stride, depth_, panel.cols, to,
                     panel.b_stride);
    } else if (vecs == 1) {
      PackRows<1>(b_.data + j, b_.stride, depth_, panel.cols, to);
    } else if (vecs == 2) {
      PackRows<2>(b_.data + j, b_.stride, depth_, panel.cols, to);
    } else {
      PackRows<3>(b_.data + j, b_.stride, depth_, panel.cols, to);
    }
    return panel;
  }

  static constexpr size_t kMaxVecs = 16;

  static const TileFunction<T>* TilesOf(size_t vecs) {
    switch (vecs) {
      case 1:
        return kTiles<T, 1>.data();
      case 2:
        return kTiles<T, 2>.data();
      case 3:
        return kTiles<T, 3>.data();
      case 4:
        return kTiles<T, 4>.data();
      case 8:
        return kTiles<T, 8>.data();
      default:
        return kTiles<T, kMaxVecs>.data();
    }
  }

  static const TileFunction<T>* TransposingTilesOf(size_t vecs) {
    return vecs == 1 ? kTransposingTiles<T, 1>.data()
                     : kTransposingTiles<T, kTileVecs>.data();
  }

  // Rows [first, first + rows) of C in the prepared columns. The tiles' heights
  // differ by one at most: a last tile of few rows would be slow.
  void MultiplyRows(size_t first, size_t rows) {
    size_t i = first;
    for (size_t tiles = hwy::DivCeil(rows, tile_rows_); tiles != 0; --tiles) {
      const size_t height = (first + rows - i) / tiles;
      for (size_t p = 0; p < panels_; ++p) MultiplyTile(i, height, panel_[p]);
      i += height;
    }
  }

  void MultiplyTile(size_t i, size_t height, const Panel<T>& panel) {
    TileArguments<T> t;
    t.a = a_ + i * a_row_stride_;
    t.a_row_stride = a_row_stride_;
    t.a_k_stride = a_k_stride_;
    t.b = panel.b;
    t.b_stride = panel.b_stride;
    t.k = depth_;
    t.c = c_.row(i) + panel.column;
    t.c_stride = c_.stride;
    t.cols = panel.cols;
    t.alpha = epilogue_.alpha;
    t.beta = epilogue_.beta;
    t.bias =
        epilogue_.bias == nullptr ? nullptr : epilogue_.bias + panel.column;
    t.prefetch_c = prefetch_c_;
    panel.tiles[height - 1](t);
    if (epilogue_.activation != Activation::kIdentity) {
      ActivateTile(epilogue_.activation,
                   MatrixView<T>(t.c, height, t.cols, t.c_stride));
    }
  }

  const bool transpose_b_;
  bool in_place_ = false;
  const T* a_ = nullptr;
  size_t a_row_stride_ = 0;
  size_t a_k_stride_ = 0;
  MatrixView<const T> b_;
  const MatrixView<T> c_;
  const size_t depth_;
  const GemmEpilogue<T>& epilogue_;
  const bool prefetch_c_;
  size_t tile_rows_ = 0;
  size_t panels_ = 0;
  Panel<T> panel_[kMaxPanels];
  HWY_ALIGN T packed_[kPackedSize];
};

template <typename T>
void GemmTiled(Transpose transpose_a, Transpose transpose_b,
               MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c,
               const GemmEpilogue<T>& epilogue) {
  if (c.rows == 0 || c.cols == 0) return;
  const size_t k = transpose_a == Transpose::kYes ? a.rows : a.cols;
  // A k of 0 still scales C and adds the bias, in a part of depth 0. The parts
  // depend on nothing but k.
  const size_t parts = std::max<size_t>(1, hwy::DivCeil(k, kMaxDepth));
  for (size_t part = 0; part < parts; ++part) {
    const size_t first = k * part / parts;
    const size_t last = k * (part + 1) / parts;
    GemmEpilogue<T> e = epilogue;
    if (part != 0) e.beta = 1;
    if (part + 1 != parts) {
      e.bias = nullptr;
      e.activation = Activation::kIdentity;
    }
    Multiplication<T>(transpose_a, transpose_b, a, b, c, first, last - first, e)
        .Run();
  }
}

// These also instantiate GemmTiled, for gemm-inl.h.
void GemmFloat(Transpose transpose_a, Transpose transpose_b,
               MatrixView<const float> a, MatrixView<const float> b,
               MatrixView<float> c, const GemmEpilogue<float>& epilogue) {
  GemmTiled(transpose_a, transpose_b, a, b, c, epilogue);
}
void GemmDouble(Transpose transpose_a, Transpose transpose_b,
                MatrixView<const double> a, MatrixView<const double> b,
                MatrixView<double> c, const GemmEpilogue<double>& epilogue) {
  GemmTiled(transpose_a, transpose_b, a, b, c, epilogue);
}
template void GemmTiled(Transpose, Transpose, MatrixView<const float>,
                        MatrixView<const float>, MatrixView<float>,
                        const GemmEpilogue<float>&);
template void GemmTiled(Transpose, Transpose, MatrixView<const double>,
                        MatrixView<const double>, MatrixView<double>,
                        const GemmEpilogue<double>&);

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {
namespace {

HWY_EXPORT(GemmFloat);
HWY_EXPORT(GemmDouble);

template <typename T>
void CheckShapes([[maybe_unused]] Transpose transpose_a,
                 [[maybe_unused]] Transpose transpose_b,
                 [[maybe_unused]] const MatrixView<const T>& a,
                 [[maybe_unused]] const MatrixView<const T>& b,
                 [[maybe_unused]] const MatrixView<T>& c) {
#ifndef NDEBUG
  const bool ta = transpose_a == Transpose::kYes;
  const bool tb = transpose_b == Transpose::kYes;
  assert((ta ? a.cols : a.rows) == c.rows);
  assert((tb ? b.rows : b.cols) == c.cols);
  assert((ta ? a.rows : a.cols) == (tb ? b.cols : b.rows));
#endif
}

}  // namespace

void Gemm(Transpose transpose_a, Transpose transpose_b,
          MatrixView<const float> a, MatrixView<const float> b,
          MatrixView<float> c, const GemmEpilogue<float>& epilogue) {
  CheckShapes(transpose_a, transpose_b, a, b, c);
  HWY_DYNAMIC_DISPATCH(GemmFloat)(transpose_a, transpose_b, a, b, c, epilogue);
}

void Gemm(Transpose transpose_a, Transpose transpose_b,
          MatrixView<const double> a, MatrixView<const double> b,
          MatrixView<double> c, const GemmEpilogue<double>& epilogue) {
  CheckShapes(transpose_a, transpose_b, a, b, c);
  HWY_DYNAMIC_DISPATCH(GemmDouble)(transpose_a, transpose_b, a, b, c, epilogue);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
