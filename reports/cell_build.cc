// SPDX-License-Identifier: Apache-2.0

#include "reports/cell_build.h"

#include <string.h>

#include <algorithm>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "attention/plugin/suggest.h"
#include "harness/probe_record.h"
#include "harness/record.h"

namespace mneme {
namespace {

// What a runner exits with when it does not understand what it was asked.
constexpr int kUsageError = 2;

// The default of the build setting, too.
const std::vector<uint64_t> kDefaultSeeds = {0};

// What the output group of a variant's probe is called, before its name.
constexpr char kProbeGroup[] = "probe.";

std::string CellName(absl::string_view task, absl::string_view variant,
                     uint64_t seed) {
  return absl::StrCat(task, ".", variant, ".", seed);
}

template <typename T>
void DropDuplicates(std::vector<T>& values) {
  std::vector<T> unique;
  for (T& value : values) {
    if (std::find(unique.begin(), unique.end(), value) == unique.end()) {
      unique.push_back(std::move(value));
    }
  }
  values = std::move(unique);
}

absl::Status CompleteNames(absl::string_view what,
                           const std::vector<std::string>& known,
                           const std::vector<std::string>& usual,
                           std::vector<std::string>& names) {
  // "--tasks=" asks for none in particular.
  names.erase(std::remove(names.begin(), names.end(), ""), names.end());
  if (names.empty()) names = usual;
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return UnknownName(what, name, known);
    }
  }
  DropDuplicates(names);
  return absl::OkStatus();
}

// The last line of a file that is not blank, or "".
std::string LastLine(const std::string& path) {
  std::ifstream file(path);
  std::string line, last;
  while (std::getline(file, line)) {
    const absl::string_view stripped = absl::StripAsciiWhitespace(line);
    if (!stripped.empty()) last = std::string(stripped);
  }
  return last;
}

// "killed by Aborted: what it said last".
std::string HowItEnded(const FailedAction& failure) {
  const std::string said = LastLine(failure.stderr_path);
  const std::string how =
      failure.exit_code > 128
          ? absl::StrCat("killed by signal ", failure.exit_code - 128, " (",
                         strsignal(failure.exit_code - 128), ")")
          : absl::StrCat("exit code ", failure.exit_code);
  return said.empty() ? how : absl::StrCat(how, ": ", said);
}

// `file` is the name of a record's file: "mqar.linear.0.record".
const FailedAction* FailureOf(const BuildOutcome& outcome,
                              absl::string_view label,
                              const std::string& file) {
  for (const FailedAction& failure : outcome.failures) {
    if (failure.label == label &&
        absl::EndsWith(failure.output, absl::StrCat("/", file))) {
      return &failure;
    }
  }
  return nullptr;
}

// Why there is no record when its own action, by that program of the variant,
// never ran: rather something of the variant's package than something that
// others may have failed for.
std::string WhyNotBuilt(const BuildOutcome& outcome, const Catalog& catalog,
                        const std::string& variant, absl::string_view program) {
  const std::string& library = catalog.variants.at(variant);
  const std::string package = library.substr(0, library.rfind(':') + 1);
  const FailedAction* culprit = nullptr;
  for (const FailedAction& failure : outcome.failures) {
    if (failure.label == catalog.cells || failure.label == catalog.probes) {
      continue;
    }
    if (absl::StartsWith(failure.label, package)) {
      culprit = &failure;
      break;
    }
    if (culprit == nullptr) culprit = &failure;
  }
  if (culprit == nullptr) return "Bazel did not get as far";
  return absl::StrCat("its ", program, " was not built: ", culprit->mnemonic,
                      " of ", culprit->label, " failed");
}

// The record of a variant's probe, or one that says why there is none.
ProbeRecord CollectProbe(const std::string& variant, const Catalog& catalog,
                         const BuildOutcome& outcome) {
  const std::string group = absl::StrCat(kProbeGroup, variant);
  ProbeRecord failed;
  failed.set_schema(kProbeSchema);
  failed.set_variant(variant);
  if (const auto built = outcome.records.find(group);
      built != outcome.records.end()) {
    absl::StatusOr<Records> loaded = LoadRecords({built->second});
    if (loaded.ok() && loaded->probes.size() == 1) {
      return std::move(loaded->probes.front());
    }
    failed.set_failure(loaded.ok() ? built->second + " is no probe"
                                   : std::string(loaded.status().message()));
    return failed;
  }
  const FailedAction* failure =
      FailureOf(outcome, catalog.probes, absl::StrCat(variant, ".probe"));
  failed.set_failure(
      failure != nullptr ? HowItEnded(*failure)
      : outcome.attempted.count(catalog.probes) == 0
          ? absl::StrCat("Bazel could not prepare ", catalog.probes)
          : WhyNotBuilt(outcome, catalog, variant, "prober"));
  return failed;
}

}  // namespace

