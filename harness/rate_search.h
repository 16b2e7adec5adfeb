// SPDX-License-Identifier: Apache-2.0
//
// Training the same model at several learning rates. Mechanisms differ in the
// rate that suits them, and at any one rate a comparison of mechanisms is a
// comparison of their tastes.

#ifndef MNEME_HARNESS_RATE_SEARCH_H_
#define MNEME_HARNESS_RATE_SEARCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/plugin/options.h"
#include "harness/model.h"
#include "harness/trainer.h"
#include "tasks/task.h"

namespace mneme {

// What training's options name: learning_rate times rate_factor^i for i <
// rates.
std::vector<double> LearningRates(const Options& train);

struct Attempt {
  double learning_rate = 0;
  TrainResult result;
};

// Whether a is the better one: it did not diverge, its validation accuracy is
// higher, its validation loss is lower, its learning rate is lower; the first
// of these that makes a difference decides.
bool Better(const Attempt& a, const Attempt& b);

struct RateSearch {
  std::vector<Attempt> attempts;  // in the order of LearningRates
  size_t best = 0;
  std::unique_ptr<Model> model;  // as the best attempt left it
};

// Makes and trains one model for every rate, each from the same initial
// weights, if make_model gives equal models, and on the same examples. Test
// data are left alone (unless options say select=test). threads >= 1.
absl::StatusOr<RateSearch> TrainAtRates(
    const std::function<absl::StatusOr<std::unique_ptr<Model>>()>& make_model,
    const Task& task, const Options& train, uint64_t seed, int threads,
    const std::function<void(const ProgressPoint&)>& progress);

}  // namespace mneme

#endif  // MNEME_HARNESS_RATE_SEARCH_H_
