// SPDX-License-Identifier: Apache-2.0

#include "harness/rate_search.h"

#include <cmath>
#include <tuple>
#include <utility>

namespace mneme {

std::vector<double> LearningRates(const Options& train) {
  std::vector<double> rates;
  for (int64_t i = 0; i < train.Int("rates"); ++i) {
    rates.push_back(train.Real("learning_rate") *
                    std::pow(train.Real("rate_factor"), i));
  }
  return rates;
}

bool Better(const Attempt& a, const Attempt& b) {
  const auto key = [](const Attempt& x) {
    return std::make_tuple(x.result.diverged, -x.result.validation_accuracy,
                           x.result.validation_loss, x.learning_rate);
  };
  return key(a) < key(b);
}

absl::StatusOr<RateSearch> TrainAtRates(
    const std::function<absl::StatusOr<std::unique_ptr<Model>>()>& make_model,
    const Task& task, const Options& train, uint64_t seed, int threads,
    const std::function<void(const ProgressPoint&)>& progress) {
  RateSearch search;
  for (const double rate : LearningRates(train)) {
    absl::StatusOr<std::unique_ptr<Model>> model = make_model();
    if (!model.ok()) return model.status();
    Trainer trainer(model->get(), &task, train, seed, threads);
    absl::StatusOr<TrainResult> result = trainer.Train(rate, progress);
    if (!result.ok()) return result.status();
    search.attempts.push_back({rate, *std::move(result)});
    if (search.model == nullptr ||
        Better(search.attempts.back(), search.attempts[search.best])) {
      search.best = search.attempts.size() - 1;
      search.model = *std::move(model);
    }
  }
  return search;
}

}  // namespace mneme
