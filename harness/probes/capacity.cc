// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/capacity.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/gemm.h"
#include "attention/plugin/suggest.h"
#include "attention/tensor/random.h"
#include "harness/probes/bootstrap.h"
#include "harness/probes/pair_memory.h"

namespace mneme {
namespace {

using kernels::MatrixView;

constexpr double kMilestone = 0.9;  // of pairs_at_90
// Where a curve may end: what lies below is noise that every reader knows.
constexpr double kFloor = 0.5;
// Points are a factor of 2 apart where next to nothing is lost, else of
// sqrt(2). Around the milestone they are no further than kFar, and nearer,
// though not than kNear, until recall falls by less than kGentle.
constexpr double kFull = 0.995, kFar = 1.5, kNear = 1.1, kGentle = 0.2;
constexpr int64_t kMostPairsPerDim = 64;
// Features of more would take gigabytes.
constexpr int64_t kPairsAtOnce = 256;
// State that the reads of one point may move.
constexpr int64_t kBytesToMove = int64_t{1} << 30;

constexpr struct {
  KeySet keys;
  absl::string_view name;
} kKeySets[] = {{KeySet::kRandom, "random"},
                {KeySet::kCorrelated, "correlated"},
                {KeySet::kOrthogonal, "orthogonal"}};

// Trials begin, ..., begin + count - 1.
struct Trials {
  int64_t begin, count;
};

// The pairs of all trials, drawn as they are needed.
class Pairs {
 public:
  Pairs(int64_t dim, const CapacitySettings& settings)
      : dim_(dim),
        settings_(settings),
        keys_(settings.trials),
        values_(settings.trials) {}

  void DrawUpTo(int64_t pairs) {
    for (int64_t t = 0; t < settings_.trials; ++t) {
      for (int64_t n = keys_[t].size() / dim_; n < pairs; ++n) {
        Random random(settings_.seed, StreamId("capacity pair"), Index(t, n));
        DrawKey(random, t);
        const std::vector<double> value = Direction(random);
        Append(value, 1, &values_[t]);
      }
    }
  }

  // Pairs first, ..., first + count - 1 of some trials.
  Tensor Keys(Trials trials, int64_t first, int64_t count) const {
    return Part(keys_, trials, first, count);
  }
  Tensor Values(Trials trials, int64_t first, int64_t count) const {
    return Part(values_, trials, first, count);
  }
  // All values of a trial up to `pairs`.
  MatrixView<const float> ValuesOf(int64_t trial, int64_t pairs) const {
    return {values_[trial].data(), static_cast<size_t>(pairs),
            static_cast<size_t>(dim_)};
  }
  const float* Key(int64_t trial, int64_t n) const {
    return keys_[trial].data() + n * dim_;
  }

  static uint64_t Index(uint64_t trial, uint64_t n) { return trial << 32 | n; }

 private:
  std::vector<double> Direction(Random& random) const {
    std::vector<double> x(dim_);
    for (double& entry : x) entry = random.Normal();
    return x;
  }

  void DrawKey(Random& random, int64_t trial) {
    std::vector<double> x = Direction(random);
    if (settings_.keys == KeySet::kCorrelated) {
      // Halves of the squared length.
      Random shared(settings_.seed, StreamId("capacity common key"), trial);
      const std::vector<double> common = Direction(shared);
      const double own_length = Length(x), common_length = Length(common);
      for (int64_t c = 0; c < dim_; ++c) {
        x[c] = x[c] / own_length + common[c] / common_length;
      }
    }
    // Twice: what rounding leaves of the others the first time is removed.
    const bool orthogonal = settings_.keys == KeySet::kOrthogonal;
    const std::vector<float>& others = keys_[trial];
    for (int pass = 0; orthogonal && pass < 2; ++pass) {
      for (size_t at = 0; at < others.size(); at += dim_) {
        double dot = 0;
        for (int64_t c = 0; c < dim_; ++c) dot += x[c] * others[at + c];
        dot /= static_cast<double>(dim_);  // their squared length
        for (int64_t c = 0; c < dim_; ++c) x[c] -= dot * others[at + c];
      }
    }
    Append(x, std::sqrt(static_cast<double>(dim_)), &keys_[trial]);
  }

