// SPDX-License-Identifier: Apache-2.0
//
// AdamW (arXiv 1711.05101) with a linear warm-up, a cosine decay, continuous or
// by epochs, and clipping of the global gradient norm.

#ifndef MNEME_HARNESS_OPTIMIZER_H_
#define MNEME_HARNESS_OPTIMIZER_H_

#include <cstdint>
#include <vector>

#include "attention/tensor/tape.h"

namespace mneme {

struct AdamWConfig {
  double learning_rate = 3e-3;  // the peak
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.1;  // of parameters with decay set
  double clip_norm = 1.0;     // 0: no clipping
  int64_t warmup_steps = 50;
  int64_t total_steps = 1000;    // where the cosine reaches its end
  double min_learning_rate = 0;  // that end
  // If not 0, the cosine is taken at the beginning of an epoch and kept
  // throughout, and its end is the end of the epoch that has the last step.
  int64_t steps_per_epoch = 0;
  // Otherwise all parameters decay, at one learning rate.
  bool parameter_groups = true;
};

// The learning rate of step 0, 1, ...: it rises linearly to the peak over
// warmup_steps steps (the first one already moves), then falls along half a
// cosine to min_learning_rate at total_steps. By epochs the cosine begins at
// step 0.
double LearningRate(const AdamWConfig& config, int64_t step);

// Updates parameters in place. Moments are float64 for float64 models.
class AdamW {
 public:
  AdamW(ParameterSet* parameters, const AdamWConfig& config);

  // One update from the summed gradients, which are left scaled by the clipping
  // factor. Returns the gradient norm before clipping; when that is not finite
  // nothing is changed.
  double Step(GradientBuffer* gradients);

  int64_t steps() const { return steps_; }

 private:
  ParameterSet* parameters_;
  AdamWConfig config_;
  Tensor first_, second_;  // moments, in the order of the GradientBuffer
  int64_t steps_ = 0;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_OPTIMIZER_H_
