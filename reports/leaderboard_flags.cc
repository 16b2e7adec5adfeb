// SPDX-License-Identifier: Apache-2.0

#include "reports/leaderboard_flags.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "harness/unknown_flag.h"

namespace mneme {
namespace {

// `seeds` are taken as text: CLI11 would take -1 for the largest seed of all.
void DeclareFlags(CLI::App& app, LeaderboardFlags& flags,
                  std::vector<std::string>& seeds, bool& no_probes) {
  CellSelection& selection = flags.selection;
  app.description(
      "Trains, ranks and probes variants; prints the table, writes the "
      "page.");
  CLI::Option* chosen[] = {
      app.add_option("--variants", selection.variants,
                     "Variants to train, by name; all when absent")
          ->delimiter(','),
      app.add_option("--tasks", selection.tasks,
                     "Tasks by name, or all; the headline ones when absent")
          ->delimiter(','),
      app.add_option("--profile", selection.profile,
                     "Named settings of the tasks; quick when absent"),
      app.add_option("--seeds", seeds,
                     "Whole numbers >= 0, a training run each; 0 when absent, "
                     "and 0,1,2 of the standard profile")
          ->delimiter(','),
      app.add_option("--set", selection.settings,
                     "name=value of a task, variant, model or training option; "
                     "may be repeated")
          ->take_all(),
  };
  app.add_option("--out", flags.out,
                 "Directory of the report; bazel-leaderboard in the workspace "
                 "when absent");
  CLI::Option* records =
      app.add_option("--records", flags.records,
                     "Report on these records of cells, probes and throughput, "
                     "files or directories, and build nothing")
          ->delimiter(',');
  for (CLI::Option* option : chosen) option->excludes(records);
  app.add_option("--throughput", flags.throughput,
                 "Show these throughput records too, files or directories, as "
                 "//harness:throughput -- --out=DIRECTORY makes them")
      ->delimiter(',');
  app.add_flag("--no-probes", no_probes,
               "Leave out what each memory holds without training");
  app.add_flag("--json", flags.json,
               "Print leaderboard.json instead of the table");
  app.add_flag("--no-color", flags.no_color, "No colours on the terminal");
  app.allow_extras();
}

absl::Status ParseSeeds(const std::vector<std::string>& texts,
                        std::vector<uint64_t>& seeds) {
  if (texts.empty()) return absl::OkStatus();
  seeds.clear();
  for (const std::string& text : texts) {
    if (!absl::SimpleAtoi(text, &seeds.emplace_back())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--seeds: \"", text, "\" is not a whole number from 0 to ",
          std::numeric_limits<uint64_t>::max()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LeaderboardFlags> ParseLeaderboardFlags(
    int argc, const char* const* argv) {
  LeaderboardFlags flags;
  std::vector<std::string> seeds;
  CLI::App app;
  bool no_probes = false;
  DeclareFlags(app, flags, seeds, no_probes);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    flags.help = app.help();
    return flags;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (app.remaining_size() > 0) {
    return UnknownFlag(app, app.remaining().front());
  }
  flags.selection.probes = !no_probes;
  if (absl::Status status = ParseSeeds(seeds, flags.selection.seeds);
      !status.ok()) {
    return status;
  }
  return flags;
}

}  // namespace mneme
