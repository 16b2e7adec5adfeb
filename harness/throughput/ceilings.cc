// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/ceilings.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "harness/throughput/matrix_units.h"
#include "harness/throughput/simd_loops.h"
#include "harness/throughput/statistics.h"

namespace mneme {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLevels = 4;  // L1, L2, L3, DRAM
constexpr int kLeastRepetitions = 3;
constexpr int kMostAgain = 10;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int Threads(const kernels::ThreadPool* pool) {
  return pool == nullptr ? 1 : pool->threads();
}

// Memory in pages of 2 MiB where the kernel has them: otherwise reads of DRAM
// wait for page tables as well.
class Buffer {
 public:
  static constexpr size_t kHugePage = size_t{1} << 21;

  explicit Buffer(size_t bytes) : bytes_(bytes) {
    const size_t pages = (bytes + kHugePage - 1) / kHugePage;
    data_ = std::aligned_alloc(kHugePage, pages * kHugePage);
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(data_, pages * kHugePage, MADV_HUGEPAGE);
#endif
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  // For whoever uses it alone. Pages that were never written all are the one
  // page of zeros; the first to write has them near its CPU.
  void* Touched() {
    if (!std::exchange(touched_, true)) std::memset(data_, 1, bytes_);
    return data_;
  }

 private:
  const size_t bytes_;
  void* data_;
  bool touched_ = false;
};

}  // namespace

class LevelMemory::Buffers {
 public:
  Buffers(size_t bytes, int threads) : bytes_(bytes) {
    for (int t = 0; t < threads; ++t) {
      buffers_.push_back(std::make_unique<Buffer>(bytes));
    }
  }

  // By worker, not by index: threads keep to their CPUs, and a cache that a
  // thread has filled is that of its CPU.
  void* Touched(int worker) { return buffers_[worker]->Touched(); }
  size_t bytes() const { return bytes_; }

 private:
  const size_t bytes_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

namespace {

// A loop of the given number of rounds on one thread.
using Rounds = std::function<double(int worker, int64_t rounds)>;

class RoundsLoop : public CeilingLoop {
 public:
  RoundsLoop(Rounds body, kernels::ThreadPool* pool, double seconds)
      : body_(std::move(body)), pool_(pool) {
    Run();  // the first one touches pages and wakes threads
    // Doubling until it can be timed, then as many as fit.
    for (;; rounds_ *= 2) {
      const Clock::time_point start = Clock::now();
      Run();
      const double took = SecondsSince(start);
      if (took < seconds / 4) continue;
      const double fit = static_cast<double>(rounds_) * seconds / took;
      rounds_ = std::max(int64_t{1}, static_cast<int64_t>(fit));
      return;
    }
  }

  double Run() override {
    std::vector<double> units(Threads(pool_));
    kernels::ParallelFor(pool_, units.size(), [&](size_t i, int worker) {
      units[i] = body_(worker, rounds_);
    });
    double sum = 0;
    for (double u : units) sum += u;
    return sum;
  }

 private:
  const Rounds body_;
  kernels::ThreadPool* const pool_;
  int64_t rounds_ = 1;
};

// A loop of simd_loops.h over buffers in that level.
template <class Loop>
absl::StatusOr<Rounds> LevelRounds(LevelMemory* memory, int level, Loop loop) {
  std::shared_ptr<LevelMemory::Buffers> buffers = memory->Of(level);
  if (buffers == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("no L", level + 1, " cache, or its size is unknown"));
  }
  return Rounds([=](int worker, int64_t rounds) {
    return loop(buffers->Touched(worker), buffers->bytes(), rounds);
  });
}

// 0 is L1.
int LevelOf(Ceiling ceiling, const Ceiling (&levels)[kLevels]) {
  return static_cast<int>(std::find(levels, levels + kLevels, ceiling) -
                          levels);
}

absl::StatusOr<Rounds> RoundsOf(Ceiling ceiling, LevelMemory* memory) {
  switch (ceiling) {
    case Ceiling::kMultiplyAdd:
      return Rounds(
          [](int, int64_t rounds) { return RunMultiplyAdds(rounds); });
    case Ceiling::kExp:
      return Rounds([](int, int64_t rounds) { return RunExps(rounds); });
    case Ceiling::kL1:
    case Ceiling::kL2:
    case Ceiling::kL3:
    case Ceiling::kDram:
      return LevelRounds(memory, LevelOf(ceiling, kReads), ReadBytes);
    case Ceiling::kL1ReadWrite:
    case Ceiling::kL2ReadWrite:
    case Ceiling::kL3ReadWrite:
    case Ceiling::kDramReadWrite:
      return LevelRounds(memory, LevelOf(ceiling, kReadWrites), ReadWriteBytes);
    case Ceiling::kBf16:
      if (!HasAvx512Bf16()) {
        return absl::UnimplementedError("no AVX512-BF16");
      }
      return Rounds([](int, int64_t rounds) { return RunBf16Dots(rounds); });
    case Ceiling::kAmx:
      if (!HasAmxBf16()) return absl::UnimplementedError("no AMX-BF16");
      return Rounds([](int, int64_t rounds) { return RunAmxDots(rounds); });
  }
  return absl::InvalidArgumentError("no such ceiling");
}

}  // namespace

absl::string_view CeilingName(Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::kMultiplyAdd:
      return "fma";
    case Ceiling::kExp:
      return "exp";
    case Ceiling::kL1:
      return "L1";
    case Ceiling::kL2:
      return "L2";
    case Ceiling::kL3:
      return "L3";
    case Ceiling::kDram:
      return "DRAM";
    case Ceiling::kL1ReadWrite:
      return "L1 read-write";
    case Ceiling::kL2ReadWrite:
      return "L2 read-write";
    case Ceiling::kL3ReadWrite:
      return "L3 read-write";
    case Ceiling::kDramReadWrite:
      return "DRAM read-write";
    case Ceiling::kBf16:
      return "bf16";
    case Ceiling::kAmx:
      return "AMX";
  }
  return "";
}

