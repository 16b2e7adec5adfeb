// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/interleaved_timer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "attention/kernels/denormals.h"
#include "benchmark/benchmark.h"
#include "harness/throughput/statistics.h"

namespace mneme {
namespace {

constexpr char kDisturbed[] = "disturbed";

absl::Status RunOnce(Workload* workload, int64_t* runs_left,
                     benchmark::State& state) {
  if (workload->RunsBeforeRewind() > 0 && (*runs_left)-- == 0) {
    state.PauseTiming();
    const absl::Status status = workload->Rewind();
    state.ResumeTiming();
    if (!status.ok()) return status;
    *runs_left = workload->RunsBeforeRewind() - 1;
  }
  return workload->Run();
}

// What Google Benchmark calls for one repetition, and to find out how many
// iterations that should have.
void Repeat(Workload* workload, const std::function<bool()>& disturbed,
            benchmark::State& state) {
  // Decaying states turn denormal, where a token may cost a hundred times more.
  const kernels::ScopedFlushDenormals flush;
  int64_t runs_left = 0;       // what came before is unknown
  if (disturbed) disturbed();  // what came before does not matter
  for (auto _ : state) {
    if (absl::Status s = RunOnce(workload, &runs_left, state); !s.ok()) {
      state.SkipWithError(std::string(s.message()).c_str());
      return;
    }
    if (workload->Seconds() >= 0) state.SetIterationTime(workload->Seconds());
  }
  state.counters[kDisturbed] = disturbed && disturbed() ? 1 : 0;
}

// Remembers repetitions, and hands everything on to another reporter.
class Collector : public benchmark::BenchmarkReporter {
 public:
  explicit Collector(benchmark::BenchmarkReporter* next) : next_(next) {}

  bool ReportContext(const Context& context) override {
    return next_ == nullptr || next_->ReportContext(context);
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      Repetitions& of = found_[run.run_name.function_name];
      if (run.error_occurred) {
        of.error = run.error_message;
        continue;
      }
      const auto disturbed = run.counters.find(kDisturbed);
      if (disturbed != run.counters.end() && disturbed->second.value > 0) {
        ++of.rejected;
        continue;
      }
      of.seconds.push_back(run.real_accumulated_time /
                           static_cast<double>(run.iterations));
    }
    if (next_ != nullptr) next_->ReportRuns(runs);
  }

  const std::map<std::string, Repetitions>& found() const { return found_; }

 private:
  benchmark::BenchmarkReporter* next_;
  std::map<std::string, Repetitions> found_;
};

// Whether a second round said more than the first.
bool Better(const Repetitions& a, const Repetitions& b) {
  if (a.seconds.size() < 3 || b.seconds.size() < 3) {
    return a.seconds.size() > b.seconds.size();
  }
  return Describe(a.seconds).cv < Describe(b.seconds).cv;
}

}  // namespace

InterleavedTimer::InterleavedTimer(TimerOptions options)
    : options_(std::move(options)) {}

void InterleavedTimer::Add(Entry entry) {
  entries_.push_back(std::move(entry));
}

std::map<std::string, Repetitions> InterleavedTimer::Run() {
  std::map<std::string, Repetitions> best;
  std::vector<std::string> wanted;
  for (const Entry& entry : entries_) wanted.push_back(entry.name);
  for (int round = 0; round < options_.rounds && !wanted.empty(); ++round) {
    benchmark::ClearRegisteredBenchmarks();
    for (const Entry& entry : entries_) {
      if (std::find(wanted.begin(), wanted.end(), entry.name) == wanted.end()) {
        continue;
      }
      Workload* const workload = entry.workload;
      auto* registered = benchmark::RegisterBenchmark(
          entry.name.c_str(), [this, workload](benchmark::State& state) {
            Repeat(workload, options_.disturbed, state);
          });
      registered->Repetitions(entry.repetitions > 0 ? entry.repetitions
                                                    : options_.repetitions);
      registered->MinTime(
          entry.most_seconds > 0
              ? std::min(entry.most_seconds, options_.min_seconds)
              : options_.min_seconds);
      registered->Unit(benchmark::kMillisecond);
      if (workload->Seconds() >= 0) {
        registered->UseManualTime();
      } else {
        registered->UseRealTime();
      }
    }
    Collector collector(options_.reporter);
    benchmark::RunSpecifiedBenchmarks(&collector, "all");
    for (const auto& [name, repetitions] : collector.found()) {
      Repetitions& so_far = best[name];
      if (round == 0 || Better(repetitions, so_far)) so_far = repetitions;
    }
    wanted = NotOfOneMind(best, options_.largest_cv);
  }
  for (const std::string& name : wanted) {
    if (best.count(name) != 0) best[name].noisy = true;
  }
  benchmark::ClearRegisteredBenchmarks();
  entries_.clear();
  return best;
}

std::vector<std::string> NotOfOneMind(
    const std::map<std::string, Repetitions>& measured, double largest_cv) {
  std::vector<std::string> names;
  for (const auto& [name, repetitions] : measured) {
    if (!repetitions.error.empty()) continue;
    if (repetitions.seconds.size() < 3 ||
        Describe(repetitions.seconds).cv > largest_cv) {
      names.push_back(name);
    }
  }
  return names;
}

}  // namespace mneme
