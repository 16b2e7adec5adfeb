// SPDX-License-Identifier: Apache-2.0
//
// Result records, put in order. A leaderboard is a pure function of records:
// it has one board for each set of cells that can be compared, which is to say
// the same task with the same options and data in the same backbone, and on
// each board one row for each variant and set of options it was run under.
//
// Nothing is averaged over holes: a row of which a cell is missing or has
// failed keeps its place on the board, with the reason, and has no accuracy and
// no rank.
//
// Probes, which train nothing, stand beside the boards: one for each variant.
// So do throughputs.

#ifndef MNEME_REPORTS_BOARDS_H_
#define MNEME_REPORTS_BOARDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "harness/probe.pb.h"
#include "harness/result.pb.h"
#include "harness/throughput.pb.h"
#include "reports/context.h"
#include "reports/estimate.h"
#include "reports/probe_results.h"
#include "reports/speed_results.h"

namespace mneme {

// The cells of one variant, under one set of its options and of training's, on
// one board.
struct Row {
  // What the row is called: the variant, followed in brackets by options in
  // which it differs from other rows: "softmax (rope=true)".
  std::string variant;
  std::string plugin;  // the variant's own name
  std::string family;
  size_t variant_index = 0;   // in Leaderboard::variants
  std::vector<size_t> cells;  // in Leaderboard::cells, by seed
  int finished = 0;           // cells whose status is ok
  int wanted = 0;             // seeds of the board

  // Present when finished == wanted.
  absl::optional<Estimate> accuracy;
  absl::optional<RankRange> rank;
  absl::optional<double> loss;  // mean, nats per scored position
  absl::optional<double> train_tokens_per_second;  // median
  // Median; absent also when some seed never reached 90%.
  absl::optional<double> steps_to_90;
  absl::optional<double> seconds_to_90;
  int reached_90 = 0;  // cells that did

  // Of any finished cell; seeds do not change them.
  absl::optional<int64_t> parameters;
  absl::optional<int64_t> state_bytes;

  // Why the row is incomplete: a phrase for each cell that is not ok.
  std::vector<std::string> reasons;

  bool complete() const { return finished == wanted; }
};

struct Board {
  std::string task;
  std::string profile;
  // Unique on the page and stable: the task; for a task's second board and
  // later ones "mqar-2", ....
  std::string anchor;
  // What differs from the other boards of this task and profile.
  std::vector<Setting> distinction;
  std::string data;  // ResultRecord.data
  std::vector<Setting> task_options;
  std::vector<Setting> model_options;
  std::vector<uint64_t> seeds;  // sorted
  // Complete rows by falling accuracy, then the others by name.
  std::vector<Row> rows;
  // Scores of guessing; absent when no cell finished.
  absl::optional<double> chance_accuracy;
  absl::optional<double> context_guess_accuracy;
};

struct Leaderboard {
  Context context;  // of the cells
  // Of probes and of throughput records, which have no profile and no threads.
  Context probe_context;
  Context speed_context;
  std::vector<ResultRecord> cells;    // by board, variant and seed
  std::vector<std::string> variants;  // of all records, sorted
  std::vector<Board> boards;          // by task, then profile
  std::vector<Probe> probes;          // by name
  std::vector<Speed> speeds;          // by name
  // Records that a newer one of the same cell, probe or measurement stands for.
  int superseded = 0;
  // What was typed to have it made, without its arguments.
  std::string command = "./bazelw run //reports:leaderboard";

  // Whether each cell and each probe has its result. That a variant does not
  // support a task, or cannot be probed, is a result; a divergence, a failure
  // or a missing seed is none. How fast a variant is need not be known.
  bool IsComplete() const;
};

// Cells of failed and missing runs are records too, with their status and
// message. Of several records of one cell, or of one probe, the one with the
// newest date counts; so does of several measurements of one variant's speed.
Leaderboard MakeLeaderboard(std::vector<ResultRecord> records,
                            std::vector<ProbeRecord> probes = {},
                            std::vector<ThroughputRecord> throughput = {});

// "seed 7 diverged at step 120: the loss became NaN". An ok cell has no reason.
std::string UnfinishedReason(const ResultRecord& cell);

// "ok", "diverged", "unsupported" or "failed".
std::string StatusName(Status status);

}  // namespace mneme

#endif  // MNEME_REPORTS_BOARDS_H_
