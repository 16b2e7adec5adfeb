// SPDX-License-Identifier: Apache-2.0

#include "reports/speed_results.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "harness/throughput/shape.h"
#include "reports/distinctions.h"

namespace mneme {
namespace {

constexpr char kOwn[] = "mneme";
constexpr char kBackbone[] = "backbone";
constexpr Phase kPhases[] = {Phase::kPrefill, Phase::kDecode, Phase::kBackward,
                             Phase::kTrain};

auto Sizes(const SpeedSetup& s) {
  return std::tie(s.phase, s.form, s.batch, s.length, s.heads, s.head_dim,
                  s.threads);
}

using VariantKey = std::tuple<std::string, int, std::string>;

VariantKey KeyOf(const ThroughputRecord& record) {
  return {record.variant(), record.variant_version(),
          SettingsText(record.variant_options())};
}

std::string NameOf(const ThroughputRecord& record,
                   absl::Span<const ThroughputRecord> all) {
  std::vector<Values> others;
  std::set<int> versions;
  for (const ThroughputRecord& other : all) {
    if (other.variant() != record.variant()) continue;
    others.push_back(ValuesOf(other.variant_options()));
    versions.insert(other.variant_version());
  }
  std::vector<std::string> differences =
      Differences(ValuesOf(record.variant_options()), others);
  if (versions.size() > 1) {
    differences.push_back(absl::StrCat("version ", record.variant_version()));
  }
  return NameWith(record.variant(), differences);
}

bool Timed(const ThroughputMeasurement* m) {
  return m != nullptr && m->error().empty();
}

bool IsOwn(const ThroughputMeasurement& m) { return m.contender() == kOwn; }

// What a phase is called in records.
std::string RecordName(Phase phase) { return std::string(PhaseName(phase)); }

// The form that a phase has if nobody asks for another.
bool IsUsualForm(const SpeedSetup& setup) {
  return setup.form.empty() ||
         setup.form == (setup.phase == PhaseName(Phase::kDecode) ? "recurrent"
                                                                 : "chunked");
}

std::string TitleWith(const SpeedSetup& setup, absl::string_view shape) {
  std::string title(shape);
  if (!IsUsualForm(setup)) absl::StrAppend(&title, ", ", setup.form, " form");
  if (setup.threads != 1) {
    absl::StrAppend(&title, ", ", setup.threads, " threads");
  }
  return title;
}

// Calls visit(speed, measurement) for all.
template <typename Visit>
void ForEach(absl::Span<const Speed> speeds, const Visit& visit) {
  for (const Speed& speed : speeds) {
    for (const ThroughputRecord& record : speed.records) {
      for (const ThroughputMeasurement& m : record.measurements()) {
        visit(speed, m);
      }
    }
  }
}

absl::optional<int64_t> StateBytes(const ThroughputMeasurement* m) {
  if (!Timed(m) || m->state_bytes() <= 0) return absl::nullopt;
  return m->state_bytes();
}

// Of prefill by Mneme's own with the fewest threads; of several, the newest.
absl::optional<double> GrowthOf(const Speed& speed) {
  absl::optional<double> growth;
  int32_t threads = 0;
  ForEach({&speed, 1}, [&](const Speed&, const ThroughputMeasurement& m) {
    if (!IsOwn(m) || m.phase() != PhaseName(Phase::kPrefill) ||
        !m.has_growth_exponent()) {
      return;
    }
    if (threads != 0 && m.threads() > threads) return;
    threads = m.threads();
    growth = m.growth_exponent();
  });
  return growth;
}

void AddCeilings(const MachineCeilings& c,
                 const std::function<void(absl::string_view, absl::string_view,
                                          double)>& add) {
  constexpr double kGiga = 1e9;
  constexpr const char* kLevels[] = {"L1 reads", "L2 reads", "L3 reads",
                                     "DRAM reads"};
  constexpr const char* kReadWriteLevels[] = {
      "L1 read-write", "L2 read-write", "L3 read-write", "DRAM read-write"};
  add("float32 multiply-adds", "GFLOP/s", c.flops() / kGiga);
  add("exponentials", "G/s", c.exps() / kGiga);
  for (int i = 0; i < c.level_bytes_per_second_size() && i < 4; ++i) {
    add(kLevels[i], "GB/s", c.level_bytes_per_second(i) / kGiga);
  }
  for (int i = 0; i < c.level_read_write_bytes_per_second_size() && i < 4;
       ++i) {
    add(kReadWriteLevels[i], "GB/s",
        c.level_read_write_bytes_per_second(i) / kGiga);
  }
  add("bfloat16 dot products", "GFLOP/s", c.bf16_flops() / kGiga);
  add("bfloat16 tiles", "GFLOP/s", c.amx_flops() / kGiga);
}

}  // namespace

int KeepNewestMeasurements(std::vector<ThroughputRecord>& records) {
  std::stable_sort(records.begin(), records.end(),
                   [](const ThroughputRecord& a, const ThroughputRecord& b) {
                     return a.environment().date() < b.environment().date();
                   });
  std::set<std::string> seen;
  int lost = 0;
  for (auto record = records.rbegin(); record != records.rend(); ++record) {
    const auto [variant, version, options] = KeyOf(*record);
    auto& measurements = *record->mutable_measurements();
    std::set<std::string> own;
    const auto repeated = std::stable_partition(
        measurements.begin(), measurements.end(),
        [&, &variant = variant, &version = version,
         &options = options](const ThroughputMeasurement& m) {
          const SpeedSetup s = SetupOf(m);
          const std::string key = absl::StrCat(
              variant, "\n", version, "\n", options, "\n", m.contender(), "\n",
              s.phase, "\n", s.form, "\n", s.batch, " ", s.length, " ", s.heads,
              " ", s.head_dim, " ", s.threads);
          own.insert(key);
          return seen.count(key) == 0;
        });
    lost += repeated != measurements.end() ? 1 : 0;
    measurements.erase(repeated, measurements.end());
    seen.merge(own);
  }
  records.erase(std::remove_if(records.begin(), records.end(),
                               [](const ThroughputRecord& record) {
                                 return record.measurements().empty();
                               }),
                records.end());
  return lost;
}

std::vector<Speed> MakeSpeeds(std::vector<ThroughputRecord> records) {
  std::map<VariantKey, Speed> speeds;
  for (const ThroughputRecord& record : records) {
    speeds[KeyOf(record)].variant = NameOf(record, records);
  }
  for (ThroughputRecord& record : records) {
    std::vector<ThroughputRecord>& kept = speeds[KeyOf(record)].records;
    kept.push_back(std::move(record));
  }
  std::vector<Speed> sorted;
  for (auto& [key, speed] : speeds) sorted.push_back(std::move(speed));
  std::stable_sort(
      sorted.begin(), sorted.end(),
      [](const Speed& a, const Speed& b) { return a.variant < b.variant; });
  return sorted;
}

std::string SpeedSetup::Title() const {
  return TitleWith(*this,
                   ThroughputShape{batch, length, heads, head_dim}.ToString());
}

bool operator==(const SpeedSetup& a, const SpeedSetup& b) {
  return Sizes(a) == Sizes(b);
}

SpeedSetup SetupOf(const ThroughputMeasurement& m) {
  return {m.phase(), m.form(),     m.batch(),  m.length(),
          m.heads(), m.head_dim(), m.threads()};
}

absl::optional<SpeedSetup> MainSetup(absl::Span<const Speed> speeds,
                                     Phase phase) {
  const ThroughputShape usual = DefaultShape(phase);
  std::vector<std::pair<SpeedSetup, int>> setups;
  ForEach(speeds, [&](const Speed&, const ThroughputMeasurement& m) {
    if (!IsOwn(m) || !Timed(&m) || m.phase() != PhaseName(phase)) return;
    const SpeedSetup setup = SetupOf(m);
    const auto found =
        std::find_if(setups.begin(), setups.end(),
                     [&](const auto& entry) { return entry.first == setup; });
    if (found == setups.end()) {
      setups.emplace_back(setup, 1);
    } else {
      ++found->second;
    }
  });
  if (setups.empty()) return absl::nullopt;
  const auto worth = [&usual](const std::pair<SpeedSetup, int>& entry) {
    const SpeedSetup& s = entry.first;
    const ThroughputShape shape = {s.batch, s.length, s.heads, s.head_dim};
    return std::make_tuple(entry.second, s.threads == 1, IsUsualForm(s),
                           shape == usual, s.length);
  };
  return std::max_element(setups.begin(), setups.end(),
                          [&worth](const auto& a, const auto& b) {
                            return worth(a) < worth(b);
                          })
      ->first;
}

const ThroughputMeasurement* MeasuredIn(const Speed& speed,
                                        const SpeedSetup& setup) {
  const ThroughputMeasurement* found = nullptr;
  ForEach({&speed, 1}, [&](const Speed&, const ThroughputMeasurement& m) {
    if (IsOwn(m) && SetupOf(m) == setup) found = &m;
  });
  return found;
}

SpeedSummary Summarise(absl::Span<const Speed> speeds) {
  SpeedSummary summary;
  size_t state_column = 0;
  for (const Phase phase : kPhases) {
    const absl::optional<SpeedSetup> setup = MainSetup(speeds, phase);
    if (!setup.has_value()) continue;
    // After a context that is given, rather than after what was computed.
    if (phase == Phase::kDecode) state_column = summary.columns.size();
    summary.columns.push_back({phase, *setup});
  }
  if (!summary.columns.empty()) {
    summary.state_tokens = summary.columns[state_column].setup.length;
  }
  for (const Speed& speed : speeds) {
    SpeedRow row;
    row.speed = &speed;
    for (const auto& column : summary.columns) {
      row.phases.push_back(MeasuredIn(speed, column.setup));
    }
    if (!row.phases.empty())
      row.state_bytes = StateBytes(row.phases[state_column]);
    row.growth = GrowthOf(speed);
    summary.rows.push_back(std::move(row));
  }
  const auto speed_of = [](const SpeedRow& row) {
    const bool timed = !row.phases.empty() && Timed(row.phases[0]);
    return timed ? row.phases[0]->tokens_per_second() : 0;
  };
  std::stable_sort(summary.rows.begin(), summary.rows.end(),
                   [&speed_of](const SpeedRow& a, const SpeedRow& b) {
                     return speed_of(a) > speed_of(b);
                   });
  return summary;
}

std::string PhaseTitle(Phase phase) {
  return phase == Phase::kTrain ? "training" : RecordName(phase);
}

std::string FractionText(const ThroughputMeasurement& m) {
  std::string text;
  if (m.limit_milliseconds() > 0) {
    text = absl::StrFormat("%.0f%% of limit", 100 * m.fraction_of_limit());
  } else if (m.has_backbone_fraction()) {
    text = absl::StrFormat("%.0f%% without mixer", 100 * m.backbone_fraction());
  }
  if (m.noisy()) absl::StrAppend(&text, text.empty() ? "" : ", ", "noisy");
  return text;
}

std::string LengthSeries::Title() const {
  return absl::StrCat(
      setup.phase, ", ",
      TitleWith(setup, absl::StrCat(setup.batch, "xTx", setup.heads, "x",
                                    setup.head_dim)));
}

std::vector<LengthSeries> LengthSeriesOf(absl::Span<const Speed> speeds) {
  std::vector<LengthSeries> found;
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    // By what is alike.
    std::map<std::tuple<std::string, int64_t, int64_t, int64_t, int32_t>,
             LengthSeries>
        series;
    ForEach(speeds, [&](const Speed& speed, const ThroughputMeasurement& m) {
      if (!IsOwn(m) || !Timed(&m) || m.phase() != PhaseName(phase)) return;
      LengthSeries& s =
          series[{m.form(), m.batch(), m.heads(), m.head_dim(), m.threads()}];
      if (m.length() >= s.setup.length) s.setup = SetupOf(m);
      if (s.lines.empty() || s.lines.back().speed != &speed) {
        s.lines.push_back({&speed, {}});
      }
      s.lines.back().points.push_back(&m);
    });
    std::vector<std::pair<size_t, LengthSeries>> sized;
    for (auto& [key, s] : series) {
      auto& lines = s.lines;
      lines.erase(std::remove_if(lines.begin(), lines.end(),
                                 [](const LengthSeries::Line& line) {
                                   return line.points.size() < 2;
                                 }),
                  lines.end());
      size_t points = 0;
      for (LengthSeries::Line& line : lines) {
        points += line.points.size();
        std::sort(
            line.points.begin(), line.points.end(),
            [](const ThroughputMeasurement* a, const ThroughputMeasurement* b) {
              return a->length() < b->length();
            });
      }
      if (!lines.empty()) sized.emplace_back(points, std::move(s));
    }
    std::stable_sort(
        sized.begin(), sized.end(),
        [](const auto& a, const auto& b) { return a.first > b.first; });
    for (auto& [points, s] : sized) found.push_back(std::move(s));
  }
  return found;
}

