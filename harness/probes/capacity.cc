// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/capacity.h"

#include <algorithm>
#include <cmath>
#include <string>
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
constexpr int64_t kMostPairsPerDim = 64;
// State that the reads of one point may move.
constexpr int64_t kBytesToMove = int64_t{1} << 30;

constexpr struct {
  KeySet keys;
  absl::string_view name;
} kKeySets[] = {{KeySet::kRandom, "random"},
                {KeySet::kCorrelated, "correlated"},
                {KeySet::kOrthogonal, "orthogonal"}};

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

  // Pairs first, ..., first + count - 1 of the first `trials` trials.
  Tensor Keys(int64_t trials, int64_t first, int64_t count) const {
    return Part(keys_, trials, first, count);
  }
  Tensor Values(int64_t trials, int64_t first, int64_t count) const {
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

  Tensor Part(const std::vector<std::vector<float>>& all, int64_t trials,
              int64_t first, int64_t count) const {
    Tensor part(DType::kFloat32, {trials, count, 1, dim_});
    for (int64_t t = 0; t < trials; ++t) {
      std::copy_n(all[t].data() + first * dim_, count * dim_,
                  part.data<float>() + t * count * dim_);
    }
    return part;
  }

  const int64_t dim_;
  const CapacitySettings settings_;
  std::vector<std::vector<float>> keys_, values_;  // of each trial
};

// Means over the reads of every trial.
struct Outcome {
  std::vector<double> cosine, recall;
};

