// SPDX-License-Identifier: Apache-2.0

#include "reports/markdown_writer.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "reports/columns.h"
#include "reports/format.h"
#include "reports/length_results.h"

namespace mneme {
namespace {

// CommonMark lets a backslash escape any ASCII punctuation. These are the marks
// that mean something in the middle of a line, to it or to GitHub.
std::string Escaped(absl::string_view text) {
  std::string escaped;
  for (const char c : OneLine(text)) {
    if (absl::string_view("\\`*_[]<>#|~&@").find(c) !=
        absl::string_view::npos) {
      escaped += '\\';
    }
    escaped += c;
  }
  return escaped;
}

// With the reason in place of the interval when there is none to show.
std::string CellText(const Column& column, const Row& row) {
  if (!row.complete() && column.id == "interval") {
    return Escaped(absl::StrJoin(row.reasons, "; "));
  }
  const std::string text = column.text(row);
  return text.empty() ? "–" : Escaped(text);
}

std::string BoardTable(const Board& board) {
  std::string table =
      absl::StrCat("## ", Escaped(board.task), ", ", Escaped(board.profile),
                   ", ", FormatSeeds(board.seeds));
  if (!board.distinction.empty()) {
    absl::StrAppend(&table, ", ", Escaped(FormatSettings(board.distinction)));
  }
  absl::StrAppend(&table, "\n\n|");
  for (const Column& column : Columns()) {
    const std::string arrow = BetterArrow(column.better);
    absl::StrAppend(&table, " ", column.title, arrow.empty() ? "" : " ", arrow,
                    " |");
  }
  absl::StrAppend(&table, "\n|");
  for (const Column& column : Columns()) {
    absl::StrAppend(&table, column.numeric ? "---:|" : "---|");
  }
  for (const Row& row : board.rows) {
    absl::StrAppend(&table, "\n|");
    for (const Column& column : Columns()) {
      absl::StrAppend(&table, " ", CellText(column, row), " |");
    }
  }
  absl::StrAppend(&table, "\n");
  if (board.chance_accuracy.has_value()) {
    absl::StrAppend(&table, "\nGuessing any answer scores ",
                    FormatScore(*board.chance_accuracy),
                    ", guessing one from the context ",
                    FormatScore(*board.context_guess_accuracy), ".\n");
  }
  return table;
}

// Accuracy by length, or "" where only one was tested.
std::string LengthsTable(const Leaderboard& leaderboard, const Board& board) {
  const std::vector<RowLengths> rows = LengthsOf(leaderboard, board);
  const std::vector<int64_t> lengths = AllLengths(rows);
  if (lengths.size() < 2) return "";
  std::string table = absl::StrCat(
      "\nAccuracy by tokens in the sequence; effective is the longest up to "
      "which it is at least ",
      FormatFigures(kEffectiveAccuracy), ".\n\n| variant |");
  for (const int64_t length : lengths) {
    absl::StrAppend(&table, " ", FormatCount(static_cast<double>(length)),
                    " |");
  }
  absl::StrAppend(&table, " effective |\n|---|");
  for (size_t i = 0; i <= lengths.size(); ++i) {
    absl::StrAppend(&table, "---:|");
  }
  for (const RowLengths& row : rows) {
    absl::StrAppend(&table, "\n| ", Escaped(row.row->variant), " |");
    for (const int64_t length : lengths) {
      const LengthPoint* point = PointAt(row.points, length);
      absl::StrAppend(&table, " ",
                      point == nullptr ? "–"
                      : !point->unsupported.empty()
                          ? "unsupported"
                          : FormatScore(point->accuracy),
                      " |");
    }
    absl::StrAppend(&table, " ", EffectiveLengthText(row.points), " |");
  }
  return absl::StrCat(table, "\n");
}

// A row for each memory, and for each setup a column for pairs with
// their interval and one for pairs per KiB of state.
std::string CapacityTable(absl::Span<const Probe> probes) {
  const std::vector<CapacitySetup> setups = CapacitySetups(probes);
  std::string table = "\n| variant |";
  for (const CapacitySetup& setup : setups) {
    absl::StrAppend(&table, " d=", Escaped(setup.Title()), " | per KiB |");
  }
  absl::StrAppend(&table, "\n|---|");
  for (size_t i = 0; i < setups.size(); ++i) {
    absl::StrAppend(&table, "---:|---:|");
  }
  for (const Probe* probe : ByCapacity(probes)) {
    absl::StrAppend(&table, "\n| ", Escaped(probe->variant), " |");
    for (const CapacitySetup& setup : setups) {
      const CapacityCurve* curve = CurveAt(*probe, setup);
      if (curve == nullptr) {
        absl::StrAppend(&table, " – | – |");
        continue;
      }
      const std::string interval = PairsIntervalText(*curve);
      const std::string ratio = PairsPerKibText(*curve);
      absl::StrAppend(&table, " ", Escaped(PairsText(*curve)),
                      interval.empty() ? "" : absl::StrCat(" (", interval, ")"),
                      " | ", ratio.empty() ? "–" : ratio, " |");
    }
  }
  return absl::StrCat(table, "\n");
}

std::string CapacitySection(absl::Span<const Probe> probes) {
  std::string section = "## Pairs held at 90% recall, without training\n";
  if (!CapacitySetups(probes).empty()) {
    absl::StrAppend(&section, CapacityTable(probes));
  }
  for (const Unprobed& unprobed : WhyUnprobed(probes)) {
    absl::StrAppend(&section, "\nNot probed: ",
                    Escaped(absl::StrJoin(unprobed.variants, ", ")), ": ",
                    Escaped(unprobed.reason), "\n");
  }
  return section;
}

std::string ApproximationTable(absl::Span<const Probe> probes) {
  std::string table =
      "## Errors of approximations\n\n"
      "| approximation | of | setting | error by size |\n|---|---|---|---|";
  for (const Probe* probe : Approximations(probes)) {
    for (int i = 0; i < probe->record.approximation_size(); ++i) {
      const ApproximationCurve& curve = probe->record.approximation(i);
      absl::StrAppend(
          &table, "\n| ", Escaped(ApproximationName(*probe, i)), " | ",
          Escaped(curve.exact()), " | ", Escaped(curve.setting()), " | ",
          absl::StrJoin(curve.points(), ", ",
                        [](std::string* out, const ApproximationPoint& point) {
                          absl::StrAppend(out, point.size(), ": ",
                                          FormatFigures(point.error().mean()));
                        }),
          " |");
    }
  }
  return absl::StrCat(table, "\n");
}

std::string SpeedCell(const ThroughputMeasurement* m) {
  if (m == nullptr) return "–";
  if (!m->error().empty()) return "not timed";
  const std::string fraction = FractionText(*m);
  return absl::StrCat(FormatCount(m->tokens_per_second()),
                      fraction.empty() ? "" : " (", fraction,
                      fraction.empty() ? "" : ")");
}

std::string SpeedSection(absl::Span<const Speed> speeds) {
  const SpeedSummary summary = Summarise(speeds);
  std::string section = "## Tokens per second\n";
  if (!summary.columns.empty()) {
    absl::StrAppend(&section, "\n| variant |");
    for (const auto& column : summary.columns) {
      absl::StrAppend(&section, " ", PhaseTitle(column.phase), ", ",
                      column.setup.Title(), " |");
    }
    absl::StrAppend(&section, " state | growth |\n|---|");
    for (size_t i = 0; i < summary.columns.size() + 2; ++i) {
      absl::StrAppend(&section, "---:|");
    }
    for (const SpeedRow& row : summary.rows) {
      absl::StrAppend(&section, "\n| ", Escaped(row.speed->variant), " |");
      for (const ThroughputMeasurement* m : row.phases) {
        absl::StrAppend(&section, " ", SpeedCell(m), " |");
      }
      absl::StrAppend(
          &section, " ",
          row.state_bytes.has_value() ? FormatBytes(*row.state_bytes) : "–",
          " | ", row.growth.has_value() ? FormatFigures(*row.growth) : "–",
          " |");
    }
    absl::StrAppend(&section, "\n");
  }
  for (const Untimed& untimed : WhyUntimed(speeds, summary)) {
    absl::StrAppend(&section,
                    "\nNot timed: ", Escaped(absl::StrJoin(untimed.what, ", ")),
                    ": ", Escaped(untimed.reason), "\n");
  }
  return section;
}

std::string ContextLines(const Context& context) {
  std::string lines = absl::StrCat("- date: ", Escaped(context.date), "\n");
  for (const ContextField& field : context.fields) {
    if (field.values.empty()) continue;
    absl::StrAppend(
        &lines, "- ", field.title, ": ",
        absl::StrJoin(field.values, ", ",
                      [&field](std::string* out, const ContextValue& value) {
                        absl::StrAppend(out, Escaped(value.value));
                        if (field.values.size() > 1) {
                          absl::StrAppend(out, " (", value.cells, " cells)");
                        }
                      }),
        "\n");
  }
  return lines;
}

}  // namespace

std::string RenderMarkdown(const Leaderboard& leaderboard) {
  std::vector<std::string> parts = {"# Mneme leaderboard\n"};
  for (const Board& board : leaderboard.boards) {
    parts.push_back(
        absl::StrCat(BoardTable(board), LengthsTable(leaderboard, board)));
  }
  if (!leaderboard.probes.empty()) {
    parts.push_back(CapacitySection(leaderboard.probes));
  }
  if (!Approximations(leaderboard.probes).empty()) {
    parts.push_back(ApproximationTable(leaderboard.probes));
  }
  if (!leaderboard.speeds.empty()) {
    parts.push_back(SpeedSection(leaderboard.speeds));
  }
  parts.push_back(ContextLines(leaderboard.context));
  return absl::StrJoin(parts, "\n");
}

}  // namespace mneme
