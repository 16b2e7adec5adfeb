// SPDX-License-Identifier: Apache-2.0

#include "reports/page/page.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "reports/columns.h"
#include "reports/format.h"
#include "reports/page/assets.h"
#include "reports/page/board_section.h"
#include "reports/page/probe_section.h"
#include "reports/page/speed_section.h"
#include "reports/page/view.h"

namespace mneme {
namespace {

std::string Plural(size_t count, const std::string& noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

// "22 November 2025, 04:05 UTC"; a date of another form is left as it is.
std::string LongDate(const std::string& iso) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, iso, &time, &error)) return iso;
  return absl::FormatTime("%-d %B %Y, %H:%M UTC", time, absl::UTCTimeZone());
}

std::string ValuesText(const ContextField& field,
                       const std::string& noun = "cell") {
  if (field.values.size() == 1) return field.values[0].value;
  return absl::StrJoin(
      field.values, "; ", [&noun](std::string* out, const ContextValue& value) {
        absl::StrAppend(out, value.value, " (", Plural(value.cells, noun), ")");
      });
}

ViewData Facts(const Context& context) {
  ViewData facts = ViewList();
  const auto add = [&facts](const std::string& title,
                            const std::string& value) {
    if (value.empty()) return;
    ViewData fact;
    fact.set("title", title);
    fact.set("value", value);
    facts << fact;
  };
  add(context.oldest_date == context.date ? "date" : "date of the newest cell",
      LongDate(context.date));
  for (const ContextField& field : context.fields) {
    add(field.title, ValuesText(field));
  }
  return facts;
}

// What a reader wants to know at a glance, in one line.
std::string Stamp(const Context& context) {
  std::vector<std::string> parts = {LongDate(context.date)};
  for (const char* name : {"commit", "machine", "simd_target"}) {
    const ContextField& field = context.Field(name);
    if (field.values.empty()) continue;
    parts.push_back(absl::StrCat(
        name == absl::string_view("commit") ? "commit " : "",
        field.values.size() == 1 ? field.values[0].value
                                 : Plural(field.values.size(), field.title)));
  }
  return absl::StrJoin(parts, " · ");
}

std::vector<std::string> TasksOf(const Leaderboard& leaderboard) {
  std::set<std::string> tasks;
  for (const Board& board : leaderboard.boards) tasks.insert(board.task);
  return {tasks.begin(), tasks.end()};
}

// In the order of Leaderboard::variants; the others were only probed or timed.
std::vector<std::string> TrainedVariants(const Leaderboard& leaderboard) {
  std::set<std::string> variants;
  for (const ResultRecord& cell : leaderboard.cells) {
    variants.insert(cell.variant());
  }
  return {variants.begin(), variants.end()};
}

std::string Lede(const Leaderboard& leaderboard) {
  const std::vector<std::string> tasks = TasksOf(leaderboard);
  if (tasks.empty()) {
    return absl::StrCat(Plural(leaderboard.variants.size(), "mechanism"),
                        " of attention and memory, ",
                        leaderboard.probes.empty() ? "timed" : "probed",
                        " without training.");
  }
  return absl::StrCat(
      Plural(TrainedVariants(leaderboard).size(), "mechanism"),
      " of attention and memory, each trained from scratch in the same small "
      "model on ",
      tasks.size() == 1 ? tasks[0] : Plural(tasks.size(), "task"), ".");
}

// In what records of another kind differ from all cells: where they were made.
void AddOddOnes(const Leaderboard& leaderboard, const Context& others,
                const std::string& noun, std::vector<std::string>& texts) {
  if (leaderboard.cells.empty()) return;
  for (const ContextField& field : others.fields) {
    const auto& known = leaderboard.context.Field(field.name).values;
    for (const ContextValue& value : field.values) {
      // A program that is not told its commit says this.
      if (value.value == "unknown") continue;
      if (std::any_of(known.begin(), known.end(),
                      [&value](const ContextValue& other) {
                        return other.value == value.value;
                      })) {
        continue;
      }
      texts.push_back(absl::StrCat(
          Plural(value.cells, noun), value.cells == 1 ? " is" : " are",
          " of another ", field.title, " than all cells: ", value.value, "."));
    }
  }
}

// In what throughput records differ from one another.
void AddMixedSpeeds(const Leaderboard& leaderboard,
                    std::vector<std::string>& texts) {
  for (const ContextField& field : leaderboard.speed_context.fields) {
    if (field.values.size() < 2) continue;
    texts.push_back(absl::StrCat("The throughput records differ in ",
                                 field.title, ": ", ValuesText(field, "record"),
                                 "."));
  }
}

