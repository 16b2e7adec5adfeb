// SPDX-License-Identifier: Apache-2.0

#include "harness/probe_flags.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "attention/kernels/simd.h"
#include "attention/variant.h"
#include "google/protobuf/util/json_util.h"
#include "harness/atomic_file.h"
#include "harness/probe_record.h"

namespace mneme {
namespace {

constexpr absl::string_view kExtension = ".probe";

absl::StatusOr<std::string> ToJson(const ProbeRecord& record) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(record, &text, options)
           .ok()) {
    return absl::InternalError(
        absl::StrCat("the record of ", record.variant(), " is no JSON"));
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

void AddProbeFlags(CLI::App* command, ProbeFlags* flags) {
  command
      ->add_option("--variant", flags->variants,
                   "A mechanism; may be repeated, or several with commas "
                   "between them  [default: all]")
      ->delimiter(',');
  command->add_option("--set", flags->request.set,
                      "An option of the variant NAME=VALUE; may be repeated");
  command
      ->add_option("--trials", flags->request.settings.trials,
                   "Independent repetitions that means and intervals are over")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of all random numbers")
      ->capture_default_str();
  command
      ->add_option("--simd", flags->simd,
                   "SIMD target to restrict the kernels to")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print the records as JSON");
  command->add_option("--out", flags->out,
                      "Where to write the records: a directory, or a file "
                      "*.probe for one variant");
}

absl::Status ProbeVariants(
    const ProbeFlags& flags,
    const std::function<void(const ProbeRecord&)>& show) {
  ProbeRequest request = flags.request;
  if (!absl::SimpleAtoi(flags.seed, &request.settings.seed)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--seed: \"", flags.seed, "\" is not a whole number from 0 to ",
        std::numeric_limits<uint64_t>::max()));
  }
  const std::vector<std::string> names =
      flags.variants.empty() ? Variants().Names() : flags.variants;
  for (const std::string& name : names) {
    if (auto found = Variants().Find(name); !found.ok()) return found.status();
  }
  if (absl::Status s = kernels::UseSimdTarget(flags.simd); !s.ok()) return s;
  const std::string out = UserPath(flags.out);
  const bool file = absl::EndsWith(out, kExtension);
  if (file && names.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--out: one file for ", names.size(),
                     " records; give a directory, or one --variant"));
  }
  if (!out.empty()) {
    const absl::Status writable =
        file ? CheckWritableFile(out) : CheckWritableDirectory(out);
    if (!writable.ok()) return writable;
  }
  // Under `bazel run`: what the build that made this program left.
  if (const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY")) {
    request.workspace_status =
        absl::StrCat(workspace, "/bazel-out/volatile-status.txt");
  }
  std::string json;
  for (const std::string& name : names) {
    request.variant = name;
    const absl::StatusOr<ProbeRecord> record = RunProbe(request);
    if (!record.ok()) {
      return absl::Status(record.status().code(),
                          absl::StrCat(name, ": ", record.status().message()));
    }
    if (!out.empty()) {
      const absl::Status written = WriteProbe(
          file ? out : absl::StrCat(out, "/", name, kExtension), *record);
      if (!written.ok()) return written;
    }
    if (!flags.json) {
      show(*record);
      std::fflush(stdout);
      continue;
    }
    const absl::StatusOr<std::string> text = ToJson(*record);
    if (!text.ok()) return text.status();
    absl::StrAppend(&json, json.empty() ? "" : ",\n", *text);
  }
  if (flags.json) std::printf("[%s]\n", json.c_str());
  return absl::OkStatus();
}

}  // namespace mneme
