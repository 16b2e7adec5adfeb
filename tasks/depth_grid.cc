// SPDX-License-Identifier: Apache-2.0

#include "tasks/depth_grid.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace mneme {

absl::StatusOr<DepthGrid> DepthGrid::Create(absl::string_view task,
                                            int64_t depths, int64_t places,
                                            int64_t length) {
  if (depths > places) {
    return absl::InvalidArgumentError(absl::StrCat(
        task, ": depths=", depths, " is a grid finer than the length; length=",
        length, " has room for ", std::max<int64_t>(places, 0), " needles"));
  }
  return DepthGrid(depths, places);
}

}  // namespace mneme
