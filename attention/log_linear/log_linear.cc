// SPDX-License-Identifier: Apache-2.0
//
// Log-linear attention (arXiv 2506.04761): linear attention whose one matrix of
// memory becomes a matrix for each bucket of a Fenwick tree, O(log n) of them.
// Token i sees itself at level 0. Level l >= 1 is there if bit l - 1 of i is
// set, and holds 2^(l - 1) earlier tokens: the fewer the later they are. So six
// matrices remember 63 tokens, and one remembers 64. A token reads every level
// with a weight of its own,
//
//   o_t = sum_l lambda_t^l (S_t^l)^T q_t,
//   S_t^l = sum_{j in bucket l} e^{g_{j+1} + ... + g_t} k_j v_j^T,
//
// so that (with all lambda = 1) it is linear attention with a scalar decay, as
// in Mamba-2, whose layer it has here: q = c, k = b, v = dt x, g = dt a for
// each head, d x added, no scale. lambda = softplus(m * (u W)) for each token,
// head and level, with a learned m that starts at 1, as in the published code.
// (There a starts as -1, -2, ... -heads; here as in Mamba-2.)
//
// The paper fixes the number of levels by the longest sequence. Here the last
// level holds whatever is older than the others: sequences may be longer than
// trained on, what lies further back than 2^(levels - 2) tokens is then read
// with one weight, and the state stops growing at levels - 1 matrices.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/kernels/fenwick.h"
#include "attention/kernels/log_linear_attention.h"
#include "attention/kernels/log_linear_step.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_math.h"
#include "attention/log_linear/log_linear_state.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/channelwise.h"
#include "attention/parts/one_token.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/ssd_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::Fenwick;
using kernels::MatrixView;

enum Input { kQuery, kKey, kValue, kLogDecay, kLambda };

constexpr char kLevels = 'N';  // the operator's own axis

// Enough for any length where nothing else is said.
constexpr int64_t kAllLevels = 63;

// As published where the length is not known.
constexpr int64_t kUsualLength = 16384;

int64_t LevelsOf(const Dims& d) {
  const auto own = d.own.find(kLevels);
  return own == d.own.end() ? kAllLevels : own->second;
}

// What the heads that share keys `group` have of sequence b of a [batch,
// length, ...] array: [length, columns].
template <typename E, typename T = std::remove_const_t<E>>
MatrixView<E> GroupOf(const Tensor& x, const Dims& d, int64_t b,
                      int64_t group) {
  if (x.empty()) return {};
  const int64_t row = x.elements() / (d.batch * d.length);
  const int64_t columns = row / d.kv_heads;
  return {x.data<T>() + b * d.length * row + group * columns,
          static_cast<size_t>(d.length), static_cast<size_t>(columns),
          static_cast<size_t>(row)};
}

template <typename E>
kernels::LogLinearArrays<E> GroupOf(absl::Span<const Tensor> inputs,
                                    const Dims& d, int64_t b, int64_t group) {
  const auto of = [&](Input i) { return GroupOf<E>(inputs[i], d, b, group); };
  return {of(kQuery), of(kKey), of(kValue), of(kLogDecay), of(kLambda)};
}