  static double Length(const std::vector<double>& x) {
    double square = 0;
    for (double entry : x) square += entry * entry;
    return std::sqrt(square);
  }

  // x brought to a length.
  static void Append(const std::vector<double>& x, double length,
                     std::vector<float>* to) {
    const double scale = length / Length(x);
    for (double entry : x) to->push_back(static_cast<float>(entry * scale));
  }

  Tensor Part(const std::vector<std::vector<float>>& all, Trials trials,
              int64_t first, int64_t count) const {
    Tensor part(DType::kFloat32, {trials.count, count, 1, dim_});
    for (int64_t t = 0; t < trials.count; ++t) {
      std::copy_n(all[trials.begin + t].data() + first * dim_, count * dim_,
                  part.data<float>() + t * count * dim_);
    }
    return part;
  }

  const int64_t dim_;
  const CapacitySettings settings_;
  std::vector<std::vector<float>> keys_, values_;  // of each trial
};

// Of every trial, means over its reads.
struct Outcome {
  std::vector<double> cosine, recall;
};

// One width's curve in the making.
class Sweep {
 public:
  // See MeasureCapacity.
  Sweep(const Operators* operators, int64_t dim,
        const CapacitySettings& settings)
      : operators_(operators),
        dim_(dim),
        settings_(settings),
        pairs_(dim, settings) {}

  // Writes and reads n pairs; cheapest by rising n.
  absl::Status Measure(int64_t n);

  // By rising number of pairs.
  const std::map<int64_t, Outcome>& outcomes() const { return outcomes_; }

  // Of one memory of n pairs, at most the most that have been measured.
  absl::StatusOr<int64_t> StateBytes(int64_t n) const;

 private:
  // The trials of one operator's memory.
  Trials TrialsOf(size_t memory) const {
    const int64_t share =
        settings_.trials / static_cast<int64_t>(operators_->size());
    return {static_cast<int64_t>(memory) * share, share};
  }

  absl::Status Clear();
  // Adds pairs up to `end` to what is written.
  absl::Status WriteUpTo(int64_t end);
  // Reads some of n pairs back: all but the last are in the memory.
  absl::Status Read(Trials trials, int64_t n, PairMemory* memory,
                    Outcome* outcome) const;

