// SPDX-License-Identifier: Apache-2.0

#include "reports/page/speed_section.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "reports/format.h"
#include "reports/page/series.h"
#include "reports/page/speed_charts.h"
#include "reports/speed_results.h"

namespace mneme {
namespace {

// "1 thread, AVX3", as far as all records agree.
std::string AsideOf(const Leaderboard& leaderboard,
                    const SpeedSummary& summary) {
  std::set<int32_t> threads;
  for (const auto& column : summary.columns) {
    threads.insert(column.setup.threads);
  }
  std::vector<std::string> parts;
  if (threads.size() == 1) {
    parts.push_back(absl::StrCat(
        *threads.begin(), *threads.begin() == 1 ? " thread" : " threads"));
  }
  const ContextField& simd = leaderboard.speed_context.Field("simd_target");
  if (simd.values.size() == 1) parts.push_back(simd.values[0].value);
  return absl::StrJoin(parts, ", ");
}

// Tokens per second, and below them what share of the limit that is.
ViewData SpeedCell(const ThroughputMeasurement* m) {
  ViewData cell;
  const bool timed = m != nullptr && m->error().empty();
  cell.set("class", m == nullptr || timed ? "" : "unfinished");
  cell.set("text", m == nullptr ? "–"
                   : timed      ? FormatCount(m->tokens_per_second())
                                : "not timed");
  cell.set("title", TextOrNothing(m == nullptr || timed ? "" : m->error()));
  cell.set("fraction", TextOrNothing(timed ? FractionText(*m) : ""));
  return cell;
}

void SetLook(const Speed& speed, ViewData& view) {
  view.set("variant", speed.variant);
  view.set("family", speed.records[0].family());
  view.set("color", absl::StrCat(SeriesColor(speed.variant_index)));
  view.set("marker", SeriesMarker(speed.variant_index));
}

ViewData SummaryTable(const SpeedSummary& summary) {
  if (summary.columns.empty()) return ViewData(false);
  ViewData columns = ViewList(), rows = ViewList();
  for (const auto& column : summary.columns) {
    ViewData heading;
    heading.set("title", PhaseTitle(column.phase));
    heading.set("setup", column.setup.Title());
    columns << heading;
  }
  for (const SpeedRow& row : summary.rows) {
    ViewData cells = ViewList();
    for (const ThroughputMeasurement* m : row.phases) cells << SpeedCell(m);
    ViewData view;
    SetLook(*row.speed, view);
    view.set("cells", cells);
    view.set("state",
             row.state_bytes.has_value() ? FormatBytes(*row.state_bytes) : "–");
    view.set("growth",
             row.growth.has_value() ? FormatFigures(*row.growth) : "–");
    rows << view;
  }
  ViewData table;
  table.set("columns", columns);
  table.set("rows", rows);
  table.set("state_tokens",
            FormatCount(static_cast<double>(summary.state_tokens)));
  return table;
}

// The first of them is chosen.
ViewData Choices(const std::vector<std::string>& titles) {
  ViewData list = ViewList();
  for (size_t i = 0; i < titles.size(); ++i) {
    ViewData choice;
    choice.set("index", absl::StrCat(i));
    choice.set("title", titles[i]);
    choice.set("chosen", i == 0);
    list << choice;
  }
  return list;
}

ViewData LengthFigure(absl::Span<const LengthSeries> series) {
  if (series.empty()) return ViewData(false);
  std::vector<std::string> titles;
  ViewData tables = ViewList();
  for (const LengthSeries& s : series) {
    titles.push_back(s.Title());
    std::set<int64_t> lengths;
    for (const LengthSeries::Line& line : s.lines) {
      for (const ThroughputMeasurement* m : line.points) {
        lengths.insert(m->length());
      }
    }
    ViewData columns = ViewList(), rows = ViewList();
    for (const int64_t length : lengths) {
      ViewData column;
      column.set("text", FormatCount(static_cast<double>(length)));
      columns << column;
    }
    for (const LengthSeries::Line& line : s.lines) {
      ViewData cells = ViewList();
      for (const int64_t length : lengths) {
        const auto found =
            std::find_if(line.points.begin(), line.points.end(),
                         [length](const ThroughputMeasurement* m) {
                           return m->length() == length;
                         });
        cells << SpeedCell(found == line.points.end() ? nullptr : *found);
      }
      ViewData row;
      SetLook(*line.speed, row);
      row.set("cells", cells);
      rows << row;
    }
    ViewData table;
    table.set("title", titles.back());
    table.set("columns", columns);
    table.set("rows", rows);
    tables << table;
  }
  ViewData figure;
  figure.set("spec", ScriptSafe(SpeedLengthChartSpec(series)));
  figure.set("series", Choices(titles));
  figure.set("several", titles.size() > 1);
  figure.set("tables", tables);
  return figure;
}

std::string Milliseconds(const ThroughputMeasurement* m) {
  if (m == nullptr) return "–";
  return absl::StrCat(FormatFigures(m->milliseconds()),
                      m->noisy() ? ", noisy" : "");
}

ViewData PeerTable(absl::Span<const Speed> speeds) {
  const std::vector<Peer> peers = PeersOf(speeds);
  if (peers.empty()) return ViewData(false);
  ViewData rows = ViewList();
  for (const Peer& peer : peers) {
    ViewData row;
    SetLook(*peer.speed, row);
    row.set("phase", peer.peer->phase());
    row.set("setup", SetupOf(*peer.peer).Title());
    row.set("own", Milliseconds(peer.own));
    row.set("peer", peer.peer->contender());
    row.set("theirs", Milliseconds(peer.peer));
    const absl::optional<double> ratio = peer.ratio();
    row.set("ratio",
            ratio.has_value() ? absl::StrCat(FormatFigures(*ratio), "×") : "–");
    rows << row;
  }
  ViewData table;
  table.set("rows", rows);
  return table;
}

ViewData CeilingTable(absl::Span<const Speed> speeds) {
  const std::vector<CeilingRange> ceilings = CeilingsOf(speeds);
  if (ceilings.empty()) return ViewData(false);
  ViewData rows = ViewList();
  for (const CeilingRange& ceiling : ceilings) {
    ViewData row;
    row.set("name", ceiling.name);
    row.set("threads", absl::StrCat(ceiling.threads));
    row.set("median",
            absl::StrCat(FormatFigures(ceiling.median), " ", ceiling.unit));
    row.set("range", absl::StrCat(FormatFigures(ceiling.low), "–",
                                  FormatFigures(ceiling.high)));
    rows << row;
  }
  ViewData table;
  table.set("rows", rows);
  return table;
}

ViewData UntimedList(absl::Span<const Speed> speeds,
                     const SpeedSummary& summary) {
  ViewData list = ViewList();
  for (const Untimed& untimed : WhyUntimed(speeds, summary)) {
    ViewData item;
    item.set("what", absl::StrJoin(untimed.what, ", "));
    item.set("reason", untimed.reason);
    list << item;
  }
  return list;
}

}  // namespace

ViewData SpeedSection(const Leaderboard& leaderboard) {
  const std::vector<Speed>& speeds = leaderboard.speeds;
  if (speeds.empty()) return ViewData(false);
  const SpeedSummary summary = Summarise(speeds);
  const ViewData untimed = UntimedList(speeds, summary);
  ViewData section;
  section.set("aside", TextOrNothing(AsideOf(leaderboard, summary)));
  section.set("table", SummaryTable(summary));
  section.set("lengths", LengthFigure(LengthSeriesOf(speeds)));
  section.set("peers", PeerTable(speeds));
  section.set("ceilings", CeilingTable(speeds));
  section.set("has_untimed", !untimed.is_empty_list());
  section.set("untimed", untimed);
  return section;
}

ViewData AccuracySpeedFigure(const Leaderboard& leaderboard,
                             const Board& board) {
  const std::vector<AccuracySpeed> phases =
      AccuracySpeedsOf(leaderboard, board);
  if (phases.empty()) return ViewData(false);
  std::vector<std::string> titles;
  std::set<const Row*> shown;
  ViewData columns = ViewList(), rows = ViewList();
  for (const AccuracySpeed& phase : phases) {
    titles.push_back(PhaseTitle(phase.phase));
    ViewData column;
    column.set("text", titles.back());
    columns << column;
    for (const SpeedPoint& point : phase.points) shown.insert(point.row);
  }
  size_t left_out = 0;
  for (const Row& row : board.rows) {
    if (!row.complete()) continue;
    if (shown.count(&row) == 0) {
      ++left_out;
      continue;
    }
    ViewData cells = ViewList();
    for (const AccuracySpeed& phase : phases) {
      const auto found = std::find_if(
          phase.points.begin(), phase.points.end(),
          [&row](const SpeedPoint& point) { return point.row == &row; });
      ViewData cell;
      cell.set("text", found == phase.points.end()
                           ? "–"
                           : FormatCount(found->tokens_per_second));
      cells << cell;
    }
    ViewData view;
    view.set("variant", row.variant);
    view.set("accuracy", FormatScore(row.accuracy->mean));
    view.set("cells", cells);
    rows << view;
  }
  ViewData figure;
  figure.set("spec", ScriptSafe(AccuracySpeedChartSpec(board, phases)));
  figure.set("phases", Choices(titles));
  figure.set("several", titles.size() > 1);
  figure.set("left_out",
             TextOrNothing(left_out == 0 ? "" : absl::StrCat(left_out)));
  figure.set("columns", columns);
  figure.set("rows", rows);
  return figure;
}

}  // namespace mneme
