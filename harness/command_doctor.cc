// SPDX-License-Identifier: Apache-2.0

#include "harness/command_doctor.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/simd.h"
#include "harness/environment.h"
#include "harness/terminal.h"
#include "harness/throughput/caches.h"
#include "harness/throughput/ceilings.h"
#include "harness/throughput/matrix_units.h"
#include "harness/throughput/noise.h"
#include "harness/throughput/pinning.h"
#include "harness/throughput/statistics.h"
#include "harness/throughput/system_files.h"
#include "nlohmann/json.hpp"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

// For each number of threads.
constexpr double kSeconds = 0.8;

// Repetitions that vary more than this are not worth comparing.
constexpr double kSteady = 0.05;

struct Flags {
  int threads = 0;  // as many as CPUs
  std::string simd = "best";
  bool json = false;
};

// All ceilings on a number of threads.
struct Measured {
  int threads = 1;
  std::vector<CeilingRates> rates;
  int turns = -1;     // none asked about yet
  int disturbed = 0;  // of the turns, by steal time
};

struct Report {
  Environment environment;
  std::vector<int> cpus;
  Caches caches;
  std::vector<Measured> measured;
  std::vector<Remark> remarks;
};

Measured Measure(const Report& report, int threads) {
  Measured m;
  m.threads = threads;
  kernels::ThreadPool pool(threads);
  const ScopedPinning pinning(report.cpus, &pool);
  StealWatch steal(PinnedCpus(report.cpus, threads));
  m.rates = MeasureRates(report.caches, &pool, kSeconds, [&] {
    const bool moved = steal.Moved();
    // The first question is of what was before the first turn.
    if (m.turns >= 0 && moved) ++m.disturbed;
    ++m.turns;
    return !moved;
  });
  return m;
}

// What the measurement itself says about how far to trust it.
Remark Spread(const Measured& m) {
  double worst = 0;
  for (const CeilingRates& r : m.rates) {
    worst = std::max(worst, Describe(r.per_second).cv);
  }
  Remark remark;
  remark.name = m.threads == 1
                    ? "spread, 1 thread"
                    : absl::StrFormat("spread, %d threads", m.threads);
  remark.value =
      absl::StrFormat("CV up to %.1f%%, time stolen in %d of %d turns",
                      100 * worst, m.disturbed, m.turns);
  if (worst <= kSteady && m.disturbed == 0) {
    remark.verdict = Remark::Verdict::kQuiet;
  } else {
    remark.verdict = Remark::Verdict::kNoisy;
    remark.advice =
        "compare medians of interleaved repetitions, never two runs";
  }
  return remark;
}

// --- For programs ---

Json CeilingsJson(const std::vector<Measured>& measured) {
  Json out = Json::array();
  for (const Measured& m : measured) {
    for (const CeilingRates& r : m.rates) {
      Json entry = {{"threads", m.threads},
                    {"name", std::string(CeilingName(r.ceiling))},
                    {"unit", absl::StrCat(CeilingUnit(r.ceiling), "/s")}};
      if (r.status.ok()) {
        const Statistics s = Describe(r.per_second);
        entry.update({{"median", s.median},
                      {"min", s.min},
                      {"max", s.max},
                      {"cv", s.cv},
                      {"repetitions", s.count}});
      } else {
        entry["absent"] = std::string(r.status.message());
      }
      out.push_back(std::move(entry));
    }
  }
  return out;
}

const char* VerdictName(Remark::Verdict verdict) {
  switch (verdict) {
    case Remark::Verdict::kQuiet:
      return "quiet";
    case Remark::Verdict::kNoisy:
      return "noisy";
    case Remark::Verdict::kUnknown:
      return "unknown";
  }
  return "";
}