  const Operators* operators_;
  const int64_t dim_;
  const CapacitySettings settings_;
  Pairs pairs_;
  std::vector<PairMemory> memories_;  // of each operator
  int64_t written_ = 0;               // pairs in each
  std::map<int64_t, Outcome> outcomes_;
};

absl::Status Sweep::Clear() {
  memories_.clear();
  written_ = 0;
  for (size_t i = 0; i < operators_->size(); ++i) {
    auto memory = PairMemory::Create((*operators_)[i].get(), TrialsOf(i).count,
                                     dim_, dim_);
    if (!memory.ok()) return memory.status();
    memories_.push_back(*std::move(memory));
  }
  return absl::OkStatus();
}

absl::Status Sweep::WriteUpTo(int64_t end) {
  while (written_ < end) {
    const int64_t count = std::min(kPairsAtOnce, end - written_);
    for (size_t i = 0; i < memories_.size(); ++i) {
      const absl::Status status =
          memories_[i].Write(pairs_.Keys(TrialsOf(i), written_, count),
                             pairs_.Values(TrialsOf(i), written_, count));
      if (!status.ok()) return status;
    }
    written_ += count;
  }
  return absl::OkStatus();
}

absl::Status Sweep::Measure(int64_t n) {
  pairs_.DrawUpTo(n);
  // The last pair of all is written when pairs are read.
  if (memories_.empty() || settings_.passes > 1 || written_ > n - 1) {
    if (absl::Status status = Clear(); !status.ok()) return status;
  }
  for (int64_t pass = 1; pass < settings_.passes; ++pass) {
    if (absl::Status status = WriteUpTo(n); !status.ok()) return status;
    written_ = 0;  // and again
  }
  if (absl::Status status = WriteUpTo(n - 1); !status.ok()) return status;
  Outcome outcome;
  for (size_t i = 0; i < memories_.size(); ++i) {
    const absl::Status status = Read(TrialsOf(i), n, &memories_[i], &outcome);
    if (!status.ok()) return status;
  }
  outcomes_[n] = std::move(outcome);
  return absl::OkStatus();
}

absl::Status Sweep::Read(Trials trials, int64_t n, PairMemory* memory,
                         Outcome* outcome) const {
  const int64_t affordable =
      kBytesToMove /
      (settings_.trials * std::max<int64_t>(1, memory->StateBytes()));
  const int64_t reads = std::min(
      n, std::clamp(affordable, (settings_.reads + 3) / 4, settings_.reads));
  std::vector<std::vector<uint64_t>> asked(trials.count);
  const Tensor queries(DType::kFloat32, {trials.count, reads, 1, dim_});
  for (int64_t t = 0; t < trials.count; ++t) {
    Random random(settings_.seed, StreamId("capacity reads"),
                  Pairs::Index(trials.begin + t, n));
    asked[t].resize(reads);
    DrawDistinct(n, absl::MakeSpan(asked[t]), &random);
    for (int64_t r = 0; r < reads; ++r) {
      std::copy_n(pairs_.Key(trials.begin + t, asked[t][r]), dim_,
                  queries.data<float>() + (t * reads + r) * dim_);
    }
  }
  const auto answers = memory->Read(pairs_.Keys(trials, n - 1, 1),
                                    pairs_.Values(trials, n - 1, 1), queries);
  if (!answers.ok()) return answers.status();
  std::vector<float> products(reads * n);
  for (int64_t t = 0; t < trials.count; ++t) {
    const MatrixView<const float> given = answers->Sequence<float>(t, 0);
    const MatrixView<float> scores(products.data(), reads, n);
    kernels::Gemm(kernels::Transpose::kNo, kernels::Transpose::kYes, given,
                  pairs_.ValuesOf(trials.begin + t, n), scores);
    double cosine = 0, recall = 0;
    for (int64_t r = 0; r < reads; ++r) {
      double square = 0;
      for (int64_t c = 0; c < dim_; ++c) {
        square += double{given(r, c)} * given(r, c);
      }
      if (!std::isfinite(square)) {
        return absl::InternalError(absl::StrCat(
            "of ", n, " pairs one was read back as what is no number"));
      }
      const int64_t own = asked[t][r];
      bool nearest = true;
      for (int64_t i = 0; i < n; ++i) {
        nearest = nearest && (i == own || scores(r, i) < scores(r, own));
      }
      recall += nearest ? 1 : 0;
      if (square > 0) cosine += scores(r, own) / std::sqrt(square);
    }
    outcome->cosine.push_back(cosine / static_cast<double>(reads));
    outcome->recall.push_back(recall / static_cast<double>(reads));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Sweep::StateBytes(int64_t n) const {
  auto memory = PairMemory::Create(operators_->front().get(), 1, dim_, dim_);
  if (!memory.ok()) return memory.status();
  const absl::Status status =
      memory->Write(pairs_.Keys({0, 1}, 0, n), pairs_.Values({0, 1}, 0, n));
  if (!status.ok()) return status;
  return memory->StateBytes();
}

double Mean(const std::vector<double>& of_trial,
            absl::Span<const int64_t> trials) {
  double sum = 0;
  for (int64_t t : trials) sum += of_trial[t];
  return sum / static_cast<double>(trials.size());
}

double MeanRecall(const Outcome& outcome) {
  return std::accumulate(outcome.recall.begin(), outcome.recall.end(), 0.0) /
         static_cast<double>(outcome.recall.size());
}

// The first N of the curve at which recall is below the milestone; none is the
// end.
std::map<int64_t, Outcome>::const_iterator FirstBelow(
    const std::map<int64_t, Outcome>& outcomes) {
  return std::find_if(outcomes.begin(), outcomes.end(), [](const auto& point) {
    return MeanRecall(point.second) < kMilestone;
  });
}

// Where recall first falls through the milestone, by interpolation in log N;
// infinity if it does not. One pair cannot be mistaken for another: the curve
// starts at (1, 1).
double PairsAtMilestone(const std::map<int64_t, Outcome>& outcomes,
                        absl::Span<const int64_t> trials) {
  double last_n = 1, last = 1;
  for (const auto& [pairs, outcome] : outcomes) {
    const auto n = static_cast<double>(pairs);
    const double recall = Mean(outcome.recall, trials);
    if (recall < kMilestone) {
      const double share = (last - kMilestone) / (last - recall);
      return last_n * std::pow(n / last_n, share);
    }
    last_n = n;
    last = recall;
  }
  return std::numeric_limits<double>::infinity();
}

// Until most reads fail.
absl::Status MeasureRising(int64_t most, Sweep* sweep) {
  double recall = 1;
  for (double n = 2;; n *= recall > kFull ? 2 : std::sqrt(2.0)) {
    const int64_t pairs = std::min<int64_t>(std::lround(n), most);
    const absl::Status status = sweep->Measure(pairs);
    if (!status.ok()) return status;
    recall = MeanRecall(sweep->outcomes().at(pairs));
    if (pairs == most || recall < kFloor) return absl::OkStatus();
  }
}

// Where recall falls through the milestone, halves the distance between points
// that are too far apart for a straight line between them.
absl::Status Refine(Sweep* sweep) {
  for (;;) {
    const std::map<int64_t, Outcome>& outcomes = sweep->outcomes();
    const auto above = FirstBelow(outcomes);
    if (above == outcomes.end()) return absl::OkStatus();
    double low = 1, drop = 1 - MeanRecall(above->second);
    if (above != outcomes.begin()) {
      const auto& [pairs, outcome] = *std::prev(above);
      low = static_cast<double>(pairs);
      drop = MeanRecall(outcome) - MeanRecall(above->second);
    }
    const double ratio = static_cast<double>(above->first) / low;
    const auto middle = std::lround(low * std::sqrt(ratio));
    if (ratio < kNear || (ratio < kFar && drop < kGentle) ||
        middle == std::lround(low) || middle == above->first) {
      return absl::OkStatus();
    }
    if (absl::Status s = sweep->Measure(middle); !s.ok()) return s;
  }
}

}  // namespace

absl::string_view KeySetName(KeySet keys) {
  return kKeySets[static_cast<int>(keys)].name;
}

absl::StatusOr<KeySet> ParseKeySet(absl::string_view name) {
  std::vector<std::string> known;
  for (const auto& entry : kKeySets) {
    if (entry.name == name) return entry.keys;
    known.emplace_back(entry.name);
  }
  return UnknownName("set of keys", name, known);
}

absl::StatusOr<CapacityCurve> MeasureCapacity(
    const Operators& operators, int64_t dim, const CapacitySettings& settings) {
  const int64_t most = std::min(
      settings.max_pairs,
      settings.keys == KeySet::kOrthogonal ? dim : kMostPairsPerDim * dim);
  Sweep sweep(&operators, dim, settings);
  absl::Status status = MeasureRising(most, &sweep);
  if (status.ok()) status = Refine(&sweep);
  if (!status.ok()) return status;

  const std::map<int64_t, Outcome>& outcomes = sweep.outcomes();
  const Bootstrap bootstrap(settings.trials, settings.seed);
  CapacityCurve curve;
  curve.set_key_dim(dim);
  curve.set_keys(std::string(KeySetName(settings.keys)));
  curve.set_passes(settings.passes);
  for (const auto& [n, outcome] : outcomes) {
    CapacityPoint* point = curve.add_points();
    point->set_pairs(n);
    *point->mutable_cosine() = bootstrap.Mean(outcome.cosine);
    *point->mutable_recall() = bootstrap.Mean(outcome.recall);
  }
  int64_t held = outcomes.rbegin()->first;
  if (FirstBelow(outcomes) != outcomes.end()) {
    *curve.mutable_pairs_at_90() =
        bootstrap.Interval([&](absl::Span<const int64_t> trials) {
          return PairsAtMilestone(outcomes, trials);
        });
    held = static_cast<int64_t>(curve.pairs_at_90().mean());
  }
  const auto bytes = sweep.StateBytes(held);
  if (!bytes.ok()) return bytes.status();
  curve.set_state_bytes(*bytes);
  return curve;
}

}  // namespace mneme
