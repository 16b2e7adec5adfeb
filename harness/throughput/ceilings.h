// SPDX-License-Identifier: Apache-2.0
//
// What a machine can do at most, measured: small loops, each of which does one
// thing as fast as the CPU lets it. Kernels are held against them (limit.h). On
// shared machines they move by tens of percent within minutes, so a fraction of
// a ceiling means something only if the two were timed in turns: the loops can
// be run one at a time, between kernels.
//
//   LevelMemory memory(DetectCachesHere(), pool->threads());
//   auto loop = CeilingLoop::Make(Ceiling::kMultiplyAdd, &memory, pool);
//   if (!loop.ok()) ...  // Unimplemented: this CPU does not have it
//   start = now; units = (*loop)->Run(); rate = units / (now - start);

#ifndef MNEME_HARNESS_THROUGHPUT_CEILINGS_H_
#define MNEME_HARNESS_THROUGHPUT_CEILINGS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attention/kernels/parallel.h"
#include "harness/throughput/caches.h"

namespace mneme {

enum class Ceiling {
  kMultiplyAdd,  // float32, on the SIMD target in use
  kExp,          // float32, likewise
  kL1,           // reads of data that live in that cache, or in memory
  kL2,
  kL3,
  kDram,
  kL1ReadWrite,  // the same data read and written in place, both counted
  kL2ReadWrite,
  kL3ReadWrite,
  kDramReadWrite,
  kBf16,  // bfloat16 dot products of AVX512-BF16
  kAmx,   // bfloat16 tile products of AMX
};
inline constexpr Ceiling kAllCeilings[] = {
    Ceiling::kMultiplyAdd, Ceiling::kExp,
    Ceiling::kL1,          Ceiling::kL2,
    Ceiling::kL3,          Ceiling::kDram,
    Ceiling::kL1ReadWrite, Ceiling::kL2ReadWrite,
    Ceiling::kL3ReadWrite, Ceiling::kDramReadWrite,
    Ceiling::kBf16,        Ceiling::kAmx};
// The levels of memory, the fastest first: reads, and reads and writes at once.
inline constexpr Ceiling kReads[] = {Ceiling::kL1, Ceiling::kL2, Ceiling::kL3,
                                     Ceiling::kDram};
inline constexpr Ceiling kReadWrites[] = {
    Ceiling::kL1ReadWrite, Ceiling::kL2ReadWrite, Ceiling::kL3ReadWrite,
    Ceiling::kDramReadWrite};

absl::string_view CeilingName(Ceiling ceiling);  // "fma", "L1", "L1 read-write"
absl::string_view CeilingUnit(Ceiling ceiling);  // "FLOP", "exp", "B"

// Bytes that each of `threads` threads goes through over and over again to
// measure a level, 3 for DRAM; a multiple of 1024. 0 where there is no such
// cache.
int64_t LevelBufferBytes(const Caches& caches, int level, int threads);

// What the loops over each level of memory go through, allocated for the first
// of them: reading, and reading and writing, are of the same buffers. Loops may
// outlive it. Not thread-safe.
class LevelMemory {
 public:
  LevelMemory(const Caches& caches, int threads);

  // For each thread one of LevelBufferBytes.
  class Buffers;
  // Null where that is 0.
  std::shared_ptr<Buffers> Of(int level);

 private:
  const Caches caches_;
  const int threads_;
  std::array<std::shared_ptr<Buffers>, std::size(kReads)> levels_;
};

// One loop, on the calling thread or on all threads of a pool at once. Not
// thread-safe; the SIMD target is the one in use at each Run.
class CeilingLoop {
 public:
  // A Run takes about `seconds` (and one pass over the buffer at least, which
  // may be longer): long beside the microseconds in which a pool wakes its
  // threads, short beside the time between two repetitions of a kernel.
  // Unimplemented, with a phrase that says why, on a machine that does not have
  // what is to be measured. The memory is for the pool's threads, or for one.
  // The pool, if any, outlives the loop.
  static absl::StatusOr<std::unique_ptr<CeilingLoop>> Make(
      Ceiling ceiling, LevelMemory* memory, kernels::ThreadPool* pool,
      double seconds = 0.003);
  virtual ~CeilingLoop() = default;

  // Returns the units done, by all threads together.
  virtual double Run() = 0;
};

// The rates of one loop.
struct CeilingRates {
  Ceiling ceiling;
  absl::Status status;             // why there are none
  std::vector<double> per_second;  // one for each repetition
};

// Times all loops in turns for about `seconds`, at least 3 repetitions of each.
// `usable`, if given, is asked before the first turn, and after each whether it
// may be kept; one that may not is done again, up to 10 times in all.
std::vector<CeilingRates> MeasureRates(
    const Caches& caches, kernels::ThreadPool* pool, double seconds,
    const std::function<bool()>& usable = nullptr);

// Medians, and what limit.h wants to know besides.
struct Ceilings {
  int threads = 1;
  // Units per second of all threads together, in the order of kAllCeilings; 0
  // for what was not measured or is not here.
  std::array<double, std::size(kAllCeilings)> per_second = {};
  // What the threads can keep in L1, L2 and L3 together; 0 where there is none.
  std::array<int64_t, 3> cache_bytes = {};

  double Rate(Ceiling c) const { return per_second[static_cast<size_t>(c)]; }
};
Ceilings Summarise(const std::vector<CeilingRates>& rates, const Caches& caches,
                   int threads);

// Both at once, on the CPUs this thread may run on.
Ceilings MeasureCeilings(double seconds, kernels::ThreadPool* pool = nullptr);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_CEILINGS_H_
