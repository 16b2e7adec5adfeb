// SPDX-License-Identifier: Apache-2.0
//
// Builds and trains the chosen cells through Bazel, probes the variants, prints
// the ranking and writes the page:
//
//   bazelw run //reports:leaderboard -- --variants=softmax,linear --seeds=0,1,2
//
// Which there are is in the catalog: leaderboard() (defs.bzl) makes a program
// like this one for any workspace.
//
// The ranking goes to standard output, all else to standard error. Exit codes:
// 0 all well, 1 failed, 2 wrong usage, 3 some cell or probe has no result (the
// report is written all the same), 130 interrupted.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "harness/atomic_file.h"
#include "harness/terminal.h"
#include "harness/throughput.pb.h"
#include "reports/boards.h"
#include "reports/build_events.h"
#include "reports/catalog.h"
#include "reports/cell_build.h"
#include "reports/json_writer.h"
#include "reports/leaderboard_flags.h"
#include "reports/process.h"
#include "reports/records.h"
#include "reports/report.h"
#include "reports/table.h"
#include "reports/text_settings.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

enum ExitCode {
  kSuccess = 0,
  kFailure = 1,
  kUsage = 2,
  kIncomplete = 3,
  kInterrupt = 130,
};

// What Bazel exits with.
constexpr int kBazelSuccess = 0;
constexpr int kBazelBuildFailed = 1;

int Fail(ExitCode code, absl::string_view message) {
  std::cerr << "leaderboard: " << message << "\n";
  return code;
}

int Fail(const absl::Status& status) {
  const bool usage = absl::IsInvalidArgument(status);
  return Fail(usage ? kUsage : kFailure, status.message());
}

