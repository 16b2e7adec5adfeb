// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/ceiling_workloads.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace mneme {
namespace {

// Enough beside the seconds that a kernel gets, as a ceiling is steadier.
constexpr double kMostSeconds = 0.015;

}  // namespace

class CeilingWorkloads::Loop : public Workload {
 public:
  Loop(Ceiling ceiling, std::unique_ptr<CeilingLoop> loop)
      : ceiling_(ceiling), loop_(std::move(loop)) {}

  absl::Status Run() override {
    units_ = loop_->Run();
    return absl::OkStatus();
  }
  std::vector<Tensor> Outputs() const override { return {}; }

  std::string Name() const {
    return absl::StrCat(
        "ceiling/", absl::StrReplaceAll(CeilingName(ceiling_), {{" ", "-"}}));
  }
  bool IsArithmetic() const {
    return ceiling_ == Ceiling::kMultiplyAdd || ceiling_ == Ceiling::kExp;
  }
  CeilingRates Rates(const Repetitions& repetitions) const {
    CeilingRates rates;
    rates.ceiling = ceiling_;
    for (const double seconds : repetitions.seconds) {
      rates.per_second.push_back(units_ / seconds);
    }
    return rates;
  }

 private:
  const Ceiling ceiling_;
  const std::unique_ptr<CeilingLoop> loop_;
  double units_ = 0;
};

CeilingWorkloads::CeilingWorkloads(kernels::ThreadPool* pool)
    : caches_(DetectCachesHere()),
      threads_(pool == nullptr ? 1 : pool->threads()) {
  LevelMemory memory(caches_, threads_);
  for (const Ceiling ceiling : kAllCeilings) {
    absl::StatusOr<std::unique_ptr<CeilingLoop>> loop =
        CeilingLoop::Make(ceiling, &memory, pool);
    if (!loop.ok()) continue;  // not on this machine
    loops_.push_back(std::make_unique<Loop>(ceiling, *std::move(loop)));
  }
}

CeilingWorkloads::~CeilingWorkloads() = default;

void CeilingWorkloads::AddTo(InterleavedTimer* timer) {
  for (const auto& loop : loops_) {
    timer->Add({loop->Name(), loop.get(), /*repetitions=*/0, kMostSeconds});
  }
}

Ceilings CeilingWorkloads::From(
    const std::map<std::string, Repetitions>& timed) const {
  std::vector<CeilingRates> rates;
  for (const auto& loop : loops_) {
    const auto found = timed.find(loop->Name());
    if (found != timed.end()) rates.push_back(loop->Rates(found->second));
  }
  return Summarise(rates, caches_, threads_);
}

bool CeilingWorkloads::Noisy(
    const std::map<std::string, Repetitions>& timed) const {
  for (const auto& loop : loops_) {
    const auto found = timed.find(loop->Name());
    if (found != timed.end() && found->second.noisy && loop->IsArithmetic()) {
      return true;
    }
  }
  return false;
}

MachineCeilings ToMessage(const Ceilings& ceilings) {
  MachineCeilings message;
  message.set_threads(ceilings.threads);
  message.set_flops(ceilings.Rate(Ceiling::kMultiplyAdd));
  message.set_exps(ceilings.Rate(Ceiling::kExp));
  for (const Ceiling level : kReads) {
    message.add_level_bytes_per_second(ceilings.Rate(level));
  }
  for (const Ceiling level : kReadWrites) {
    message.add_level_read_write_bytes_per_second(ceilings.Rate(level));
  }
  for (const int64_t bytes : ceilings.cache_bytes) {
    message.add_level_capacity(bytes);
  }
  message.add_level_capacity(0);
  message.set_bf16_flops(ceilings.Rate(Ceiling::kBf16));
  message.set_amx_flops(ceilings.Rate(Ceiling::kAmx));
  return message;
}

}  // namespace mneme
