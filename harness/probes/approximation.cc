// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/approximation.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/tensor/random.h"
#include "harness/probes/bootstrap.h"
#include "harness/probes/operators.h"
#include "harness/probes/pair_memory.h"

namespace mneme {
namespace {

constexpr int64_t kLength = 512, kHeads = 2, kDim = 32;
constexpr int64_t kPatternDim = 64, kMostCues = 32;
constexpr double kCueDistance = 0.5;  // in lengths of a pattern

// |a - b| / |b|.
double RelativeError(const Tensor& a, const Tensor& b) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < b.elements(); ++i) {
    const double exact = b.data<float>()[i];
    const double error = a.data<float>()[i] - exact;
    difference += error * error;
    norm += exact * exact;
  }
  return std::sqrt(difference / norm);
}

// Queries, keys and values.
struct Qkv {
  Tensor q, k, v;
};

Qkv Draw(double deviation, uint64_t seed, int64_t trial) {
  Random random(seed, StreamId("approximation inputs"), trial);
  const auto normals = [&](double scale) {
    Tensor x(DType::kFloat32, {1, kLength, kHeads, kDim});
    for (int64_t i = 0; i < x.elements(); ++i) {
      x.data<float>()[i] = static_cast<float>(scale * random.Normal());
    }
    return x;
  };
  Qkv qkv;
  qkv.q = normals(deviation);
  qkv.k = normals(deviation);
  qkv.v = normals(1);
  return qkv;
}

absl::StatusOr<Tensor> Output(const Operator& op, const Qkv& qkv) {
  const auto inputs = op.PairInputs(qkv.q, qkv.k, qkv.v);
  if (!inputs.ok()) return inputs.status();
  OperatorCall call;
  call.inputs = *inputs;
  const absl::Status status = RunOperator(op, &call);
  if (!status.ok()) return status;
  return call.output;
}

// Softmax attention of every token to all tokens, from the definition.
Tensor FullSoftmax(const Qkv& qkv) {
  Tensor output(DType::kFloat32, qkv.v.shape());
  const double scale = 1 / std::sqrt(static_cast<double>(kDim));
  for (int64_t h = 0; h < kHeads; ++h) {
    const auto q = qkv.q.Sequence<float>(0, h);
    const auto k = qkv.k.Sequence<float>(0, h);
    const auto v = qkv.v.Sequence<float>(0, h);
    const auto o = output.Sequence<float>(0, h);
    for (int64_t i = 0; i < kLength; ++i) {
      std::vector<double> sum(kDim);
      double total = 0;
      for (int64_t j = 0; j < kLength; ++j) {
        double score = 0;
        for (int64_t c = 0; c < kDim; ++c) score += double{q(i, c)} * k(j, c);
        const double weight = std::exp(scale * score);
        total += weight;
        for (int64_t c = 0; c < kDim; ++c) sum[c] += weight * v(j, c);
      }
      for (int64_t c = 0; c < kDim; ++c) {
        o(i, c) = static_cast<float>(sum[c] / total);
      }
    }
  }
  return output;
}

// The exact output of every trial, in its order.
absl::StatusOr<std::vector<Tensor>> ExactOutputs(
    const Approximation& approximation, int64_t trials, uint64_t seed) {
  std::vector<Tensor> exact;
  Operators operators;
  if (approximation.of != kFullSoftmax) {
    const auto variant = Variants().Find(approximation.of);
    if (!variant.ok()) return variant.status();
    auto made = MakeOperators(**variant, {}, trials, seed);
    if (!made.ok()) return made.status();
    operators = *std::move(made);
  }
  for (int64_t t = 0; t < trials; ++t) {
    const Qkv qkv = Draw(approximation.deviation, seed, t);
    if (operators.empty()) {
      exact.push_back(FullSoftmax(qkv));
      continue;
    }
    auto output = Output(OperatorOf(operators, t), qkv);
    if (!output.ok()) return output.status();
    exact.push_back(*std::move(output));
  }
  return exact;
}

// A direction in kPatternDim dimensions, of a length, added to `to`.
void AddDirection(Random& random, double length, float* to) {
  double direction[kPatternDim], square = 0;
  for (double& x : direction) {
    x = random.Normal();
    square += x * x;
  }
  for (int64_t c = 0; c < kPatternDim; ++c) {
    to[c] += static_cast<float>(direction[c] * length / std::sqrt(square));
  }
}

