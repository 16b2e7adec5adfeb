// SPDX-License-Identifier: Apache-2.0
//
// Noisy in-context recall of MAD: Poli, Thomas, Nguyen et al., "Mechanistic
// Design and Scaling of Hybrid Architectures", arXiv 2403.17844. Pairs of keys
// and values follow each other, some replaced by tokens of noise, and a key
// that occurs again is to be followed by the same value; see
// mad/pair_recall.h.

#include <memory>

#include "absl/status/statusor.h"
#include "tasks/mad/mad.h"
#include "tasks/mad/pair_recall.h"
#include "tasks/task.h"

namespace mneme {
namespace {

absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
  PairRecall::Settings settings;
  settings.name = "noisy_recall";
  settings.length = options.Int("length");
  settings.vocabulary = options.Int("vocab");
  settings.noise_vocabulary = options.Int("noise_vocab");
  settings.noise = options.Real("noise");
  settings.train_on_all = TrainsOnAllTargets(options);
  return PairRecall::Make(settings);
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "noisy_recall";
  descriptor.group = "associative recall";
  descriptor.summary = "say the value that a key had before, among noise";
  descriptor.paper = "arXiv 2403.17844";
  descriptor.requires_causal = true;
  descriptor.options = {
      OptionSpec::Int("length", 64, 4, 1 << 24,
                      "tokens in a sequence; even, pairs of key and value"),
      OptionSpec::Int("vocab", 48, 5, 1 << 20,
                      "tokens: noise_vocab of noise, of the others half keys, "
                      "half values"),
      OptionSpec::Int("noise_vocab", 16, 1, 1 << 19, "tokens of noise"),
      OptionSpec::Real("noise", 0.2, 0, 0.99,
                       "share of pairs that are noise instead"),
      TrainTargetsOption(),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"vocab", "48"},
        {"noise_vocab", "16"},
        {"noise", "0.2"}}},
      {"smoke",
       {{"length", "16"},
        {"vocab", "12"},
        {"noise_vocab", "4"},
        {"noise", "0.4"}}},
      PublishedMad({{"length", "128"},
                    {"vocab", "32"},
                    {"noise_vocab", "16"},
                    {"noise", "0.2"},
                    {"train_targets", "all"}}),
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Make});

}  // namespace
}  // namespace mneme
