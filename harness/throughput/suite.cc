// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/suite.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/kernels/denormals.h"
#include "harness/environment.h"
#include "harness/peak_memory.h"
#include "harness/throughput/ceiling_workloads.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/growth.h"
#include "harness/throughput/noise.h"
#include "harness/throughput/oracle.h"
#include "harness/throughput/oracle_check.h"
#include "harness/throughput/pinning.h"
#include "harness/throughput/problem.h"
#include "harness/throughput/problem_cost.h"
#include "harness/throughput/shape.h"
#include "harness/throughput/statistics.h"
#include "harness/throughput/system_files.h"
#include "harness/throughput_record.h"

namespace mneme {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One contender on one problem.
struct Entrant {
  const Contender* contender = nullptr;
  const Problem* problem = nullptr;
  std::unique_ptr<Workload> workload;
  double warm_seconds = 0;  // of a run that was not the first
  int64_t peak_memory_bytes = 0;
  absl::Status status;
};

// A step of training keeps the activations of all of its tokens.
constexpr int64_t kMostTrainedTokens = 1 << 16;

constexpr char kOutOfMemory[] = "out of memory; choose a smaller shape";

// Whether the machine has room for arrays of this shape: inputs and outputs, a
// state and what it is restored from, gradients.
absl::Status CheckMemory(const ThroughputShape& shape) {
  constexpr double kArrays = 12;
  const double bytes =
      kArrays * sizeof(float) * static_cast<double>(shape.batch) *
      static_cast<double>(shape.length) * static_cast<double>(shape.heads) *
      static_cast<double>(shape.head_dim);
  const absl::optional<std::string> meminfo = ReadSystemFile("/proc/meminfo");
  const absl::optional<int64_t> available =
      meminfo ? ParseAvailableMemory(*meminfo) : absl::nullopt;
  if (!available || bytes <= static_cast<double>(*available)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrFormat("it may need %.0f GB of memory, of which %.0f are free",
                      bytes / 1e9, static_cast<double>(*available) / 1e9));
}

absl::StatusOr<std::unique_ptr<Workload>> MakeCheckedInMemory(
    const Contender& contender, Oracle* oracle) {
  try {
    return MakeChecked(contender, oracle);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(kOutOfMemory);
  }
}

// Whether it can be expected to be worth the while.
absl::Status CheckSize(const Contender& contender, const Problem& problem,
                       const Ceilings& ceilings, double max_seconds) {
  const int64_t tokens = problem.dims.batch * problem.dims.length;
  if (problem.phase == Phase::kTrain) {
    if (tokens <= kMostTrainedTokens) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        absl::StrFormat("a step of %d tokens is too large to train; %d are not",
                        tokens, kMostTrainedTokens));
  }
  const absl::StatusOr<Limit> limit = LimitOf(contender, problem, ceilings);
  const double expected = limit.ok() ? 4 * limit->seconds() : 0;
  if (expected <= max_seconds) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "it may take %.0f s; --max_seconds is %.0f", expected, max_seconds));
}

// Makes the entrant's workload, if it is right.
void Check(const Ceilings& ceilings, double max_seconds, Oracle* oracle,
           Entrant* entrant) {
  entrant->status =
      CheckSize(*entrant->contender, *entrant->problem, ceilings, max_seconds);
  if (!entrant->status.ok()) return;
  const kernels::ScopedFlushDenormals flush;
  absl::StatusOr<std::unique_ptr<Workload>> workload =
      MakeCheckedInMemory(*entrant->contender, oracle);
  entrant->status = workload.status();
  if (workload.ok()) entrant->workload = *std::move(workload);
}

// Runs what is checked once more, with no other running. What the oracle keeps
// does not count as its memory.
void WarmUp(double max_seconds, const Oracle& oracle, Entrant* entrant) {
  if (!entrant->status.ok()) return;
  const kernels::ScopedFlushDenormals flush;
  const bool counting = ResetPeakMemory();
  const Clock::time_point start = Clock::now();
  entrant->status = entrant->workload->Run();
  entrant->warm_seconds = SecondsSince(start);
  if (counting) {
    entrant->peak_memory_bytes =
        std::max<int64_t>(0, PeakMemoryBytes() - oracle.Bytes());
  }
  if (entrant->status.ok() && entrant->warm_seconds > max_seconds) {
    entrant->status = absl::ResourceExhaustedError(
        absl::StrFormat("it takes %.0f s; --max_seconds is %.0f",
                        entrant->warm_seconds, max_seconds));
  }
  // Who is left out takes no memory from those who follow.
  if (!entrant->status.ok()) entrant->workload = nullptr;
}

// Several repetitions of something slow are not worth the wait.
constexpr double kSlowSeconds = 2;
constexpr int kFewRepetitions = 3;

// Of measuring the ceilings, to tell what would take too long.
constexpr double kGlance = 0.1;

class GroupRun {
 public:
  GroupRun(const SuiteRequest& request, const Variant& variant,
           const Options& options, const Operator* op,
           const PlannedGroup& group)
      : request_(request),
        variant_(variant),
        options_(options),
        op_(op),
        group_(group) {
    if (group.threads > 1) {
      pool_ = std::make_unique<kernels::ThreadPool>(group.threads);
    }
  }

