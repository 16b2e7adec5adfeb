// SPDX-License-Identifier: Apache-2.0

#include "harness/environment.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "attention/kernels/simd.h"

namespace mneme {
namespace {

std::string Slurp(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string Compiler() {
#if defined(__clang__)
  return absl::StrCat("clang ", __clang_major__, ".", __clang_minor__, ".",
                      __clang_patchlevel__);
#elif defined(__GNUC__)
  return absl::StrCat("gcc ", __GNUC__, ".", __GNUC_MINOR__, ".",
                      __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

}  // namespace

std::string StatusFileOfBazelRun() {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace == nullptr) return "";
  for (const char* outputs : {".bazel/out", "bazel-out"}) {
    std::string path =
        absl::StrCat(workspace, "/", outputs, "/volatile-status.txt");
    if (std::ifstream(path).good()) return path;
  }
  return "";
}

std::string CpuModel(absl::string_view cpuinfo) {
  for (absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    if (!absl::ConsumePrefix(&line, "model name")) continue;
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "unknown";
}

Environment DescribeEnvironment(const std::string& status_file) {
  Environment environment;
  environment.set_machine(CpuModel(Slurp("/proc/cpuinfo")));
  environment.set_cores(static_cast<int>(std::thread::hardware_concurrency()));
  environment.set_simd_target(kernels::SimdTarget());
  environment.set_compiler(Compiler());
#ifdef __OPTIMIZE__
  environment.set_build_mode("opt");
#else
  environment.set_build_mode("debug");
#endif
  environment.set_commit("unknown");
  if (!status_file.empty()) {
    for (absl::string_view line : absl::StrSplit(Slurp(status_file), '\n')) {
      if (absl::ConsumePrefix(&line, "MNEME_COMMIT ")) {
        environment.set_commit(std::string(line));
      }
    }
  }
  environment.set_date(
      absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone()));
  return environment;
}

}  // namespace mneme
