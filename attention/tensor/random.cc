// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/random.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/container/flat_hash_set.h"

namespace mneme {
namespace {

// Rotation distances of the two mixes of round r mod 8, from Threefish-256.
constexpr int kRotations[8][2] = {{14, 16}, {52, 57}, {23, 40}, {5, 37},
                                  {25, 33}, {46, 12}, {58, 22}, {32, 32}};

// Skein 1.3's key schedule constant: keeps an all-zero key from being weak.
constexpr uint64_t kParity = 0x1BD11BDAA9FC1A22;

uint64_t RotateLeft(uint64_t x, int bits) {
  return x << bits | x >> (64 - bits);
}

void Mix(uint64_t& a, uint64_t& b, int rotation) {
  a += b;
  b = RotateLeft(b, rotation) ^ a;
}

}  // namespace

std::array<uint64_t, 4> Threefry4x64(const std::array<uint64_t, 4>& counter,
                                     const std::array<uint64_t, 4>& key) {
  constexpr int kRounds = 20;
  const uint64_t schedule[5] = {key[0], key[1], key[2], key[3],
                                kParity ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
  std::array<uint64_t, 4> x = counter;
  for (int i = 0; i < 4; ++i) x[i] += schedule[i];
  for (int round = 0; round < kRounds; round += 4) {
    // Two rounds mix (0, 1) and (2, 3), then (0, 3) and (2, 1): Threefish's
    // permutation of words 1 and 3, without moving them.
    const auto* rotation = kRotations + round % 8;
    Mix(x[0], x[1], rotation[0][0]);
    Mix(x[2], x[3], rotation[0][1]);
    Mix(x[0], x[3], rotation[1][0]);
    Mix(x[2], x[1], rotation[1][1]);
    Mix(x[0], x[1], rotation[2][0]);
    Mix(x[2], x[3], rotation[2][1]);
    Mix(x[0], x[3], rotation[3][0]);
    Mix(x[2], x[1], rotation[3][1]);
    const uint64_t injection = round / 4 + 1;
    for (int i = 0; i < 4; ++i) x[i] += schedule[(injection + i) % 5];
    x[3] += injection;
  }
  return x;
}

uint64_t StreamId(absl::string_view name) {
  // FNV-1a, 64 bits.
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001B3;
  }
  // FNV hardly moves the high bits for the last characters; MurmurHash3's
  // finaliser (Appleby) spreads every bit over all.
  hash = (hash ^ hash >> 33) * 0xFF51AFD7ED558CCD;
  hash = (hash ^ hash >> 33) * 0xC4CEB9FE1A85EC53;
  return hash ^ hash >> 33;
}

double Random::Normal() {
  constexpr double kTwoPi = 6.283185307179586476925;
  // 1 - Uniform() is in (0, 1], where the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
  return radius * std::cos(kTwoPi * Uniform());
}

void Random::Refill() {
  words_ = Threefry4x64({index_, block_++, 0, 0}, key_);
  used_ = 0;
}

void DrawDistinct(uint64_t n, absl::Span<uint64_t> out, Random* random) {
  assert(out.size() <= n);
  // Where much of the range is drawn, shuffle its start.
  if (n / 4 <= out.size()) {
    std::vector<uint64_t> range(n);
    std::iota(range.begin(), range.end(), uint64_t{0});
    for (size_t i = 0; i < out.size(); ++i) {
      std::swap(range[i], range[i + random->Below(n - i)]);
      out[i] = range[i];
    }
    return;
  }
  // Where little of it is, draw again what was drawn before: at most every
  // fourth draw. How membership is tested changes the cost, not the result.
  constexpr size_t kScanned = 32;  // a linear scan is quicker than hashing
  absl::flat_hash_set<uint64_t> seen;
  if (out.size() > kScanned) seen.reserve(out.size());
  for (auto next = out.begin(); next != out.end();) {
    *next = random->Below(n);
    const bool fresh = out.size() > kScanned
                           ? seen.insert(*next).second
                           : std::find(out.begin(), next, *next) == next;
    if (fresh) ++next;
  }
}

}  // namespace mneme