class LogLinearOperator : public Operator {
 public:
  explicit LogLinearOperator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {
        {"q", "BLGK", "queries [batch, length, kv_heads, key_dim]"},
        {"k", "BLGK", "keys [batch, length, kv_heads, key_dim]"},
        {"v", "BLHV",
         "values [batch, length, heads, value_dim]; heads / kv_heads of "
         "them share queries and keys"},
        {"g", "BLH", "log decays [batch, length, heads]", Domain::kNonPositive},
        {"lambda", std::string("BLH") + kLevels,
         "weights of the levels [batch, length, heads, levels]; the last "
         "level holds everything older",
         Domain::kPositive}};
  }

  // As a layer trained on sequences of this length has.
  int64_t OwnAxis(char, const Dims& d) const override {
    return Fenwick::LevelsFor(d.length - 1);
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    auto* state = static_cast<LogLinearState*>(call->state);
    if (state != nullptr && state->levels() != LevelsOf(d)) {
      return absl::InvalidArgumentError(
          absl::StrCat("log_linear: the state was made for ", state->levels(),
                       " levels, lambda has ", LevelsOf(d)));
    }
    if (TakesOneToken(*call)) {
      DispatchDType(call->output.dtype(),
                    [&](auto zero) { Step<decltype(zero)>(*call, state); });
      state->AdvanceByStep();
      return absl::OkStatus();
    }
    Tensor saved;
    if (call->keep) {
      const int64_t size = kernels::LogLinearSavedSize(
          d.length, ChunkOf(call->form, d.length, chunk_), LevelsOf(d),
          MatrixSize(d));
      saved = Tensor(call->arena, call->output.dtype(),
                     {d.batch * d.kv_heads, size});
      call->saved = {saved};
    }
    const int64_t position = state == nullptr ? 0 : state->position();
    // By level; empty but where there is, or will be, a bucket.
    std::vector<Tensor> levels;
    if (state != nullptr) levels = state->Levels(d.length);
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachGroup(call->pool, d, [&](int64_t b, int64_t group, int64_t i) {
        std::vector<T*> buckets;
        for (const Tensor& level : levels) {
          buckets.push_back(
              level.empty() ? nullptr : level.data<T>() + i * MatrixSize(d));
        }
        kernels::LogLinearForward(
            Attention<T>(*call, b, group), position,
            state == nullptr ? nullptr : buckets.data(),
            GroupOf<T>(call->output, d, b, group),
            call->keep ? saved.data<T>() + i * saved.dim(1) : nullptr);
      });
    });
    if (state != nullptr) state->Advance(d.length);
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Tensor& saved = call.saved[0];
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachGroup(call.pool, call.dims,
                   [&](int64_t b, int64_t group, int64_t i) {
                     kernels::LogLinearBackward(
                         Attention<T>(call, b, group),
                         saved.data<T>() + i * saved.dim(1),
                         GroupOf<const T>(d_output, call.dims, b, group),
                         GroupOf<T>(d_inputs, call.dims, b, group));
                   });
    });
    return absl::OkStatus();
  }

  // All levels weigh the same: the linear memory, spread over matrices.
  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override {
    const Tensor lambda(DType::kFloat64,
                        {values.dim(0), values.dim(1), values.dim(2),
                         Fenwick::LevelsFor(kUsualLength - 1)});
    std::fill_n(lambda.data<double>(), lambda.elements(), 1);
    return NeutralInputs(Inputs(), {{"q", queries},
                                    {"k", keys},
                                    {"v", values},
                                    {"lambda", lambda.Cast(values.dtype())}});
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<LogLinearState>(d, dtype, LevelsOf(d));
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.kv_heads * MatrixSize(d) *
           Fenwick(LevelsOf(d)).Before(d.length).size();
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    const Fenwick fenwick(LevelsOf(d));
    const int64_t chunk = ChunkOf(form, d.length, chunk_);
    Work work;
    for (int64_t begin = 0; begin < d.length; begin += chunk) {
      const int64_t count = std::min(chunk, d.length - begin);
      work.pairs += 0.5 * count * (count + 1);
      work.reads += static_cast<double>(count) * fenwick.Before(begin).size();
      if (begin + count == d.length) break;  // nothing reads what comes after
      work.Write(fenwick, begin, count);
    }
    Cost cost;
    cost.flops = Flops(d, work);
    cost.exps = static_cast<double>(d.batch) * d.length * d.heads;
    cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
                     NumbersOfToken(d) +
                 StateBytes(d);
    return cost;
  }

  // Every matrix is read, and written unless it meets another.
  Cost StepCost(const Dims& d) const override {
    const Fenwick fenwick(LevelsOf(d));
    Work work;
    work.pairs = 1;
    work.reads = fenwick.Before(d.length).size();
    work.Write(fenwick, d.length, 1);
    Dims longer = d;
    ++longer.length;
    Cost cost;
    cost.flops = Flops(d, work);
    cost.exps = static_cast<double>(d.batch) * d.heads;
    cost.bytes = sizeof(float) * d.batch * NumbersOfToken(d) +
                 static_cast<double>(StateBytes(d) + StateBytes(longer));
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    // The scores, which the heads of a group share, once more.
    cost.flops += 2.0 * d.batch * d.kv_heads * d.key_dim *
                  CausalPairs(d.length, ChunkOf(form, d.length, chunk_));
    return cost;
  }

  // All matrices fade.
  bool StepRewritesState() const override { return true; }

  absl::Status Reference(const OperatorCall& call) const override;

 private:
  // Of tokens, of tokens and buckets, of tokens that join buckets, and of
  // matrices that move on: fade, and are added to another.
  struct Work {
    double pairs = 0, reads = 0, writes = 0, moves = 0;

    // Tokens [begin, begin + count) join.
    void Write(const Fenwick& fenwick, int64_t begin, int64_t count) {
      writes += count;
      const int meet = fenwick.Meeting(begin, begin + count);
      fenwick.ForEachBefore(begin, [&](const kernels::Bucket& bucket) {
        moves += bucket.level < meet ? 2 : 1;
      });
    }
  };

  // Scores, their weights (decay, lambda and score), and their products with
  // values; matrices read, and weighed; values that fade and are written.
  static double Flops(const Dims& d, const Work& work) {
    const double heads = d.heads, groups = d.kv_heads;
    const double k = d.key_dim, v = d.value_dim;
    return d.batch *
           (work.pairs * (2 * k * groups + heads * (3 + 2 * v)) +
            heads * (work.reads * (2 * k * v + 2 * v + 1) +
                     work.writes * (2 * k * v + v) + work.moves * k * v));
  }

  // What a token brings, and its outputs.
  static double NumbersOfToken(const Dims& d) {
    return 2.0 * d.key_dim * d.kv_heads +
           d.heads * (2.0 * d.value_dim + 1 + LevelsOf(d));
  }

  // Of the heads that share keys.
  static int64_t MatrixSize(const Dims& d) {
    return d.key_dim * (d.heads / d.kv_heads) * d.value_dim;
  }

  // run(b, group, b * kv_heads + group).
  template <typename Run>
  static void ForEachGroup(kernels::ThreadPool* pool, const Dims& d,
                           const Run& run) {
    kernels::ParallelFor(pool, d.batch * d.kv_heads, [&](size_t i, int) {
      run(i / d.kv_heads, i % d.kv_heads, i);
    });
  }

  // One token of all groups.
  template <typename T>
  static void Step(const OperatorCall& call, LogLinearState* state) {
    const Dims& d = call.dims;
    const int64_t groups = d.batch * d.kv_heads;
    const std::vector<Tensor>& levels = state->Levels(1);
    const auto rows = [&](const Tensor& x) {
      return MatrixView<T>(x.data<T>(), groups, x.elements() / groups);
    };
    kernels::LogLinear<T> all;
    all.in = {rows(call.inputs[kQuery]), rows(call.inputs[kKey]),
              rows(call.inputs[kValue]), rows(call.inputs[kLogDecay]),
              rows(call.inputs[kLambda])};
    all.heads = d.heads / d.kv_heads;
    const MatrixView<T> o = rows(call.output);
    ForHeadRanges(call.pool, groups, [&](size_t first, size_t count) {
      kernels::LogLinear<T> some = all;
      for (auto* x :
           {&some.in.q, &some.in.k, &some.in.v, &some.in.g, &some.in.lambda}) {
        *x = x->Rows(first, count);
      }
      absl::InlinedVector<T*, 32> buckets;
      for (const Tensor& level : levels) {
        buckets.push_back(
            level.empty() ? nullptr : level.data<T>() + first * MatrixSize(d));
      }
      kernels::LogLinearStep(some, state->position(), buckets.data(),
                             o.Rows(first, count));
    });
  }

  template <typename T>
  kernels::LogLinear<T> Attention(const OperatorCall& call, int64_t b,
                                  int64_t group) const {
    kernels::LogLinear<T> a;
    a.in = GroupOf<const T>(call.inputs, call.dims, b, group);
    a.heads = call.dims.heads / call.dims.kv_heads;
    a.chunk = ChunkOf(call.form, call.dims.length, chunk_);
    return a;
  }

  int64_t chunk_;
};

