// SPDX-License-Identifier: Apache-2.0
//
// Counter-based random numbers: Threefry4x64 with 20 rounds (Salmon, Moraes,
// Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//
// A counter-based generator is a keyed bijection of a counter. It has no state
// to carry from one number to the next, so example 1,000,000 costs as much as
// example 0, and whoever computes it, in whatever order, on whatever thread,
// gets the same bits. The words of Random(seed, stream, index) are
//
//   Threefry4x64(key = (seed, stream, 0, 0), counter = (index, block, 0, 0))
//
// for block = 0, 1, ..., four words each. Different (seed, stream, index) are
// different inputs of one bijection or different bijections: their sequences
// never overlap. Convention: `stream` says what the numbers are for, as
// StreamId("mqar/train"), and `index` which item of that kind.
//
//   Random random(seed, StreamId("mqar/train"), /*index=*/7);
//   uint64_t die = 1 + random.Below(6);
//
// Integers are the same on every machine. Normal() goes through the C library's
// log and cos, whose last bit can differ between processors; rounded to float
// the values agree.
//
// A Random is cheap to construct and to copy, and belongs to one thread.

#ifndef MNEME_ATTENTION_TENSOR_RANDOM_H_
#define MNEME_ATTENTION_TENSOR_RANDOM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/numeric/int128.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace mneme {

// The bijection itself: encrypts counter with key.
std::array<uint64_t, 4> Threefry4x64(const std::array<uint64_t, 4>& counter,
                                     const std::array<uint64_t, 4>& key);

// A stable 64-bit hash of a stream's name, the same in every build and on every
// machine. Not cryptographic; meant for the few hundred names of a program.
uint64_t StreamId(absl::string_view name);

// Satisfies UniformRandomBitGenerator. Standard library distributions are best
// avoided all the same: what they draw differs between implementations.
class Random {
 public:
  using result_type = uint64_t;

  Random(uint64_t seed, uint64_t stream, uint64_t index = 0)
      : key_{seed, stream, 0, 0}, index_(index) {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() {
    return std::numeric_limits<result_type>::max();
  }
  result_type operator()() { return Next(); }

  // 64 uniform bits.
  uint64_t Next() {
    if (used_ == words_.size()) Refill();
    return words_[used_++];
  }

  // Uniform on 0, ..., n - 1 without bias; 0 when n is 0. Usually takes one
  // word, and rarely, with probability below n / 2^64, another.
  // Lemire, "Fast random integer generation in an interval", TOMACS 2019.
  uint64_t Below(uint64_t n) {
    absl::uint128 product = absl::uint128(Next()) * n;
    if (absl::Uint128Low64(product) < n) {
      // 2^64 mod n products are too many for an even share; refuse those.
      const uint64_t excess = -n % n;
      while (absl::Uint128Low64(product) < excess) {
        product = absl::uint128(Next()) * n;
      }
    }
    return absl::Uint128High64(product);
  }

  // Uniform on [0, 1), a multiple of 2^-53: every such multiple is a double.
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

  // Standard normal (Box and Muller 1958). Takes two words and keeps nothing
  // back, so the position in the stream is the generator's whole state.
  double Normal();

 private:
  void Refill();

  std::array<uint64_t, 4> key_;
  uint64_t index_;
  uint64_t block_ = 0;
  std::array<uint64_t, 4> words_;
  size_t used_ = 4;  // of words_
};

// Puts items into uniformly random order (Fisher and Yates).
template <typename T>
void Shuffle(absl::Span<T> items, Random* random) {
  using std::swap;
  for (size_t n = items.size(); n > 1; --n) {
    swap(items[n - 1], items[random->Below(n)]);
  }
}

// Fills out with distinct integers from 0, ..., n - 1, each ordered choice
// equally likely. Takes O(out.size()) time and memory whatever n is.
// Precondition: out.size() <= n.
void DrawDistinct(uint64_t n, absl::Span<uint64_t> out, Random* random);

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_RANDOM_H_
