// SPDX-License-Identifier: Apache-2.0
//
// Result records from files, checked before anybody computes with them.

#ifndef MNEME_REPORTS_RECORDS_H_
#define MNEME_REPORTS_RECORDS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "harness/result.pb.h"

namespace mneme {

// The records in `paths`: files, and directories searched through for files
// named *.record, in sorted order. Errors name the file: NotFound when it is
// missing, or a directory holds none; DataLoss when it is damaged, or holds
// what no run could have written.
absl::StatusOr<std::vector<ResultRecord>> LoadRecords(
    absl::Span<const std::string> paths);

// DataLoss when a record lacks its names, is of another schema, or has scores
// that are none.
absl::Status CheckRecord(const ResultRecord& record);

}  // namespace mneme

#endif  // MNEME_REPORTS_RECORDS_H_
