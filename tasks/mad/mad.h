// SPDX-License-Identifier: Apache-2.0
//
// What the tasks of MAD share: Poli, Thomas, Nguyen et al., "Mechanistic Design
// and Scaling of Hybrid Architectures", arXiv 2403.17844.

#ifndef MNEME_TASKS_MAD_MAD_H_
#define MNEME_TASKS_MAD_MAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "attention/plugin/options.h"
#include "tasks/task.h"

namespace mneme {

// The profile "published/mad" of a task with the given baseline values: two
// blocks of mixer and SwiGLU of width 128, 200 epochs of `examples` examples in
// batches of 128, AdamW on a cosine from the rate to 1e-6, no warm-up and no
// clipping.
//
// Of the paper's grid, learning rates 1e-4, 5e-4 and 1e-3 times weight decays 0
// and 0.1, the profile has the two higher rates without decay; --set
// learning_rate=1e-4 with rates=1, and weight_decay=0.1, are the others. The
// quirks of its protocol are in the profile, each an option that can be set
// otherwise: there is no validation set, so that the test set stops the
// training (at an accuracy of 0.999) and chooses the weights and the rate, and
// accuracy is the mean over target classes, not over answers.
//
// Not the paper's: its precision of bfloat16 (here float32), and the rotary
// positions of its attention (here the mixer's own).
TaskProfile PublishedMad(OptionValues values, int64_t examples = 12800);

// The option `train_targets` of recall tasks: whether training asks for answers
// alone or, as published, for every next token.
OptionSpec TrainTargetsOption();
bool TrainsOnAllTargets(const Options& options);

// The share of its draws that the most frequent kind has, expected of 1, 2,
// ..., `draws` uniform draws from `kinds`: what one scores at best who is to
// say the kinds in an order that he does not know. Estimated, to about 0.01.
std::vector<double> ExpectedLargestShares(int64_t kinds, int64_t draws);

// A letter for each of the first 26 numbers, then "<prefix><number>": how MAD's
// tokens are shown.
std::string LetterText(int64_t number, char first, const std::string& prefix);

}  // namespace mneme

#endif  // MNEME_TASKS_MAD_MAD_H_
