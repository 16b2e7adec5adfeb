// SPDX-License-Identifier: Apache-2.0

#include "harness/command_evaluate.h"

#include <unistd.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/kernels/simd.h"
#include "harness/atomic_file.h"
#include "harness/cell.h"
#include "harness/environment.h"
#include "harness/record.h"

namespace mneme {
namespace {

struct Flags {
  CellRequest request;
  std::string out;
  std::string seed = "0";  // CLI11 would take -1 for the largest of all
  std::string simd = "best";
  bool quiet = false;
};

void PrintLength(const LengthScore& score) {
  if (!score.unsupported().empty()) {
    absl::PrintF("  length %7d: %s\n", score.length(), score.unsupported());
    return;
  }
  absl::PrintF(
      "  length %7d: accuracy %.4f +- %.4f, %d examples%s\n", score.length(),
      score.accuracy(), score.accuracy_stderr(), score.examples(),
      score.streamed() ? absl::StrCat(", streamed with ", score.state_bytes(),
                                      " bytes of state")
                       : "");
}

absl::Status Evaluate(const Flags& flags) {
  CellRequest request = flags.request;
  if (!absl::SimpleAtoi(flags.seed, &request.seed)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--seed: \"", flags.seed, "\" is not a whole number from 0 to ",
        std::numeric_limits<uint64_t>::max()));
  }
  if (absl::Status s = CheckCell(request); !s.ok()) return s;
  if (absl::Status s = kernels::UseSimdTarget(flags.simd); !s.ok()) return s;
  // Before minutes of training, not after.
  const std::string out = UserPath(flags.out);
  if (absl::Status s = CheckWritableFile(out); !s.ok()) return s;
  if (request.workspace_status.empty()) {
    request.workspace_status = StatusFileOfBazelRun();
  }
  std::function<void(const ProgressPoint&)> progress;
  if (!flags.quiet && isatty(STDERR_FILENO)) {
    progress = [](const ProgressPoint& p) {
      absl::FPrintF(stderr,
                    "step %6d  train loss %.4f  validation loss %.4f  "
                    "accuracy %.4f\n",
                    p.step, p.train_loss, p.validation_loss,
                    p.validation_accuracy);
    };
  }
  absl::StatusOr<ResultRecord> record = RunCell(request, progress);
  if (!record.ok()) return record.status();
  if (absl::Status s = WriteRecord(out, *record); !s.ok()) return s;
  if (flags.quiet) return absl::OkStatus();
  const Metrics& m = record->metrics();
  if (record->status() != STATUS_OK) {
    absl::PrintF("%s on %s: %s\n", record->variant(), record->task(),
                 record->status_message());
  } else {
    absl::PrintF(
        "%s on %s (%s, seed %d): accuracy %.4f +- %.4f, %d steps, %.0f "
        "tokens/s, %d parameters, %s\n",
        record->variant(), record->task(), record->profile(), record->seed(),
        m.accuracy(), m.accuracy_stderr(), m.steps(),
        record->timing().train_tokens_per_second(), record->parameters(),
        record->has_state_bytes()
            ? absl::StrCat(record->state_bytes(), " state bytes")
            : "no state");
  }
  for (int i = 1; i < m.lengths_size(); ++i) PrintLength(m.lengths(i));
  absl::PrintF("record: %s\n", out);
  return absl::OkStatus();
}

}  // namespace

void AddEvaluateCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "evaluate", "Train and test one variant on one task: one result record");
  auto flags = std::make_shared<Flags>();
  CellRequest& request = flags->request;
  command->add_option("--variant", request.variant, "The mechanism")
      ->required();
  command->add_option("--task", request.task, "What it is asked")->required();
  command
      ->add_option("--profile", request.profile,
                   "Named settings of task and training")
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of data and initial weights")
      ->capture_default_str();
  command->add_option("--set", request.set,
                      "An option: [variant.|task.|model.|train.]NAME=VALUE; "
                      "may be repeated");
  command
      ->add_option("--threads", request.threads,
                   "Threads; the result does not depend on it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--out", flags->out, "The record file to write")
      ->required();
  command
      ->add_option("--simd", flags->simd,
                   "SIMD target to restrict the kernels to")
      ->capture_default_str();
  command->add_option("--workspace_status", request.workspace_status,
                      "Bazel's volatile-status.txt, which names the commit");
  command->add_flag("--quiet", flags->quiet, "Print nothing but errors");
  command->callback(
      [action, flags] { *action = [flags] { return Evaluate(*flags); }; });
}

}  // namespace mneme
