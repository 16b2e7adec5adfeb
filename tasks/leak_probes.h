// SPDX-License-Identifier: Apache-2.0
//
// Three models without a memory, fitted to a task by counting. What they score,
// a mechanism scores without looking back, so a task must know it: it declares
// the most that each may reach (Task::Floors), and the task contract holds it
// to that.
//
//   position  the target most frequent at this position of the sequence. Finds
//             answers that always stand in the same order.
//   bag       the tokens up to the question, each with the number of times it
//             occurs, in no order. Two ways of using them are fitted and the
//             better one counts: picking the token whose count is most often
//             that of an answer, and naive Bayes from counts to answers.
//   ngram     the target most frequent after the last three tokens, the
//             question's own among them; after two, or one, where three were
//             never seen before. Where answers are given from the last token
//             (Task::AnswersFromLastToken) the question is the position asked
//             for, and is known besides. Finds maps that do not change from one
//             example to the next.
//
// All see training examples and are scored on validation examples by the task's
// own score.

#ifndef MNEME_TASKS_LEAK_PROBES_H_
#define MNEME_TASKS_LEAK_PROBES_H_

#include <cstdint>

#include "tasks/task.h"

namespace mneme {

struct LeakScores {
  double position = 0;
  double bag = 0;
  double ngram = 0;
};

// Fits to training examples 0 ... examples - 1 of the seed, scores on as many
// of validation. Deterministic. Memory grows with the tokens looked at.
LeakScores ScoreLeakProbes(const Task& task, uint64_t seed, uint64_t examples);

}  // namespace mneme

#endif  // MNEME_TASKS_LEAK_PROBES_H_
