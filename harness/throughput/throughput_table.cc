// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/throughput_table.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "harness/throughput/shape.h"

namespace mneme {
namespace {

struct Cell {
  std::string text;
  int width;  // negative: flush left
};

std::string Line(const std::vector<Cell>& cells, int columns) {
  std::string line;
  for (const Cell& cell : cells) {
    const std::string text = absl::StrFormat("%*s", cell.width, cell.text);
    if (!line.empty() &&
        static_cast<int>(line.size() + 1 + text.size()) > columns) {
      break;
    }
    absl::StrAppend(&line, line.empty() ? "" : " ", text);
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line + "\n";
}

// Three figures: 0.0123, 1.23, 12.3, 123, 12345.
std::string Figures(double value) {
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 4;
  return absl::StrFormat("%.*f", decimals, value);
}

std::string Thousands(double value) {
  if (value >= 1e9) return absl::StrFormat("%.1fG", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.2fM", value / 1e6);
  if (value >= 1e3) return absl::StrFormat("%.1fk", value / 1e3);
  return absl::StrFormat("%.0f", value);
}

}  // namespace

std::string TableHeader(const TerminalStyle& style) {
  return Line({{"variant", -17},
               {"phase", -8},
               {"ms", 7},
               {"tok/s", 7},
               {"limit", 6},
               {"cv", 5},
               {"shape", -15},
               {"by", -8},
               {"GFLOP/s", 7},
               {"GB/s", 6},
               {"bound", -7},
               {"thr", 3},
               {"growth", 6}},
              style.columns);
}

std::string TableRow(const std::string& variant, const ThroughputMeasurement& m,
                     const TerminalStyle& style) {
  const std::string shape =
      ThroughputShape{m.batch(), m.length(), m.heads(), m.head_dim()}
          .ToString();
  if (!m.error().empty()) {
    return absl::StrFormat("%-17s %-8s %s by %s NOT TIMED: %s\n", variant,
                           m.phase(), shape, m.contender(), m.error());
  }
  const bool counted = m.limit_milliseconds() > 0;
  std::string fraction =
      counted ? absl::StrFormat("%.0f%%", 100 * m.fraction_of_limit()) : "";
  if (m.has_backbone_fraction()) {
    fraction = absl::StrFormat("bb %.0f%%", 100 * m.backbone_fraction());
  }
  return Line(
      {{variant, -17},
       {m.phase(), -8},
       {Figures(m.milliseconds()), 7},
       {Thousands(m.tokens_per_second()), 7},
       {fraction, 6},
       {absl::StrFormat("%.1f%%%s", 100 * m.cv(), m.noisy() ? "!" : ""), 5},
       {shape, -15},
       {m.contender(), -8},
       {counted ? Figures(m.gflops()) : "", 7},
       {counted ? Figures(m.gigabytes_per_second()) : "", 6},
       {m.bound(), -7},
       {absl::StrCat(m.threads()), 3},
       {m.has_growth_exponent() ? absl::StrFormat("%.2f", m.growth_exponent())
                                : "",
        6}},
      style.columns);
}

}  // namespace mneme