Json ReportJson(const Report& report) {
  Json caches = Json::array(), noise = Json::array();
  for (size_t i = 0; i < report.caches.size(); ++i) {
    if (report.caches[i].bytes == 0) continue;
    caches.push_back({{"level", i + 1},
                      {"bytes", report.caches[i].bytes},
                      {"cpus", report.caches[i].cpus}});
  }
  for (const Remark& remark : report.remarks) {
    noise.push_back({{"name", remark.name},
                     {"value", remark.value},
                     {"verdict", VerdictName(remark.verdict)},
                     {"advice", remark.advice}});
  }
  const Environment& e = report.environment;
  return {{"machine", e.machine()},
          {"cores", e.cores()},
          {"allowed_cpus", report.cpus},
          {"caches", caches},
          {"simd",
           {{"in_use", e.simd_target()},
            {"supported", kernels::SupportedSimdTargets()},
            {"unsupported", kernels::UnsupportedSimdTargets()}}},
          {"avx512_bf16", HasAvx512Bf16()},
          {"amx_bf16", HasAmxBf16()},
          {"compiler", e.compiler()},
          {"build_mode", e.build_mode()},
          {"date", e.date()},
          {"ceilings", CeilingsJson(report.measured)},
          {"noise", noise}};
}

// --- For people ---

// Words in lines of at most `columns`, all but the first indented.
void PrintWrapped(const std::string& first, int indent, absl::string_view text,
                  int columns) {
  std::string line = first;
  bool fresh = true;  // nothing but the beginning is in the line
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    const size_t room = static_cast<size_t>(columns);
    if (!fresh && line.size() + 1 + word.size() > room) {
      absl::PrintF("%s\n", line);
      line.assign(indent, ' ');
      fresh = true;
    }
    absl::StrAppend(&line, fresh ? "" : " ", word);
    fresh = false;
  }
  absl::PrintF("%s\n", line);
}

void PrintFact(const char* name, absl::string_view text, int columns) {
  PrintWrapped(absl::StrFormat("%-9s ", name), 10, text, columns);
}

std::string Bytes(int64_t bytes) {
  const bool mebi = bytes % (1 << 20) == 0;
  return absl::StrCat(bytes >> (mebi ? 20 : 10), mebi ? " MiB" : " KiB");
}

std::string CachesText(const Caches& caches) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < caches.size(); ++i) {
    if (caches[i].bytes == 0) continue;
    texts.push_back(absl::StrCat("L", i + 1, " ", Bytes(caches[i].bytes)));
    if (caches[i].cpus > 1) {
      absl::StrAppend(&texts.back(), " for ", caches[i].cpus, " CPUs");
    }
  }
  return texts.empty() ? "unknown" : absl::StrJoin(texts, ", ");
}

std::string SimdText(const std::string& in_use) {
  std::string text = absl::StrCat(in_use, " in use");
  std::vector<std::string> others = kernels::SupportedSimdTargets();
  others.erase(std::remove(others.begin(), others.end(), in_use), others.end());
  const std::vector<std::string> absent = kernels::UnsupportedSimdTargets();
  if (!others.empty()) {
    absl::StrAppend(&text, "; also ", absl::StrJoin(others, ", "));
  }
  if (!absent.empty()) {
    absl::StrAppend(&text, "; not on this CPU ", absl::StrJoin(absent, ", "));
  }
  return text;
}

// Three digits, in billions.
std::string Rate(double rate, Ceiling ceiling) {
  const double giga = 1e-9 * rate;
  const int digits = giga >= 99.95 ? 0 : giga >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f G%s/s", digits, giga, CeilingUnit(ceiling));
}

// A percentage in four columns.
std::string Percent(double fraction) {
  const double percent = 100 * fraction;
  return absl::StrFormat("%.*f%%", percent < 9.95 ? 1 : 0, percent);
}

// 12 columns and 19 for each number of threads, 50 for two of them.
std::string CeilingRow(absl::string_view label, Ceiling ceiling,
                       const std::vector<Measured>& measured) {
  std::string line = absl::StrFormat("%-12s", label);
  for (const Measured& m : measured) {
    const CeilingRates& r = m.rates[static_cast<size_t>(ceiling)];
    const Statistics s = Describe(r.per_second);
    absl::StrAppendFormat(
        &line, "%14s %4s",
        r.status.ok() ? Rate(s.median, r.ceiling) : r.status.message(),
        r.status.ok() ? Percent(s.cv) : "");
  }
  return std::string(absl::StripTrailingAsciiWhitespace(line));
}

