// SPDX-License-Identifier: Apache-2.0
//
// Times variants, of all that are linked in, against the machine's limits.

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/simd.h"
#include "attention/plugin/user_path.h"
#include "benchmark/benchmark.h"
#include "harness/atomic_file.h"
#include "harness/environment.h"
#include "harness/terminal.h"
#include "harness/throughput/flags.h"
#include "harness/throughput/throughput_json.h"
#include "harness/throughput/throughput_table.h"
#include "harness/throughput_record.h"

namespace mneme {
namespace {

constexpr int kFailed = 1, kUsage = 2;

int Fail(int code, absl::string_view message) {
  std::string line(message);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  std::fprintf(stderr, "throughput: %s\n", line.c_str());
  return code;
}

int Fail(const absl::Status& status) {
  const bool usage =
      absl::IsInvalidArgument(status) || absl::IsNotFound(status);
  return Fail(usage ? kUsage : kFailed, status.message());
}

// Every repetition as Google Benchmark shows it: on stdout, in a file, or not.
class RepetitionReporter : public benchmark::BenchmarkReporter {
 public:
  // Either may be null.
  RepetitionReporter(benchmark::BenchmarkReporter* display, std::ostream* file)
      : display_(display) {
    if (file == nullptr) return;
    file_ = std::make_unique<benchmark::JSONReporter>();
    file_->SetOutputStream(file);
  }

  // Called for every group of the suite; a document has one head.
  bool ReportContext(const Context& context) override {
    if (headed_) return true;
    headed_ = true;
    if (file_ != nullptr) file_->ReportContext(context);
    return display_ == nullptr || display_->ReportContext(context);
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    if (file_ != nullptr) file_->ReportRuns(runs);
    if (display_ != nullptr) display_->ReportRuns(runs);
  }
  void Close() {
    if (!headed_) return;
    if (file_ != nullptr) file_->Finalize();
    if (display_ != nullptr) display_->Finalize();
  }

 private:
  benchmark::BenchmarkReporter* display_;
  std::unique_ptr<benchmark::JSONReporter> file_;
  bool headed_ = false;
};

// Google Benchmark exits by itself when it does not like a flag. It keeps
// pointing to the name of the program.
void InitializeBenchmark(const std::vector<std::string>& flags) {
  static auto& texts = *new std::vector<std::string>(flags);
  texts.insert(texts.begin() + 1,
               "--benchmark_enable_random_interleaving=true");
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  if (benchmark::ReportUnrecognizedArguments(argc, argv.data())) {
    std::exit(kUsage);
  }
}

absl::Status List(const ThroughputFlags& flags) {
  for (const std::string& name : flags.variants) {
    const auto names = NamesOf(flags.request, **Variants().Find(name));
    if (!names.ok()) return names.status();
    for (const std::string& text : *names) std::puts(text.c_str());
  }
  return absl::OkStatus();
}

// Those variants of which anything is to be timed. Mistakes that only a variant
// can see, in its options, are found before hours of work on another.
absl::StatusOr<std::vector<std::string>> WantedVariants(
    const ThroughputFlags& flags) {
  std::vector<std::string> wanted;
  for (const std::string& name : flags.variants) {
    const auto names = NamesOf(flags.request, **Variants().Find(name));
    if (!names.ok()) return names.status();
    const bool twice =
        std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    if (!names->empty() && !twice) wanted.push_back(name);
  }
  if (wanted.empty()) {
    return absl::InvalidArgumentError(
        "the flags leave nothing to time; --benchmark_list_tests shows what "
        "they leave");
  }
  return wanted;
}

absl::Status Measure(const ThroughputFlags& flags) {
  const absl::StatusOr<std::vector<std::string>> wanted = WantedVariants(flags);
  if (!wanted.ok()) return wanted.status();
  const std::string out = flags.out.empty() ? "" : UserPath(flags.out);
  const std::string json =
      flags.json.empty() || flags.json == "-" ? "" : UserPath(flags.json);
  const std::string benchmark_out =
      flags.benchmark_out.empty() ? "" : UserPath(flags.benchmark_out);
  if (!out.empty()) {
    if (absl::Status s = CheckWritableDirectory(out); !s.ok()) return s;
  }
  for (const std::string& file : {json, benchmark_out}) {
    if (file.empty()) continue;
    if (absl::Status s = CheckWritableFile(file); !s.ok()) return s;
  }
  if (absl::Status s = kernels::UseSimdTarget(flags.simd); !s.ok()) return s;

  InitializeBenchmark(flags.benchmark);
  std::ostringstream repetitions;
  std::unique_ptr<benchmark::BenchmarkReporter> display;
  if (flags.benchmark_output) {
    display.reset(benchmark::CreateDefaultDisplayReporter());
  }
  RepetitionReporter reporter(display.get(),
                              benchmark_out.empty() ? nullptr : &repetitions);
  SuiteRequest request = flags.request;
  if (request.workspace_status.empty()) {
    request.workspace_status = StatusFileOfBazelRun();
  }
  request.timer.reporter = &reporter;

  const bool table = flags.json != "-" && !flags.benchmark_output;
  const TerminalStyle style = DetectTerminal(STDOUT_FILENO);
  if (table) std::fputs(TableHeader(style).c_str(), stdout);
  std::vector<ThroughputRecord> records;
  for (const std::string& name : *wanted) {
    absl::StatusOr<ThroughputRecord> record = MeasureThroughput(
        request, **Variants().Find(name), [&](const ThroughputMeasurement& m) {
          if (!table) return;
          std::fputs(TableRow(name, m, style).c_str(), stdout);
          std::fflush(stdout);
        });
    if (!record.ok()) return record.status();
    if (!out.empty()) {
      if (absl::Status s = WriteThroughput(
              absl::StrCat(out, "/", name, ".throughput"), *record);
          !s.ok()) {
        return s;
      }
    }
    records.push_back(*std::move(record));
  }
  reporter.Close();
  if (!benchmark_out.empty()) {
    const absl::Status s =
        WriteFileAtomically(benchmark_out, repetitions.str());
    if (!s.ok()) return s;
  }
  const std::string text = ThroughputJson(records);
  if (flags.json == "-") std::fputs(text.c_str(), stdout);
  if (!json.empty()) return WriteFileAtomically(json, text);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const absl::StatusOr<ThroughputFlags> flags =
      ParseThroughputFlags(argc, argv);
  if (!flags.ok()) return Fail(flags.status());
  if (!flags->help.empty()) {
    std::fputs(flags->help.c_str(), stdout);
    return 0;
  }
  const absl::Status status = flags->list ? List(*flags) : Measure(*flags);
  return status.ok() ? 0 : Fail(status);
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) {
  try {
    return mneme::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    return mneme::Fail(mneme::kFailed,
                       "out of memory; choose smaller --shapes");
  } catch (const std::exception& error) {
    return mneme::Fail(mneme::kFailed, error.what());
  }
}
