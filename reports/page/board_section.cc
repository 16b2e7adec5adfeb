// SPDX-License-Identifier: Apache-2.0

#include "reports/page/board_section.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "reports/columns.h"
#include "reports/format.h"
#include "reports/length_results.h"
#include "reports/page/charts.h"
#include "reports/page/heat_map.h"
#include "reports/page/length_section.h"
#include "reports/page/series.h"
#include "reports/page/speed_section.h"

namespace mneme {
namespace {

// Which way a first press on a header sorts: the best first, and text from A.
std::string BetterId(Better better) {
  return better == Better::kHigher ? "higher" : "lower";
}

std::string CellClass(const Column& column) {
  return absl::StrCat(column.id, column.numeric ? " number" : "");
}

ViewData HeaderOf(const Column& column) {
  ViewData header;
  header.set("id", column.id);
  header.set("title", column.title);
  header.set("class", column.id == "interval" ? "interval" : CellClass(column));
  header.set("better", BetterId(column.better));
  header.set("better_text", TextOrNothing(BetterText(column.better)));
  header.set("arrow", TextOrNothing(BetterArrow(column.better)));
  return header;
}

// A family stands below its variant's name, where it takes no width.
bool HasColumnOfItsOwn(const Column& column) { return column.id != "family"; }

ViewData HeadersOf() {
  ViewData headers = ViewList();
  for (const Column& column : Columns()) {
    if (HasColumnOfItsOwn(column)) headers << HeaderOf(column);
  }
  return headers;
}

std::string Percent(double score) {
  return absl::StrFormat("%.3f", 100 * score);
}

// A cell of one of the kinds that the template tells apart.
ViewData CellOfKind(const std::string& kind) {
  ViewData cell;
  for (const char* known :
       {"is_variant", "is_interval", "is_reason", "is_plain"}) {
    cell.set(known, kind == known);
  }
  return cell;
}

ViewData IntervalCell(const Estimate& accuracy, double guess,
                      const std::string& text) {
  ViewData cell = CellOfKind("is_interval");
  cell.set("text", WithDashes(text));
  cell.set("low_x", Percent(accuracy.low));
  cell.set("high_x", Percent(accuracy.high));
  cell.set("guess_x", Percent(guess));
  return cell;
}

// Stands over accuracy and interval, which an unfinished row has not.
ViewData ReasonCell(const Row& row) {
  ViewData cell = CellOfKind("is_reason");
  cell.set("text", absl::StrJoin(row.reasons, "; "));
  return cell;
}

ViewData VariantCell(const Row& row) {
  ViewData cell = CellOfKind("is_variant");
  cell.set("text", row.variant);
  cell.set("marker", SeriesMarker(row.variant_index));
  return cell;
}

ViewData PlainCell(const Column& column, const Row& row) {
  ViewData cell = CellOfKind("is_plain");
  const std::string text = column.text(row);
  cell.set("text", column.id == "rank" && text.empty() ? "–"
                   : column.numeric                    ? WithDashes(text)
                                                       : text);
  cell.set("class", CellClass(column));
  const bool has_value = column.value != nullptr;
  const absl::optional<double> value =
      has_value ? column.value(row) : absl::nullopt;
  cell.set("has_value", has_value);
  cell.set("value", value.has_value() ? absl::StrFormat("%.17g", *value) : "");
  return cell;
}

ViewData CellsOf(const Row& row, const Board& board) {
  ViewData cells = ViewList();
  for (const Column& column : Columns()) {
    if (!HasColumnOfItsOwn(column)) continue;
    if (column.id == "variant") {
      cells << VariantCell(row);
    } else if (column.id == "accuracy" && !row.complete()) {
      cells << ReasonCell(row);
    } else if (column.id == "interval") {
      if (!row.complete()) continue;
      cells << IntervalCell(*row.accuracy,
                            board.context_guess_accuracy.value_or(0),
                            column.text(row));
    } else {
      cells << PlainCell(column, row);
    }
  }
  return cells;
}

ViewData RowOf(const Row& row, const Board& board) {
  ViewData view;
  view.set("anchor", absl::StrCat(AnchorSafe(board.anchor), ".",
                                  AnchorSafe(row.variant)));
  view.set("variant", row.variant);
  view.set("family", row.family);
  view.set("class", row.complete() ? "" : "unfinished");
  view.set("color", absl::StrCat(SeriesColor(row.variant_index)));
  view.set("cells", CellsOf(row, board));
  return view;
}

// Validation accuracy by step, a column for each finished cell.
ViewData LearningOf(const Leaderboard& leaderboard, const Board& board) {
  if (!HasLearningCurves(leaderboard, board)) return ViewData(false);
  ViewData series = ViewList();
  std::map<int64_t, std::map<size_t, double>> accuracy_at;
  std::vector<size_t> finished;
  for (const Row& row : board.rows) {
    for (const size_t index : row.cells) {
      const ResultRecord& cell = leaderboard.cells[index];
      if (cell.status() != STATUS_OK) continue;
      finished.push_back(index);
      ViewData name;
      name.set("name", board.seeds.size() == 1
                           ? row.variant
                           : absl::StrCat(row.variant, " ", cell.seed()));
      series << name;
      for (const CurvePoint& point : cell.metrics().curve()) {
        accuracy_at[point.step()][index] = point.validation_accuracy();
      }
    }
  }
  ViewData steps = ViewList();
  for (const auto& [step, accuracies] : accuracy_at) {
    ViewData values = ViewList();
    for (const size_t index : finished) {
      const auto found = accuracies.find(index);
      ViewData value;
      value.set("text",
                found == accuracies.end() ? "" : FormatScore(found->second));
      values << value;
    }
    ViewData line;
    line.set("step", FormatCount(static_cast<double>(step)));
    line.set("values", values);
    steps << line;
  }
  ViewData chart;
  chart.set("spec", ScriptSafe(LearningCurveSpec(leaderboard, board)));
  chart.set("caption",
            "Accuracy on validation data while training; higher, sooner, is "
            "better. A dotted line leads from the last point of a run, which "
            "stops early once it has learned the task, to its name. Dashed: "
            "guessing any answer (chance), and guessing one of those in the "
            "context (1/K).");
  chart.set("series", series);
  chart.set("steps", steps);
  return chart;
}

ViewData ReferenceRows(const std::vector<ReferencePoint>& references) {
  ViewData rows = ViewList();
  for (const ReferencePoint& point : references) {
    ViewData row;
    row.set("bytes", FormatCount(static_cast<double>(point.bytes())));
    row.set("window", FormatScore(point.window()));
    row.set("table", FormatScore(point.table()));
    rows << row;
  }
  return rows;
}

ViewData StateOf(const Leaderboard& leaderboard, const Board& board) {
  if (!HasStates(board)) return ViewData(false);
  ViewData points = ViewList();
  int without_state = 0;
  for (const Row& row : board.rows) {
    if (!row.complete()) continue;
    if (!row.state_bytes.has_value()) {
      ++without_state;
      continue;
    }
    ViewData point;
    point.set("variant", row.variant);
    point.set("bytes", FormatCount(static_cast<double>(*row.state_bytes)));
    point.set("accuracy", FormatScore(row.accuracy->mean));
    point.set("interval", absl::StrCat(FormatScore(row.accuracy->low), "–",
                                       FormatScore(row.accuracy->high)));
    points << point;
  }
  std::string caption =
      "Test accuracy, with its 95% interval, against the memory one sequence "
      "carries from token to token. Up and to the left is better.";
  if (without_state > 0) {
    absl::StrAppend(&caption, " A logarithmic scale has no place for ",
                    without_state, " without any state.");
  }
  const std::vector<ReferencePoint> references =
      ReferencesOf(leaderboard, board);
  if (!references.empty()) {
    absl::StrAppend(
        &caption,
        " Dashed, what memories that need no training score with as many "
        "bytes: a window keeps keys and values of the latest tokens, as "
        "attention does; a table keeps the latest of just the pairs that will "
        "be asked for, 8 bytes each, which no mechanism can know beforehand. "
        "Both guess what they have lost.");
  }
  ViewData chart;
  chart.set("spec", ScriptSafe(StateChartSpec(board, references)));
  chart.set("has_references", !references.empty());
  chart.set("references", ReferenceRows(references));
  chart.set("caption", caption);
  chart.set("points", points);
  return chart;
}

std::string SettingsLine(const Board& board) {
  std::vector<std::string> parts;
  if (!board.task_options.empty()) {
    parts.push_back(absl::StrCat("Task: ", FormatSettings(board.task_options)));
  }
  if (!board.model_options.empty()) {
    parts.push_back(
        absl::StrCat("Model: ", FormatSettings(board.model_options)));
  }
  return absl::StrJoin(parts, ". ");
}

std::string FloorsLine(const Board& board) {
  if (!board.chance_accuracy.has_value()) return "";
  return absl::StrCat("Guessing any answer scores ",
                      FormatScore(*board.chance_accuracy),
                      "; guessing one of those in the context scores ",
                      FormatScore(*board.context_guess_accuracy),
                      ", which is marked on each interval's line from 0 to 1.");
}

std::string SeedsLine(const Board& board) {
  if (board.seeds.size() > 1) return "";
  return "With one seed the intervals cover the choice of test examples, not "
         "the luck of a training run: for a claim, run --seeds=0,1,2,3,4.";
}

}  // namespace

std::string BoardAside(const Board& board) {
  std::string aside =
      absl::StrCat(board.profile, ", ", WithDashes(FormatSeeds(board.seeds)));
  if (!board.distinction.empty()) {
    absl::StrAppend(&aside, ", ", FormatSettings(board.distinction));
  }
  return aside;
}

ViewData BoardSection(const Leaderboard& leaderboard, const Board& board) {
  ViewData rows = ViewList();
  for (const Row& row : board.rows) rows << RowOf(row, board);
  ViewData section;
  section.set("anchor", AnchorSafe(board.anchor));
  section.set("task", board.task);
  section.set("aside", BoardAside(board));
  section.set("settings", TextOrNothing(SettingsLine(board)));
  section.set("columns", HeadersOf());
  section.set("rows", rows);
  section.set("floors", TextOrNothing(FloorsLine(board)));
  section.set("one_seed", TextOrNothing(SeedsLine(board)));
  section.set("learning", LearningOf(leaderboard, board));
  section.set("state", StateOf(leaderboard, board));
  section.set("time", AccuracySpeedFigure(leaderboard, board));
  const std::vector<RowLengths> lengths = LengthsOf(leaderboard, board);
  section.set("lengths", LengthTable(board, lengths));
  section.set("heat", HeatMaps(lengths));
  section.set("positions", PositionTable(board, lengths));
  section.set("task_details", TaskDetails(lengths));
  return section;
}

}  // namespace mneme
