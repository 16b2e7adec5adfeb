// SPDX-License-Identifier: Apache-2.0
//
// In-context recall of MAD (mad.h), of which `in_context_recall` and
// `noisy_recall` are settings.
//
// A sequence is L / 2 pairs of a key and a value. Keys are drawn uniformly,
// again and again; a key has the same value throughout its sequence, drawn
// uniformly when it first occurs, so that two keys may share one. Wherever a
// key occurs again, and at the last pair, whose key is drawn from those that
// occurred, its value is wanted as the prediction of the next token:
//
//   position  0 1 2 3 4 5 6 7 8 9       L = 10
//   token     B r A s ~ ~ B r A s       A, B keys, r, s values, ~ noise
//   target                r   s
//
// With `noise` p each pair but the last, and but one that is drawn to be there
// in any case, is replaced by two tokens of noise with probability p. Tokens
// are keys, then as many or one more values, then noise.
//
// The values stand in the sequence right behind the questions, so that models
// must be causal. `train_targets=all` scores every next token in training, as
// the original does: most of them cannot be known, and models learn what is
// asked more slowly. Validation and test ask for answers alone.
//
// The original cuts off the last value, at which nothing is asked; here it is
// part of the L tokens.

#ifndef MNEME_TASKS_MAD_PAIR_RECALL_H_
#define MNEME_TASKS_MAD_PAIR_RECALL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "attention/plugin/options.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {

class PairRecall : public Task {
 public:
  struct Settings {
    std::string name;  // of the task
    int64_t length = 0;
    int64_t vocabulary = 0;
    int64_t noise_vocabulary = 0;  // of those
    double noise = 0;              // share of the pairs
    bool train_on_all = false;
  };
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Settings& settings);

  int64_t vocabulary() const override { return settings_.vocabulary; }
  int64_t length() const override { return settings_.length; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double ChanceScore() const override { return 1.0 / values_; }
  double ContextGuessScore() const override;
  LeakFloors Floors() const override;
  std::string TokenText(int32_t token) const override;

 private:
  // What one scores who knows the sequence's map of keys to values so far, but
  // not which key is asked for: saying the value of any of them, or the value
  // that most of them have; and what one scores who sees three tokens, which
  // tell the answer if the pair before is of the same key.
  struct Guesses {
    double any = 0, best = 0, previous = 0;
  };

  explicit PairRecall(const Settings& settings);
  Guesses EstimateGuesses() const;

  const Settings settings_;
  const int64_t keys_;
  const int64_t values_;
  const TaskRandom random_;
};

}  // namespace mneme

#endif  // MNEME_TASKS_MAD_PAIR_RECALL_H_