// As Approximation::retrieve, from patterns stored under themselves. The last
// one is stored when a cue is presented.
absl::StatusOr<Tensor> RetrievePairs(const Operator& op, const Tensor& patterns,
                                     const Tensor& cues) {
  const int64_t n = patterns.dim(0), dim = patterns.dim(1);
  auto memory = PairMemory::Create(&op, 1, dim, dim);
  if (!memory.ok()) return memory.status();
  const Tensor first = patterns.Slice(0, {1, n - 1, 1, dim});
  const Tensor last = patterns.Slice((n - 1) * dim, {1, 1, 1, dim});
  const absl::Status status = memory->Write(first, first);
  if (!status.ok()) return status;
  const auto read =
      memory->Read(last, last, cues.Reshaped({1, cues.dim(0), 1, dim}));
  if (!read.ok()) return read.status();
  return read->Reshaped(cues.shape());
}

absl::StatusOr<double> RetrievalError(const Operator& op,
                                      const Approximation& approximation,
                                      int64_t size, int64_t trial,
                                      uint64_t seed) {
  const double length = std::sqrt(static_cast<double>(kPatternDim));
  Random random(seed, StreamId("approximation patterns"), trial);
  const Tensor patterns(DType::kFloat32, {size, kPatternDim});
  for (int64_t n = 0; n < size; ++n) {
    AddDirection(random, length, patterns.data<float>() + n * kPatternDim);
  }
  // They are drawn independently: the first are as good as any.
  const int64_t m = std::min(size, kMostCues);
  const Tensor stored = patterns.Slice(0, {m, kPatternDim});
  const Tensor cues = stored.Clone();
  for (int64_t i = 0; i < m; ++i) {
    AddDirection(random, kCueDistance * length,
                 cues.data<float>() + i * kPatternDim);
  }
  const auto retrieved = approximation.retrieve != nullptr
                             ? approximation.retrieve(op, patterns, cues)
                             : RetrievePairs(op, patterns, cues);
  if (!retrieved.ok()) return retrieved.status();
  return RelativeError(*retrieved, stored);
}

std::string SettingText(const Approximation& approximation) {
  std::string text =
      approximation.of == kStoredPattern
          ? absl::StrCat("patterns on the sphere of radius sqrt(", kPatternDim,
                         ") in ", kPatternDim, " dimensions, cues ",
                         kCueDistance, " radii away")
          : absl::StrCat(kLength, " tokens, ", kHeads, " heads of ", kDim,
                         ", normal queries and keys of deviation ",
                         approximation.deviation, ", standard normal values");
  for (const auto& [name, value] : approximation.fixed) {
    absl::StrAppend(&text, ", ", name, "=", value);
  }
  return text;
}

}  // namespace

absl::StatusOr<ApproximationCurve> MeasureApproximation(
    const Variant& variant, const Approximation& approximation,
    const OptionValues& set, int64_t trials, uint64_t seed) {
  const bool retrieval = approximation.of == kStoredPattern;
  std::vector<Tensor> exact;
  if (!retrieval) {
    auto outputs = ExactOutputs(approximation, trials, seed);
    if (!outputs.ok()) return outputs.status();
    exact = *std::move(outputs);
  }
  OptionValues values = set;
  for (const auto& fixed : approximation.fixed) values.push_back(fixed);
  const Bootstrap bootstrap(trials, seed);
  ApproximationCurve curve;
  curve.set_knob(approximation.knob);
  curve.set_exact(approximation.of);
  curve.set_setting(SettingText(approximation));
  for (int64_t size : approximation.sizes) {
    OptionValues turned = values;
    if (approximation.knob != kPatterns) {
      turned.emplace_back(approximation.knob, absl::StrCat(size));
    }
    const auto operators = MakeOperators(variant, turned, trials, seed);
    if (!operators.ok()) return operators.status();
    std::vector<double> errors;
    for (int64_t t = 0; t < trials; ++t) {
      const Operator& op = OperatorOf(*operators, t);
      if (retrieval) {
        const auto error = RetrievalError(op, approximation, size, t, seed);
        if (!error.ok()) return error.status();
        errors.push_back(*error);
      } else {
        const auto output = Output(op, Draw(approximation.deviation, seed, t));
        if (!output.ok()) return output.status();
        errors.push_back(RelativeError(*output, exact[t]));
      }
      if (!std::isfinite(errors.back())) {
        return absl::InternalError(absl::StrCat(
            "at ", approximation.knob, "=", size, " the output is no number"));
      }
    }
    ApproximationPoint* point = curve.add_points();
    point->set_size(size);
    *point->mutable_error() = bootstrap.Mean(errors);
  }
  return curve;
}

}  // namespace mneme
