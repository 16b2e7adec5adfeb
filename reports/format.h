// SPDX-License-Identifier: Apache-2.0
//
// Numbers and text as people read them. ASCII, the same in every locale.

#ifndef MNEME_REPORTS_FORMAT_H_
#define MNEME_REPORTS_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "harness/result.pb.h"

namespace mneme {

// A score in [0, 1] with four decimals, cut and not rounded: 0.99996 is
// "0.9999", as only a score of 1 is "1.0000".
std::string FormatScore(double score);

// 1234567.8 -> "1,234,568".
std::string FormatCount(double count);

// Three figures, and those before the point: 0.012345 -> "0.0123", 15.29 ->
// "15.3", 4096 -> "4,096", 0.0000123 -> "1.2e-05".
std::string FormatFigures(double value);

// 640 -> "640 B", 65536 -> "64.0 KiB".
std::string FormatBytes(int64_t bytes);

// 0.25 -> "0.25 s", 84 -> "84 s", 5000 -> "83 min".
std::string FormatSeconds(double seconds);

// "L=64, K=8".
std::string FormatSettings(absl::Span<const Setting> settings);

// "seed 0", "seeds 0-4", "seeds 0, 2, 7". seeds are sorted.
std::string FormatSeeds(absl::Span<const uint64_t> seeds);

// Nothing that moves a cursor or starts an escape sequence survives: each
// control character becomes a space.
std::string OneLine(absl::string_view text);

}  // namespace mneme

#endif  // MNEME_REPORTS_FORMAT_H_
