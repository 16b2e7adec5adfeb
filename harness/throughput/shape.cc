// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/shape.h"

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace mneme {
namespace {

constexpr int64_t kLargestSize = int64_t{1} << 24;
constexpr int64_t kMostElements = int64_t{1} << 31;

absl::Status BadShape(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is no shape: ", why,
      "; give BATCHxLENGTHxHEADSxHEAD_DIM, as 1x2048x8x64, or one of growth, "
      "fla, contexts, small"));
}

std::vector<ThroughputShape> Lengths(int64_t heads,
                                     const std::vector<int64_t>& lengths) {
  std::vector<ThroughputShape> shapes;
  for (const int64_t length : lengths) {
    shapes.push_back({1, length, heads, 64});
  }
  return shapes;
}

}  // namespace

std::string ThroughputShape::ToString() const {
  return absl::StrCat(batch, "x", length, "x", heads, "x", head_dim);
}

bool ThroughputShape::operator==(const ThroughputShape& other) const {
  return batch == other.batch && length == other.length &&
         heads == other.heads && head_dim == other.head_dim;
}

absl::StatusOr<ThroughputShape> ParseShape(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, 'x');
  if (parts.size() != 4) return BadShape(text, "it needs four sizes");
  ThroughputShape shape;
  int64_t* const sizes[] = {&shape.batch, &shape.length, &shape.heads,
                            &shape.head_dim};
  int64_t elements = 1;
  for (int i = 0; i < 4; ++i) {
    int64_t& size = *sizes[i];
    if (!absl::SimpleAtoi(parts[i], &size)) {
      return BadShape(text,
                      absl::StrCat("\"", parts[i], "\" is no whole number"));
    }
    if (size < 1 || size > kLargestSize) {
      return BadShape(text, absl::StrCat(size, " is not in 1..", kLargestSize));
    }
    if (elements > kMostElements / size) {
      return BadShape(text, absl::StrCat("its arrays would have more than ",
                                         kMostElements, " elements"));
    }
    elements *= size;
  }
  return shape;
}

absl::StatusOr<std::vector<ThroughputShape>> ParseShapes(
    absl::string_view text) {
  if (text == "growth") {
    return Lengths(1,
                   {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072});
  }
  if (text == "contexts") return Lengths(8, {4096, 8192, 16384, 131072});
  using Shapes = std::vector<ThroughputShape>;
  if (text == "fla") return Shapes{{8, 1024, 8, 64}, {4, 2048, 16, 128}};
  if (text == "small") return Shapes{{64, 64, 2, 32}, {32, 256, 2, 64}};
  const absl::StatusOr<ThroughputShape> shape = ParseShape(text);
  if (!shape.ok()) return shape.status();
  return Shapes{*shape};
}

ThroughputShape DefaultShape(Phase phase) {
  switch (phase) {
    case Phase::kPrefill:
    case Phase::kBackward:
      return {1, 2048, 8, 64};
    case Phase::kDecode:
      return {1, 4096, 8, 64};
    case Phase::kTrain:
      return {64, 64, 2, 32};
  }
  return {};
}

}  // namespace mneme