// A variable that `bazel run` sets, or "".
std::string FromBazelRun(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// `bazel run` starts programs among their runfiles; a person means the
// directory the command was typed in.
std::string Absolute(const std::string& path) {
  const std::string typed_in = FromBazelRun("BUILD_WORKING_DIRECTORY");
  return typed_in.empty() ? fs::absolute(path).string()
                          : (fs::path(typed_in) / path).string();
}

std::vector<std::string> AbsolutePaths(const std::vector<std::string>& paths) {
  std::vector<std::string> absolute;
  for (const std::string& path : paths) absolute.push_back(Absolute(path));
  return absolute;
}

// The server that is running us has our build in its cache. It is known by its
// output base, which is where we were built. Workspaces without a bazelw have
// the Bazel on the PATH.
std::vector<std::string> BazelCommand(const std::string& workspace) {
  std::error_code error;
  std::vector<std::string> command = {workspace + "/bazelw"};
  if (!fs::exists(command[0], error)) command = {"bazel"};
  const std::string self = fs::read_symlink("/proc/self/exe", error).string();
  const size_t end = self.find("/execroot/");
  if (!error && end != std::string::npos) {
    command.push_back(absl::StrCat("--output_base=", self.substr(0, end)));
  }
  return command;
}

absl::StatusOr<std::string> MakeTemporaryFile() {
  std::string path =
      (fs::temp_directory_path() / "mneme_events.XXXXXX").string();
  const int fd = mkstemp(path.data());
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot create " + path);
  close(fd);
  return path;
}

// Has Bazel build the cells and probes of a complete selection.
absl::StatusOr<Records> BuildRecords(const CellSelection& selection,
                                     const Catalog& catalog,
                                     const std::string& workspace,
                                     bool no_color) {
  absl::StatusOr<std::string> events = MakeTemporaryFile();
  if (!events.ok()) return events.status();
  const absl::Cleanup remover = [&events] { unlink(events->c_str()); };

  std::vector<std::string> command = BazelCommand(workspace);
  for (std::string& argument : BuildArguments(selection, catalog, *events)) {
    command.push_back(std::move(argument));
  }
  if (no_color) command.push_back("--color=no");
  const absl::StatusOr<int> exit_code = RunProgram(command, workspace);
  if (!exit_code.ok()) return exit_code.status();
  if (Interrupted()) return absl::CancelledError("interrupted");
  if (*exit_code != kBazelSuccess && *exit_code != kBazelBuildFailed) {
    return absl::InternalError(absl::StrCat("Bazel ended with exit code ",
                                            *exit_code,
                                            "; its messages above say why"));
  }
  absl::StatusOr<std::string> json_lines = ReadFile(*events);
  if (!json_lines.ok()) return json_lines.status();
  absl::StatusOr<BuildOutcome> outcome =
      ParseBuildEvents(*json_lines, {catalog.cells, catalog.probes});
  if (!outcome.ok()) return outcome.status();
  if (outcome->attempted.count(catalog.cells) == 0) {
    return absl::InternalError(absl::StrCat("Bazel could not prepare ",
                                            catalog.cells,
                                            "; its messages above say "
                                            "why"));
  }
  return CollectRecords(selection, catalog, *outcome);
}

int Run(const LeaderboardFlags& flags) {
  const Catalog catalog = DeclaredCatalog();
  const std::string workspace = FromBazelRun("BUILD_WORKSPACE_DIRECTORY");
  if (flags.records.empty() && workspace.empty()) {
    return Fail(kUsage, absl::StrCat("start me by ", catalog.command,
                                     ", or give me --records"));
  }
  CellSelection asked = flags.selection;
  if (absl::Status status = PinTexts(&asked.settings); !status.ok()) {
    return Fail(status);
  }
  absl::StatusOr<CellSelection> selection =
      CompleteSelection(std::move(asked), catalog);
  if (!selection.ok()) return Fail(kUsage, selection.status().message());

  const std::string directory = Absolute(
      flags.out.empty() ? absl::StrCat(workspace.empty() ? "." : workspace,
                                       "/bazel-leaderboard")
                        : flags.out);
  if (absl::Status status = CheckWritableDirectory(directory); !status.ok()) {
    return Fail(kFailure, absl::StrCat("--out: ", status.message()));
  }

  CatchInterrupts();
  // Before anything is trained: a mistyped name should cost no time.
  absl::StatusOr<std::vector<ThroughputRecord>> throughput =
      LoadThroughput(AbsolutePaths(flags.throughput));
  if (!throughput.ok()) return Fail(throughput.status());
  const std::vector<std::string> paths = AbsolutePaths(flags.records);
  absl::StatusOr<Records> records =
      paths.empty()
          ? BuildRecords(*selection, catalog, workspace, flags.no_color)
          : LoadRecords(paths);
  if (Interrupted()) return Fail(kInterrupt, "interrupted; nothing written");
  if (!records.ok()) return Fail(records.status());
  if (!flags.selection.probes) records->probes.clear();

  for (ThroughputRecord& record : *throughput) {
    records->throughput.push_back(std::move(record));
  }
  Leaderboard leaderboard =
      MakeLeaderboard(std::move(records->cells), std::move(records->probes),
                      std::move(records->throughput));
  leaderboard.command = catalog.command;
  if (absl::Status status = WriteReport(leaderboard, directory); !status.ok()) {
    return Fail(status);
  }
  TerminalStyle style = DetectTerminal(STDOUT_FILENO);
  if (flags.no_color) style.color = false;
  std::cout << (flags.json ? RenderJson(leaderboard)
                           : RenderTable(leaderboard, style))
            << std::flush;
  std::cerr << "\nreport: " << directory
            << " (leaderboard.json, .csv, .md, lengths.csv, probes.csv, "
               "speed.csv)\npage: xdg-open "
            << directory << "/" << kPageName << "\n";
  return leaderboard.IsComplete() ? kSuccess : kIncomplete;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<LeaderboardFlags> flags =
      ParseLeaderboardFlags(argc, argv);
  if (!flags.ok()) return Fail(flags.status());
  if (flags->help.empty()) return Run(*flags);
  std::cout << flags->help;
  return kSuccess;
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) {
  try {
    return mneme::Main(argc, argv);
  } catch (const std::exception& error) {  // out of memory, above all
    return mneme::Fail(mneme::kFailure, error.what());
  }
}