absl::optional<double> Peer::ratio() const {
  if (own == nullptr) return absl::nullopt;
  return peer->milliseconds() / own->milliseconds();
}

std::vector<Peer> PeersOf(absl::Span<const Speed> speeds) {
  std::vector<Peer> peers;
  ForEach(speeds, [&peers](const Speed& speed, const ThroughputMeasurement& m) {
    if (IsOwn(m) || m.contender() == kBackbone || !Timed(&m)) return;
    const ThroughputMeasurement* own = MeasuredIn(speed, SetupOf(m));
    peers.push_back({&speed, &m, Timed(own) ? own : nullptr});
  });
  return peers;
}

std::vector<Untimed> WhyUntimed(absl::Span<const Speed> speeds,
                                const SpeedSummary& summary) {
  std::map<std::string, std::vector<std::string>> what;
  ForEach(speeds, [&](const Speed& speed, const ThroughputMeasurement& m) {
    if (Timed(&m)) return;
    // A phase in which nothing was timed has no column, and all its reasons.
    bool has_column = false, is_shown = false;
    for (const auto& column : summary.columns) {
      has_column |= m.phase() == PhaseName(column.phase);
      is_shown |= SetupOf(m) == column.setup;
    }
    if (has_column && !is_shown) return;
    what[m.error()].push_back(
        absl::StrCat(speed.variant, " (", m.phase(), ", ", SetupOf(m).Title(),
                     IsOwn(m) ? "" : absl::StrCat(", ", m.contender()), ")"));
  });
  std::vector<Untimed> untimed;
  for (auto& [reason, names] : what) {
    untimed.push_back({reason, std::move(names)});
  }
  return untimed;
}

