// SPDX-License-Identifier: Apache-2.0

#include "reports/boards.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "reports/distinctions.h"

namespace mneme {
namespace {

// What a board's cells share: task and its version, profile, data, and options
// of task and model. Training options are not part of it: a learning rate may
// be tuned for each variant. They tell rows apart.
using BoardKey = std::tuple<std::string, int, std::string, std::string>;

BoardKey KeyOf(const ResultRecord& cell) {
  return {cell.task(), cell.task_version(), cell.profile(),
          absl::StrCat(cell.data(), "\n", SettingsText(cell.task_options()),
                       "\n", SettingsText(cell.model_options()))};
}

// What a row's cells share beside the board.
using RowKey = std::tuple<std::string, int, std::string>;

RowKey RowKeyOf(const ResultRecord& cell) {
  return {cell.variant(), cell.variant_version(),
          absl::StrCat(SettingsText(cell.variant_options()), "\n",
                       SettingsText(cell.train_options()))};
}

bool HasOptions(const ResultRecord& cell) {
  return cell.task_options_size() + cell.model_options_size() > 0;
}

// A cell that failed before it knew its options belongs to the first board of
// its task and profile.
void LendOptions(std::vector<ResultRecord>& cells) {
  std::map<std::pair<std::string, std::string>, const ResultRecord*> lenders;
  for (const ResultRecord& cell : cells) {
    if (!HasOptions(cell)) continue;
    const ResultRecord*& lender = lenders[{cell.task(), cell.profile()}];
    if (lender == nullptr || KeyOf(cell) < KeyOf(*lender)) lender = &cell;
  }
  for (ResultRecord& cell : cells) {
    if (HasOptions(cell)) continue;
    const auto lender = lenders.find({cell.task(), cell.profile()});
    if (lender == lenders.end()) continue;
    *cell.mutable_task_options() = lender->second->task_options();
    *cell.mutable_model_options() = lender->second->model_options();
    cell.set_task_version(lender->second->task_version());
    cell.set_data(lender->second->data());
  }
}

// Sorts cells by board, variant and seed, and keeps the newest of each.
// Returns how many were dropped.
int SortAndKeepNewest(std::vector<ResultRecord>& cells) {
  using CellKey = std::tuple<BoardKey, RowKey, uint64_t>;
  std::map<CellKey, ResultRecord> newest;
  for (ResultRecord& cell : cells) {
    ResultRecord& kept =
        newest[CellKey(KeyOf(cell), RowKeyOf(cell), cell.seed())];
    if (cell.environment().date() >= kept.environment().date()) {
      kept = std::move(cell);
    }
  }
  const int dropped = static_cast<int>(cells.size() - newest.size());
  cells.clear();
  for (auto& [key, cell] : newest) cells.push_back(std::move(cell));
  return dropped;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

// Fills what a complete row has, from its cells, all of them ok.
void Summarise(absl::Span<const ResultRecord> cells, Row& row) {
  std::vector<SeedScore> scores;
  std::vector<double> speeds, steps, seconds;
  double loss = 0;
  for (const size_t index : row.cells) {
    const ResultRecord& cell = cells[index];
    const Metrics& metrics = cell.metrics();
    scores.push_back({metrics.accuracy(), metrics.accuracy_stderr(),
                      metrics.test_examples()});
    loss += metrics.loss() / static_cast<double>(row.cells.size());
    speeds.push_back(cell.timing().train_tokens_per_second());
    if (metrics.has_steps_to_90()) {
      steps.push_back(static_cast<double>(metrics.steps_to_90()));
      seconds.push_back(cell.timing().seconds_to_90());
    }
  }
  row.accuracy = EstimateAccuracy(scores);
  row.loss = loss;
  row.train_tokens_per_second = Median(speeds);
  if (row.reached_90 == row.wanted) {
    row.steps_to_90 = Median(steps);
    row.seconds_to_90 = Median(seconds);
  }
}

void FinishRow(absl::Span<const ResultRecord> cells, const Board& board,
               Row& row) {
  row.wanted = static_cast<int>(board.seeds.size());
  std::set<uint64_t> missing(board.seeds.begin(), board.seeds.end());
  for (const size_t index : row.cells) {
    const ResultRecord& cell = cells[index];
    missing.erase(cell.seed());
    if (row.family.empty()) row.family = cell.family();
    if (cell.status() != STATUS_OK) {
      row.reasons.push_back(UnfinishedReason(cell));
      continue;
    }
    ++row.finished;
    row.reached_90 += cell.metrics().has_steps_to_90() ? 1 : 0;
    row.parameters = cell.parameters();
    if (cell.has_state_bytes()) row.state_bytes = cell.state_bytes();
  }
  for (const uint64_t seed : missing) {
    row.reasons.push_back(absl::StrCat("seed ", seed, " has no result"));
  }
  if (row.complete()) Summarise(cells, row);
}

// Complete rows by falling accuracy, then the others; equals by name.
bool StandsBefore(const Row& a, const Row& b) {
  if (a.complete() != b.complete()) return a.complete();
  if (a.complete() && a.accuracy->mean != b.accuracy->mean) {
    return a.accuracy->mean > b.accuracy->mean;
  }
  return a.variant < b.variant;
}

void RankRows(std::vector<Row>& rows) {
  std::sort(rows.begin(), rows.end(), StandsBefore);
  std::vector<Estimate> estimates;
  for (const Row& row : rows) {
    if (row.complete()) estimates.push_back(*row.accuracy);
  }
  const std::vector<RankRange> ranks = RankRanges(estimates);
  for (size_t i = 0; i < ranks.size(); ++i) rows[i].rank = ranks[i];
}

// Calls rows by their variant, and by what else tells them apart: options of
// training from all rows, as unequal training should be seen, the variant's own
// from the rows of that variant.
void NameRows(absl::Span<const ResultRecord> cells, std::vector<Row>& rows) {
  for (Row& row : rows) {
    const ResultRecord& mine = cells[row.cells[0]];
    std::vector<Values> trainings, options;
    std::set<int> versions;
    for (const Row& other : rows) {
      const ResultRecord& cell = cells[other.cells[0]];
      trainings.push_back(ValuesOf(cell.train_options()));
      if (other.plugin != row.plugin) continue;
      options.push_back(ValuesOf(cell.variant_options()));
      versions.insert(cell.variant_version());
    }
    std::vector<std::string> differences =
        Differences(ValuesOf(mine.variant_options()), options);
    for (std::string& text :
         Differences(ValuesOf(mine.train_options()), trainings)) {
      differences.push_back(std::move(text));
    }
    if (versions.size() > 1) {
      differences.push_back(absl::StrCat("version ", mine.variant_version()));
    }
    row.variant = NameWith(row.plugin, differences);
  }
}

// cells[begin, end) are one board's.
Board MakeBoard(absl::Span<const ResultRecord> cells, size_t begin,
                size_t end) {
  const ResultRecord& first = cells[begin];
  Board board;
  board.task = first.task();
  board.profile = first.profile();
  board.data = first.data();
  board.task_options.assign(first.task_options().begin(),
                            first.task_options().end());
  board.model_options.assign(first.model_options().begin(),
                             first.model_options().end());
  std::set<uint64_t> seeds;
  for (size_t i = begin; i < end; ++i) {
    const ResultRecord& cell = cells[i];
    seeds.insert(cell.seed());
    if (i == begin || RowKeyOf(cell) != RowKeyOf(cells[i - 1])) {
      board.rows.emplace_back();
      board.rows.back().plugin = cell.variant();
    }
    board.rows.back().cells.push_back(i);
    if (cell.status() == STATUS_OK) {
      board.chance_accuracy = cell.metrics().chance_accuracy();
      board.context_guess_accuracy = cell.metrics().context_guess_accuracy();
    }
  }
  board.seeds.assign(seeds.begin(), seeds.end());
  NameRows(cells, board.rows);
  for (Row& row : board.rows) FinishRow(cells, board, row);
  RankRows(board.rows);
  return board;
}

Values AllOptions(const Board& board) {
  Values options;
  for (const Setting& setting : board.task_options) {
    options[setting.name()] = setting.value();
  }
  for (const Setting& setting : board.model_options) {
    options[setting.name()] = setting.value();
  }
  if (!board.data.empty()) options["data"] = board.data;
  return options;
}

// The environments of probes, in records that say nothing else.
std::vector<ResultRecord> WhereProbed(absl::Span<const Probe> probes) {
  std::vector<ResultRecord> records;
  for (const Probe& probe : probes) {
    if (!probe.record.has_environment()) continue;
    *records.emplace_back().mutable_environment() = probe.record.environment();
  }
  return records;
}

// Likewise, of throughput records.
std::vector<ResultRecord> WhereTimed(absl::Span<const Speed> speeds) {
  std::vector<ResultRecord> records;
  for (const Speed& speed : speeds) {
    for (const ThroughputRecord& record : speed.records) {
      if (!record.has_environment()) continue;
      *records.emplace_back().mutable_environment() = record.environment();
    }
  }
  return records;
}

// Gives boards their anchors, and those of one task and profile their
// distinctions.
void TellApart(std::vector<Board>& boards) {
  std::map<std::string, int> boards_of_task;
  for (Board& board : boards) {
    const int number = ++boards_of_task[board.task];
    board.anchor =
        number == 1 ? board.task : absl::StrCat(board.task, "-", number);
    for (const auto& [name, value] : AllOptions(board)) {
      for (const Board& other : boards) {
        if (other.task != board.task || other.profile != board.profile) {
          continue;
        }
        const auto others = AllOptions(other);
        const auto found = others.find(name);
        if (found != others.end() && found->second == value) continue;
        Setting& setting = board.distinction.emplace_back();
        setting.set_name(name);
        setting.set_value(value);
        break;
      }
    }
  }
}

}  // namespace

std::string StatusName(Status status) {
  switch (status) {
    case STATUS_OK:
      return "ok";
    case STATUS_DIVERGED:
      return "diverged";
    case STATUS_UNSUPPORTED:
      return "unsupported";
    default:
      return "failed";
  }
}

std::string UnfinishedReason(const ResultRecord& cell) {
  std::string reason =
      absl::StrCat("seed ", cell.seed(), " ", StatusName(cell.status()));
  if (cell.status_step() > 0) {
    absl::StrAppend(&reason, " at step ", cell.status_step());
  }
  if (!cell.status_message().empty()) {
    absl::StrAppend(&reason, ": ", cell.status_message());
  }
  return reason;
}

bool Leaderboard::IsComplete() const {
  for (const ResultRecord& cell : cells) {
    if (cell.status() != STATUS_OK && cell.status() != STATUS_UNSUPPORTED) {
      return false;
    }
  }
  for (const Board& board : boards) {
    for (const Row& row : board.rows) {
      if (row.cells.size() < board.seeds.size()) return false;
    }
  }
  for (const Probe& probe : probes) {
    if (!probe.record.failure().empty()) return false;
  }
  return true;
}

Leaderboard MakeLeaderboard(std::vector<ResultRecord> records,
                            std::vector<ProbeRecord> probes,
                            std::vector<ThroughputRecord> throughput) {
  Leaderboard leaderboard;
  std::vector<ResultRecord>& cells = leaderboard.cells;
  cells = std::move(records);
  LendOptions(cells);
  leaderboard.superseded = SortAndKeepNewest(cells);
  leaderboard.superseded += KeepNewestProbes(probes);
  leaderboard.superseded += KeepNewestMeasurements(throughput);
  leaderboard.probes = MakeProbes(std::move(probes));
  leaderboard.speeds = MakeSpeeds(std::move(throughput));
  leaderboard.context = MakeContext(cells);
  leaderboard.probe_context = MakeContext(WhereProbed(leaderboard.probes));
  leaderboard.speed_context = MakeContext(WhereTimed(leaderboard.speeds));

  std::set<std::string> variants;
  for (const ResultRecord& cell : cells) variants.insert(cell.variant());
  for (const Probe& probe : leaderboard.probes) {
    variants.insert(probe.record.variant());
  }
  for (const Speed& speed : leaderboard.speeds) {
    variants.insert(speed.records[0].variant());
  }
  leaderboard.variants.assign(variants.begin(), variants.end());

  for (size_t begin = 0; begin < cells.size();) {
    size_t end = begin + 1;
    while (end < cells.size() && KeyOf(cells[end]) == KeyOf(cells[begin])) {
      ++end;
    }
    leaderboard.boards.push_back(MakeBoard(cells, begin, end));
    begin = end;
  }
  const auto index_of = [&leaderboard](const std::string& variant) {
    const std::vector<std::string>& names = leaderboard.variants;
    return static_cast<size_t>(
        std::lower_bound(names.begin(), names.end(), variant) - names.begin());
  };
  for (Board& board : leaderboard.boards) {
    for (Row& row : board.rows) row.variant_index = index_of(row.plugin);
  }
  for (Probe& probe : leaderboard.probes) {
    probe.variant_index = index_of(probe.record.variant());
  }
  for (Speed& speed : leaderboard.speeds) {
    speed.variant_index = index_of(speed.records[0].variant());
  }
  TellApart(leaderboard.boards);
  return leaderboard;
}

}  // namespace mneme
