// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/rotary.h"

#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/rotary.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace {

// A row of cos and sin serves all heads of a row of x, so heads are the inner
// loop and cos and sin stay in registers. sign = -1 turns backwards.

// cos and sin [length, dim / 2].
template <typename T>
HWY_INLINE void RotateHalves(MatrixView<const T> x, MatrixView<const T> cos,
                             MatrixView<const T> sin, T sign, MatrixView<T> y) {
  const hn::ScalableTag<T> d;
  const size_t half = cos.cols;
  for (size_t t = 0; t < x.rows; ++t) {
    ForEachVector(d, half, [&](size_t i, const auto& lanes) HWY_ATTR {
      const auto c = lanes.Load(cos.row(t) + i);
      const auto s = hn::Mul(lanes.Load(sin.row(t) + i), hn::Set(d, sign));
      for (size_t head = 0; head < x.cols; head += 2 * half) {
        const T* from = x.row(t) + head + i;
        T* to = y.row(t) + head + i;
        const auto a = lanes.Load(from);
        const auto b = lanes.Load(from + half);
        lanes.Store(hn::NegMulAdd(b, s, hn::Mul(a, c)), to);
        lanes.Store(hn::MulAdd(a, s, hn::Mul(b, c)), to + half);
      }
    });
  }
}

// cos and sin [length, dim]: each entry stands twice, the first sine negated,
// so that a vector of pairs needs one exchange of neighbours and no blends.
template <typename T>
HWY_INLINE void RotateAdjacent(MatrixView<const T> x, MatrixView<const T> cos,
                               MatrixView<const T> sin, T sign,
                               MatrixView<T> y) {
  const hn::ScalableTag<T> d;
  const size_t dim = cos.cols;
  for (size_t t = 0; t < x.rows; ++t) {
    if constexpr (hn::MaxLanes(decltype(d)()) == 1) {  // pairs do not fit
      for (size_t i = 0; i < x.cols; i += 2) {
        const T a = x(t, i), b = x(t, i + 1);
        const T c = cos(t, i % dim), s = sign * sin(t, i % dim + 1);
        y(t, i) = a * c - b * s;
        y(t, i + 1) = b * c + a * s;
      }
    } else {
      ForEachVector(d, dim, [&](size_t i, const auto& lanes) HWY_ATTR {
        const auto c = lanes.Load(cos.row(t) + i);
        const auto s = hn::Mul(lanes.Load(sin.row(t) + i), hn::Set(d, sign));
        for (size_t head = 0; head < x.cols; head += dim) {
          const auto v = lanes.Load(x.row(t) + head + i);
          const auto swapped = hn::Reverse2(d, v);
          lanes.Store(hn::MulAdd(swapped, s, hn::Mul(v, c)),
                      y.row(t) + head + i);
        }
      });
    }
  }
}

template <typename T>
HWY_INLINE void RotateWith(RotaryPairing pairing, MatrixView<const T> x,
                           MatrixView<const T> cos, MatrixView<const T> sin,
                           T sign, MatrixView<T> y) {
  if (pairing == RotaryPairing::kHalves) {
    RotateHalves(x, cos, sin, sign, y);
  } else {
    RotateAdjacent(x, cos, sin, sign, y);
  }
}

}  // namespace

// Flattened, so that the lambdas above cost nothing.
HWY_FLATTEN void RotateF32(RotaryPairing pairing, MatrixView<const float> x,
                           MatrixView<const float> cos,
                           MatrixView<const float> sin, float sign,
                           MatrixView<float> y) {
  RotateWith(pairing, x, cos, sin, sign, y);
}