absl::Status LogLinearOperator::Reference(const OperatorCall& call) const {
  const Dims& d = call.dims;
  const int64_t levels = LevelsOf(d);
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const int64_t group = h / (d.heads / d.kv_heads);
      const auto q = call.inputs[kQuery].Sequence<double>(b, group);
      const auto k = call.inputs[kKey].Sequence<double>(b, group);
      const auto v = call.inputs[kValue].Sequence<double>(b, h);
      const auto lambda = call.inputs[kLambda].Sequence<double>(b, h);
      const auto o = call.output.Sequence<double>(b, h);
      const double* g = call.inputs[kLogDecay].data<double>();
      for (int64_t t = 0; t < d.length; ++t) {
        for (int64_t c = 0; c < d.value_dim; ++c) o(t, c) = 0;
        double log_decay = 0;
        for (int64_t j = t; j >= 0; --j) {
          // The least level at which both fall into one aligned block of 2^l.
          int64_t level = 0;
          while (t >> level != j >> level) ++level;
          double weight =
              std::exp(log_decay) * lambda(t, std::min(level, levels - 1));
          double score = 0;
          for (int64_t c = 0; c < d.key_dim; ++c) score += q(t, c) * k(j, c);
          weight *= score;
          for (int64_t c = 0; c < d.value_dim; ++c) o(t, c) += weight * v(j, c);
          log_decay += g[(b * d.length + j) * d.heads + h];
        }
      }
    }
  }
  return absl::OkStatus();
}

