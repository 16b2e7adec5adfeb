// SPDX-License-Identifier: Apache-2.0
//
// Times several workloads in turns, on Google Benchmark: a repetition of one,
// then of another, so that whatever the machine does meanwhile befalls all of
// them; in random order if benchmark::Initialize was called with
// --benchmark_enable_random_interleaving=true. Repetitions during which the
// hypervisor gave the processor to others do not count. If those of a workload
// disagree, all are timed again, and the round in which the fewest do counts.

#ifndef MNEME_HARNESS_THROUGHPUT_INTERLEAVED_TIMER_H_
#define MNEME_HARNESS_THROUGHPUT_INTERLEAVED_TIMER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "harness/throughput/contender.h"

namespace benchmark {
class BenchmarkReporter;
}  // namespace benchmark

namespace mneme {

// Of one workload.
struct Repetitions {
  // Of one Run each, a mean over some: of the round that counts, the same for
  // all workloads.
  std::vector<double> seconds;
  int64_t iterations = 0;  // Runs of each
  int rejected = 0;        // in that round
  bool noisy = false;      // they are NotOfOneMind
  std::string error;       // of Run or Rewind; then seconds mean nothing
};

struct TimerOptions {
  int repetitions = 9;
  double min_seconds = 0.1;  // of a repetition
  double largest_cv = 0.05;
  int rounds = 3;  // at most
  // Whether somebody else has had our processors since it was last asked.
  std::function<bool()> disturbed;
  // Shown every repetition beside; not owned, may be null.
  benchmark::BenchmarkReporter* reporter = nullptr;
};

class InterleavedTimer {
 public:
  explicit InterleavedTimer(TimerOptions options);

  // A workload that outlives Run. Names are unique.
  struct Entry {
    std::string name;
    Workload* workload = nullptr;
    int repetitions = 0;      // other than the options'; 0: the same
    double most_seconds = 0;  // that are asked of a repetition; 0: any
  };
  void Add(Entry entry);

  // Times all, one after the other repetition, and forgets them.
  std::map<std::string, Repetitions> Run();

 private:
  TimerOptions options_;
  std::vector<Entry> entries_;
};

// Whose repetitions disagree: those with a larger CV, and those of which so
// many were rejected that fewer than three are left.
std::vector<std::string> NotOfOneMind(
    const std::map<std::string, Repetitions>& measured, double largest_cv);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_INTERLEAVED_TIMER_H_
