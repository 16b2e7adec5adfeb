// SPDX-License-Identifier: Apache-2.0

#include "tasks/haystack.h"

#include <algorithm>
#include <array>

namespace mneme {

RangeWriter::RangeWriter(int64_t first, int64_t count, Example* example)
    : first_(first), count_(count), example_(example) {
  example->tokens.assign(count, 0);
  example->targets.assign(count, kUnscored);
  example->roles.assign(count, TokenRole::kFiller);
  example->origins.assign(count, kNowhere);
  example->notes.clear();
}

void Filler::Write(const TaskRandom& random, Split split, uint64_t seed,
                   uint64_t index, RangeWriter* out) const {
  if (!random_) {
    int32_t place = static_cast<int32_t>(out->first() % size_);
    for (int64_t t = out->first(); t < out->last(); ++t) {
      out->Write(t, first_token_ + place, TokenRole::kFiller);
      if (++place == size_) place = 0;
    }
    return;
  }
  // A number of 64 bits makes two tokens.
  constexpr int64_t kTokens = 8;
  for (int64_t block = out->first() / kTokens; block * kTokens < out->last();
       ++block) {
    const std::array<uint64_t, 4> numbers =
        random.AtPlace(split, seed, index, block);
    const int64_t end = std::min(kTokens, out->last() - block * kTokens);
    for (int64_t i = 0; i < end; ++i) {
      const uint64_t bits = numbers[i / 2] >> (32 * (i % 2)) & 0xFFFFFFFF;
      out->Write(block * kTokens + i,
                 first_token_ + static_cast<int32_t>(bits * size_ >> 32),
                 TokenRole::kFiller);
    }
  }
}

}  // namespace mneme
