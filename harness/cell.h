// SPDX-License-Identifier: Apache-2.0
//
// One cell: a variant trained and tested on a task under a profile and a seed,
// giving one result record.

#ifndef MNEME_HARNESS_CELL_H_
#define MNEME_HARNESS_CELL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "harness/result.pb.h"
#include "harness/trainer.h"

namespace mneme {

struct CellRequest {
  std::string variant;
  std::string task;
  std::string profile = "quick";
  uint64_t seed = 0;
  std::vector<std::string> set;  // "scope.name=value"
  int threads = 1;
  std::string workspace_status;  // see DescribeEnvironment; may be empty
};

// The error that RunCell would return at once: an unknown name, a bad value, an
// impossible task. Cheap; for asking before anything else is prepared.
absl::Status CheckCell(const CellRequest& request);

// Runs the cell. What the cell itself ends in, also divergence or a variant
// that cannot do the task, is a status within the record; an error is returned
// for a request that makes no sense (unknown names, bad values) or a failure of
// the harness. progress may be empty.
absl::StatusOr<ResultRecord> RunCell(
    const CellRequest& request,
    const std::function<void(const ProgressPoint&)>& progress);

}  // namespace mneme

#endif  // MNEME_HARNESS_CELL_H_