  // Adds the group's measurements and ceilings to the record.
  void Measure(ThroughputRecord* record) {
    PrepareAll(MeasureCeilings(kGlance, pool_.get()));
    // Not before: trainers start threads of their own, which would inherit the
    // one CPU of this thread.
    const std::vector<int> cpus = AllowedCpus();
    std::vector<std::unique_ptr<ScopedPinning>> pinned;
    pinned.push_back(std::make_unique<ScopedPinning>(cpus, pool_.get()));
    for (const Entrant& entrant : entrants_) {
      if (!entrant.status.ok() || entrant.workload->pool() == nullptr) continue;
      pinned.push_back(
          std::make_unique<ScopedPinning>(cpus, entrant.workload->pool()));
    }
    // What is stolen from CPUs that nothing runs on disturbs nobody.
    StealWatch steal(PinnedCpus(cpus, group_.threads));
    TimerOptions options = request_.timer;
    options.disturbed = [&steal] { return steal.Moved(); };
    InterleavedTimer timer(options);
    for (const Entrant& entrant : entrants_) {
      if (!entrant.status.ok()) continue;
      const bool slow = entrant.warm_seconds > kSlowSeconds;
      timer.Add(
          {NameOf(entrant), entrant.workload.get(),
           slow ? std::min(kFewRepetitions, request_.timer.repetitions) : 0});
    }
    CeilingWorkloads loops(pool_.get());
    loops.AddTo(&timer);
    const std::map<std::string, Repetitions> timed = timer.Run();
    const Ceilings ceilings = loops.From(timed);
    noisy_ceilings_ = loops.Noisy(timed);
    *record->add_ceilings() = ToMessage(ceilings);
    for (const Entrant& entrant : entrants_) {
      *record->add_measurements() = Describe(entrant, timed, ceilings);
    }
    AddBackboneFraction(record);
  }

 private:
  std::string NameOf(const Entrant& entrant) const {
    return MeasurementName(variant_.descriptor.name, group_,
                           *entrant.contender);
  }

  void PrepareAll(const Ceilings& ceilings) {
    for (const auto& [phase, contenders] : group_.phases) {
      if (phase != Phase::kTrain && op_ == nullptr) continue;
      absl::Status fits = CheckMemory(group_.shape);
      try {
        if (fits.ok()) {
          problems_.push_back(std::make_unique<Problem>(
              MakeProblem(phase, variant_, options_, op_, request_.form,
                          group_.shape, pool_.get())));
        }
      } catch (const std::bad_alloc&) {
        fits = absl::ResourceExhaustedError(kOutOfMemory);
      }
      if (!fits.ok()) {
        problems_.push_back(std::make_unique<Problem>());
        problems_.back()->phase = phase;
        problems_.back()->form = request_.form;
      }
      PrepareAll(*problems_.back(), contenders, fits, ceilings);
    }
  }

  // Those of one phase.
  void PrepareAll(const Problem& problem,
                  const std::vector<const Contender*>& contenders,
                  const absl::Status& fits, const Ceilings& ceilings) {
    const size_t first = entrants_.size();
    for (const Contender* contender : contenders) {
      entrants_.emplace_back();
      entrants_.back().contender = contender;
      entrants_.back().problem = &problem;
      entrants_.back().status = fits;
    }
    if (!fits.ok()) return;
    Oracle oracle(problem);
    for (size_t i = first; i < entrants_.size(); ++i) {
      Check(ceilings, request_.max_seconds, &oracle, &entrants_[i]);
      // Before the next is made, whose memory is none of this one's.
      WarmUp(request_.max_seconds, oracle, &entrants_[i]);
    }
  }