absl::string_view CeilingUnit(Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::kMultiplyAdd:
    case Ceiling::kBf16:
    case Ceiling::kAmx:
      return "FLOP";
    case Ceiling::kExp:
      return "exp";
    case Ceiling::kL1:
    case Ceiling::kL2:
    case Ceiling::kL3:
    case Ceiling::kDram:
    case Ceiling::kL1ReadWrite:
    case Ceiling::kL2ReadWrite:
    case Ceiling::kL3ReadWrite:
    case Ceiling::kDramReadWrite:
      return "B";
  }
  return "";
}

LevelMemory::LevelMemory(const Caches& caches, int threads)
    : caches_(caches), threads_(threads) {}

std::shared_ptr<LevelMemory::Buffers> LevelMemory::Of(int level) {
  const int64_t bytes = LevelBufferBytes(caches_, level, threads_);
  if (levels_[level] == nullptr && bytes > 0) {
    levels_[level] =
        std::make_shared<Buffers>(static_cast<size_t>(bytes), threads_);
  }
  return levels_[level];
}

int64_t LevelBufferBytes(const Caches& caches, int level, int threads) {
  constexpr int64_t kMebibyte = 1 << 20;
  const auto share = [&](const Cache& cache) {
    return cache.BytesOf(threads) / threads;
  };
  int64_t bytes = 0;
  if (level < kLevels - 1) {
    bytes = share(caches[level]);
    // Three quarters, so that nothing is evicted by the little else there is.
    // The last level may belong to neighbours as well: a quarter, if that is
    // still too much for L2.
    const int64_t quarter = bytes / 4;
    const int64_t most = 3 * quarter;
    bytes = level < 2 ? most
                      : std::min(most, std::max(quarter, 2 * share(caches[1])));
  } else {
    // Reading the whole of a buffer in turns leaves nothing of it in a cache
    // that is smaller; several times as large, and no clever replacement helps.
    const int64_t last =
        std::max({caches[0].BytesOf(threads), caches[1].BytesOf(threads),
                  caches[2].BytesOf(threads)});
    bytes = std::max(64 * kMebibyte,
                     std::min(4 * last, std::max(512 * kMebibyte, 2 * last))) /
            threads;
  }
  return bytes / 1024 * 1024;
}

absl::StatusOr<std::unique_ptr<CeilingLoop>> CeilingLoop::Make(
    Ceiling ceiling, LevelMemory* memory, kernels::ThreadPool* pool,
    double seconds) {
  absl::StatusOr<Rounds> rounds = RoundsOf(ceiling, memory);
  if (!rounds.ok()) return rounds.status();
  return std::make_unique<RoundsLoop>(*std::move(rounds), pool, seconds);
}

std::vector<CeilingRates> MeasureRates(const Caches& caches,
                                       kernels::ThreadPool* pool,
                                       double seconds,
                                       const std::function<bool()>& usable) {
  const Clock::time_point start = Clock::now();
  std::vector<CeilingRates> rates;
  std::vector<std::unique_ptr<CeilingLoop>> loops;
  LevelMemory memory(caches, Threads(pool));
  for (Ceiling ceiling : kAllCeilings) {
    auto loop = CeilingLoop::Make(ceiling, &memory, pool);
    rates.push_back({ceiling, loop.status(), {}});
    loops.push_back(loop.ok() ? *std::move(loop) : nullptr);
  }
  // Each has run alone so far, with its own data in the caches.
  for (const auto& loop : loops) {
    if (loop != nullptr) loop->Run();
  }
  if (usable != nullptr) usable();  // what happened before does not matter
  int kept = 0, again = 0;
  while (kept < kLeastRepetitions || SecondsSince(start) < seconds) {
    std::vector<double> turn(loops.size());
    for (size_t i = 0; i < loops.size(); ++i) {
      if (loops[i] == nullptr) continue;
      const Clock::time_point begin = Clock::now();
      const double units = loops[i]->Run();
      turn[i] = units / SecondsSince(begin);
    }
    if (usable != nullptr && !usable() && again++ < kMostAgain) continue;
    for (size_t i = 0; i < loops.size(); ++i) {
      if (loops[i] != nullptr) rates[i].per_second.push_back(turn[i]);
    }
    ++kept;
  }
  return rates;
}

Ceilings Summarise(const std::vector<CeilingRates>& rates, const Caches& caches,
                   int threads) {
  Ceilings ceilings;
  ceilings.threads = threads;
  for (size_t level = 0; level < caches.size(); ++level) {
    ceilings.cache_bytes[level] = caches[level].BytesOf(threads);
  }
  for (const CeilingRates& r : rates) {
    ceilings.per_second[static_cast<size_t>(r.ceiling)] =
        Describe(r.per_second).median;
  }
  return ceilings;
}

Ceilings MeasureCeilings(double seconds, kernels::ThreadPool* pool) {
  const Caches caches = DetectCachesHere();
  return Summarise(MeasureRates(caches, pool, seconds), caches, Threads(pool));
}

}  // namespace mneme