std::vector<CeilingRange> CeilingsOf(absl::Span<const Speed> speeds) {
  std::vector<CeilingRange> ranges;
  std::vector<std::vector<double>> values;
  for (const Speed& speed : speeds) {
    for (const ThroughputRecord& record : speed.records) {
      for (const MachineCeilings& c : record.ceilings()) {
        AddCeilings(c, [&](absl::string_view name, absl::string_view unit,
                           double value) {
          if (value <= 0) return;
          const auto found = std::find_if(
              ranges.begin(), ranges.end(), [&](const CeilingRange& range) {
                return range.name == name && range.threads == c.threads();
              });
          const size_t index = static_cast<size_t>(found - ranges.begin());
          if (found == ranges.end()) {
            ranges.push_back(
                {std::string(name), std::string(unit), c.threads()});
            values.emplace_back();
          }
          values[index].push_back(value);
        });
      }
    }
  }
  for (size_t i = 0; i < ranges.size(); ++i) {
    std::sort(values[i].begin(), values[i].end());
    const size_t middle = values[i].size() / 2;
    ranges[i].low = values[i].front();
    ranges[i].high = values[i].back();
    ranges[i].median = values[i].size() % 2 == 1
                           ? values[i][middle]
                           : (values[i][middle - 1] + values[i][middle]) / 2;
  }
  std::stable_sort(ranges.begin(), ranges.end(),
                   [](const CeilingRange& a, const CeilingRange& b) {
                     return a.threads < b.threads;
                   });
  return ranges;
}

}  // namespace mneme