class LogLinearMixer : public SsdMixer {
 public:
  explicit LogLinearMixer(const MixerConfig& config)
      : SsdMixer(config), op_(config.options), heads_(config.heads) {
    levels_ = config.options.Int("levels");
    if (levels_ == 0) {
      levels_ = Fenwick::LevelsFor(
          (config.max_length > 0 ? config.max_length : kUsualLength) - 1);
    }
    weight_ = AddDense(config, "lambda", config.width, heads_ * levels_);
    factor_ = config.parameters->Add(config.name + ".lambda_factor",
                                     {1, heads_ * levels_}, Init::Constant(1),
                                     /*decay=*/false);
  }

 protected:
  Variable Recur(const MixerCall& call, const Inputs& in,
                 State* state) const override {
    if (!in.x.valid()) return {};
    Tape* tape = in.x.tape();
    const int64_t batch = in.x.shape().dim(0), length = in.x.shape().dim(1);
    const auto one_group = [&](Variable x) {
      return x.valid() ? Reshape(x, {batch, length, 1, x.shape().dim(2)}) : x;
    };
    Variable lambda = Map(
        kernels::Unary::kSoftplus,
        Channelwise(Linear(call.x, tape->Use(*weight_)), *factor_, nullptr));
    Variable decay =
        ScaleRows(Reshape(in.dt, {batch, length, heads_, 1}), in.a);
    Variable y =
        ApplyOperator(op_,
                      {one_group(in.c), one_group(in.b), ScaleRows(in.x, in.dt),
                       Reshape(decay, {batch, length, heads_}),
                       Reshape(lambda, {batch, length, heads_, levels_})},
                      call.form, state);
    return Add(y, ScaleRows(in.x, in.d));
  }
  std::unique_ptr<State> NewMemory(const Dims& dims,
                                   DType dtype) const override {
    Dims all = dims;
    all.kv_heads = 1;
    all.own[kLevels] = levels_;
    return op_.NewState(all, dtype);
  }

 private:
  LogLinearOperator op_;
  int64_t heads_, levels_;
  const Parameter *weight_, *factor_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "log_linear";
  d.title = "Log-linear attention";
  d.family = "additive recurrence";
  d.paper = "arXiv 2506.04761";
  d.summary = "Mamba-2 with O(log n) memories, each token weighing every one";
  d.tolerance = 5e-7;  // measured 3.5e-7
  d.options = SsdMixerOptions();
  d.options.push_back(OptionSpec::Int(
      "levels", 0, 0, 63,
      "weights a token has for itself and buckets of the past; 0: as many as "
      "the trained length has"));
  d.options.push_back(OptionSpec::Int("chunk", 64, 1, 4096,
                                      "tokens a block in the chunked form"));
  d.variations = {{{"state_dim", "5"}, {"expand", "1"}, {"levels", "3"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<LogLinearOperator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<LogLinearMixer>(config);
     }});

}  // namespace
}  // namespace mneme
