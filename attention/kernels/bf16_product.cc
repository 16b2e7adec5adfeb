// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_product.h"

#include <atomic>
#include <cstring>

#include "attention/kernels/bf16_tile_product.h"
#include "hwy/base.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/bf16_product.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/bf16-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Tile registers in memory.
class EmulatedRegisters {
 public:
  template <int kTile>
  void Zero() {
    std::memset(tiles_[kTile], 0, sizeof(tiles_[kTile]));
  }
  template <int kTile>
  void Load(const void* from, size_t stride) {
    const char* row = static_cast<const char*>(from);
    for (size_t r = 0; r < kRows; ++r, row += stride) {
      std::memcpy(tiles_[kTile] + r * kWidth, row, kRowBytes);
    }
  }
  template <int kTile>
  void Store(void* to, size_t stride) const {
    char* row = static_cast<char*>(to);
    for (size_t r = 0; r < kRows; ++r, row += stride) {
      std::memcpy(row, tiles_[kTile] + r * kWidth, kRowBytes);
    }
  }
  template <int kSum, int kA, int kB>
  void Dot() {
    AddDots(tiles_[kA], tiles_[kB], tiles_[kSum]);
  }

 private:
  static constexpr size_t kRows = 16, kRowBytes = 64;
  static constexpr size_t kWidth = kRowBytes / sizeof(uint32_t);

  // As tdpbf16ps does it: products of the first and of the second numbers of
  // pairs are summed apart, from zero and with one rounding each, and only then
  // added to one another and to the sum.
  static HWY_NOINLINE void AddDots(const uint32_t* HWY_RESTRICT a,
                                   const uint32_t* HWY_RESTRICT b,
                                   uint32_t* HWY_RESTRICT sum) {
    const hn::CappedTag<float, kWidth> d;
    const Bits<decltype(d)> du;
    const size_t lanes = hn::Lanes(d);
    HWY_ALIGN float first[kRows * kWidth];
    HWY_ALIGN float second[kRows * kWidth];
    for (size_t i = 0; i < kRows * kWidth; i += lanes) {
      const auto pairs = hn::Load(du, a + i);
      hn::Store(FirstOfPairs(d, pairs), d, first + i);
      hn::Store(SecondOfPairs(d, pairs), d, second + i);
    }
    for (size_t n = 0; n < kWidth; n += lanes) {
      for (size_t r = 0; r < kRows; r += 4) {
        AddRows(d, first + r * kWidth, second + r * kWidth, b + n,
                sum + r * kWidth + n);
      }
    }
  }

  // Four rows and one vector of columns.
  template <class D>
  static HWY_INLINE void AddRows(D d, const float* HWY_RESTRICT first,
                                 const float* HWY_RESTRICT second,
                                 const uint32_t* HWY_RESTRICT b,
                                 uint32_t* HWY_RESTRICT sum) {
    const Bits<D> du;
    hn::VFromD<D> sums[4], other_sums[4];
    HWY_UNROLL(4) for (size_t i = 0; i < 4; ++i) {
      sums[i] = other_sums[i] = hn::Zero(d);
    }
    for (size_t p = 0; p < kWidth; ++p) {
      const auto pairs = hn::Load(du, b + p * kWidth);
      const auto b_first = FirstOfPairs(d, pairs);
      const auto b_second = SecondOfPairs(d, pairs);
      HWY_UNROLL(4) for (size_t i = 0; i < 4; ++i) {
        sums[i] =
            hn::MulAdd(hn::Set(d, first[i * kWidth + p]), b_first, sums[i]);
        other_sums[i] = hn::MulAdd(hn::Set(d, second[i * kWidth + p]), b_second,
                                   other_sums[i]);
      }
    }
    HWY_UNROLL(4) for (size_t i = 0; i < 4; ++i) {
      uint32_t* const to = sum + i * kWidth;
      const auto old = hn::BitCast(d, hn::Load(du, to));
      hn::Store(hn::BitCast(du, hn::Add(old, hn::Add(sums[i], other_sums[i]))),
                du, to);
    }
  }

  HWY_ALIGN uint32_t tiles_[8][kRows * kWidth];
};

// Units of hardware come with vectors as wide.
bool HasWideVectors() {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return true;
#else
  return false;
#endif
}

void MultiplyEmulated(const Bf16Multiplication& m) {
  EmulatedRegisters registers;
  MultiplyByTiles(m, registers);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {
namespace {

HWY_EXPORT(HasWideVectors);
HWY_EXPORT(MultiplyEmulated);

void Nothing() {}
void MultiplyPortable(const Bf16Multiplication& m) {
  HWY_DYNAMIC_DISPATCH(MultiplyEmulated)(m);
}

// Null: the best.
std::atomic<const Bf16Unit*> chosen{nullptr};

// Those that exist, best first.
std::vector<const Bf16Unit*> Units() {
  std::vector<const Bf16Unit*> units;
  for (const Bf16Unit* unit :
       {Bf16AmxUnit(), Bf16Avx512Unit(), Bf16PortableUnit()}) {
    if (unit != nullptr) units.push_back(unit);
  }
  return units;
}

}  // namespace

const Bf16Unit* Bf16PortableUnit() {
  static constexpr Bf16Unit kUnit = {"portable", Nothing, Nothing,
                                     MultiplyPortable};
  return &kUnit;
}

const Bf16Unit* ActiveBf16Unit() {
  const Bf16Unit* const unit = chosen.load(std::memory_order_relaxed);
  if (unit != nullptr) return unit;
  if (!HWY_DYNAMIC_DISPATCH(HasWideVectors)()) return nullptr;
  return Bf16AmxUnit() != nullptr ? Bf16AmxUnit() : Bf16Avx512Unit();
}

std::vector<std::string> SupportedBf16Units() {
  std::vector<std::string> names;
  for (const Bf16Unit* unit : Units()) names.push_back(unit->name);
  return names;
}

bool UseBf16Unit(const std::string& name) {
  if (name == "best") {
    chosen = nullptr;
    return true;
  }
  for (const Bf16Unit* unit : Units()) {
    if (name != unit->name) continue;
    chosen = unit;
    return true;
  }
  return false;
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
