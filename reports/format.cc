// SPDX-License-Identifier: Apache-2.0

#include "reports/format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace mneme {
namespace {

// 1,024 of one unit are one of the next.
constexpr const char* kByteUnits[] = {"KiB", "MiB", "GiB", "TiB"};

}  // namespace

std::string FormatScore(double score) {
  // The small term undoes the error of binary fractions: 0.9991 * 10000 is
  // 9990.999....
  return absl::StrFormat("%.4f", std::floor(score * 1e4 + 1e-6) / 1e4);
}

std::string FormatCount(double count) {
  std::string text = absl::StrFormat("%.0f", count);
  const size_t digits_begin = count < 0 ? 1 : 0;
  for (size_t i = text.size(); i > digits_begin + 3;) {
    i -= 3;
    text.insert(i, 1, ',');
  }
  return text;
}

std::string FormatFigures(double value) {
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (size < 1e-4) return absl::StrFormat("%.1e", value);
  if (size >= 99.95) return FormatCount(value);
  int decimals = 2;
  for (double limit = 9.995; size >= limit; limit *= 10) --decimals;
  for (double limit = 0.9995; size < limit; limit /= 10) ++decimals;
  return absl::StrFormat("%.*f", decimals, value);
}

std::string FormatBytes(int64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double amount = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (amount >= 1023.95 && unit + 1 < std::size(kByteUnits)) {
    amount /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", amount, kByteUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (seconds < 1) return absl::StrFormat("%.2f s", seconds);
  if (seconds < 9.95) return absl::StrFormat("%.1f s", seconds);
  if (seconds < 600) return absl::StrFormat("%.0f s", seconds);
  return absl::StrFormat("%.0f min", seconds / 60);
}

std::string FormatSettings(absl::Span<const Setting> settings) {
  return absl::StrJoin(
      settings, ", ", [](std::string* out, const Setting& setting) {
        absl::StrAppend(out, setting.name(), "=", setting.value());
      });
}

std::string FormatSeeds(absl::Span<const uint64_t> seeds) {
  if (seeds.size() == 1) return absl::StrCat("seed ", seeds[0]);
  const bool consecutive =
      seeds.size() > 2 && seeds.back() - seeds.front() + 1 == seeds.size();
  if (consecutive) {
    return absl::StrCat("seeds ", seeds.front(), "-", seeds.back());
  }
  return absl::StrCat("seeds ", absl::StrJoin(seeds, ", "));
}

std::string OneLine(absl::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(),
      [](unsigned char c) { return absl::ascii_iscntrl(c); }, ' ');
  return line;
}

}  // namespace mneme
