// SPDX-License-Identifier: Apache-2.0

#include "reports/records.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "harness/probe_record.h"
#include "harness/record.h"
#include "harness/throughput/phase.h"
#include "harness/throughput_record.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

constexpr char kCell[] = ".record";
constexpr char kProbe[] = ".probe";
constexpr char kThroughput[] = ".throughput";

// Appends the files below a directory that are named so, in sorted order.
absl::Status AppendRecordFiles(const std::string& directory,
                               absl::Span<const std::string> extensions,
                               std::vector<std::string>& files) {
  std::vector<std::string> found;
  std::error_code error;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (auto it = fs::recursive_directory_iterator(directory, options, error);
       !error && it != fs::end(it); it.increment(error)) {
    if (std::find(extensions.begin(), extensions.end(),
                  it->path().extension()) != extensions.end()) {
      found.push_back(it->path().string());
    }
  }
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("cannot read ", directory, ": ", error.message()));
  }
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat("there is no *",
                                            absl::StrJoin(extensions, " or *"),
                                            " file in ", directory));
  }
  std::sort(found.begin(), found.end());
  files.insert(files.end(), found.begin(), found.end());
  return absl::OkStatus();
}

constexpr int32_t kRecordedDepths = 40;  // parts of a sequence

bool IsScore(double value) { return value >= 0 && value <= 1; }

bool IsLoss(double value) { return value >= 0 && !std::isinf(value); }

// What is measured at one length.
absl::Status CheckLength(const LengthScore& score) {
  const auto wrong = [&score](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("its ", what, " at length ", score.length(), " is none"));
  };
  if (!score.unsupported().empty()) return absl::OkStatus();
  if (!IsScore(score.accuracy())) return wrong("accuracy");
  if (!IsLoss(score.accuracy_stderr())) return wrong("standard error");
  if (score.has_loss() && !IsLoss(score.loss())) return wrong("loss");
  int32_t next_depth = 0;
  for (const DepthScore& part : score.depths()) {
    if (part.depth() < next_depth || part.depth() >= kRecordedDepths ||
        part.answers() < 1 || !IsScore(part.accuracy())) {
      return wrong("accuracy by depth");
    }
    next_depth = part.depth() + 1;
  }
  int64_t next_position = 0;
  for (const PositionLoss& part : score.loss_by_position()) {
    if (part.first() < next_position || part.last() <= part.first() ||
        part.answers() < 1 || !IsLoss(part.loss())) {
      return wrong("loss by position");
    }
    next_position = part.last();
  }
  for (const NamedScore& detail : score.details()) {
    if (!std::isfinite(detail.value())) return wrong(detail.name());
  }
  return absl::OkStatus();
}

absl::Status CheckLengths(const Metrics& metrics) {
  int64_t shorter = 0;
  for (const LengthScore& score : metrics.lengths()) {
    if (score.length() <= shorter) {
      return absl::DataLossError(
          absl::StrCat("its lengths do not rise at ", score.length()));
    }
    shorter = score.length();
    if (absl::Status status = CheckLength(score); !status.ok()) return status;
  }
  int64_t fewer = 0;
  for (const ReferencePoint& point : metrics.references()) {
    if (point.bytes() <= fewer) {
      return absl::DataLossError(
          absl::StrCat("its references' bytes do not rise at ", point.bytes()));
    }
    fewer = point.bytes();
    if (!IsScore(point.window()) || !IsScore(point.table())) {
      return absl::DataLossError(absl::StrCat(
          "its references of ", point.bytes(), " bytes are not in [0, 1]"));
    }
  }
  return absl::OkStatus();
}

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
  return CheckLengths(metrics);
}

bool Within(const Measurement& measurement, double low, double high) {
  for (const double value :
       {measurement.mean(), measurement.low(), measurement.high()}) {
    if (!(value >= low && value <= high)) return false;
  }
  return true;
}

constexpr double kLargest = std::numeric_limits<double>::max();

absl::Status CheckCapacity(const CapacityCurve& curve) {
  // A rounded cosine may be a little more than 1.
  constexpr double kCosineBound = 1 + 1e-5;
  if (curve.key_dim() < 1 || curve.points().empty() ||
      curve.state_bytes() < 0) {
    return absl::DataLossError("it has a capacity curve of nothing");
  }
  int64_t fewer = 0;
  for (const CapacityPoint& point : curve.points()) {
    if (point.pairs() <= fewer) {
      return absl::DataLossError(
          absl::StrCat("its numbers of pairs do not rise at ", point.pairs()));
    }
    fewer = point.pairs();
    if (!Within(point.recall(), 0, 1) ||
        !Within(point.cosine(), -kCosineBound, kCosineBound)) {
      return absl::DataLossError(absl::StrCat("its recall or cosine of ",
                                              point.pairs(), " pairs is none"));
    }
  }
  if (curve.has_pairs_at_90() && !Within(curve.pairs_at_90(), 0, kLargest)) {
    return absl::DataLossError("its pairs at 90% recall are not >= 0");
  }
  return absl::OkStatus();
}

