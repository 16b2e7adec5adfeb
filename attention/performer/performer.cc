// SPDX-License-Identifier: Apache-2.0
//
// Performer (FAVOR+, arXiv 2009.14794): softmax attention with its exponential
// estimated by positive orthogonal random features, so that the history folds
// into one matrix a head. With x' = x key_dim^-1/4 and w_r drawn once,
//
//   phi_r(x) = exp(w_r . x' - |x'|^2 / 2),
//   o_i = sum_{j <= i} phi(q_i) . phi(k_j) v_j / sum_{j <= i} phi(q_i) .
//   phi(k_j)
//
// which tends to softmax attention as features grow.
//
// A factor common to all features of a token keeps the exponentials in range:
// e^-c with c the largest exponent. For a query it cancels in the quotient. For
// keys the published code takes the maximum over all tokens, which looks into
// the future unless nothing is added to the features; here c_t is the largest
// exponent up to token t, and the state shrinks by e^(c_{t-1} - c_t) whenever
// it rises: a log decay of the additive recurrence. Nothing is added to
// features (eps = 0), and to denominators only what keeps a token whose
// products all underflow at 0 instead of NaN, so every c cancels: no output
// depends on it, gradients need not flow through it, and all forms compute one
// function.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "attention/kernels/gemm.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/quotient.h"
#include "attention/performer/orthogonal_features.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::Gemm;
using kernels::GemmEpilogue;
using kernels::MatrixView;
using kernels::Transpose;

// Where all products of a query's and its keys' features underflow (arguments
// some 80 apart) the output is 0 instead of 0 / 0. Far below any other sum.
constexpr double kTiny = 1e-30;

enum Input { kQuery, kKey, kValue };
enum Saved { kQueryFeatures, kKeyFeatures, kLogDecay, kStates, kDenominator };

// The memory of the recurrence, and [batch, heads] largest exponents so far.
enum Part { kMemory, kLargest };

double Alpha(const Dims& d) { return std::pow(d.key_dim, -0.25); }

template <typename T>
T LargestOf(const T* x, int64_t n) {
  // Eight maxima at a time: a single one would wait for itself.
  constexpr int64_t kWays = 8;
  T largest[kWays];
  std::fill_n(largest, kWays, x[0]);
  int64_t i = 0;
  for (; i + kWays <= n; i += kWays) {
    for (int64_t w = 0; w < kWays; ++w) {
      largest[w] = x[i + w] > largest[w] ? x[i + w] : largest[w];
    }
  }
  for (; i < n; ++i) largest[0] = std::max(largest[0], x[i]);
  return *std::max_element(largest, largest + kWays);
}

// Subtracts c from every x and returns the largest result.
template <typename T>
T Subtract(T c, T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] -= c;
  return LargestOf(x, n);
}

