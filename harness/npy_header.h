// SPDX-License-Identifier: Apache-2.0
//
// The header of a .npy file:
//
//   "\x93NUMPY", major and minor version, a byte each
//   the length of the rest, little-endian: 2 bytes in version 1, else 4
//   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
//   spaces and a newline, which NumPy chooses so that data start at a multiple
//   of 64 bytes
//
// The dict is a Python literal. What of Python is understood here is what NumPy
// writes, keys in any order: strings without escapes, True and False, and
// tuples of decimal integers.

#ifndef MNEME_HARNESS_NPY_HEADER_H_
#define MNEME_HARNESS_NPY_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mneme {

struct NpyHeader {
  bool is_double = false;
  bool fortran_order = false;
  std::vector<int64_t> shape;
  int64_t elements = 1;    // the product of shape
  int64_t data_bytes = 0;  // of all elements; does not overflow
  int64_t data_start = 0;  // where in the file they are
};

// InvalidArgument if bytes do not start with a header, or it announces what is
// not supported.
absl::StatusOr<NpyHeader> ParseNpyHeader(absl::string_view bytes);

// All bytes before the data, of version 1.0 in C order. InvalidArgument if the
// shape has a negative length or too many axes, or calls for more than 2^63
// bytes.
absl::StatusOr<std::string> FormatNpyHeader(const std::vector<int64_t>& shape,
                                            bool is_double);

}  // namespace mneme

#endif  // MNEME_HARNESS_NPY_HEADER_H_