absl::StatusOr<CellSelection> CompleteSelection(CellSelection selection,
                                                const Catalog& catalog) {
  std::vector<std::string> variants;
  for (const auto& [name, library] : catalog.variants) variants.push_back(name);
  if (absl::Status status =
          CompleteNames("variant", variants, variants, selection.variants);
      !status.ok()) {
    return status;
  }
  if (selection.tasks == std::vector<std::string>{kAllTasks}) {
    selection.tasks = catalog.tasks;
  }
  if (absl::Status status = CompleteNames("task", catalog.tasks,
                                          catalog.headline, selection.tasks);
      !status.ok()) {
    return status;
  }
  for (const std::string& setting : selection.settings) {
    const size_t equals = setting.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("--set: \"", setting, "\" is not name=value"));
    }
    if (absl::StrContains(setting, ',')) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--set: \"", setting, "\" has a comma; give --set once for each"));
    }
  }
  if (selection.profile.empty()) {
    return absl::InvalidArgumentError("--profile: there must be one");
  }
  if (selection.seeds.empty()) {
    selection.seeds = kDefaultSeeds;
    if (selection.profile == kStandardProfile) selection.seeds = {0, 1, 2};
  }
  DropDuplicates(selection.seeds);
  return selection;
}

std::vector<std::string> BuildArguments(const CellSelection& selection,
                                        const Catalog& catalog,
                                        const std::string& event_file) {
  const CellSelection defaults;
  std::vector<std::string> arguments = {"build", catalog.cells};
  if (selection.probes) arguments.push_back(catalog.probes);
  for (std::string argument :
       {// One failed cell must not cost the others.
        std::string("--keep_going"),
        // Progress, warnings and errors are enough to read.
        std::string("--ui_event_filters=-info"),
        absl::StrCat("--build_event_json_file=", event_file)}) {
    arguments.push_back(std::move(argument));
  }
  if (selection.profile != defaults.profile) {
    arguments.push_back(
        absl::StrCat("--", catalog.flags, ":profile=", selection.profile));
  }
  if (selection.seeds != kDefaultSeeds) {
    arguments.push_back(absl::StrCat(
        "--", catalog.flags, ":seeds=", absl::StrJoin(selection.seeds, ",")));
  }
  if (!selection.settings.empty()) {
    arguments.push_back(absl::StrCat("--", catalog.flags, ":settings=",
                                     absl::StrJoin(selection.settings, ",")));
  }
  for (const std::string& task : selection.tasks) {
    for (const std::string& variant : selection.variants) {
      for (const uint64_t seed : selection.seeds) {
        arguments.push_back(
            absl::StrCat("--output_groups=", CellName(task, variant, seed)));
      }
    }
  }
  if (selection.probes) {
    for (const std::string& variant : selection.variants) {
      arguments.push_back(
          absl::StrCat("--output_groups=", kProbeGroup, variant));
    }
  }
  return arguments;
}

absl::StatusOr<Records> CollectRecords(const CellSelection& selection,
                                       const Catalog& catalog,
                                       const BuildOutcome& outcome) {
  Records records;
  std::string usage_error;
  int built_cells = 0;
  for (const std::string& task : selection.tasks) {
    for (const std::string& variant : selection.variants) {
      for (const uint64_t seed : selection.seeds) {
        const std::string cell = CellName(task, variant, seed);
        if (const auto built = outcome.records.find(cell);
            built != outcome.records.end()) {
          absl::StatusOr<Records> loaded = LoadRecords({built->second});
          if (!loaded.ok()) return loaded.status();
          records.cells.push_back(std::move(loaded->cells.front()));
          ++built_cells;
          continue;
        }
        const FailedAction* failure =
            FailureOf(outcome, catalog.cells, absl::StrCat(cell, ".record"));
        ResultRecord& missing = records.cells.emplace_back();
        missing.set_schema(kRecordSchema);
        missing.set_variant(variant);
        missing.set_task(task);
        missing.set_profile(selection.profile);
        missing.set_seed(seed);
        missing.set_status(STATUS_FAILED);
        missing.set_status_message(
            failure != nullptr
                ? HowItEnded(*failure)
                : WhyNotBuilt(outcome, catalog, variant, "runner"));
        if (failure != nullptr && failure->exit_code == kUsageError &&
            usage_error.empty()) {
          // Whose words they are is of no interest then.
          usage_error = std::string(
              absl::StripPrefix(LastLine(failure->stderr_path), "mneme: "));
        }
      }
    }
  }
  if (built_cells == 0 && !usage_error.empty()) {
    return absl::InvalidArgumentError(usage_error);
  }
  if (selection.probes) {
    for (const std::string& variant : selection.variants) {
      records.probes.push_back(CollectProbe(variant, catalog, outcome));
    }
  }
  return records;
}

}  // namespace mneme
