// SPDX-License-Identifier: Apache-2.0

#include "reports/length_results.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "reports/format.h"

namespace mneme {
namespace {

const LengthScore* ScoreAt(const ResultRecord& cell, int64_t length) {
  for (const LengthScore& score : cell.metrics().lengths()) {
    if (score.length() == length) return &score;
  }
  return nullptr;
}

void AddDepths(const LengthScore& score, std::vector<DepthCell>& depths) {
  if (score.depths().empty()) return;
  depths.resize(kShownDepths);
  for (const DepthScore& part : score.depths()) {
    DepthCell& cell = depths[static_cast<size_t>(part.depth()) * kShownDepths /
                             kRecordedDepths];
    cell.answers += part.answers();
    cell.right += part.accuracy() * static_cast<double>(part.answers());
  }
}

// Of one length of all seeds, whose positions are the same.
void AddPositions(absl::Span<const LengthScore* const> scores,
                  LengthPoint& point) {
  const int parts = scores[0]->loss_by_position_size();
  for (int i = 0; i < parts; ++i) {
    const PositionLoss& first = scores[0]->loss_by_position(i);
    PositionBits bits = {first.first(), first.last()};
    for (const LengthScore* score : scores) {
      if (score->loss_by_position_size() != parts ||
          score->loss_by_position(i).first() != bits.first) {
        point.positions.clear();
        return;
      }
      const PositionLoss& part = score->loss_by_position(i);
      bits.answers += part.answers();
      bits.bits += part.loss() * static_cast<double>(part.answers()) / M_LN2;
    }
    bits.bits /= static_cast<double>(std::max<int64_t>(1, bits.answers));
    point.positions.push_back(bits);
  }
}

void AddDetails(absl::Span<const LengthScore* const> scores,
                LengthPoint& point) {
  for (const NamedScore& first : scores[0]->details()) {
    double sum = 0;
    size_t found = 0;
    for (const LengthScore* score : scores) {
      for (const NamedScore& detail : score->details()) {
        if (detail.name() != first.name()) continue;
        sum += detail.value();
        ++found;
        break;
      }
    }
    if (found != scores.size()) continue;
    point.details.emplace_back(first.name(), sum / static_cast<double>(found));
  }
}

LengthPoint MeanOf(absl::Span<const LengthScore* const> scores) {
  LengthPoint point;
  point.length = scores[0]->length();
  for (const LengthScore* score : scores) {
    if (score->unsupported().empty()) continue;
    point.unsupported = score->unsupported();
    return point;
  }
  const auto seeds = static_cast<double>(scores.size());
  point.smallest = 1;
  point.bits = 0;
  point.window = 0;
  for (const LengthScore* score : scores) {
    point.accuracy += score->accuracy() / seeds;
    point.smallest = std::min(point.smallest, score->accuracy());
    point.largest = std::max(point.largest, score->accuracy());
    point.streamed = point.streamed || score->streamed();
    if (!score->has_loss()) {
      point.bits.reset();
    } else if (point.bits.has_value()) {
      *point.bits += score->loss() / M_LN2 / seeds;
    }
    if (!score->has_reference()) {
      point.window.reset();
    } else if (point.window.has_value()) {
      *point.window += score->reference().window() / seeds;
    }
    AddDepths(*score, point.depths);
  }
  AddPositions(scores, point);
  AddDetails(scores, point);
  return point;
}

}  // namespace

std::vector<LengthPoint> LengthsOf(const Leaderboard& leaderboard,
                                   const Row& row) {
  std::vector<LengthPoint> points;
  if (!row.complete() || row.cells.empty()) return points;
  for (const LengthScore& first :
       leaderboard.cells[row.cells[0]].metrics().lengths()) {
    std::vector<const LengthScore*> scores;
    for (const size_t index : row.cells) {
      const LengthScore* score =
          ScoreAt(leaderboard.cells[index], first.length());
      if (score != nullptr) scores.push_back(score);
    }
    if (scores.size() == row.cells.size()) points.push_back(MeanOf(scores));
  }
  return points;
}

int64_t EffectiveLength(absl::Span<const LengthPoint> points) {
  int64_t length = 0;
  for (const LengthPoint& point : points) {
    if (!point.unsupported.empty() || point.accuracy < kEffectiveAccuracy) {
      break;
    }
    length = point.length;
  }
  return length;
}

std::string EffectiveLengthText(absl::Span<const LengthPoint> points) {
  const int64_t length = EffectiveLength(points);
  if (length == 0) return "–";
  return absl::StrCat(length == points.back().length ? "≥" : "",
                      FormatCount(static_cast<double>(length)));
}

std::vector<RowLengths> LengthsOf(const Leaderboard& leaderboard,
                                  const Board& board) {
  std::vector<RowLengths> rows;
  for (const Row& row : board.rows) {
    std::vector<LengthPoint> points = LengthsOf(leaderboard, row);
    if (!points.empty()) rows.push_back({&row, std::move(points)});
  }
  return rows;
}

std::vector<int64_t> AllLengths(absl::Span<const RowLengths> rows) {
  std::set<int64_t> lengths;
  for (const RowLengths& row : rows) {
    for (const LengthPoint& point : row.points) lengths.insert(point.length);
  }
  return {lengths.begin(), lengths.end()};
}

const LengthPoint* PointAt(absl::Span<const LengthPoint> points,
                           int64_t length) {
  for (const LengthPoint& point : points) {
    if (point.length == length) return &point;
  }
  return nullptr;
}

std::vector<ReferencePoint> ReferencesOf(const Leaderboard& leaderboard,
                                         const Board& board) {
  for (const Row& row : board.rows) {
    for (const size_t index : row.cells) {
      const ResultRecord& cell = leaderboard.cells[index];
      if (cell.status() != STATUS_OK) continue;
      const auto& references = cell.metrics().references();
      if (references.empty()) continue;
      return {references.begin(), references.end()};
    }
  }
  return {};
}

}  // namespace mneme
