// SPDX-License-Identifier: Apache-2.0
//
// Sizes of a problem as text: BATCHxLENGTHxHEADSxHEAD_DIM, as in 1x2048x8x64.

#ifndef MNEME_HARNESS_THROUGHPUT_SHAPE_H_
#define MNEME_HARNESS_THROUGHPUT_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "harness/throughput/phase.h"

namespace mneme {

struct ThroughputShape {
  int64_t batch = 1;
  int64_t length = 1;  // of the context in Phase::kDecode
  int64_t heads = 1;
  int64_t head_dim = 1;  // of keys and values

  std::string ToString() const;
  bool operator==(const ThroughputShape& other) const;
};

// InvalidArgument for text that is no shape, sizes below 1 or above 2^24, or
// arrays of more than 2^31 elements.
absl::StatusOr<ThroughputShape> ParseShape(absl::string_view text);

// Shapes by name: "growth" is 1xTx1x64 for T = 512, 1024, ... 131072; "fla" the
// two that flash-linear-attention's benchmarks use; "contexts" 1xTx8x64 for T =
// 4096, 8192, 16384, 131072; "small" the quick profile's 64x64x2x32 and
// 32x256x2x64. Anything else is one shape.
absl::StatusOr<std::vector<ThroughputShape>> ParseShapes(
    absl::string_view text);

// What a phase is measured at when nothing is asked for.
ThroughputShape DefaultShape(Phase phase);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_SHAPE_H_
