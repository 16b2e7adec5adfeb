// SPDX-License-Identifier: Apache-2.0

#include "tasks/leak_probes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"

namespace mneme {
namespace {

// How often each target was seen. Ordered, so that ties go to the smallest.
using TargetCounts = absl::btree_map<int32_t, int64_t>;

int32_t MostFrequent(const TargetCounts& counts) {
  const auto best = std::max_element(
      counts.begin(), counts.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  return best == counts.end() ? 0 : best->first;
}

// A model of the target at scored positions, which it is shown one by one.
class Probe {
 public:
  virtual ~Probe() = default;
  // The next token of the sequence; first says that a new one begins.
  virtual void Read(int32_t token, int64_t position) = 0;
  // Asks of that position once the whole sequence was read.
  virtual void Ask(int64_t) {}
  // The position just read is scored: learn its target, or tell it.
  virtual void Learn(int32_t target) = 0;
  virtual int32_t Tell() const = 0;
};

class PositionProbe : public Probe {
 public:
  void Read(int32_t, int64_t position) override { position_ = position; }
  void Ask(int64_t position) override { position_ = position; }
  void Learn(int32_t target) override { ++counts_[position_][target]; }
  int32_t Tell() const override {
    const auto found = counts_.find(position_);
    return found == counts_.end() ? 0 : MostFrequent(found->second);
  }

 private:
  int64_t position_ = 0;
  absl::flat_hash_map<int64_t, TargetCounts> counts_;
};

class NgramProbe : public Probe {
 public:
  void Read(int32_t token, int64_t position) override {
    if (position == 0) last_ = {kNone, kNone, kNone};
    last_ = {token, last_[0], last_[1]};
  }
  void Ask(int64_t position) override { asked_ = position; }
  void Learn(int32_t target) override {
    for (int n = 1; n <= kLongest; ++n) ++counts_[Context(n)][target];
  }
  int32_t Tell() const override {
    for (int n = kLongest; n >= 1; --n) {
      const auto found = counts_.find(Context(n));
      if (found != counts_.end()) return MostFrequent(found->second);
    }
    return 0;
  }

 private:
  static constexpr int kLongest = 3;
  static constexpr int32_t kNone = -1;
  using Tokens = std::array<int32_t, kLongest>;
  using Key = std::pair<int64_t, Tokens>;

  // What is asked and the last n tokens; no token of a sequence is -2.
  Key Context(int n) const {
    Tokens context = last_;
    std::fill(context.begin() + n, context.end(), -2);
    return {asked_, context};
  }

  int64_t asked_ = kNone;  // the question, where it is not the last token
  Tokens last_ = {kNone, kNone, kNone};
  absl::flat_hash_map<Key, TargetCounts> counts_;
};

// Counts of tokens so far in a sequence, by size: exact up to 32, then in steps
// of a quarter.
class Bag {
 public:
  void Read(int32_t token, int64_t position) {
    if (position == 0) counts_.clear();
    ++counts_[token];
  }
  static int32_t Size(int64_t count) {
    if (count <= 32) return static_cast<int32_t>(count);
    return 32 + static_cast<int32_t>(4 * std::log2(count / 32.0));
  }
  const absl::btree_map<int32_t, int64_t>& counts() const { return counts_; }

 private:
  absl::btree_map<int32_t, int64_t> counts_;
};

// Of the tokens in the bag, the one most likely to be an answer, as tokens of
// its count are, and as it is itself.
class PickingProbe : public Probe {
 public:
  void Read(int32_t token, int64_t position) override {
    bag_.Read(token, position);
  }
  void Learn(int32_t target) override {
    for (const auto& [token, count] : bag_.counts()) {
      const int32_t size = Bag::Size(count);
      for (Tally* tally : {&any_[size], &own_[{token, size}]}) {
        tally->seen += 1;
        tally->answers += token == target;
      }
    }
  }
  int32_t Tell() const override {
    int32_t best = 0;
    double highest = -1;
    for (const auto& [token, count] : bag_.counts()) {
      const double rate = Rate(token, Bag::Size(count));
      if (rate > highest) {
        highest = rate;
        best = token;
      }
    }
    return best;
  }

 private:
  struct Tally {
    int64_t seen = 0, answers = 0;
  };

  // What is known of the token itself, leaning on what is known of any by the
  // weight of a few observations.
  double Rate(int32_t token, int32_t size) const {
    constexpr double kWeight = 4;
    const auto any = any_.find(size);
    const double prior = any == any_.end()
                             ? 0
                             : static_cast<double>(any->second.answers) /
                                   static_cast<double>(any->second.seen);
    const auto own = own_.find({token, size});
    if (own == own_.end()) return prior;
    return (static_cast<double>(own->second.answers) + kWeight * prior) /
           (static_cast<double>(own->second.seen) + kWeight);
  }

  Bag bag_;
  absl::flat_hash_map<int32_t, Tally> any_;
  absl::flat_hash_map<std::pair<int32_t, int32_t>, Tally> own_;
};

// Naive Bayes: P(target) times P(count of token | target) over the bag.
class BayesProbe : public Probe {
 public:
  void Read(int32_t token, int64_t position) override {
    bag_.Read(token, position);
  }
  void Learn(int32_t target) override {
    ++targets_[target];
    for (const auto& [token, count] : bag_.counts()) {
      ++features_[{token, Bag::Size(count)}][target];
    }
  }
  int32_t Tell() const override {
    // Larger sets of answers would take long, and naive Bayes needs more data
    // of each answer than there is.
    constexpr size_t kMostTargets = 256;
    if (targets_.size() > kMostTargets) return MostFrequent(targets_);
    std::vector<std::pair<int32_t, double>> scores;
    for (const auto& [target, seen] : targets_) {
      // Each count was either seen with this target or not.
      scores.emplace_back(target,
                          std::log(static_cast<double>(seen)) -
                              static_cast<double>(bag_.counts().size()) *
                                  std::log(static_cast<double>(seen) + 2));
    }
    for (const auto& [token, count] : bag_.counts()) {
      const auto feature = features_.find({token, Bag::Size(count)});
      if (feature == features_.end()) continue;
      for (auto& [target, score] : scores) {
        const auto with = feature->second.find(target);
        if (with == feature->second.end()) continue;
        score += std::log(static_cast<double>(with->second) + 1);
      }
    }
    return std::max_element(
               scores.begin(), scores.end(),
               [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

 private:
  Bag bag_;
  TargetCounts targets_;
  absl::flat_hash_map<std::pair<int32_t, int32_t>, TargetCounts> features_;
};

// Calls at(target) for each scored position of the example, read up to there,
// or to its end if that is where the task's answers are given.
template <typename At>
void Show(const Task& task, const Example& example, Probe* probe,
          const At& at) {
  const bool from_last = task.AnswersFromLastToken();
  const auto length = static_cast<int64_t>(example.tokens.size());
  if (from_last) {
    for (int64_t t = 0; t < length; ++t) probe->Read(example.tokens[t], t);
  }
  for (int64_t t = 0; t < length; ++t) {
    if (!from_last) probe->Read(example.tokens[t], t);
    if (example.targets[t] == kUnscored) continue;
    if (from_last) probe->Ask(t);
    at(example.targets[t]);
  }
}

double ScoreProbe(const Task& task, uint64_t seed, uint64_t examples,
                  Probe* probe) {
  Example example;
  for (uint64_t index = 0; index < examples; ++index) {
    task.Generate(Split::kTrain, seed, index, &example);
    Show(task, example, probe, [&](int32_t target) { probe->Learn(target); });
  }
  double total = 0;
  std::vector<int32_t> predictions;
  for (uint64_t index = 0; index < examples; ++index) {
    task.Generate(Split::kValidation, seed, index, &example);
    predictions.clear();
    Show(task, example, probe,
         [&](int32_t) { predictions.push_back(probe->Tell()); });
    total += task.Score(example, predictions);
  }
  return total / static_cast<double>(examples);
}

}  // namespace

LeakScores ScoreLeakProbes(const Task& task, uint64_t seed, uint64_t examples) {
  PositionProbe position;
  NgramProbe ngram;
  PickingProbe picking;
  BayesProbe bayes;
  LeakScores scores;
  scores.position = ScoreProbe(task, seed, examples, &position);
  scores.ngram = ScoreProbe(task, seed, examples, &ngram);
  scores.bag = std::max(ScoreProbe(task, seed, examples, &picking),
                        ScoreProbe(task, seed, examples, &bayes));
  return scores;
}

}  // namespace mneme
