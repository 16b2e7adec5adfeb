// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/interleaved_timer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
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
      of.iterations = static_cast<int64_t>(run.iterations);
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

// Whether one round said more than another.
bool Better(const std::map<std::string, Repetitions>& a,
            const std::map<std::string, Repetitions>& b, double largest_cv) {
  const size_t unsure_a = NotOfOneMind(a, largest_cv).size();
  const size_t unsure_b = NotOfOneMind(b, largest_cv).size();
  if (unsure_a != unsure_b) return unsure_a < unsure_b;
  const auto spread = [](const std::map<std::string, Repetitions>& round) {
    double sum = 0;
    for (const auto& [name, repetitions] : round) {
      sum += Describe(repetitions.seconds).cv;
    }
    return sum;
  };
  return spread(a) < spread(b);
}

}  // namespace

InterleavedTimer::InterleavedTimer(TimerOptions options)
    : options_(std::move(options)) {}

void InterleavedTimer::Add(Entry entry) {
  entries_.push_back(std::move(entry));
}

std::map<std::string, Repetitions> InterleavedTimer::Run() {
  std::map<std::string, Repetitions> best;
  for (int round = 0; round < options_.rounds; ++round) {
    benchmark::ClearRegisteredBenchmarks();
    for (const Entry& entry : entries_) {
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
      // Whatever the flags say: with aggregates alone nothing is collected.
      registered->ReportAggregatesOnly(false);
      if (workload->Seconds() >= 0) {
        registered->UseManualTime();
      } else {
        registered->UseRealTime();
      }
    }
    Collector collector(options_.reporter);
    benchmark::RunSpecifiedBenchmarks(&collector, "all");
    // Never one workload of this round and another of that: their quotient
    // would hold what the machine did in between.
    if (round == 0 || Better(collector.found(), best, options_.largest_cv)) {
      best = collector.found();
    }
    if (NotOfOneMind(best, options_.largest_cv).empty()) break;
  }
  for (const std::string& name : NotOfOneMind(best, options_.largest_cv)) {
    best[name].noisy = true;
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
    const bool few = repetitions.seconds.size() < 3;
    if ((few && repetitions.rejected > 0) ||
        Describe(repetitions.seconds).cv > largest_cv) {
      names.push_back(name);
    }
  }
  return names;
}

}  // namespace mneme
