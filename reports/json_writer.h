// SPDX-License-Identifier: Apache-2.0
//
// leaderboard.json, for programs:
//
//   {"schema": 1,
//    "context": {"date", "oldest_date", "profile", "commit", "machine",
//    "cores",
//                "simd_target", "compiler", "build_mode", "threads"},
//    "cells": [{"variant", "family", "task", "profile", "seed",
//               "status": "ok" | "diverged" | "unsupported" | "failed",
//               "status_message", "status_step", "metrics": {...},
//               "state_bytes", "parameters", "train_tokens_per_second",
//               "options": {"variant", "task", "model", "train"}, ...}],
//    "rankings": [{"task", "profile", "rows": [{"variant", "rank": [1, 2],
//                  "accuracy", "interval": [low, high], ...}]}],
//    "probes": [{"variant", "unsupported", "failure", "trials",
//                "capacity": [{"key_dim", "keys", "passes", "pairs_at_90",
//                              "state_bytes", "pairs_at_90_per_kib",
//                              "points": [{"pairs", "recall", "cosine"}]}],
//                "approximation": [{"knob", "exact", "setting",
//                                   "points": [{"size", "error"}]}], ...}],
//    "throughput": [{"variant", "options", "contender", "phase", "shape",
//                    "threads", "milliseconds", "tokens_per_second",
//                    "fraction_of_limit", ...}],
//    "ceilings": [{"beside", "threads", "levels", ...}]}
//
// Throughput and ceilings are as //harness:throughput -- --json has them: rates
// of a ceiling ("flops", "exps" and their like, and of a level
// "bytes_per_second" and "read_write_bytes_per_second") are there if they were
// measured.
// A measurement of a probe is {"mean", "low", "high"}.
// Numbers are numbers. What a cell that is not ok did not measure is null. A
// context field on which cells differ is an array of its values, most frequent
// first; one that nobody knows is null.

#ifndef MNEME_REPORTS_JSON_WRITER_H_
#define MNEME_REPORTS_JSON_WRITER_H_

#include <string>

#include "reports/boards.h"

namespace mneme {

// Ends in a newline. Text that is not UTF-8 is replaced, never refused.
std::string RenderJson(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_JSON_WRITER_H_
