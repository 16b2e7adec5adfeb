// SPDX-License-Identifier: Apache-2.0

#include "reports/markdown_writer.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "reports/columns.h"
#include "reports/format.h"

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
    parts.push_back(BoardTable(board));
  }
  parts.push_back(ContextLines(leaderboard.context));
  return absl::StrJoin(parts, "\n");
}

}  // namespace mneme