// What a reader must know before comparing anything.
ViewData Notices(const Leaderboard& leaderboard) {
  std::vector<std::string> texts;
  const auto unfinished = std::count_if(
      leaderboard.cells.begin(), leaderboard.cells.end(),
      [](const ResultRecord& cell) { return cell.status() != STATUS_OK; });
  if (unfinished > 0) {
    texts.push_back(absl::StrCat(
        unfinished, " of ", Plural(leaderboard.cells.size(), "cell"),
        " did not finish. Their rows are grey, say why, and have no rank."));
  }
  for (const ContextField& field : leaderboard.context.fields) {
    if (field.name == "profile" || field.values.size() < 2) continue;
    texts.push_back(absl::StrCat("The cells differ in ", field.title, ": ",
                                 ValuesText(field), "."));
  }
  AddOddOnes(leaderboard, leaderboard.probe_context, "probe", texts);
  AddOddOnes(leaderboard, leaderboard.speed_context, "throughput record",
             texts);
  AddMixedSpeeds(leaderboard, texts);
  if (leaderboard.superseded > 0) {
    texts.push_back(
        absl::StrCat(Plural(leaderboard.superseded, "older record"),
                     " of the same cells, probes or speeds left out."));
  }
  ViewData notices = ViewList();
  for (const std::string& text : texts) {
    ViewData notice;
    notice.set("text", text);
    notices << notice;
  }
  return notices;
}

ViewData Definitions() {
  ViewData definitions = ViewList();
  for (const Column& column : Columns()) {
    ViewData definition;
    definition.set("title", column.title);
    definition.set("arrow", TextOrNothing(BetterArrow(column.better)));
    definition.set("better_text", TextOrNothing(BetterText(column.better)));
    definition.set("definition", column.definition);
    definitions << definition;
  }
  return definitions;
}

// A variant's rows on all boards; null where it has none.
struct OverviewRow {
  std::string variant;
  std::string family;
  std::vector<const Row*> rows;
  size_t complete = 0;
  double mean = 0;  // of the complete ones, above chance
};

// 0 where guessing any answer does as well, 1 where all is right: accuracies on
// tasks whose guesses differ in worth have no mean otherwise.
double AboveChance(const Row& row, const Board& board) {
  const double chance = board.chance_accuracy.value_or(0);
  if (chance >= 1) return 0;
  return std::max(0.0, (row.accuracy->mean - chance) / (1 - chance));
}

std::vector<OverviewRow> OverviewRows(const Leaderboard& leaderboard) {
  std::vector<OverviewRow> overview(leaderboard.variants.size());
  for (size_t v = 0; v < overview.size(); ++v) {
    OverviewRow& entry = overview[v];
    entry.variant = leaderboard.variants[v];
    for (const Board& board : leaderboard.boards) {
      const auto row = std::find_if(
          board.rows.begin(), board.rows.end(),
          [v](const Row& candidate) { return candidate.variant_index == v; });
      entry.rows.push_back(row == board.rows.end() ? nullptr : &*row);
      if (row == board.rows.end()) continue;
      if (entry.family.empty()) entry.family = row->family;
      if (!row->complete()) continue;
      ++entry.complete;
      entry.mean += AboveChance(*row, board);
    }
    if (entry.complete > 0) entry.mean /= static_cast<double>(entry.complete);
  }
  // Variants that were only probed or timed have no row on any board.
  overview.erase(
      std::remove_if(overview.begin(), overview.end(),
                     [](const OverviewRow& entry) {
                       return std::all_of(
                           entry.rows.begin(), entry.rows.end(),
                           [](const Row* row) { return row == nullptr; });
                     }),
      overview.end());
  std::stable_sort(overview.begin(), overview.end(),
                   [](const OverviewRow& a, const OverviewRow& b) {
                     return std::tie(a.complete, a.mean) >
                            std::tie(b.complete, b.mean);
                   });
  return overview;
}

// Only where there are several boards; one board is its own overview.
ViewData Overview(const Leaderboard& leaderboard) {
  if (leaderboard.boards.size() < 2) {
    return ViewData(false);
  }
  ViewData boards = ViewList();
  for (const Board& board : leaderboard.boards) {
    ViewData heading;
    heading.set("anchor", AnchorSafe(board.anchor));
    heading.set("heading", board.anchor);
    boards << heading;
  }
  ViewData rows = ViewList();
  for (const OverviewRow& entry : OverviewRows(leaderboard)) {
    ViewData cells = ViewList();
    for (const Row* row : entry.rows) {
      const bool complete = row != nullptr && row->complete();
      ViewData cell;
      cell.set("class", complete ? "" : "unfinished");
      cell.set("text", complete         ? FormatScore(row->accuracy->mean)
                       : row == nullptr ? "–"
                                        : "unfinished");
      cells << cell;
    }
    ViewData view;
    view.set("variant", entry.variant);
    view.set("family", entry.family);
    view.set("cells", cells);
    view.set("mean", entry.complete == entry.rows.size()
                         ? FormatScore(entry.mean)
                         : "–");
    view.set("coverage", absl::StrCat(entry.complete, "/", entry.rows.size()));
    rows << view;
  }
  ViewData overview;
  overview.set("boards", boards);
  overview.set("rows", rows);
  return overview;
}