  ThroughputMeasurement Describe(
      const Entrant& entrant, const std::map<std::string, Repetitions>& timed,
      const Ceilings& ceilings) const {
    const Problem& problem = *entrant.problem;
    ThroughputMeasurement m;
    m.set_contender(entrant.contender->name);
    m.set_phase(std::string(PhaseName(problem.phase)));
    m.set_form(std::string(FormName(
        problem.phase == Phase::kDecode ? Form::kRecurrent : problem.form)));
    m.set_batch(group_.shape.batch);
    m.set_length(group_.shape.length);
    m.set_heads(group_.shape.heads);
    m.set_head_dim(group_.shape.head_dim);
    m.set_threads(group_.threads);
    const auto found = timed.find(NameOf(entrant));
    if (!entrant.status.ok()) {
      m.set_error(std::string(entrant.status.message()));
    } else if (found == timed.end()) {
      m.set_error("Google Benchmark did not run it");
    } else if (!found->second.error.empty()) {
      m.set_error(found->second.error);
    } else if (found->second.seconds.empty()) {
      m.set_error(absl::StrCat("somebody else had the processor in all of ",
                               found->second.rejected, " repetitions"));
    }
    if (!m.error().empty()) return m;
    const Repetitions& repetitions = found->second;
    const Statistics statistics = mneme::Describe(repetitions.seconds);
    const double times = static_cast<double>(entrant.workload->Times());
    const double seconds = statistics.median / times;
    m.set_milliseconds(1e3 * seconds);
    m.set_milliseconds_min(1e3 * statistics.min / times);
    m.set_cv(statistics.cv);
    m.set_repetitions(static_cast<int>(repetitions.seconds.size()));
    m.set_rejected(repetitions.rejected);
    m.set_noisy(repetitions.noisy || noisy_ceilings_);
    m.set_tokens_per_second(TokensOf(problem) / seconds);
    m.set_peak_memory_bytes(entrant.peak_memory_bytes);
    if (problem.phase == Phase::kTrain) return m;
    const int64_t tokens =
        TokensTimed(*entrant.workload, repetitions.iterations);
    const Cost cost = CostOf(problem, tokens);
    m.set_gflops(cost.flops / seconds / 1e9);
    m.set_gigabytes_per_second(cost.bytes / seconds / 1e9);
    m.set_state_bytes(op_->StateBytes(problem.dims));
    const absl::StatusOr<Limit> limit =
        LimitOf(*entrant.contender, problem, ceilings, tokens);
    if (!limit.ok()) return m;  // a ceiling was not measured
    m.set_level(std::string(CeilingName(limit->level)));
    m.set_limit_milliseconds(1e3 * limit->seconds());
    m.set_bound(std::string(limit->binding()));
    m.set_fraction_of_limit(limit->seconds() / seconds);
    return m;
  }

  // The time of the backbone alone over that of the whole model.
  void AddBackboneFraction(ThroughputRecord* record) const {
    double backbone = 0;
    const auto in_group = [&](const ThroughputMeasurement& m) {
      return m.phase() == PhaseName(Phase::kTrain) && m.error().empty() &&
             m.threads() == group_.threads &&
             ThroughputShape{m.batch(), m.length(), m.heads(), m.head_dim()} ==
                 group_.shape;
    };
    for (const ThroughputMeasurement& m : record->measurements()) {
      if (in_group(m) && m.contender() == "backbone")
        backbone = m.milliseconds();
    }
    if (backbone == 0) return;
    for (ThroughputMeasurement& m : *record->mutable_measurements()) {
      if (!in_group(m) || m.contender() != kOwnContender) continue;
      m.set_backbone_fraction(backbone / m.milliseconds());
    }
  }

  const SuiteRequest& request_;
  const Variant& variant_;
  const Options& options_;
  const Operator* op_;
  const PlannedGroup& group_;
  std::unique_ptr<kernels::ThreadPool> pool_;
  std::vector<std::unique_ptr<Problem>> problems_;
  std::vector<Entrant> entrants_;  // point to problems_
  bool noisy_ceilings_ = false;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> NamesOf(const SuiteRequest& request,
                                                 const Variant& variant) {
  const absl::StatusOr<Options> options =
      Options::Parse(variant.descriptor.options, request.set);
  if (!options.ok()) return options.status();
  const auto plan = PlanOf(request.selection, variant.descriptor.name);
  if (!plan.ok()) return plan.status();
  std::vector<std::string> names;
  for (const PlannedGroup& group : *plan) {
    for (const auto& planned : group.phases) {
      for (const Contender* contender : planned.contenders) {
        names.push_back(
            MeasurementName(variant.descriptor.name, group, *contender));
      }
    }
  }
  return names;
}

absl::StatusOr<ThroughputRecord> MeasureThroughput(
    const SuiteRequest& request, const Variant& variant,
    const std::function<void(const ThroughputMeasurement&)>& show) {
  const Clock::time_point start = Clock::now();
  const VariantDescriptor& d = variant.descriptor;
  absl::StatusOr<Options> options = Options::Parse(d.options, request.set);
  if (!options.ok()) return options.status();
  const auto plan = PlanOf(request.selection, d.name);
  if (!plan.ok()) return plan.status();
  std::unique_ptr<Operator> op;
  if (variant.make_operator != nullptr) {
    absl::StatusOr<std::unique_ptr<Operator>> made =
        variant.make_operator(*options);
    if (!made.ok()) return made.status();
    op = *std::move(made);
  }
  ThroughputRecord record;
  record.set_schema(kThroughputSchema);
  record.set_variant(d.name);
  record.set_family(d.family);
  record.set_variant_version(d.version);
  record.set_approximate(!d.exact);
  for (const auto& [name, value] : options->ToValues()) {
    Setting* setting = record.add_variant_options();
    setting->set_name(name);
    setting->set_value(value);
  }
  for (const PlannedGroup& group : *plan) {
    const int before = record.measurements_size();
    GroupRun(request, variant, *options, op.get(), group).Measure(&record);
    FitGrowth(&record);  // of all lengths so far, to be shown with this one
    for (int i = before; i < record.measurements_size(); ++i) {
      show(record.measurements(i));
    }
  }
  *record.mutable_environment() = DescribeEnvironment(request.workspace_status);
  record.set_seconds(SecondsSince(start));
  return record;
}

}  // namespace mneme