class PerformerOperator : public Operator {
 public:
  // Layers of a model draw different features.
  explicit PerformerOperator(const Options& options, int layer = 0)
      : chunk_(options.Int("chunk")),
        features_(options.Int("features")),
        seed_(options.Int("seed")),
        layer_(layer) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
            {"v", "BLHV", "values [batch, length, heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    auto* state = static_cast<CompositeState*>(call->state);
    AdditiveHeads a = Recurrence(*call);
    a.query = Exponents(*call, kQuery);
    a.key = Exponents(*call, kKey);
    a.log_decay =
        Tensor(call->arena, a.key.dtype(), {d.batch, d.heads, d.length});
    Tensor largest;
    if (state != nullptr) {
      largest = static_cast<DenseState*>(state->part(kLargest))->tensor();
    }
    DispatchDType(a.key.dtype(), [&](auto zero) {
      using T = decltype(zero);
      StabiliseQueries<T>(a.query);
      StabiliseKeys<T>(call->inputs[kKey], d, a.key, a.log_decay, largest);
      for (const Tensor& x : {a.query, a.key}) {
        kernels::Map(kernels::Unary::kExp, x.data<T>(), x.data<T>(),
                     x.elements());
      }
    });
    const Tensor denominator(call->arena, a.key.dtype(),
                             {d.batch, d.heads, d.length});
    a.divide = true;
    a.eps = kTiny;
    Tensor states;
    AdditiveHeadsForward(a, state == nullptr ? nullptr : state->part(kMemory),
                         call->output, denominator, call->arena,
                         call->keep ? &states : nullptr);
    if (call->keep) {
      call->saved = {a.query, a.key, a.log_decay, states, denominator};
    }
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    AdditiveHeads a = Recurrence(call);
    a.query = call.saved[kQueryFeatures];
    a.key = call.saved[kKeyFeatures];
    a.log_decay = call.saved[kLogDecay];
    const QuotientGradient quotient = DivideByDenominatorBackward(
        call.output, call.saved[kDenominator], d_output, kTiny, call.arena);
    Tensor d_features[2];
    for (Input i : {kQuery, kKey}) {
      d_features[i] = Tensor(call.arena, d_output.dtype(), a.query.shape());
      d_features[i].FillZero();
    }
    AdditiveHeadsBackward(
        a, call.saved[kStates], quotient.d_numerator, quotient.d_denominator,
        {d_features[kQuery], d_features[kKey], d_inputs[kValue]});
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      for (Input i : {kQuery, kKey}) {
        if (!d_inputs[i].empty()) {
          ExponentsBackward<T>(call, i, call.saved[i], d_features[i],
                               d_inputs[i]);
        }
      }
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, d.batch);
    state->Add(
        NewAdditiveState(d, Features(d.key_dim), /*normaliser=*/true, dtype));
    auto largest =
        std::make_unique<DenseState>(dtype, Shape({d.batch, d.heads}));
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      std::fill_n(largest->tensor().template data<T>(), d.batch * d.heads,
                  -std::numeric_limits<T>::infinity());
    });
    state->Add(std::move(largest));
    return state;
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads *
           (Features(d.key_dim) * (d.value_dim + 1) + 1);
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    const double features = Features(d.key_dim);
    const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
    Cost cost = AdditiveHeadsCost(d, features, ChunkOf(form, d.length, chunk_),
                                  true, true);
    cost.flops += 2 * tokens * features * (2 * d.key_dim + 2);
    cost.exps += 2 * tokens * features;
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    const double features = Features(d.key_dim);
    const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
    Cost cost = Operator::BackwardCost(d, form);
    cost.flops +=
        CausalScoresFlops(d, features, ChunkOf(form, d.length, chunk_));
    // Features are kept, and nobody wants the gradient of their directions.
    cost.flops -= 2 * tokens * features * (2 * d.key_dim + 2);
    cost.exps -= 2 * tokens * features;
    return cost;
  }
  bool StepRewritesState() const override { return true; }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const int64_t m = Features(d.key_dim);
    const std::vector<double> w =
        OrthogonalFeatures(m, d.key_dim, seed_, layer_);
    const double alpha = 1 / std::sqrt(std::sqrt(double(d.key_dim)));
    // log phi_r(x_i) for every row i, at [i * m + r].
    const auto log_features = [&](kernels::ConstMatrixView<double> x) {
      std::vector<double> logs;
      for (size_t i = 0; i < x.rows; ++i) {
        for (int64_t r = 0; r < m; ++r) {
          double dot = 0, square = 0;
          for (int64_t c = 0; c < d.key_dim; ++c) {
            dot += w[r * d.key_dim + c] * alpha * x(i, c);
            square += alpha * x(i, c) * alpha * x(i, c);
          }
          logs.push_back(dot - square / 2);
        }
      }
      return logs;
    };
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        const std::vector<double> of_q = log_features(q),
                                  of_k = log_features(k);
        for (int64_t i = 0; i < d.length; ++i) {
          // Logarithms of all products phi_r(q_i) phi_r(k_j).
          std::vector<double> logs;
          for (int64_t jr = 0; jr < (i + 1) * m; ++jr) {
            logs.push_back(of_q[i * m + jr % m] + of_k[jr]);
          }
          const double top = *std::max_element(logs.begin(), logs.end());
          std::vector<double> sum(d.value_dim);
          double total = 0;
          for (int64_t j = 0; j <= i; ++j) {
            double weight = 0;
            for (int64_t r = 0; r < m; ++r) {
              weight += std::exp(logs[j * m + r] - top);
            }
            total += weight;
            for (int64_t c = 0; c < d.value_dim; ++c) {
              sum[c] += weight * v(j, c);
            }
          }
          for (int64_t c = 0; c < d.value_dim; ++c) o(i, c) = sum[c] / total;
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // Enough for the variance at sensible inputs: d ln d, as published.
  int64_t Features(int64_t key_dim) const {
    if (features_ > 0) return features_;
    return std::max<int64_t>(1, key_dim * std::log(double(key_dim)));
  }

  AdditiveHeads Recurrence(const OperatorCall& call) const {
    AdditiveHeads a;
    a.value = call.inputs[kValue];
    a.chunk = ChunkOf(call.form, call.dims.length, chunk_);
    a.normaliser = true;
    a.pool = call.pool;
    return a;
  }

  // w [features, key_dim], drawn at the first use of a key_dim.
  Tensor Directions(int64_t key_dim, DType dtype) const {
    std::lock_guard<std::mutex> lock(mutex_);
    Tensor& w = directions_[{key_dim, dtype}];
    if (w.empty()) {
      const int64_t m = Features(key_dim);
      w = Tensor::FromValues<double>(
              {m, key_dim}, OrthogonalFeatures(m, key_dim, seed_, layer_))
              .Cast(dtype);
    }
    return w;
  }

  // w_r . x' for every token and head: [batch, length, heads, features].
  Tensor Exponents(const OperatorCall& call, Input i) const {
    const Tensor& x = call.inputs[i];
    const Tensor w = Directions(call.dims.key_dim, x.dtype());
    const Tensor y(call.arena, x.dtype(), x.shape().WithLast(w.dim(0)));
    DispatchDType(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      GemmEpilogue<T> epilogue;
      epilogue.alpha = static_cast<T>(Alpha(call.dims));
      Gemm(Transpose::kNo, Transpose::kYes, x.Matrix<T>(), w.Matrix<T>(),
           y.Matrix<T>(), epilogue);
    });
    return y;
  }

  // Each token's largest exponent becomes 0; |x'|^2 / 2 cancels with it.
  template <typename T>
  static void StabiliseQueries(const Tensor& exponents) {
    const MatrixView<T> e = exponents.Matrix<T>();
    for (size_t r = 0; r < e.rows; ++r) {
      Subtract(LargestOf(e.row(r), e.cols), e.row(r), e.cols);
    }
  }

  // Subtracts |x'|^2 / 2 and the largest exponent so far; largest [batch,
  // heads] (or empty) is where earlier calls stopped, and is advanced.
  template <typename T>
  static void StabiliseKeys(const Tensor& key, const Dims& d,
                            const Tensor& exponents, const Tensor& log_decay,
                            const Tensor& largest) {
    const T half = static_cast<T>(0.5 * Alpha(d) * Alpha(d));
    T* g = log_decay.data<T>();
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const MatrixView<T> e = exponents.Sequence<T>(b, h);
        const MatrixView<const T> k = key.Sequence<T>(b, h);
        T* kept =
            largest.empty() ? nullptr : largest.data<T>() + b * d.heads + h;
        T c = kept == nullptr ? -std::numeric_limits<T>::infinity() : *kept;
        for (int64_t t = 0; t < d.length; ++t) {
          const T before = c;
          // In this order: no exponent is ever above 0, whatever the rounding.
          const T square = half * kernels::Dot(k.row(t), k.row(t), k.cols);
          c = std::max(c, Subtract(square, e.row(t), e.cols));
          Subtract(c, e.row(t), e.cols);
          // Before the first token there is nothing to shrink.
          *g++ = std::isinf(before) ? 0 : before - c;
        }
        if (kept != nullptr) *kept = c;
      }
    }
  }

  // d_x += the gradient through phi, given that by the features.
  template <typename T>
  void ExponentsBackward(const OperatorCall& call, Input i,
                         const Tensor& features, const Tensor& d_features,
                         const Tensor& d_x) const {
    const double alpha = Alpha(call.dims);
    const MatrixView<T> x = call.inputs[i].Matrix<T>();
    const MatrixView<T> phi = features.Matrix<T>();
    const MatrixView<T> d = d_features.Matrix<T>(), to = d_x.Matrix<T>();
    if (i == kKey) {  // of -|x'|^2 / 2; a query's cancels
      for (size_t r = 0; r < x.rows; ++r) {
        const T sum = kernels::Dot(d.row(r), phi.row(r), phi.cols);
        kernels::Axpy(static_cast<T>(-alpha * alpha) * sum, x.row(r), to.row(r),
                      x.cols);
      }
    }
    kernels::Multiply(d.data, phi.data, d.data, d_features.elements());
    GemmEpilogue<T> epilogue;
    epilogue.alpha = static_cast<T>(alpha);
    epilogue.beta = 1;
    Gemm(Transpose::kNo, Transpose::kNo, d,
         Directions(call.dims.key_dim, d_x.dtype()).Matrix<T>(), to, epilogue);
  }

  int64_t chunk_, features_;
  uint64_t seed_;
  int layer_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int64_t, DType>, Tensor> directions_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "performer";
  d.title = "Performer";
  d.family = "additive recurrence";
  d.paper = "arXiv 2009.14794";
  d.summary = "softmax attention estimated by positive random features";
  d.exact = false;
  d.tolerance = 1.5e-6;  // measured 9.2e-7
  d.options = {
      OptionSpec::Int("features", 0, 0, 65536,
                      "random features a head; 0: d ln d of its width d"),
      OptionSpec::Int("seed", 0, 0, 1 << 30, "of the random features"),
      OptionSpec::Int("chunk", 64, 1, 4096,
                      "tokens a block in the chunked form")};
  d.variations = {{{"features", "19"}, {"seed", "3"}}};
  // The variance of an estimate grows as e^(|q'|^2 + |k'|^2): what a few
  // hundred features do for small queries and keys they do not for normalised
  // ones.
  for (double deviation : {1.0, 0.5}) {
    Approximation a;
    a.of = "softmax";
    a.knob = "features";
    a.sizes = {8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
    a.deviation = deviation;
    d.approximations.push_back(a);
  }
  d.redraw = "seed";
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<PerformerOperator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<QkvMixer>(
           config,
           std::make_unique<PerformerOperator>(config.options, config.layer),
           QkvMixer::EvenLayout(config));
     }});

}  // namespace
}  // namespace mneme
