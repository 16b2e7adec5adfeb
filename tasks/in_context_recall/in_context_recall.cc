// SPDX-License-Identifier: Apache-2.0
//
// In-context recall of MAD: Poli, Thomas, Nguyen et al., "Mechanistic Design
// and Scaling of Hybrid Architectures", arXiv 2403.17844. Pairs of keys and
// values follow each other, and a key that occurs again is to be followed by
// the same value; see mad/pair_recall.h.
//
// Unlike in mqar, questions are part of the context, keys are asked for often,
// values are not all different, and where a key occurred last is what counts.

#include <memory>

#include "absl/status/statusor.h"
#include "tasks/mad/mad.h"
#include "tasks/mad/pair_recall.h"
#include "tasks/task.h"

namespace mneme {
namespace {

absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
  PairRecall::Settings settings;
  settings.name = "in_context_recall";
  settings.length = options.Int("length");
  settings.vocabulary = options.Int("vocab");
  settings.train_on_all = TrainsOnAllTargets(options);
  return PairRecall::Make(settings);
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "in_context_recall";
  descriptor.group = "associative recall";
  descriptor.summary = "say the value that a key had before";
  descriptor.paper = "arXiv 2403.17844";
  descriptor.requires_causal = true;
  descriptor.options = {
      OptionSpec::Int("length", 64, 4, 1 << 24,
                      "tokens in a sequence; even, pairs of key and value"),
      OptionSpec::Int("vocab", 32, 4, 1 << 20,
                      "tokens: half of them keys, the others values"),
      TrainTargetsOption(),
  };
  descriptor.profiles = {
      {"quick", {{"length", "64"}, {"vocab", "32"}}},
      {"smoke", {{"length", "16"}, {"vocab", "8"}}},
      PublishedMad(
          {{"length", "128"}, {"vocab", "16"}, {"train_targets", "all"}}),
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Make});

}  // namespace
}  // namespace mneme
