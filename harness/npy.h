// SPDX-License-Identifier: Apache-2.0
//
// NumPy's .npy files (numpy.lib.format, versions 1.0, 2.0 and 3.0): arrays of
// little-endian float32 and float64, of up to 8 axes.
//
// Reading is strict. A file is taken only if every byte of it is accounted for:
// the header is exactly the dict that NumPy writes, and the data have exactly
// the bytes that shape and type call for. Nothing is allocated by what a header
// claims before the file is known to have as much.

#ifndef MNEME_HARNESS_NPY_H_
#define MNEME_HARNESS_NPY_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace mneme {

inline constexpr int kMaxNpyRank = 8;

// An array in C order: the last axis varies fastest. No axes are a scalar of
// one element; an axis of length 0 leaves none.
struct NpyArray {
  std::vector<int64_t> shape;
  std::variant<std::vector<float>, std::vector<double>> values;

  bool is_double() const { return values.index() == 1; }
  // Precondition: of that type.
  const std::vector<float>& floats() const { return *std::get_if<0>(&values); }
  const std::vector<double>& doubles() const {
    return *std::get_if<1>(&values);
  }
};

// The array in a file's bytes; Fortran order is converted. InvalidArgument, in
// one line, says what is wrong: no .npy file, a version, element type or rank
// that is not supported, a header that NumPy would not write, more or fewer
// bytes of data than it announces.
absl::StatusOr<NpyArray> ParseNpy(absl::string_view bytes);

// The bytes of a version 1.0 file, in C order. InvalidArgument if shape has a
// negative length or more than kMaxNpyRank, or does not match the number of
// values.
absl::StatusOr<std::string> FormatNpy(absl::Span<const int64_t> shape,
                                      absl::Span<const float> values);
absl::StatusOr<std::string> FormatNpy(absl::Span<const int64_t> shape,
                                      absl::Span<const double> values);

// As above, from and to files; messages begin with the path. Also the errors of
// atomic_file.h.
absl::StatusOr<NpyArray> ReadNpy(const std::string& path);
absl::Status WriteNpy(const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const float> values);
absl::Status WriteNpy(const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const double> values);

}  // namespace mneme

#endif  // MNEME_HARNESS_NPY_H_