absl::Status CheckApproximation(const ApproximationCurve& curve) {
  int64_t smaller = -1;
  for (const ApproximationPoint& point : curve.points()) {
    if (point.size() <= smaller) {
      return absl::DataLossError(absl::StrCat(
          "its sizes of ", curve.knob(), " do not rise at ", point.size()));
    }
    smaller = point.size();
    if (!Within(point.error(), 0, kLargest)) {
      return absl::DataLossError(absl::StrCat("its error at ", point.size(),
                                              " ", curve.knob(), " is none"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMeasurement(const ThroughputMeasurement& m) {
  const auto wrong = [&m](absl::string_view what) {
    return absl::DataLossError(absl::StrCat("its ", what, " of ", m.phase(),
                                            " by ", m.contender(), " is none"));
  };
  if (m.contender().empty() || !ParsePhase(m.phase()).ok()) {
    return absl::DataLossError("it has a measurement of nothing");
  }
  if (m.batch() < 1 || m.length() < 1 || m.heads() < 1 || m.head_dim() < 1 ||
      m.threads() < 1) {
    return wrong("shape");
  }
  if (!m.error().empty()) return absl::OkStatus();
  const auto positive = [](double value) {
    return value > 0 && std::isfinite(value);
  };
  if (!positive(m.milliseconds())) return wrong("time");
  if (!positive(m.tokens_per_second())) return wrong("tokens per second");
  if (!IsLoss(m.milliseconds_min()) || !IsLoss(m.cv())) return wrong("spread");
  if (!IsLoss(m.limit_milliseconds()) || !IsLoss(m.fraction_of_limit()) ||
      !IsLoss(m.backbone_fraction())) {
    return wrong("limit");
  }
  if (!std::isfinite(m.growth_exponent())) return wrong("growth");
  if (m.state_bytes() < 0) return wrong("state");
  return absl::OkStatus();
}

absl::Status CheckCeilings(const MachineCeilings& ceilings) {
  bool rates = IsLoss(ceilings.flops()) && IsLoss(ceilings.exps()) &&
               IsLoss(ceilings.bf16_flops()) && IsLoss(ceilings.amx_flops());
  for (const double rate : ceilings.level_bytes_per_second()) {
    rates = rates && IsLoss(rate);
  }
  for (const double rate : ceilings.level_read_write_bytes_per_second()) {
    rates = rates && IsLoss(rate);
  }
  if (!rates || ceilings.threads() < 1 ||
      ceilings.level_bytes_per_second_size() !=
          ceilings.level_capacity_size() ||
      ceilings.level_read_write_bytes_per_second_size() >
          ceilings.level_capacity_size()) {
    return absl::DataLossError("its machine's ceilings are none");
  }
  return absl::OkStatus();
}

// Reads one file, checks it and appends what it holds.
template <typename Record>
absl::Status Append(const std::string& file,
                    absl::StatusOr<Record> (*read)(const std::string&),
                    absl::Status (*check)(const Record&),
                    std::vector<Record>& records) {
  absl::StatusOr<Record> record = read(file);
  if (!record.ok()) return record.status();
  if (absl::Status status = check(*record); !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(file, ": ", status.message()));
  }
  records.push_back(*std::move(record));
  return absl::OkStatus();
}

absl::Status AppendThroughput(const std::string& file,
                              std::vector<ThroughputRecord>& records) {
  return Append(file, ReadThroughput, CheckThroughput, records);
}

// LoadRecords' for one file.
absl::Status AppendRecord(const std::string& file, Records& records) {
  const fs::path extension = fs::path(file).extension();
  if (extension == kProbe) {
    return Append(file, ReadProbe, CheckProbe, records.probes);
  }
  if (extension == kThroughput) {
    return AppendThroughput(file, records.throughput);
  }
  return Append(file, ReadRecord, CheckRecord, records.cells);
}

// The files that are meant by paths: themselves, and of directories those with
// one of the extensions.
absl::StatusOr<std::vector<std::string>> FilesOf(
    absl::Span<const std::string> paths,
    absl::Span<const std::string> extensions) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      files.push_back(path);
      continue;
    }
    if (absl::Status status = AppendRecordFiles(path, extensions, files);
        !status.ok()) {
      return status;
    }
  }
  return files;
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

absl::Status CheckProbe(const ProbeRecord& record) {
  if (record.schema() != kProbeSchema) {
    return absl::DataLossError(absl::StrCat("its schema is ", record.schema(),
                                            ", this program reads ",
                                            kProbeSchema));
  }
  if (record.variant().empty()) {
    return absl::DataLossError("it lacks its variant");
  }
  for (const CapacityCurve& curve : record.capacity()) {
    if (absl::Status status = CheckCapacity(curve); !status.ok()) {
      return status;
    }
  }
  for (const ApproximationCurve& curve : record.approximation()) {
    if (absl::Status status = CheckApproximation(curve); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status CheckThroughput(const ThroughputRecord& record) {
  if (record.schema() != kThroughputSchema) {
    return absl::DataLossError(absl::StrCat("its schema is ", record.schema(),
                                            ", this program reads ",
                                            kThroughputSchema));
  }
  if (record.variant().empty()) {
    return absl::DataLossError("it lacks its variant");
  }
  for (const ThroughputMeasurement& m : record.measurements()) {
    if (absl::Status status = CheckMeasurement(m); !status.ok()) return status;
  }
  for (const MachineCeilings& ceilings : record.ceilings()) {
    if (absl::Status status = CheckCeilings(ceilings); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Records> LoadRecords(absl::Span<const std::string> paths) {
  const absl::StatusOr<std::vector<std::string>> files =
      FilesOf(paths, {kCell, kProbe, kThroughput});
  if (!files.ok()) return files.status();
  Records records;
  for (const std::string& file : *files) {
    if (absl::Status status = AppendRecord(file, records); !status.ok()) {
      return status;
    }
  }
  return records;
}

absl::StatusOr<std::vector<ThroughputRecord>> LoadThroughput(
    absl::Span<const std::string> paths) {
  const absl::StatusOr<std::vector<std::string>> files =
      FilesOf(paths, {kThroughput});
  if (!files.ok()) return files.status();
  std::vector<ThroughputRecord> records;
  for (const std::string& file : *files) {
    if (absl::Status status = AppendThroughput(file, records); !status.ok()) {
      return status;
    }
  }
  return records;
}

}  // namespace mneme