// Reads some of N pairs back: all but the last are in the memory.
absl::StatusOr<Outcome> ReadBack(const Pairs& pairs, int64_t dim, int64_t n,
                                 const CapacitySettings& settings,
                                 PairMemory* memory) {
  const int64_t trials = settings.trials;
  const int64_t affordable =
      kBytesToMove / (trials * std::max<int64_t>(1, memory->StateBytes()));
  const int64_t reads = std::min(
      n, std::clamp(affordable, (settings.reads + 3) / 4, settings.reads));
  std::vector<std::vector<uint64_t>> asked(trials);
  const Tensor queries(DType::kFloat32, {trials, reads, 1, dim});
  for (int64_t t = 0; t < trials; ++t) {
    Random random(settings.seed, StreamId("capacity reads"),
                  Pairs::Index(t, n));
    asked[t].resize(reads);
    DrawDistinct(n, absl::MakeSpan(asked[t]), &random);
    for (int64_t r = 0; r < reads; ++r) {
      std::copy_n(pairs.Key(t, asked[t][r]), dim,
                  queries.data<float>() + (t * reads + r) * dim);
    }
  }
  const auto answers = memory->Read(pairs.Keys(trials, n - 1, 1),
                                    pairs.Values(trials, n - 1, 1), queries);
  if (!answers.ok()) return answers.status();
  Outcome outcome;
  std::vector<float> products(reads * n);
  for (int64_t t = 0; t < trials; ++t) {
    const MatrixView<const float> given = answers->Sequence<float>(t, 0);
    const MatrixView<float> scores(products.data(), reads, n);
    kernels::Gemm(kernels::Transpose::kNo, kernels::Transpose::kYes, given,
                  pairs.ValuesOf(t, n), scores);
    double cosine = 0, recall = 0;
    for (int64_t r = 0; r < reads; ++r) {
      double square = 0;
      for (int64_t c = 0; c < dim; ++c) {
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
    outcome.cosine.push_back(cosine / static_cast<double>(reads));
    outcome.recall.push_back(recall / static_cast<double>(reads));
  }
  return outcome;
}

// How many pairs to try.
std::vector<int64_t> Grid(int64_t dim, const CapacitySettings& settings) {
  const int64_t most =
      settings.keys == KeySet::kOrthogonal
          ? std::min(dim, settings.max_pairs)
          : std::min(kMostPairsPerDim * dim, settings.max_pairs);
  std::vector<int64_t> grid;
  double n = 2;
  for (; std::lround(n) < most; n *= std::sqrt(2.0)) {
    if (grid.empty() || std::lround(n) > grid.back()) {
      grid.push_back(std::lround(n));
    }
  }
  grid.push_back(most);
  return grid;
}

double Mean(const std::vector<double>& of_trial,
            absl::Span<const int64_t> trials) {
  double sum = 0;
  for (int64_t t : trials) sum += of_trial[t];
  return sum / static_cast<double>(trials.size());
}

// Where recall falls through the milestone, by interpolation in log N; the
// largest N where it does not. One pair cannot be mistaken for another: the
// curve starts at (1, 1).
double PairsAtMilestone(const std::vector<int64_t>& pairs,
                        const std::vector<Outcome>& outcomes,
                        absl::Span<const int64_t> trials) {
  double last_n = 1, last = 1;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto n = static_cast<double>(pairs[i]);
    const double recall = Mean(outcomes[i].recall, trials);
    if (recall < kMilestone) {
      const double share = (last - kMilestone) / (last - recall);
      return last_n * std::pow(n / last_n, share);
    }
    last_n = n;
    last = recall;
  }
  return last_n;
}

absl::StatusOr<int64_t> MeasureStateBytes(const Operator& op,
                                          const Pairs& pairs, int64_t dim,
                                          int64_t n) {
  auto memory = PairMemory::Create(&op, 1, dim, dim);
  if (!memory.ok()) return memory.status();
  const absl::Status status =
      memory->Write(pairs.Keys(1, 0, n), pairs.Values(1, 0, n));
  if (!status.ok()) return status;
  return memory->StateBytes();
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
    const Operator& op, int64_t dim, const CapacitySettings& settings) {
  auto memory = PairMemory::Create(&op, settings.trials, dim, dim);
  if (!memory.ok()) return memory.status();
  const Bootstrap bootstrap(settings.trials, settings.seed);
  Pairs pairs(dim, settings);
  CapacityCurve curve;
  curve.set_key_dim(dim);
  curve.set_keys(std::string(KeySetName(settings.keys)));
  curve.set_passes(settings.passes);
  std::vector<int64_t> tried;
  std::vector<Outcome> outcomes;
  int64_t written = 0;
  for (int64_t n : Grid(dim, settings)) {
    pairs.DrawUpTo(n);
    if (settings.passes > 1) {  // what was written ends otherwise than this
      memory = PairMemory::Create(&op, settings.trials, dim, dim);
      written = 0;
    }
    for (int64_t pass = 1; pass <= settings.passes; ++pass) {
      // The last pair of all is written when pairs are read.
      const int64_t end = pass < settings.passes ? n : n - 1;
      const absl::Status status =
          memory->Write(pairs.Keys(settings.trials, written, end - written),
                        pairs.Values(settings.trials, written, end - written));
      if (!status.ok()) return status;
      written = pass < settings.passes ? 0 : end;
    }
    auto outcome = ReadBack(pairs, dim, n, settings, &*memory);
    if (!outcome.ok()) return outcome.status();
    CapacityPoint* point = curve.add_points();
    point->set_pairs(n);
    *point->mutable_cosine() = bootstrap.Mean(outcome->cosine);
    *point->mutable_recall() = bootstrap.Mean(outcome->recall);
    tried.push_back(n);
    outcomes.push_back(*std::move(outcome));
    if (point->recall().mean() < kFloor) break;
  }
  int64_t held = tried.back();
  if (std::any_of(curve.points().begin(), curve.points().end(),
                  [](const CapacityPoint& point) {
                    return point.recall().mean() < kMilestone;
                  })) {
    *curve.mutable_pairs_at_90() =
        bootstrap.Interval([&](absl::Span<const int64_t> trials) {
          return PairsAtMilestone(tried, outcomes, trials);
        });
    held = static_cast<int64_t>(curve.pairs_at_90().mean());
  }
  const auto bytes = MeasureStateBytes(op, pairs, dim, held);
  if (!bytes.ok()) return bytes.status();
  curve.set_state_bytes(*bytes);
  return curve;
}

}  // namespace mneme
