// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/vector_math.h"

#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/vector_math.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace {

// Calls body with the function object that f names.
template <class Body>
HWY_INLINE void WithFunction(Unary f, const Body& body) {
  switch (f) {
    case Unary::kExp:
      return body(Exp());
    case Unary::kSigmoid:
      return body(Sigmoid());
    case Unary::kSilu:
      return body(Silu());
    case Unary::kGelu:
      return body(Gelu());
    case Unary::kRelu:
      return body(Relu());
    case Unary::kTanh:
      return body(Tanh());
    case Unary::kSoftplus:
      return body(Softplus());
    case Unary::kLogSigmoid:
      return body(LogSigmoid());
    case Unary::kEluPlusOne:
      return body(EluPlusOne());
    case Unary::kSquare:
      return body(Square());
    case Unary::kSin:
      return body(Sin());
  }
}

template <typename T>
HWY_INLINE void MapArray(Unary f, const T* x, T* y, size_t n) {
  const hn::ScalableTag<T> d;
  WithFunction(f, [&](auto function) HWY_ATTR {
    ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
      lanes.Store(function(d, lanes.Load(x + i)), y + i);
    });
  });
}

template <typename T>
HWY_INLINE void MapBackwardArray(Unary f, const T* x, const T* dy, T* dx,
                                 size_t n) {
  const hn::ScalableTag<T> d;
  WithFunction(f, [&](auto function) HWY_ATTR {
    ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
      const auto derivative = function.Derivative(d, lanes.Load(x + i));
      lanes.Store(
          hn::MulAdd(lanes.Load(dy + i), derivative, lanes.Load(dx + i)),
          dx + i);
    });
  });
}

template <typename T>
HWY_INLINE void AxpyArray(T a, const T* x, T* y, size_t n) {
  const hn::ScalableTag<T> d;
  const auto factor = hn::Set(d, a);
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::MulAdd(factor, lanes.Load(x + i), lanes.Load(y + i)),
                y + i);
  });
}

template <typename T>
HWY_INLINE void MultiplyArrays(const T* x, const T* y, T* z, size_t n) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::Mul(lanes.Load(x + i), lanes.Load(y + i)), z + i);
  });
}

template <typename T>
HWY_INLINE void MultiplyAddArrays(const T* x, const T* y, T* z, size_t n) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(
        hn::MulAdd(lanes.Load(x + i), lanes.Load(y + i), lanes.Load(z + i)),
        z + i);
  });
}

template <typename T>
HWY_INLINE void AddArrays(const T* x, const T* y, T* z, size_t n) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::Add(lanes.Load(x + i), lanes.Load(y + i)), z + i);
  });
}

template <typename T>
HWY_INLINE T DotArrays(const T* x, const T* y, size_t n) {
  const hn::ScalableTag<T> d;
  return SumVectors(d, n, [&](auto sum, size_t i, const auto& lanes) HWY_ATTR {
    return hn::MulAdd(lanes.Load(x + i), lanes.Load(y + i), sum);
  });
}

}  // namespace

// Flattened, so that the lambdas above cost nothing.
HWY_FLATTEN void MapF32(Unary f, const float* x, float* y, size_t n) {
  MapArray(f, x, y, n);
}

HWY_FLATTEN void MapF64(Unary f, const double* x, double* y, size_t n) {
  MapArray(f, x, y, n);
}

HWY_FLATTEN void MapBackwardF32(Unary f, const float* x, const float* dy,
                                float* dx, size_t n) {
  MapBackwardArray(f, x, dy, dx, n);
}

HWY_FLATTEN void MapBackwardF64(Unary f, const double* x, const double* dy,
                                double* dx, size_t n) {
  MapBackwardArray(f, x, dy, dx, n);
}

HWY_FLATTEN void AxpyF32(float a, const float* x, float* y, size_t n) {
  AxpyArray(a, x, y, n);
}

HWY_FLATTEN void AxpyF64(double a, const double* x, double* y, size_t n) {
  AxpyArray(a, x, y, n);
}

