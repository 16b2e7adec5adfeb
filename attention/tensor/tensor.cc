// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/tensor.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "attention/tensor/memory.h"

namespace mneme {

std::string Shape::ToString() const {
  return absl::StrCat("[", absl::StrJoin(dims_, ", "), "]");
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)) {
  // At least one byte, so that a tensor without elements is not empty().
  const size_t size = bytes() + 1;
  data_ = AllocateMemory(size);
  owner_ =
      std::shared_ptr<void>(data_, [size](void* p) { FreeMemory(p, size); });
  FillZero();
}

Tensor::Tensor(Arena* arena, DType dtype, Shape shape) {
  if (arena == nullptr) {
    *this = Tensor(dtype, std::move(shape));
    return;
  }
  dtype_ = dtype;
  shape_ = std::move(shape);
  data_ = arena->Allocate(bytes());
}

Tensor Tensor::Reshaped(Shape shape) const {
  assert(shape.elements() == elements());
  Tensor result = *this;
  result.shape_ = std::move(shape);
  return result;
}

Tensor Tensor::Slice(int64_t first, Shape shape) const {
  assert(first + shape.elements() <= elements());
  Tensor result = *this;
  result.data_ = static_cast<char*>(data_) + first * SizeOf(dtype_);
  result.shape_ = std::move(shape);
  return result;
}

Tensor Tensor::Clone() const {
  Tensor result(dtype_, shape_);
  if (bytes() > 0) std::memcpy(result.data_, data_, bytes());
  return result;
}

Tensor Tensor::Cast(DType dtype) const {
  Tensor result(dtype, shape_);
  DispatchDType(dtype, [&](auto to) {
    DispatchDType(dtype_, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      for (int64_t i = 0; i < elements(); ++i) {
        result.data<To>()[i] = static_cast<To>(data<From>()[i]);
      }
    });
  });
  return result;
}

void Tensor::FillZero() {
  if (bytes() > 0) std::memset(data_, 0, bytes());
}

std::vector<double> Tensor::ToDoubles() const {
  const Tensor doubles =
      dtype_ == DType::kFloat64 ? *this : Cast(DType::kFloat64);
  return {doubles.data<double>(), doubles.data<double>() + elements()};
}

}  // namespace mneme