std::string OptionsText(const ResultRecord& cell) {
  std::vector<std::string> parts;
  for (const auto* settings : {&cell.variant_options(), &cell.task_options(),
                               &cell.model_options(), &cell.train_options()}) {
    if (settings->empty()) continue;
    parts.push_back(FormatSettings(
        std::vector<Setting>(settings->begin(), settings->end())));
  }
  return absl::StrJoin(parts, "; ");
}

ViewData CellRows(const Leaderboard& leaderboard) {
  ViewData rows = ViewList();
  for (const ResultRecord& cell : leaderboard.cells) {
    const bool ok = cell.status() == STATUS_OK;
    const Metrics& metrics = cell.metrics();
    ViewData row;
    row.set("class", ok ? "" : "unfinished");
    row.set("task", cell.task());
    row.set("variant", cell.variant());
    row.set("family", cell.family());
    row.set("seed", absl::StrCat(cell.seed()));
    row.set("status", StatusName(cell.status()));
    row.set("accuracy", ok ? FormatScore(metrics.accuracy()) : "");
    row.set("loss", ok ? FormatScore(metrics.loss()) : "");
    row.set("steps",
            ok ? FormatCount(static_cast<double>(metrics.steps())) : "");
    row.set("seconds", ok ? FormatSeconds(cell.timing().train_seconds()) : "");
    row.set("options", OptionsText(cell));
    rows << row;
  }
  return rows;
}

// What to type to run the same cells, where one command can say it.
std::string Command(const Leaderboard& leaderboard) {
  if (leaderboard.boards.empty()) return "";
  const Board& first = leaderboard.boards[0];
  for (const Board& board : leaderboard.boards) {
    if (board.profile != first.profile || board.seeds != first.seeds ||
        !board.distinction.empty()) {
      return "";
    }
  }
  std::string set;
  for (const std::string& text : leaderboard.cells[0].set()) {
    absl::StrAppend(&set, " --set ", text);
  }
  for (const ResultRecord& cell : leaderboard.cells) {
    if (!std::equal(cell.set().begin(), cell.set().end(),
                    leaderboard.cells[0].set().begin(),
                    leaderboard.cells[0].set().end())) {
      return "";
    }
  }
  const std::string command = absl::StrCat(
      "--variants=", absl::StrJoin(TrainedVariants(leaderboard), ","),
      " --tasks=", absl::StrJoin(TasksOf(leaderboard), ","),
      " --profile=", first.profile,
      " --seeds=", absl::StrJoin(first.seeds, ","), set);
  return absl::StrCat(leaderboard.command, " -- ", command);
}

}  // namespace

absl::StatusOr<std::string> RenderPage(const Leaderboard& leaderboard) {
  kainjow::mustache::mustache page(PageTemplate());
  if (!page.is_valid()) {
    return absl::InternalError(
        absl::StrCat("page.mustache: ", page.error_message()));
  }
  ViewData boards = ViewList();
  for (const Board& board : leaderboard.boards) {
    boards << BoardSection(leaderboard, board);
  }
  ViewData view;
  view.set("title", "Leaderboard");
  view.set("style", absl::StrCat(PageStyle(), "\n", HeatMapStyle()));
  view.set("chart_script", ChartScript());
  view.set("page_script", PageScript());
  view.set("first_anchor", leaderboard.boards.empty() ? "columns"
                           : leaderboard.boards.size() == 1
                               ? AnchorSafe(leaderboard.boards[0].anchor)
                               : "overview");
  view.set("lede", Lede(leaderboard));
  const Context& context = !leaderboard.cells.empty() ? leaderboard.context
                           : !leaderboard.probes.empty()
                               ? leaderboard.probe_context
                               : leaderboard.speed_context;
  view.set("stamp", Stamp(context));
  view.set("facts", Facts(context));
  view.set("notices", Notices(leaderboard));
  view.set("overview", Overview(leaderboard));
  view.set("boards", boards);
  view.set("capacity", CapacitySection(leaderboard.probes));
  view.set("approximation", ApproximationSection(leaderboard.probes));
  view.set("speed", SpeedSection(leaderboard));
  view.set("no_speed", leaderboard.speeds.empty());
  view.set("leaderboard_command", leaderboard.command);
  view.set("definitions", Definitions());
  view.set("command", TextOrNothing(Command(leaderboard)));
  view.set("cell_count", Plural(leaderboard.cells.size(), "cell"));
  view.set("cell_rows", CellRows(leaderboard));
  return page.render(view);
}

}  // namespace mneme
