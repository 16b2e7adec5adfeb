// SPDX-License-Identifier: Apache-2.0
//
// The Fenwick tree that log-linear attention divides the past by. The tokens
// 0 ... p - 1 before position p are as many buckets as p has bits: the lowest
// set bit is that of the latest tokens, and bit l - 1 stands for 2^(l - 1) of
// them, the bucket of level l. Level 0 is the token itself. So token i sees an
// earlier token j at level 1 + (the highest bit in which i and j differ).
//
// With N levels in all, those of N - 1 and above are one: level N - 1 holds
// everything older, and its bucket may hold any multiple of 2^(N - 2) tokens.
// (With N = 1 it is the only bucket, and read like level 0.)

#ifndef MNEME_ATTENTION_KERNELS_FENWICK_H_
#define MNEME_ATTENTION_KERNELS_FENWICK_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace mneme::kernels {

// Tokens [begin, end), end > begin.
struct Bucket {
  int level;  // >= 1
  int64_t begin, end;
};

class Fenwick {
 public:
  explicit Fenwick(int64_t levels)
      : levels_(levels), top_(std::max<int64_t>(1, levels - 1)) {}

  // Levels that tell tokens apart when position is the highest asked for.
  static int64_t LevelsFor(int64_t position) {
    int64_t levels = 1;
    for (; position > 0; position >>= 1) ++levels;
    return levels;
  }

  // The greatest level of a bucket.
  int top() const { return static_cast<int>(top_); }

  // Which of the N weights a bucket is read with.
  int64_t Weight(int level) const {
    return std::min<int64_t>(level, levels_ - 1);
  }

  // visit(bucket) for the buckets of all tokens before a position, latest
  // first, levels rising.
  template <typename Visit>
  void ForEachBefore(int64_t position, const Visit& visit) const {
    for (int64_t end = position; end > 0;) {
      int level = 1;
      while (level < top_ && (end >> (level - 1)) % 2 == 0) ++level;
      const int64_t begin =
          level == top_ ? 0 : end - (int64_t{1} << (level - 1));
      visit(Bucket{level, begin, end});
      end = begin;
    }
  }

  // The same as a list.
  std::vector<Bucket> Before(int64_t position) const {
    std::vector<Bucket> buckets;
    ForEachBefore(position,
                  [&](const Bucket& bucket) { buckets.push_back(bucket); });
    return buckets;
  }

  // The level of the bucket before `later` that contains a bucket of `level`
  // before `position`, position <= later.
  int Moved(int level, int64_t position, int64_t later) const {
    return std::max(level, Meeting(position, later));
  }

  // The level of the bucket before `later` in which those before `position`
  // that had lower levels have met; 0 when the positions are equal.
  int Meeting(int64_t position, int64_t later) const {
    return static_cast<int>(std::min(top_, LevelsFor(position ^ later) - 1));
  }

 private:
  int64_t levels_, top_;
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_FENWICK_H_