void PrintCeilings(const std::vector<Measured>& measured) {
  std::string line = absl::StrFormat("\n%-12s", "ceiling");
  for (const Measured& m : measured) {
    const char* threads = m.threads == 1 ? " thread" : " threads";
    absl::StrAppendFormat(&line, "%14s %4s", absl::StrCat(m.threads, threads),
                          "CV");
  }
  absl::PrintF("%s\n", line);
  const auto print = [&](absl::string_view label, Ceiling ceiling) {
    absl::PrintF("%s\n", CeilingRow(label, ceiling, measured));
  };
  const auto index = [](const auto& levels, Ceiling ceiling) {
    return std::find(std::begin(levels), std::end(levels), ceiling) -
           std::begin(levels);
  };
  const auto levels = static_cast<ptrdiff_t>(std::size(kReads));
  for (const Ceiling ceiling : kAllCeilings) {
    if (index(kReadWrites, ceiling) < levels) continue;  // below its level
    print(CeilingName(ceiling), ceiling);
    const ptrdiff_t level = index(kReads, ceiling);
    if (level < levels) print("  read-write", kReadWrites[level]);
  }
}

void Print(const Report& report, int columns) {
  const Environment& e = report.environment;
  PrintFact("machine", e.machine(), columns);
  PrintFact("CPUs",
            absl::StrCat(e.cores(), " online, ",
                         report.cpus.empty() ? std::string("unknown")
                                             : absl::StrCat(report.cpus.size()),
                         " for this process"),
            columns);
  PrintFact("caches", CachesText(report.caches), columns);
  PrintFact("SIMD", SimdText(e.simd_target()), columns);
  PrintFact("bfloat16",
            absl::StrCat(HasAvx512Bf16() ? "AVX512-BF16" : "no AVX512-BF16",
                         ", ", HasAmxBf16() ? "AMX" : "no AMX"),
            columns);
  PrintFact("compiler", absl::StrCat(e.compiler(), ", ", e.build_mode()),
            columns);
  PrintCeilings(report.measured);
  absl::PrintF("\nwhat disturbs timings\n");
  for (const Remark& remark : report.remarks) {
    const char mark = remark.verdict == Remark::Verdict::kNoisy     ? '!'
                      : remark.verdict == Remark::Verdict::kUnknown ? '?'
                                                                    : ' ';
    PrintWrapped(absl::StrFormat("%c %-17s ", mark, remark.name), 20,
                 remark.value, columns);
    if (!remark.advice.empty()) {
      PrintWrapped("    ", 4, remark.advice, columns);
    }
  }
  absl::PrintF("\nnext: ./bazelw run //harness:throughput\n");
}

absl::Status Doctor(const Flags& flags) {
  if (absl::Status s = kernels::UseSimdTarget(flags.simd); !s.ok()) return s;
  Report report;
  report.cpus = AllowedCpus();
  report.environment = DescribeEnvironment("");
  report.caches = DetectCachesHere();
  // The load, before we add to it.
  report.remarks = RemarksOn(ObserveNoise(report.cpus));
  const int all = std::max(1, static_cast<int>(report.cpus.size()));
  const int threads = flags.threads > 0 ? flags.threads : all;
  report.measured.push_back(Measure(report, 1));
  if (threads > 1) report.measured.push_back(Measure(report, threads));
  for (const Measured& m : report.measured) report.remarks.push_back(Spread(m));
  if (flags.json) {
    std::puts(ReportJson(report).dump(2).c_str());
  } else {
    // Lines that are meant to be read are wrapped off a terminal as well.
    Print(report, std::min(80, DetectTerminal(STDOUT_FILENO).columns));
  }
  return absl::OkStatus();
}

}  // namespace

void AddDoctorCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "doctor",
      "Show the machine, measure what it can do at most, and say what disturbs "
      "timings");
  auto flags = std::make_shared<Flags>();
  command
      ->add_option("--threads", flags->threads,
                   "Measure on one thread and on this many  [default: as many "
                   "as CPUs]")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--simd", flags->simd,
                   "SIMD target: best, or one that this CPU supports")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback(
      [action, flags] { *action = [flags] { return Doctor(*flags); }; });
}

}  // namespace mneme
