// SPDX-License-Identifier: Apache-2.0
//
// Throughput records, put in order: how fast each variant is in each phase,
// beside the machine's limits and beside peers. Pure functions of records.

#ifndef MNEME_REPORTS_SPEED_RESULTS_H_
#define MNEME_REPORTS_SPEED_RESULTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "harness/throughput.pb.h"
#include "harness/throughput/phase.h"

namespace mneme {

// All that was measured of a variant under one set of its options.
struct Speed {
  // The variant, followed in brackets by the options in which it differs from
  // others: "linear (feature_map=relu)".
  std::string variant;
  size_t variant_index = 0;  // in Leaderboard::variants
  // Of one run or several, the oldest first: what is timed at one shape may
  // come from another run than what is timed at the next. No measurement is in
  // two of them.
  std::vector<ThroughputRecord> records;
};

// Takes from records each measurement that a newer record of the same variant
// and options repeats: by the same contender, in the same setup. Returns how
// many records have lost some.
int KeepNewestMeasurements(std::vector<ThroughputRecord>& records);

// By name, without their variant_index.
std::vector<Speed> MakeSpeeds(std::vector<ThroughputRecord> records);

// What is timed, whoever does it.
struct SpeedSetup {
  std::string phase;
  std::string form;
  int64_t batch = 1, length = 1, heads = 1, head_dim = 1;
  int32_t threads = 1;

  // "1x2048x8x64", "1x2048x8x64, 2 threads", "1x2048x8x64, parallel form".
  std::string Title() const;
};

bool operator==(const SpeedSetup& a, const SpeedSetup& b);

SpeedSetup SetupOf(const ThroughputMeasurement& measurement);

// Of those in which Mneme's own were timed, the one that is shown of a phase
// when only one is: that of most variants; among those one thread, then the
// suite's own shape, then the longest. Absent where none was timed.
absl::optional<SpeedSetup> MainSetup(absl::Span<const Speed> speeds,
                                     Phase phase);

// The measurement of Mneme's own in that setup, timed or not, or null.
const ThroughputMeasurement* MeasuredIn(const Speed& speed,
                                        const SpeedSetup& setup);

// What there is to know of a variant at a glance; null where it was not tried.
struct SpeedRow {
  const Speed* speed = nullptr;
  std::vector<const ThroughputMeasurement*> phases;  // by SpeedSummary::columns
  absl::optional<int64_t> state_bytes;  // absent where there is none
  absl::optional<double> growth;        // exponent, of prefill
};

struct SpeedSummary {
  struct PhaseColumn {
    Phase phase;
    SpeedSetup setup;
  };
  std::vector<PhaseColumn> columns;  // of the phases that were timed
  // The fastest in the first column first, then what was not timed.
  std::vector<SpeedRow> rows;
  int64_t state_tokens = 0;  // after which states have that size
};

SpeedSummary Summarise(absl::Span<const Speed> speeds);

// "prefill", "decode", "backward", "training".
std::string PhaseTitle(Phase phase);

// "76% of limit"; of training, "13% without mixer"; "" where neither is
// known. A measurement that stayed noisy says so.
std::string FractionText(const ThroughputMeasurement& measurement);

// Measurements of Mneme's own that differ in nothing but their length.
struct LengthSeries {
  SpeedSetup setup;  // of the longest
  // "prefill, 1xTx8x64"
  std::string Title() const;

  struct Line {
    const Speed* speed;
    std::vector<const ThroughputMeasurement*> points;  // timed; rising length
  };
  std::vector<Line> lines;  // of variants with at least two points
};

// Of prefill and then of decode, those with most points first.
std::vector<LengthSeries> LengthSeriesOf(absl::Span<const Speed> speeds);

// Somebody else's implementation of a mechanism beside Mneme's.
struct Peer {
  const Speed* speed;
  const ThroughputMeasurement* peer;
  const ThroughputMeasurement* own;  // null where it was not timed

  // How many times as long the peer takes, by medians; absent without own.
  absl::optional<double> ratio() const;
};

// By variant, phase and shape. A model without a mixer is no peer.
std::vector<Peer> PeersOf(absl::Span<const Speed> speeds);

// Why something was not timed: what shares a reason, as "softmax (decode,
// 1x4096x8x64)", or "softmax (prefill, 1x2048x8x64, onednn)" of a peer.
struct Untimed {
  std::string reason;
  std::vector<std::string> what;
};

// In the setups of the summary's columns; by reason.
std::vector<Untimed> WhyUntimed(absl::Span<const Speed> speeds,
                                const SpeedSummary& summary);

// What the machine could do while variants were timed with so many threads.
struct CeilingRange {
  std::string name;  // "float32 multiply-adds", "L1 reads", ...
  std::string unit;  // "GFLOP/s", "GB/s", "G/s"
  int32_t threads = 1;
  double median = 0, low = 0, high = 0;  // over records
};

// By threads. What no record knows is left out.
std::vector<CeilingRange> CeilingsOf(absl::Span<const Speed> speeds);

}  // namespace mneme

#endif  // MNEME_REPORTS_SPEED_RESULTS_H_
