// SPDX-License-Identifier: Apache-2.0

#include "reports/page/heat_map.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "reports/page/series.h"

namespace mneme {
namespace {

// Needles lie anywhere. Where answers are said at fewer depths, say all of them
// at the beginning, the picture would be empty.
constexpr int64_t kFewestDepths = kShownDepths / 2;

bool IsSpread(const LengthPoint& point) {
  return std::count_if(point.depths.begin(), point.depths.end(),
                       [](const DepthCell& cell) {
                         return cell.answers > 0;
                       }) >= kFewestDepths;
}

// "64", "1K" for 1,024: headings of narrow columns.
std::string ShortLength(int64_t length) {
  constexpr int64_t kKibi = 1024;
  if (length % (kKibi * kKibi) == 0) {
    return absl::StrCat(length / (kKibi * kKibi), "M");
  }
  return length % kKibi == 0 ? absl::StrCat(length / kKibi, "K")
                             : absl::StrCat(length);
}

std::string DepthText(int depth) {
  return absl::StrCat(depth * 100 / kShownDepths, "%");
}

ViewData Text(const std::string& text) {
  ViewData view;
  view.set("text", text);
  return view;
}

// Per cent, cut and not rounded: only what is all right is 100. The small term
// undoes the error of binary fractions.
int Percent(double accuracy) {
  return static_cast<int>(std::floor(accuracy * 100 + 1e-6));
}

ViewData Cell(const DepthCell* depth) {
  ViewData cell;
  const bool empty = depth == nullptr || depth->answers == 0;
  const int percent = empty ? 0 : Percent(depth->accuracy());
  // One of the eleven colours in page.css.
  cell.set("class", empty ? "none" : absl::StrCat("h", (percent + 5) / 10));
  cell.set("text", empty ? "–" : absl::StrCat(percent));
  cell.set("unsupported", false);
  return cell;
}

// Stands over all depths of a length.
ViewData UnsupportedCell(const std::string& reason) {
  ViewData cell;
  cell.set("class", "none");
  cell.set("text", "");
  ViewData unsupported;
  unsupported.set("reason", reason);
  unsupported.set("rows", absl::StrCat(kShownDepths));
  cell.set("unsupported", unsupported);
  return cell;
}

void SetVariant(const Row& row, ViewData& view) {
  view.set("variant", row.variant);
  view.set("family", row.family);
  view.set("color", absl::StrCat(SeriesColor(row.variant_index)));
  view.set("marker", SeriesMarker(row.variant_index));
}

const DepthCell* DepthAt(const LengthPoint* point, int depth) {
  if (point == nullptr || point->depths.empty()) return nullptr;
  return &point->depths[static_cast<size_t>(depth)];
}

// Depth against length.
ViewData Panel(const RowLengths& lengths_of,
               absl::Span<const int64_t> lengths) {
  ViewData rows = ViewList();
  for (int depth = 0; depth < kShownDepths; ++depth) {
    ViewData cells = ViewList();
    for (const int64_t length : lengths) {
      const LengthPoint* point = PointAt(lengths_of.points, length);
      if (point == nullptr || point->unsupported.empty()) {
        cells << Cell(DepthAt(point, depth));
      } else if (depth == 0) {
        cells << UnsupportedCell(point->unsupported);
      }
    }
    ViewData row;
    row.set("heading", DepthText(depth));
    row.set("cells", cells);
    rows << row;
  }
  ViewData panel;
  SetVariant(*lengths_of.row, panel);
  panel.set("rows", rows);
  return panel;
}

// One variant's, against depth.
ViewData Line(const RowLengths& lengths_of, int64_t length) {
  ViewData cells = ViewList();
  for (int depth = 0; depth < kShownDepths; ++depth) {
    cells << Cell(DepthAt(PointAt(lengths_of.points, length), depth));
  }
  ViewData line;
  SetVariant(*lengths_of.row, line);
  line.set("cells", cells);
  return line;
}

}  // namespace

ViewData HeatMaps(absl::Span<const RowLengths> rows) {
  const std::vector<int64_t> lengths = AllLengths(rows);
  std::vector<int64_t> spread;  // where answers are said all over
  for (const int64_t length : lengths) {
    if (std::any_of(rows.begin(), rows.end(), [length](const RowLengths& row) {
          const LengthPoint* point = PointAt(row.points, length);
          return point != nullptr && IsSpread(*point);
        })) {
      spread.push_back(length);
    }
  }
  if (spread.empty()) return ViewData(false);
  ViewData columns = ViewList(), panels = ViewList(), lines = ViewList();
  const bool several = lengths.size() > 1;
  if (several) {
    for (const int64_t length : lengths) columns << Text(ShortLength(length));
    for (const RowLengths& row : rows) panels << Panel(row, lengths);
  } else {
    for (int depth = 0; depth < kShownDepths; ++depth) {
      columns << Text(DepthText(depth));
    }
    for (const RowLengths& row : rows) lines << Line(row, lengths[0]);
  }
  ViewData scale = ViewList();
  for (int level = 0; level <= 10; ++level) {
    ViewData step = Text(absl::StrCat(level * 10));
    step.set("class", absl::StrCat("h", level));
    scale << step;
  }
  ViewData heat;
  heat.set("several", several);
  heat.set("one", !several);
  heat.set("columns", columns);
  heat.set("panels", panels);
  heat.set("lines", lines);
  heat.set("scale", scale);
  return heat;
}

}  // namespace mneme
