// SPDX-License-Identifier: Apache-2.0

#include "harness/command_probe.h"

#include <memory>
#include <string>

#include "harness/atomic_file.h"
#include "harness/probe_record.h"
#include "harness/probes/probe.h"

namespace mneme {
namespace {

struct Flags {
  ProbeRequest request;
  std::string out;
};

absl::Status Probe(const Flags& flags) {
  const std::string out = UserPath(flags.out);
  if (absl::Status s = CheckWritableFile(out); !s.ok()) return s;
  ProbeRequest request = flags.request;
  request.capacity = DefaultSweeps();
  const absl::StatusOr<ProbeRecord> record = RunProbe(request);
  if (!record.ok()) return record.status();
  return WriteProbe(out, *record);
}

}  // namespace

void AddProbeCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "probe", "Probe one variant without training: one probe record");
  auto flags = std::make_shared<Flags>();
  command->add_option("--variant", flags->request.variant, "The mechanism")
      ->required();
  command->add_option("--out", flags->out, "The record file to write")
      ->required();
  command->add_option("--workspace_status", flags->request.workspace_status,
                      "Bazel's volatile-status.txt, which names the commit");
  command->callback(
      [action, flags] { *action = [flags] { return Probe(*flags); }; });
}

}  // namespace mneme
