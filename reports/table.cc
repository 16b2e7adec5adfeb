// SPDX-License-Identifier: Apache-2.0

#include "reports/table.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "reports/columns.h"
#include "reports/format.h"

namespace mneme {
namespace {

constexpr absl::string_view kGap = "  ";
constexpr absl::string_view kBold = "\033[1m";
constexpr absl::string_view kGrey = "\033[90m";
constexpr absl::string_view kPlain = "\033[0m";

// Characters, which in UTF-8 are the bytes that continue no other.
size_t Width(absl::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string Padded(absl::string_view text, size_t width, bool to_the_right) {
  const std::string space(width - std::min(width, Width(text)), ' ');
  return to_the_right ? absl::StrCat(space, text) : absl::StrCat(text, space);
}

struct Shown {
  const Column* column;
  size_t width;
};

size_t TotalWidth(const std::vector<Shown>& columns) {
  size_t width = 0;
  for (const Shown& shown : columns) width += kGap.size() + shown.width;
  return width;
}

// The columns that say something, and of them those that fit.
std::vector<Shown> ChooseColumns(const Board& board, int terminal_columns) {
  std::vector<Shown> chosen;
  for (const Column& column : Columns()) {
    // One seed each, all finished: the rows say so themselves.
    if (column.id == "seeds" && board.seeds.size() == 1) continue;
    Shown shown = {&column, 0};
    for (const Row& row : board.rows) {
      shown.width = std::max(shown.width, Width(OneLine(column.text(row))));
    }
    if (shown.width == 0 && column.dispensable > 0) continue;
    shown.width = std::max(shown.width, Width(column.title));
    chosen.push_back(shown);
  }
  while (TotalWidth(chosen) > static_cast<size_t>(terminal_columns)) {
    const auto least = std::max_element(
        chosen.begin(), chosen.end(), [](const Shown& a, const Shown& b) {
          return a.column->dispensable < b.column->dispensable;
        });
    if (least == chosen.end() || least->column->dispensable == 0) break;
    chosen.erase(least);
  }
  return chosen;
}

// `text` in words, begun at column `indent` and continued there on new lines.
std::string Wrapped(absl::string_view text, size_t indent,
                    size_t terminal_columns) {
  std::string wrapped;
  size_t column = indent;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column > indent && column + 1 + Width(word) > terminal_columns) {
      absl::StrAppend(&wrapped, "\n", std::string(indent, ' '));
      column = indent;
    } else if (column > indent) {
      wrapped += ' ';
      ++column;
    }
    absl::StrAppend(&wrapped, word);
    column += Width(word);
  }
  return wrapped;
}

std::string Line(const std::vector<Shown>& columns, const Row& row) {
  std::string line;
  for (const auto& [column, width] : columns) {
    absl::StrAppend(&line, kGap,
                    Padded(OneLine(column->text(row)), width, column->numeric));
  }
  return line;
}

// "-", the variant, and in place of the numbers why there are none.
std::string UnfinishedLine(const std::vector<Shown>& columns, const Row& row,
                           int terminal_columns) {
  std::string line;
  for (const auto& [column, width] : columns) {
    const std::string text = column->id == "rank" ? "-" : column->text(row);
    absl::StrAppend(&line, kGap, Padded(OneLine(text), width, column->numeric));
    if (column->id == "variant") break;
  }
  absl::StrAppend(&line, kGap);
  const std::string why =
      absl::StrCat(row.finished, "/", row.wanted, " finished; ",
                   OneLine(absl::StrJoin(row.reasons, "; ")));
  return absl::StrCat(
      line, Wrapped(why, Width(line), static_cast<size_t>(terminal_columns)));
}

std::string Heading(const Board& board) {
  const auto complete =
      std::count_if(board.rows.begin(), board.rows.end(),
                    [](const Row& row) { return row.complete(); });
  std::string heading = absl::StrCat(board.task, " (", board.profile, ", ",
                                     FormatSeeds(board.seeds));
  if (!board.distinction.empty()) {
    absl::StrAppend(&heading, ", ", FormatSettings(board.distinction));
  }
  return OneLine(absl::StrCat(heading, "): ", complete, "/", board.rows.size(),
                              complete == 1 ? " variant" : " variants",
                              " complete"));
}

void AppendStyled(std::string& out, absl::string_view style,
                  absl::string_view text, bool color) {
  if (color && !style.empty()) {
    absl::StrAppend(&out, style, text, kPlain, "\n");
  } else {
    absl::StrAppend(&out, text, "\n");
  }
}

std::string RenderBoard(const Board& board, const TerminalStyle& style) {
  const std::vector<Shown> columns = ChooseColumns(board, style.columns);
  std::string out;
  AppendStyled(out, kBold,
               Wrapped(Heading(board), 0, static_cast<size_t>(style.columns)),
               style.color);
  std::string titles;
  for (const auto& [column, width] : columns) {
    absl::StrAppend(&titles, kGap,
                    Padded(column->title, width, column->numeric));
  }
  AppendStyled(out, kGrey, titles, style.color);
  for (const Row& row : board.rows) {
    if (row.complete()) {
      const bool may_be_best = row.rank->first == 1;
      AppendStyled(out, may_be_best ? kBold : "", Line(columns, row),
                   style.color);
    } else {
      AppendStyled(out, kGrey, UnfinishedLine(columns, row, style.columns),
                   style.color);
    }
  }
  if (board.chance_accuracy.has_value()) {
    AppendStyled(out, kGrey,
                 absl::StrCat(kGap, "guessing: any answer ",
                              FormatScore(*board.chance_accuracy),
                              ", one from the context ",
                              FormatScore(*board.context_guess_accuracy)),
                 style.color);
  }
  return out;
}

// What was probed is for the page; what was not is said.
std::string ProbeLines(const Leaderboard& leaderboard) {
  int measured = 0;
  for (const Probe& probe : leaderboard.probes) {
    const ProbeRecord& record = probe.record;
    measured += record.capacity_size() + record.approximation_size() > 0;
  }
  std::string lines =
      absl::StrCat("probes: ", measured, "/", leaderboard.probes.size(),
                   " variants measured without training\n");
  for (const Probe& probe : leaderboard.probes) {
    if (probe.record.failure().empty()) continue;
    absl::StrAppend(&lines, kGap, OneLine(probe.variant), ": ",
                    OneLine(probe.record.failure()), "\n");
  }
  return lines;
}

std::string SpeedText(const ThroughputMeasurement* m) {
  if (m == nullptr) return "-";
  if (!m->error().empty()) return "not timed";
  std::string text = FormatCount(m->tokens_per_second());
  if (m->limit_milliseconds() > 0) {
    absl::StrAppendFormat(&text, " %3.0f%%", 100 * m->fraction_of_limit());
  }
  return text;
}

// Variants and how fast they are in each phase, without what has no room.
std::string RenderSpeeds(absl::Span<const Speed> speeds,
                         const TerminalStyle& style) {
  const SpeedSummary summary = Summarise(speeds);
  std::vector<std::vector<std::string>> lines(summary.rows.size() + 2);
  const auto add = [&lines](absl::string_view title, absl::string_view shape) {
    lines[0].emplace_back(title);
    lines[1].emplace_back(shape);
  };
  add("variant", "");
  for (size_t r = 0; r < summary.rows.size(); ++r) {
    lines[r + 2].push_back(OneLine(summary.rows[r].speed->variant));
  }
  for (size_t c = 0; c < summary.columns.size(); ++c) {
    const SpeedSummary::PhaseColumn& column = summary.columns[c];
    // The page has it, and so has the suite's own table.
    if (column.phase == Phase::kBackward) continue;
    add(PhaseTitle(column.phase), OneLine(column.setup.Title()));
    for (size_t r = 0; r < summary.rows.size(); ++r) {
      lines[r + 2].push_back(SpeedText(summary.rows[r].phases[c]));
    }
  }
  std::vector<std::string> texts(lines.size());
  for (size_t c = 0; c < lines[0].size(); ++c) {
    size_t width = 0;
    for (const auto& line : lines) width = std::max(width, Width(line[c]));
    const size_t total = Width(texts[0]) + kGap.size() + width;
    if (c > 0 && total > static_cast<size_t>(style.columns)) break;
    for (size_t r = 0; r < lines.size(); ++r) {
      absl::StrAppend(&texts[r], kGap, Padded(lines[r][c], width, c > 0));
    }
  }
  std::string out;
  AppendStyled(
      out, kBold,
      Wrapped("speed: tokens per second, and how much of the limit that is", 0,
              static_cast<size_t>(style.columns)),
      style.color);
  for (size_t r = 0; r < texts.size(); ++r) {
    AppendStyled(out, r < 2 ? kGrey : "",
                 absl::StripTrailingAsciiWhitespace(texts[r]), style.color);
  }
  for (const Untimed& untimed : WhyUntimed(speeds, summary)) {
    const std::string text =
        OneLine(absl::StrCat("not timed: ", absl::StrJoin(untimed.what, ", "),
                             ": ", untimed.reason));
    AppendStyled(
        out, kGrey,
        absl::StrCat(kGap, Wrapped(text, kGap.size(),
                                   static_cast<size_t>(style.columns))),
        style.color);
  }
  return out;
}

}  // namespace

std::string RenderTable(const Leaderboard& leaderboard,
                        const TerminalStyle& style) {
  std::vector<std::string> parts;
  for (const Board& board : leaderboard.boards) {
    parts.push_back(RenderBoard(board, style));
  }
  for (const ContextField& field : leaderboard.context.fields) {
    if (field.values.size() < 2 || field.name == "profile") continue;
    parts.push_back(absl::StrCat(
        "note: cells differ in ", field.title, ": ",
        absl::StrJoin(field.values, ", ",
                      [](std::string* out, const ContextValue& value) {
                        absl::StrAppend(out, OneLine(value.value), " (",
                                        value.cells, ")");
                      }),
        "\n"));
  }
  if (!leaderboard.probes.empty()) parts.push_back(ProbeLines(leaderboard));
  if (!leaderboard.speeds.empty()) {
    parts.push_back(RenderSpeeds(leaderboard.speeds, style));
  }
  return absl::StrJoin(parts, "\n");
}

}  // namespace mneme