HWY_FLATTEN void RotateF64(RotaryPairing pairing, MatrixView<const double> x,
                           MatrixView<const double> cos,
                           MatrixView<const double> sin, double sign,
                           MatrixView<double> y) {
  RotateWith(pairing, x, cos, sin, sign, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {
namespace {

HWY_EXPORT(RotateF32);
HWY_EXPORT(RotateF64);

// Cosines and sines for a run of positions, laid out as the pairing wants them.
// It grows at its end, as decoding does, and starts anew elsewhere.
template <typename T>
class AngleTable {
 public:
  bool IsFor(const std::vector<double>& frequencies,
             RotaryPairing pairing) const {
    return pairing_ == pairing && frequencies_ == frequencies;
  }

  void Reset(const std::vector<double>& frequencies, RotaryPairing pairing) {
    *this = AngleTable();
    frequencies_ = frequencies;
    pairing_ = pairing;
  }

  // Makes the table contain positions [first, end).
  void Cover(size_t first, size_t end) {
    if (first < first_ || first > end_) {
      cos_.clear();
      sin_.clear();
      first_ = end_ = first;
    }
    for (; end_ < end; ++end_) AppendPosition(static_cast<double>(end_));
  }

  MatrixView<const T> cos(size_t first, size_t count) const {
    return Rows(cos_, first, count);
  }
  MatrixView<const T> sin(size_t first, size_t count) const {
    return Rows(sin_, first, count);
  }

 private:
  // A sine costs about a hundred times its use, and each is used by every
  // sequence, layer and step.
  void AppendPosition(double position) {
    for (const double frequency : frequencies_) {
      // The angle is an unevaluated sum of two doubles and thus exact: at
      // position 1,000,000 the product alone would be 1e-10 off.
      const double angle = position * frequency;
      const double rest = std::fma(position, frequency, -angle);
      const double c = std::cos(angle), s = std::sin(angle);
      const T cosine = static_cast<T>(c - rest * s);
      const T sine = static_cast<T>(s + rest * c);
      if (pairing_ == RotaryPairing::kHalves) {
        cos_.push_back(cosine);
        sin_.push_back(sine);
      } else {
        cos_.insert(cos_.end(), {cosine, cosine});
        sin_.insert(sin_.end(), {-sine, sine});
      }
    }
  }

  MatrixView<const T> Rows(const std::vector<T>& values, size_t first,
                           size_t count) const {
    const size_t cols =
        frequencies_.size() * (pairing_ == RotaryPairing::kHalves ? 1 : 2);
    return MatrixView<const T>(values.data() + (first - first_) * cols, count,
                               cols);
  }

  std::vector<double> frequencies_;
  RotaryPairing pairing_ = RotaryPairing::kHalves;
  size_t first_ = 0, end_ = 0;  // the positions in the table
  std::vector<T> cos_, sin_;
};

// Each thread keeps the tables of its last few kinds of rotation. One takes as
// much memory as x with a single head (kHalves) or two (kAdjacent).
template <typename T>
AngleTable<T>& TableFor(const std::vector<double>& frequencies,
                        RotaryPairing pairing) {
  thread_local std::array<AngleTable<T>, 4> tables;
  thread_local size_t oldest = 0;
  for (AngleTable<T>& table : tables) {
    if (table.IsFor(frequencies, pairing)) return table;
  }
  AngleTable<T>& table = tables[oldest];
  oldest = (oldest + 1) % tables.size();
  table.Reset(frequencies, pairing);
  return table;
}

template <typename T, class Kernel>
void RotateRows(MatrixView<const T> x, const std::vector<double>& frequencies,
                RotaryPairing pairing, size_t first_position, bool inverse,
                MatrixView<T> y, Kernel kernel) {
  if (x.rows == 0 || frequencies.empty()) return;
  assert(x.cols % (2 * frequencies.size()) == 0);
  AngleTable<T>& table = TableFor<T>(frequencies, pairing);
  table.Cover(first_position, first_position + x.rows);
  kernel(pairing, x, table.cos(first_position, x.rows),
         table.sin(first_position, x.rows), inverse ? T{-1} : T{1}, y);
}

}  // namespace

std::vector<double> RotaryFrequencies(size_t dim, double base) {
  std::vector<double> frequencies(dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(base, -2.0 * i / dim);
  }
  return frequencies;
}

std::vector<double> RetNetFrequencies(size_t dim) {
  std::vector<double> frequencies(dim / 2, 1.0);
  for (size_t i = 1; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(10000.0, -(i / (dim / 2 - 1.0)));
  }
  return frequencies;
}

void Rotate(MatrixView<const float> x, const std::vector<double>& frequencies,
            RotaryPairing pairing, size_t first_position, bool inverse,
            MatrixView<float> y) {
  RotateRows(x, frequencies, pairing, first_position, inverse, y,
             HWY_DYNAMIC_DISPATCH(RotateF32));
}

void Rotate(MatrixView<const double> x, const std::vector<double>& frequencies,
            RotaryPairing pairing, size_t first_position, bool inverse,
            MatrixView<double> y) {
  RotateRows(x, frequencies, pairing, first_position, inverse, y,
             HWY_DYNAMIC_DISPATCH(RotateF64));
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
