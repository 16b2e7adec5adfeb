// SPDX-License-Identifier: Apache-2.0

#include "harness/probe_flags.h"

#include <cstdint>
#include <cstdio>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "attention/kernels/simd.h"
#include "attention/variant.h"
#include "harness/atomic_file.h"
#include "harness/environment.h"
#include "harness/probe_record.h"
#include "nlohmann/json.hpp"

namespace mneme {
namespace {

constexpr absl::string_view kExtension = ".probe";

using Json = nlohmann::ordered_json;

Json ToJson(const Measurement& m) {
  return {{"mean", m.mean()}, {"low", m.low()}, {"high", m.high()}};
}

Json ToJson(const CapacityCurve& curve) {
  Json points = Json::array();
  for (const CapacityPoint& point : curve.points()) {
    points.push_back({{"pairs", point.pairs()},
                      {"cosine", ToJson(point.cosine())},
                      {"recall", ToJson(point.recall())}});
  }
  return {{"key_dim", curve.key_dim()},
          {"keys", curve.keys()},
          {"passes", curve.passes()},
          {"points", points},
          {"pairs_at_90", curve.has_pairs_at_90() ? ToJson(curve.pairs_at_90())
                                                  : Json(nullptr)},
          {"state_bytes", curve.state_bytes()}};
}

Json ToJson(const ApproximationCurve& curve) {
  Json points = Json::array();
  for (const ApproximationPoint& point : curve.points()) {
    points.push_back(
        {{"size", point.size()}, {"error", ToJson(point.error())}});
  }
  return {{"knob", curve.knob()},
          {"exact", curve.exact()},
          {"setting", curve.setting()},
          {"points", points}};
}

// What is the record's own: machine and date are in the file.
Json ToJson(const ProbeRecord& record) {
  Json options = Json::object();
  for (const Setting& setting : record.variant_options()) {
    options[setting.name()] = setting.value();
  }
  Json capacity = Json::array(), approximation = Json::array();
  for (const auto& curve : record.capacity()) capacity.push_back(ToJson(curve));
  for (const auto& curve : record.approximation()) {
    approximation.push_back(ToJson(curve));
  }
  return {{"variant", record.variant()},
          {"family", record.family()},
          {"variant_version", record.variant_version()},
          {"options", options},
          {"seed", record.seed()},
          {"trials", record.trials()},
          {"simd_target", record.environment().simd_target()},
          {"capacity", capacity},
          {"approximation", approximation},
          {"unsupported", record.unsupported().empty()
                              ? Json(nullptr)
                              : Json(record.unsupported())}};
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
      ->add_option("--trials", flags->request.trials,
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
  if (!absl::SimpleAtoi(flags.seed, &request.seed)) {
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
  request.workspace_status = StatusFileOfBazelRun();
  Json json = Json::array();
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
    json.push_back(ToJson(*record));
  }
  if (flags.json) std::puts(json.dump(2).c_str());
  return absl::OkStatus();
}

}  // namespace mneme
