// SPDX-License-Identifier: Apache-2.0

#include "harness/npy.h"

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "harness/atomic_file.h"
#include "harness/npy_header.h"

#ifndef ABSL_IS_LITTLE_ENDIAN
#error "Values are copied as they are in the file, which is little-endian."
#endif

namespace mneme {
namespace {

// Copies an array whose first axis varies fastest into C order.
template <typename T>
std::vector<T> FromFortranOrder(const std::vector<int64_t>& shape,
                                const std::vector<T>& from) {
  std::vector<T> to(from.size());
  // How far apart in `from` neighbours along each axis are.
  std::vector<size_t> stride(shape.size(), 1);
  for (size_t axis = 1; axis < shape.size(); ++axis) {
    stride[axis] = stride[axis - 1] * shape[axis - 1];
  }
  std::vector<int64_t> index(shape.size(), 0);
  size_t source = 0;
  for (T& value : to) {
    value = from[source];
    // The next index in C order, as an odometer counts.
    for (size_t axis = shape.size(); axis-- > 0;) {
      source += stride[axis];
      if (++index[axis] < shape[axis]) break;
      source -= stride[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return to;
}

template <typename T>
std::vector<T> Values(const NpyHeader& header, absl::string_view data) {
  std::vector<T> values(header.elements);
  if (!values.empty()) std::memcpy(values.data(), data.data(), data.size());
  return header.fortran_order ? FromFortranOrder(header.shape, values) : values;
}

template <typename T>
absl::StatusOr<std::string> Format(absl::Span<const int64_t> shape,
                                   absl::Span<const T> values) {
  absl::StatusOr<std::string> bytes =
      FormatNpyHeader({shape.begin(), shape.end()}, std::is_same_v<T, double>);
  if (!bytes.ok()) return bytes.status();
  size_t elements = 1;
  for (const int64_t length : shape) elements *= length;
  if (elements != values.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a shape of ", elements,
                                                   " elements does not fit ",
                                                   values.size(), " values"));
  }
  bytes->append(reinterpret_cast<const char*>(values.data()),
                values.size() * sizeof(T));
  return bytes;
}

template <typename T>
absl::Status Write(const std::string& path, absl::Span<const int64_t> shape,
                   absl::Span<const T> values) {
  const absl::StatusOr<std::string> bytes = Format(shape, values);
  if (bytes.ok()) return WriteFileAtomically(path, *bytes);
  return absl::Status(bytes.status().code(),
                      absl::StrCat(path, ": ", bytes.status().message()));
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(absl::string_view bytes) {
  absl::StatusOr<NpyHeader> header = ParseNpyHeader(bytes);
  if (!header.ok()) return header.status();
  const absl::string_view data = bytes.substr(header->data_start);
  if (data.size() != static_cast<size_t>(header->data_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", header->data_bytes, " bytes of data, found ",
                     data.size()));
  }
  NpyArray array;
  if (header->is_double) {
    array.values = Values<double>(*header, data);
  } else {
    array.values = Values<float>(*header, data);
  }
  array.shape = std::move(header->shape);
  return array;
}

absl::StatusOr<std::string> FormatNpy(absl::Span<const int64_t> shape,
                                      absl::Span<const float> values) {
  return Format(shape, values);
}

absl::StatusOr<std::string> FormatNpy(absl::Span<const int64_t> shape,
                                      absl::Span<const double> values) {
  return Format(shape, values);
}

absl::StatusOr<NpyArray> ReadNpy(const std::string& path) {
  const absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<NpyArray> array = ParseNpy(*bytes);
  if (array.ok()) return array;
  return absl::Status(array.status().code(),
                      absl::StrCat(path, ": ", array.status().message()));
}

absl::Status WriteNpy(const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const float> values) {
  return Write(path, shape, values);
}

absl::Status WriteNpy(const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const double> values) {
  return Write(path, shape, values);
}

}  // namespace mneme
