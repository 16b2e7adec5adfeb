// SPDX-License-Identifier: Apache-2.0
//
// Stores what training and testing gave in a record.

#ifndef MNEME_HARNESS_RECORD_SCORES_H_
#define MNEME_HARNESS_RECORD_SCORES_H_

#include "harness/rate_search.h"
#include "harness/reference_memory.h"
#include "harness/result.pb.h"
#include "harness/score_sheet.h"
#include "harness/trainer.h"
#include "tasks/task.h"

namespace mneme {

// The training that the record is about.
void StoreTraining(const TrainResult& result, const Task& task,
                   ResultRecord* record);

// All rates tried, and the time that all of them took.
void StoreAttempts(const RateSearch& search, const Task& task,
                   ResultRecord* record);

// Of sequences as long as the task's.
void StoreScore(const Score& score, const Task& task, LengthScore* to);

void StoreReference(const ReferenceScore& score, ReferencePoint* to);

}  // namespace mneme

#endif  // MNEME_HARNESS_RECORD_SCORES_H_
