// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "attention/kernels/simd.h"
#include "attention/plugin/suggest.h"
#include "harness/unknown_flag.h"

namespace mneme {
namespace {

// As text, to be checked.
struct Texts {
  std::vector<std::string> phases, shapes, set;
  std::string form = "chunked";
};

void DeclareFlags(CLI::App& app, ThroughputFlags& flags, Texts& texts) {
  SuiteRequest& request = flags.request;
  Selection& selection = request.selection;
  app.description(
      "Times variants against the machine's limits, and against peers that are "
      "linked in.\nFlags of Google Benchmark work, too: "
      "--benchmark_filter=REGEX on variant/phase/shape/threads/contender, "
      "--benchmark_repetitions=9, --benchmark_min_time=0.1, "
      "--benchmark_format=console|json|csv, --benchmark_out=FILE, "
      "--benchmark_list_tests, ...");
  app.add_option("--variants", flags.variants,
                 "Variants by name, with commas between them; all when absent")
      ->delimiter(',');
  app.add_option("--phases", texts.phases,
                 "prefill, decode, backward, train; all when absent")
      ->delimiter(',');
  app.add_option("--shapes", texts.shapes,
                 "BATCHxLENGTHxHEADSxHEAD_DIM, length being that of the "
                 "context in decode; or growth, fla, contexts, small; each "
                 "phase's own when absent")
      ->delimiter(',');
  app.add_option("--threads", selection.threads, "Numbers of threads")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--contenders", selection.contenders,
                 "Who is timed; all that are linked in when absent")
      ->delimiter(',');
  app.add_option("--form", texts.form,
                 "parallel, chunked or recurrent, of all phases but decode")
      ->capture_default_str();
  app.add_option("--set", texts.set,
                 "name=value of a variant's option; may be repeated")
      ->take_all();
  app.add_option("--simd", flags.simd, "SIMD target, or best")
      ->capture_default_str();
  app.add_option("--max_seconds", request.max_seconds,
                 "Leaves out what may take longer, once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--json", flags.json,
                 "File for all figures; - prints them in place of the table");
  app.add_option("--out", flags.out,
                 "Directory for a record VARIANT.throughput each, which "
                 "//reports:leaderboard -- --throughput=DIR shows");
  app.add_option("--workspace_status", request.workspace_status,
                 "Bazel's volatile-status.txt, which names the commit");
  app.allow_extras();
}

// A day, of a repetition.
constexpr double kMostSeconds = 86400;

absl::Status FromGoogleBenchmark(absl::string_view flag,
                                 ThroughputFlags* flags) {
  const absl::string_view given = flag;
  TimerOptions& timer = flags->request.timer;
  if (absl::ConsumePrefix(&flag, "--benchmark_filter=")) {
    flags->request.selection.filter = std::string(flag);
  } else if (absl::ConsumePrefix(&flag, "--benchmark_repetitions=")) {
    if (!absl::SimpleAtoi(flag, &timer.repetitions) || timer.repetitions < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(given, ": not a number of repetitions"));
    }
  } else if (absl::ConsumePrefix(&flag, "--benchmark_min_time=")) {
    if (!absl::SimpleAtod(flag, &timer.min_seconds) ||
        !(timer.min_seconds > 0 && timer.min_seconds <= kMostSeconds)) {
      return absl::InvalidArgumentError(
          absl::StrCat(given, ": not a number of seconds"));
    }
  } else if (absl::ConsumePrefix(&flag, "--benchmark_out=")) {
    flags->benchmark_out = std::string(flag);
  } else if (flag == "--benchmark_list_tests" ||
             flag == "--benchmark_list_tests=true") {
    flags->list = true;
  } else if (absl::ConsumePrefix(&flag, "--benchmark_format=")) {
    // Google Benchmark would print its help and exit with 0.
    if (flag != "console" && flag != "json" && flag != "csv") {
      return absl::InvalidArgumentError(
          absl::StrCat(given, ": not console, json or csv"));
    }
    flags->benchmark_output = true;
    flags->benchmark.emplace_back(given);
  } else if (absl::ConsumePrefix(&flag, "--benchmark_out_format=")) {
    if (flag != "json") {
      return absl::InvalidArgumentError(
          absl::StrCat(given, ": --benchmark_out is always json"));
    }
  } else {
    flags->benchmark.emplace_back(given);
  }
  return absl::OkStatus();
}

absl::Status ParseTexts(const Texts& texts, SuiteRequest* request) {
  Selection& selection = request->selection;
  if (!texts.phases.empty()) selection.phases.clear();
  for (const std::string& name : texts.phases) {
    const absl::StatusOr<Phase> phase = ParsePhase(name);
    if (!phase.ok()) return phase.status();
    selection.phases.push_back(*phase);
  }
  for (const std::string& text : texts.shapes) {
    const auto shapes = ParseShapes(text);
    if (!shapes.ok()) return shapes.status();
    selection.shapes.insert(selection.shapes.end(), shapes->begin(),
                            shapes->end());
  }
  for (const std::string& text : texts.set) {
    auto assignment = ParseAssignment(text);
    if (!assignment.ok()) return assignment.status();
    request->set.push_back(*std::move(assignment));
  }
  const absl::StatusOr<Form> form = ParseForm(texts.form);
  if (!form.ok()) return form.status();
  request->form = *form;
  return absl::OkStatus();
}

absl::Status CheckNames(ThroughputFlags* flags) {
  for (const std::string& name : flags->variants) {
    const absl::StatusOr<const Variant*> variant = Variants().Find(name);
    if (!variant.ok()) return variant.status();
  }
  if (flags->variants.empty()) flags->variants = Variants().Names();
  const std::vector<std::string> known = ContenderNames();
  for (const std::string& name : flags->request.selection.contenders) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return UnknownName("contender", name, known);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ThroughputFlags> ParseThroughputFlags(int argc,
                                                     const char* const* argv) {
  ThroughputFlags flags;
  Texts texts;
  CLI::App app;
  DeclareFlags(app, flags, texts);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    flags.help = app.help();
    return flags;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  flags.benchmark = {argv[0]};
  for (const std::string& argument : app.remaining()) {
    if (!absl::StartsWith(argument, "--benchmark_")) {
      return UnknownFlag(app, argument);
    }
    if (absl::Status s = FromGoogleBenchmark(argument, &flags); !s.ok()) {
      return s;
    }
  }
  if (flags.json == "-" && flags.benchmark_output) {
    return absl::InvalidArgumentError(
        "--json=- and --benchmark_format both want stdout; give --json a file");
  }
  if (absl::Status s = ParseTexts(texts, &flags.request); !s.ok()) return s;
  if (absl::Status s = CheckNames(&flags); !s.ok()) return s;
  return flags;
}

}  // namespace mneme
