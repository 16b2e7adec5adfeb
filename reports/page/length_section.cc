// SPDX-License-Identifier: Apache-2.0

#include "reports/page/length_section.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "reports/format.h"
#include "reports/page/length_charts.h"

namespace mneme {
namespace {

ViewData Text(const std::string& text) {
  ViewData view;
  view.set("text", text);
  return view;
}

std::string Count(int64_t count) {
  return FormatCount(static_cast<double>(count));
}

ViewData LengthCell(const LengthPoint* point) {
  const bool unsupported = point != nullptr && !point->unsupported.empty();
  ViewData cell;
  cell.set("class", unsupported ? "unfinished" : "");
  cell.set("title", TextOrNothing(unsupported ? point->unsupported : ""));
  cell.set("text", point == nullptr ? "–"
                   : unsupported    ? "unsupported"
                                    : FormatScore(point->accuracy));
  cell.set("streamed", point != nullptr && point->streamed);
  cell.set("window", TextOrNothing(point != nullptr && point->window.has_value()
                                       ? FormatScore(*point->window)
                                       : ""));
  return cell;
}

// Why some lengths could not be tested, each reason once.
ViewData Reasons(absl::Span<const RowLengths> rows) {
  std::map<std::string, std::vector<std::string>> variants;
  for (const RowLengths& row : rows) {
    std::set<std::string> reasons;
    for (const LengthPoint& point : row.points) {
      if (point.unsupported.empty()) continue;
      if (!reasons.insert(point.unsupported).second) continue;
      variants[point.unsupported].push_back(absl::StrCat(
          row.row->variant, " from ", Count(point.length), " tokens"));
    }
  }
  ViewData list = ViewList();
  for (const auto& [reason, names] : variants) {
    ViewData item;
    item.set("variants", absl::StrJoin(names, ", "));
    item.set("reason", reason);
    list << item;
  }
  return list;
}

bool AnyPoint(absl::Span<const RowLengths> rows,
              bool (*holds)(const LengthPoint&)) {
  return std::any_of(rows.begin(), rows.end(), [holds](const RowLengths& row) {
    return std::any_of(row.points.begin(), row.points.end(), holds);
  });
}

}  // namespace

ViewData LengthTable(const Board& board, absl::Span<const RowLengths> rows) {
  const std::vector<int64_t> lengths = AllLengths(rows);
  if (lengths.size() < 2) return ViewData(false);
  ViewData columns = ViewList();
  for (const int64_t length : lengths) columns << Text(Count(length));
  ViewData lines = ViewList();
  for (const RowLengths& row : rows) {
    ViewData cells = ViewList();
    for (const int64_t length : lengths) {
      cells << LengthCell(PointAt(row.points, length));
    }
    ViewData line;
    line.set("variant", row.row->variant);
    line.set("family", row.row->family);
    line.set("cells", cells);
    line.set("effective", EffectiveLengthText(row.points));
    lines << line;
  }
  const ViewData reasons = Reasons(rows);
  ViewData chart;
  chart.set("spec", ScriptSafe(LengthChartSpec(board, rows)));
  chart.set("trained", Count(lengths[0]));
  chart.set("threshold", FormatFigures(kEffectiveAccuracy));
  chart.set("columns", columns);
  chart.set("rows", lines);
  chart.set("any_streamed", AnyPoint(rows, [](const LengthPoint& point) {
              return point.streamed;
            }));
  chart.set("any_window", AnyPoint(rows, [](const LengthPoint& point) {
              return point.window.has_value();
            }));
  chart.set("has_reasons", !reasons.is_empty_list());
  chart.set("reasons", reasons);
  return chart;
}

ViewData PositionTable(const Board& board, absl::Span<const RowLengths> rows) {
  if (!HasPositions(rows)) return ViewData(false);
  ViewData names = ViewList();
  std::map<int64_t, int64_t> last;  // of parts, by their first position
  std::vector<std::map<int64_t, double>> bits;
  for (const RowLengths& row : rows) {
    const LengthPoint* point = LongestWithPositions(row);
    if (point == nullptr) continue;
    names << Text(row.row->variant);
    bits.emplace_back();
    for (const PositionBits& part : point->positions) {
      last[part.first] = std::max(last[part.first], part.last);
      bits.back()[part.first] = part.bits;
    }
  }
  ViewData lines = ViewList();
  for (const auto& [first, end] : last) {
    ViewData values = ViewList();
    for (const auto& by_first : bits) {
      const auto found = by_first.find(first);
      values << Text(found == by_first.end()
                         ? "–"
                         : absl::StrFormat("%.3f", found->second));
    }
    ViewData line;
    line.set("positions", first + 1 == end ? Count(first)
                                           : absl::StrCat(Count(first), "–",
                                                          Count(end - 1)));
    line.set("values", values);
    lines << line;
  }
  ViewData chart;
  chart.set("spec", ScriptSafe(PositionChartSpec(board, rows)));
  chart.set("several", AllLengths(rows).size() > 1);
  chart.set("names", names);
  chart.set("rows", lines);
  // Means over whole sequences, by their length.
  ViewData columns = ViewList(), by_length = ViewList();
  const std::vector<int64_t> lengths = AllLengths(rows);
  for (const int64_t length : lengths) columns << Text(Count(length));
  for (const RowLengths& row : rows) {
    ViewData cells = ViewList();
    for (const int64_t length : lengths) {
      const LengthPoint* point = PointAt(row.points, length);
      const bool known = point != nullptr && point->unsupported.empty() &&
                         point->bits.has_value();
      cells << Text(known ? absl::StrFormat("%.3f", *point->bits) : "–");
    }
    ViewData line;
    line.set("variant", row.row->variant);
    line.set("family", row.row->family);
    line.set("cells", cells);
    by_length << line;
  }
  chart.set("columns", columns);
  chart.set("by_length", by_length);
  return chart;
}

ViewData TaskDetails(absl::Span<const RowLengths> rows) {
  std::vector<std::string> names;
  for (const RowLengths& row : rows) {
    for (const auto& [name, value] : row.points[0].details) {
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  if (names.empty()) return ViewData(false);
  ViewData columns = ViewList();
  for (const std::string& name : names) columns << Text(name);
  ViewData lines = ViewList();
  for (const RowLengths& row : rows) {
    const auto& details = row.points[0].details;
    ViewData cells = ViewList();
    for (const std::string& name : names) {
      const auto found = std::find_if(
          details.begin(), details.end(),
          [&name](const auto& detail) { return detail.first == name; });
      cells << Text(found == details.end() ? "–" : FormatScore(found->second));
    }
    ViewData line;
    line.set("variant", row.row->variant);
    line.set("family", row.row->family);
    line.set("cells", cells);
    lines << line;
  }
  ViewData table;
  table.set("columns", columns);
  table.set("rows", lines);
  return table;
}

}  // namespace mneme