HWY_FLATTEN void MultiplyF32(const float* x, const float* y, float* z,
                             size_t n) {
  MultiplyArrays(x, y, z, n);
}

HWY_FLATTEN void MultiplyF64(const double* x, const double* y, double* z,
                             size_t n) {
  MultiplyArrays(x, y, z, n);
}

HWY_FLATTEN void MultiplyAddF32(const float* x, const float* y, float* z,
                                size_t n) {
  MultiplyAddArrays(x, y, z, n);
}

HWY_FLATTEN void MultiplyAddF64(const double* x, const double* y, double* z,
                                size_t n) {
  MultiplyAddArrays(x, y, z, n);
}

HWY_FLATTEN void AddF32(const float* x, const float* y, float* z, size_t n) {
  AddArrays(x, y, z, n);
}

HWY_FLATTEN void AddF64(const double* x, const double* y, double* z, size_t n) {
  AddArrays(x, y, z, n);
}

HWY_FLATTEN float DotF32(const float* x, const float* y, size_t n) {
  return DotArrays(x, y, n);
}

HWY_FLATTEN double DotF64(const double* x, const double* y, size_t n) {
  return DotArrays(x, y, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(MapF32);
HWY_EXPORT(MapF64);
HWY_EXPORT(MapBackwardF32);
HWY_EXPORT(MapBackwardF64);
HWY_EXPORT(AxpyF32);
HWY_EXPORT(AxpyF64);
HWY_EXPORT(MultiplyF32);
HWY_EXPORT(MultiplyF64);
HWY_EXPORT(MultiplyAddF32);
HWY_EXPORT(MultiplyAddF64);
HWY_EXPORT(AddF32);
HWY_EXPORT(AddF64);
HWY_EXPORT(DotF32);
HWY_EXPORT(DotF64);

void Map(Unary f, const float* x, float* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(MapF32)(f, x, y, n);
}

void Map(Unary f, const double* x, double* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(MapF64)(f, x, y, n);
}

void MapBackward(Unary f, const float* x, const float* dy, float* dx,
                 size_t n) {
  HWY_DYNAMIC_DISPATCH(MapBackwardF32)(f, x, dy, dx, n);
}

void MapBackward(Unary f, const double* x, const double* dy, double* dx,
                 size_t n) {
  HWY_DYNAMIC_DISPATCH(MapBackwardF64)(f, x, dy, dx, n);
}

void Axpy(float a, const float* x, float* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(AxpyF32)(a, x, y, n);
}

void Axpy(double a, const double* x, double* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(AxpyF64)(a, x, y, n);
}

void Multiply(const float* x, const float* y, float* z, size_t n) {
  HWY_DYNAMIC_DISPATCH(MultiplyF32)(x, y, z, n);
}

void Multiply(const double* x, const double* y, double* z, size_t n) {
  HWY_DYNAMIC_DISPATCH(MultiplyF64)(x, y, z, n);
}

void MultiplyAdd(const float* x, const float* y, float* z, size_t n) {
  HWY_DYNAMIC_DISPATCH(MultiplyAddF32)(x, y, z, n);
}

void MultiplyAdd(const double* x, const double* y, double* z, size_t n) {
  HWY_DYNAMIC_DISPATCH(MultiplyAddF64)(x, y, z, n);
}

void Add(const float* x, const float* y, float* z, size_t n) {
  HWY_DYNAMIC_DISPATCH(AddF32)(x, y, z, n);
}

void Add(const double* x, const double* y, double* z, size_t n) {
  HWY_DYNAMIC_DISPATCH(AddF64)(x, y, z, n);
}

float Dot(const float* x, const float* y, size_t n) {
  return HWY_DYNAMIC_DISPATCH(DotF32)(x, y, n);
}

double Dot(const double* x, const double* y, size_t n) {
  return HWY_DYNAMIC_DISPATCH(DotF64)(x, y, n);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
