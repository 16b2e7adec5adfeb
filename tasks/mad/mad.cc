// SPDX-License-Identifier: Apache-2.0

#include "tasks/mad/mad.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "attention/tensor/random.h"

namespace mneme {

TaskProfile PublishedMad(OptionValues values, int64_t examples) {
  constexpr int64_t kBatch = 128;
  constexpr int64_t kEpochs = 200;
  const int64_t epoch = std::max<int64_t>(examples / kBatch, 1);
  TaskProfile profile;
  profile.name = "published/mad";
  profile.values = std::move(values);
  profile.model = {{"layers", "2"},
                   {"heads", "16"},
                   {"width", "128"},
                   {"mlp", "swiglu"},
                   {"mlp_factor", "4"},
                   {"short_conv", "0"},
                   {"embedding_deviation", "0.02"},
                   {"init", "uniform"}};
  profile.train = {{"steps", absl::StrCat(kEpochs * epoch)},
                   {"batch", absl::StrCat(kBatch)},
                   {"train_examples", absl::StrCat(examples)},
                   {"order", "shuffled"},
                   {"learning_rate", "0.0005"},
                   {"rates", "2"},
                   {"rate_factor", "2"},
                   {"schedule", "epoch_cosine"},
                   {"min_learning_rate", "1e-06"},
                   {"warmup", "0"},
                   {"clip_norm", "0"},
                   {"weight_decay", "0"},
                   {"eval_every", absl::StrCat(epoch)},
                   {"test_examples", "1280"},
                   {"validation_examples", "1280"},
                   {"stop_accuracy", "0.999"},
                   {"select", "test"},
                   {"average", "classes"}};
  return profile;
}

OptionSpec TrainTargetsOption() {
  return OptionSpec::Choice("train_targets", "answers", {"answers", "all"},
                            "what training asks: answers alone, or every next "
                            "token, as published");
}

bool TrainsOnAllTargets(const Options& options) {
  return options.Choice("train_targets") == "all";
}

std::vector<double> ExpectedLargestShares(int64_t kinds, int64_t draws) {
  constexpr int64_t kDraws = 1 << 20;  // in all, if that is enough
  const int64_t examples = std::clamp<int64_t>(kDraws / draws, 64, 4096);
  Random random(/*seed=*/0, StreamId("mad/largest share"));
  std::vector<double> shares(draws);
  absl::flat_hash_map<uint64_t, int64_t> counts;
  for (int64_t example = 0; example < examples; ++example) {
    counts.clear();
    int64_t most = 0;
    for (int64_t i = 0; i < draws; ++i) {
      most = std::max(most, ++counts[random.Below(kinds)]);
      shares[i] += static_cast<double>(most);
    }
  }
  for (int64_t i = 0; i < draws; ++i) {
    shares[i] /= static_cast<double>(examples) * static_cast<double>(i + 1);
  }
  return shares;
}

std::string LetterText(int64_t number, char first, const std::string& prefix) {
  if (number < 26) return std::string(1, static_cast<char>(first + number));
  return absl::StrCat(prefix, number);
}

}  // namespace mneme
