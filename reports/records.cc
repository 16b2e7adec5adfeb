// SPDX-License-Identifier: Apache-2.0

#include "reports/records.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "harness/record.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

// Appends the record files below a directory, in sorted order.
absl::Status AppendRecordFiles(const std::string& directory,
                               std::vector<std::string>& files) {
  std::vector<std::string> found;
  std::error_code error;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (auto it = fs::recursive_directory_iterator(directory, options, error);
       !error && it != fs::end(it); it.increment(error)) {
    if (it->path().extension() == ".record") {
      found.push_back(it->path().string());
    }
  }
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("cannot read ", directory, ": ", error.message()));
  }
  if (found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no *.record file in ", directory));
  }
  std::sort(found.begin(), found.end());
  files.insert(files.end(), found.begin(), found.end());
  return absl::OkStatus();
}

bool IsScore(double value) { return value >= 0 && value <= 1; }

absl::Status CheckMetrics(const Metrics& metrics) {
  if (!IsScore(metrics.accuracy())) {
    return absl::DataLossError(
        absl::StrCat("its accuracy ", metrics.accuracy(), " is not in [0, 1]"));
  }
  if (!(metrics.accuracy_stderr() >= 0) ||
      std::isinf(metrics.accuracy_stderr())) {
    return absl::DataLossError(absl::StrCat(
        "its standard error ", metrics.accuracy_stderr(), " is not >= 0"));
  }
  for (const CurvePoint& point : metrics.curve()) {
    if (!IsScore(point.validation_accuracy())) {
      return absl::DataLossError(
          absl::StrCat("its validation accuracy ", point.validation_accuracy(),
                       " at step ", point.step(), " is not in [0, 1]"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRecord(const ResultRecord& record) {
  if (record.schema() != kRecordSchema) {
    return absl::DataLossError(absl::StrCat("its schema is ", record.schema(),
                                            ", this program reads ",
                                            kRecordSchema));
  }
  if (record.variant().empty() || record.task().empty() ||
      record.profile().empty()) {
    return absl::DataLossError("it lacks its variant, task or profile");
  }
  if (record.status() == STATUS_OK) return CheckMetrics(record.metrics());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ResultRecord>> LoadRecords(
    absl::Span<const std::string> paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      files.push_back(path);
      continue;
    }
    if (absl::Status status = AppendRecordFiles(path, files); !status.ok()) {
      return status;
    }
  }
  std::vector<ResultRecord> records;
  for (const std::string& file : files) {
    absl::StatusOr<ResultRecord> record = ReadRecord(file);
    if (!record.ok()) return record.status();
    if (absl::Status status = CheckRecord(*record); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(file, ": ", status.message()));
    }
    records.push_back(*std::move(record));
  }
  return records;
}

}  // namespace mneme
