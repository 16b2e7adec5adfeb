// SPDX-License-Identifier: Apache-2.0
//
// From "these cells, please" to a Bazel command line, and from what Bazel made
// of it back to one record for each cell, and for each variant's probe.

#ifndef MNEME_REPORTS_CELL_BUILD_H_
#define MNEME_REPORTS_CELL_BUILD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "reports/build_events.h"
#include "reports/catalog.h"
#include "reports/records.h"

namespace mneme {

inline constexpr char kDefaultProfile[] = "quick";
// The profile for claims, which is run from several seeds.
inline constexpr char kStandardProfile[] = "standard";
// Stands for every task there is.
inline constexpr char kAllTasks[] = "all";

// variants x tasks x seeds under one profile.
struct CellSelection {
  std::vector<std::string> variants;  // {} is all
  std::vector<std::string> tasks;     // {} is the headline ones
  std::string profile = kDefaultProfile;
  std::vector<uint64_t> seeds;        // {} is 0, or 0, 1, 2 of kStandardProfile
  std::vector<std::string> settings;  // "name=value"
  bool probes = true;  // of each variant, as it is without settings
};

// Fills in all names where none were chosen, and drops duplicates. NotFound for
// an unknown name, with the nearest known one; InvalidArgument for a setting
// that is not name=value, or for what Bazel's command line cannot carry.
absl::StatusOr<CellSelection> CompleteSelection(CellSelection selection,
                                                const Catalog& catalog);

// "build <cells> <probes> ..." for a complete selection. Variants and tasks are
// chosen by output group, and the rest by build settings only where it differs
// from the defaults: another configuration would cost Bazel its analysis cache.
std::vector<std::string> BuildArguments(const CellSelection& selection,
                                        const Catalog& catalog,
                                        const std::string& event_file);

// A record for each cell and each probe of a complete selection: its own, or
// one that says what went wrong. InvalidArgument, with the runner's own words,
// when no cell has a record and a runner refused its arguments (exit code 2):
// then what was asked for is wrong, and not the result. A cell's record that is
// damaged is an error; a probe's is a probe that failed, as no probe may cost
// the ranking.
absl::StatusOr<Records> CollectRecords(const CellSelection& selection,
                                       const Catalog& catalog,
                                       const BuildOutcome& outcome);

}  // namespace mneme

#endif  // MNEME_REPORTS_CELL_BUILD_H_
