// SPDX-License-Identifier: Apache-2.0
//
// Forgetting attention (FoX, arXiv 2503.02130): softmax attention whose scores
// are lowered by what a data-dependent gate f_t in (0, 1) has forgotten since,
//
//   o_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(key_dim) + G_i - G_j) v_j,
//   G_t = sum_{m <= t} g_m,   g_t = log f_t = log sigmoid(w_f . x_t + b_f),
//
// one gate per query head. The decay takes the place of position embeddings;
// the gates are remembered beside the keys.
//
// G_i - G_j enters the plain softmax kernel as one more column: a one in the
// query, the bias in the key. Softmax does not see what is the same for all
// keys, so the bias may be G_r - G_j with one r for a whole block of queries.
// With r inside the block, keys that matter have a small bias, exact to
// float32, however far G has sunk since the start of the text. A query that is
// decoded alone has its biases added to its scores instead: then keys need not
// be copied to get that column.
//
// The layer is FoX (LLaMA), without rotary positions. output_gate and qk_norm
// add those parts of FoX (Pro); its shift of keys and values is left to the
// model's short convolution.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/one_token.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::MatrixView;

enum Input { kQuery, kKey, kValue, kLogForget };

// x with one more column, holding `last`.
template <typename T>
class Widened {
 public:
  Widened(MatrixView<const T> x, T last)
      : values_(x.rows * (x.cols + 1), last),
        view(values_.data(), x.rows, x.cols + 1) {
    for (size_t r = 0; r < x.rows; ++r) {
      std::copy_n(x.row(r), x.cols, view.row(r));
    }
  }
  Widened(const Widened&) = delete;
  Widened& operator=(const Widened&) = delete;

 private:
  std::vector<T> values_;

 public:
  const MatrixView<T> view;
};

// Writes G_r - G_j into the last column of the keys up to `keys`.
template <typename T>
void SetBias(const std::vector<double>& sums, int64_t r, int64_t keys,
             MatrixView<T> widened) {
  for (int64_t j = 0; j < keys; ++j) {
    widened(j, widened.cols - 1) = static_cast<T>(sums[r] - sums[j]);
  }
}

// bias[j] = G_t - G_j for the last token t: what the gates of later tokens sum
// to. In few groups' sums, which do not wait for each other, rounding errors
// are few; the groups' own sum is in float64.
template <typename T>
void FillBias(MatrixView<const T> gates, T* bias) {
  constexpr size_t kGroup = 16;
  double later = 0;
  for (size_t end = gates.rows; end > 0;) {
    const size_t begin = end - std::min(end, kGroup);
    const T before = static_cast<T>(later);
    T sum = 0;
    for (size_t j = end; j-- > begin;) {
      bias[j] = before + sum;
      sum += gates.data[j];
    }
    later += static_cast<double>(sum);
    end = begin;
  }
}

class FoxOperator : public Operator {
 public:
  explicit FoxOperator(const Options& options) : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {
        {"q", "BLHK", "queries [batch, length, heads, key_dim]"},
        {"k", "BLGK", "keys [batch, length, kv_heads, key_dim]"},
        {"v", "BLGV", "values [batch, length, kv_heads, value_dim]"},
        {"g", "BLH", "logarithms of the forget gates [batch, length, heads]",
         Domain::kNonPositive}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    const KeyValueCache *cache = nullptr, *gate_cache = nullptr;
    int64_t before = 0;
    if (call->state != nullptr) {
      cache = Part(*call, kKeysAndValues);
      gate_cache = Part(*call, kGates);
      before = cache->tokens();
      Append(*call);
    }
    if (TakesOneToken(*call)) {
      DispatchDType(call->output.dtype(), [&](auto zero) {
        Step<decltype(zero)>(*call, *cache, *gate_cache);
      });
      return absl::OkStatus();
    }
    Tensor lse;
    const DType dtype = call->output.dtype();
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t block = Block(call->form);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t g) {
        MatrixView<const T> k = call->inputs[kKey].Sequence<T>(b, g);
        MatrixView<const T> v = call->inputs[kValue].Sequence<T>(b, g);
        MatrixView<const T> gates = Gates<T>(call->inputs[kLogForget], b, h);
        if (cache != nullptr) {
          k = cache->Keys<T>(b, g);
          v = cache->Values<T>(b, g);
          gates = gate_cache->Keys<T>(b, h);
        }
        const std::vector<double> sums = Sums(gates);
        const Widened<T> wide_q(call->inputs[kQuery].Sequence<T>(b, h),
                                1 / ScoreScale<T>(d));
        const Widened<T> wide_k(k, 0);
        const auto o = call->output.Sequence<T>(b, h);
        T* head_lse = HeadRow<T>(lse, b, h);
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          const int64_t first = before + start, keys = first + rows;
          SetBias(sums, first, keys, wide_k.view);
          kernels::SoftmaxAttentionForward(
              wide_q.view.Rows(start, rows), wide_k.view.Rows(0, keys),
              v.Rows(0, keys), ScoreScale<T>(d), CausalFrom(first),
              o.Rows(start, rows),
              head_lse == nullptr ? nullptr : head_lse + start);
        }
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    Tensor to[4];
    for (Input i : {kQuery, kKey, kValue, kLogForget}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    const int64_t block = Block(call.form);
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForEachHeadByGroup(call.pool, d, [&](int64_t b, int64_t h, int64_t g) {
        const auto v = call.inputs[kValue].Sequence<T>(b, g);
        const auto o = call.output.Sequence<T>(b, h);
        const auto d_o = d_output.Sequence<T>(b, h);
        const auto d_v = to[kValue].Sequence<T>(b, g);
        const T* lse = HeadRow<T>(call.saved[0], b, h);
        const std::vector<double> sums =
            Sums<T>(Gates<T>(call.inputs[kLogForget], b, h));
        const Widened<T> wide_q(call.inputs[kQuery].Sequence<T>(b, h),
                                1 / ScoreScale<T>(d));
        const Widened<T> wide_k(call.inputs[kKey].Sequence<T>(b, g), 0);
        const size_t wide = d.key_dim + 1;
        std::vector<T> d_wide(2 * d.length * wide);
        const MatrixView<T> d_q(d_wide.data(), d.length, wide);
        const MatrixView<T> d_k(d_q.row(d.length), d.length, wide);
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          const int64_t keys = start + rows;
          SetBias(sums, start, keys, wide_k.view);
          kernels::SoftmaxAttentionBackward(
              wide_q.view.Rows(start, rows), wide_k.view.Rows(0, keys),
              v.Rows(0, keys), o.Rows(start, rows), lse + start,
              d_o.Rows(start, rows), ScoreScale<T>(d), CausalFrom(start),
              d_q.Rows(start, rows), d_k.Rows(0, keys), d_v.Rows(0, keys));
        }
        const auto to_q = to[kQuery].Sequence<T>(b, h);
        const auto to_k = to[kKey].Sequence<T>(b, g);
        const auto to_g = Gates<T>(to[kLogForget], b, h);
        // The scores' gradients of a query sum to 0, so G_i gets nothing and
        // G_j what the bias of key j gets, negated; g_t is in all G_j, j >= t.
        double d_sum = 0;
        for (int64_t t = d.length - 1; t >= 0; --t) {
          kernels::Axpy(T{1}, d_q.row(t), to_q.row(t), d.key_dim);
          kernels::Axpy(T{1}, d_k.row(t), to_k.row(t), d.key_dim);
          d_sum -= d_k(t, d.key_dim);
          to_g(t, 0) += static_cast<T>(d_sum);
        }
      });
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, d.batch);
    state->Add(std::make_unique<KeyValueCache>(dtype, d.batch, d.kv_heads,
                                               d.key_dim, d.value_dim));
    state->Add(std::make_unique<KeyValueCache>(dtype, d.batch, d.heads,
                                               /*key_dim=*/1, /*value_dim=*/0));
    return state;
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.length *
           (d.kv_heads * (d.key_dim + d.value_dim) + d.heads);
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double pairs = 0.5 * d.batch * d.heads * d.length * (d.length + 1.0);
    Cost cost;
    cost.flops = pairs * (2 * (d.key_dim + d.value_dim) + 1);  // and the bias
    cost.exps = pairs;
    cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
                 ((d.key_dim + d.value_dim) * (d.heads + d.kv_heads) + d.heads);
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    // The scores once more.
    cost.flops +=
        1.0 * d.batch * d.heads * d.length * (d.length + 1.0) * d.key_dim;
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const double* g = call.inputs[kLogForget].data<double>();
    SoftmaxOracle(call, [&](int64_t b, int64_t h, int64_t i, int64_t j) {
      if (j > i) return -HUGE_VAL;
      double bias = 0;
      for (int64_t m = j + 1; m <= i; ++m) {
        bias += g[(b * d.length + m) * d.heads + h];
      }
      return bias;
    });
    return absl::OkStatus();
  }

 private:
  enum StatePart { kKeysAndValues, kGates };

  static KeyValueCache* Part(const OperatorCall& call, StatePart part) {
    return static_cast<KeyValueCache*>(
        static_cast<CompositeState*>(call.state)->part(part));
  }

  static void Append(const OperatorCall& call) {
    const Dims& d = call.dims;
    Part(call, kKeysAndValues)->Append(call.inputs[kKey], call.inputs[kValue]);
    Part(call, kGates)
        ->Append(
            call.inputs[kLogForget].Reshaped({d.batch, d.length, d.heads, 1}),
            Tensor());
  }

  // One token: the heads that share keys read them together.
  template <typename T>
  static void Step(const OperatorCall& call, const KeyValueCache& cache,
                   const KeyValueCache& gates) {
    const Dims& d = call.dims;
    const size_t group = d.heads / d.kv_heads, keys = cache.tokens();
    const MatrixView<const T> q = RowsOfHeads<T>(call.inputs[kQuery]);
    const MatrixView<T> o = RowsOfHeads<T>(call.output);
    kernels::ParallelFor(call.pool, d.batch * d.kv_heads, [&](size_t i, int) {
      const int64_t b = i / d.kv_heads, g = i % d.kv_heads;
      // Not cleared: every entry is written.
      const std::unique_ptr<T[]> memory(new T[group * keys]);
      const MatrixView<T> bias(memory.get(), group, keys);
      for (size_t h = 0; h < group; ++h) {
        FillBias(gates.Keys<T>(b, g * group + h), bias.row(h));
      }
      kernels::SoftmaxAttentionBiased(
          q.Rows(i * group, group), cache.Keys<T>(b, g), cache.Values<T>(b, g),
          ScoreScale<T>(d), bias, o.Rows(i * group, group));
    });
  }

  // Small blocks also keep the bias small, so the parallel form has them too.
  int64_t Block(Form form) const {
    return form == Form::kRecurrent ? 1 : chunk_;
  }

  // [length, 1] of a [batch, length, heads] array.
  template <typename T>
  static MatrixView<T> Gates(const Tensor& x, int64_t b, int64_t h) {
    const size_t length = x.dim(1), heads = x.dim(2);
    return {x.data<T>() + b * length * heads + h, length, 1, heads};
  }

  // G_t: float32 gates, summed in float64.
  template <typename T>
  static std::vector<double> Sums(MatrixView<const T> gates) {
    std::vector<double> sums(gates.rows);
    double sum = 0;
    for (size_t t = 0; t < gates.rows; ++t) sums[t] = sum += gates(t, 0);
    return sums;
  }

  int64_t chunk_;
};

class FoxMixer : public QkvMixer {
 public:
  FoxMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<FoxOperator>(config.options), layout),
        forget_(AddDense(config, "forget", config.width, layout.heads)),
        forget_bias_(config.parameters->Add(config.name + ".forget_bias",
                                            {layout.heads}, Init::Zeros(),
                                            /*decay=*/false)) {
    const auto add_gain = [&](const char* name, int64_t dim) {
      return config.parameters->Add(config.name + name, {dim},
                                    Init::Constant(1), /*decay=*/false);
    };
    if (config.options.Bool("qk_norm")) {
      query_gain_ = add_gain(".query_norm", layout.key_dim);
      key_gain_ = add_gain(".key_norm", layout.key_dim);
    }
    if (config.options.Bool("output_gate")) {
      output_gain_ = add_gain(".output_norm", layout.value_dim);
      gate_ = AddDense(config, "gate", config.width,
                       layout.heads * layout.value_dim);
    }
  }

 protected:
  void Prepare(const MixerCall& call, int64_t,
               std::vector<Variable>* inputs) const override {
    Tape* tape = call.x.tape();
    if (query_gain_ != nullptr) {
      (*inputs)[kQuery] = HeadNorm((*inputs)[kQuery], *query_gain_);
      (*inputs)[kKey] = HeadNorm((*inputs)[kKey], *key_gain_);
    }
    inputs->push_back(
        Map(kernels::Unary::kLogSigmoid,
            Linear(call.x, tape->Use(*forget_), tape->Use(*forget_bias_))));
  }

  Variable Finish(const MixerCall& call, const std::vector<Variable>&,
                  Variable o) const override {
    if (gate_ == nullptr || !o.valid()) return o;
    Tape* tape = o.tape();
    Variable gate =
        Map(kernels::Unary::kSigmoid, Linear(call.x, tape->Use(*gate_)));
    return Multiply(HeadNorm(o, *output_gain_), Reshape(gate, o.shape()));
  }

 private:
  static Variable HeadNorm(Variable x, const Parameter& gain) {
    if (!x.valid()) return x;
    return Norm(kernels::NormKind::kRms, x, x.tape()->Use(gain), {}, 1e-6);
  }

  const Parameter* forget_;
  const Parameter* forget_bias_;
  // Null without the option.
  const Parameter* query_gain_ = nullptr;
  const Parameter* key_gain_ = nullptr;
  const Parameter* output_gain_ = nullptr;
  const Parameter* gate_ = nullptr;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<FoxOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  if (const int64_t kv_heads = config.options.Int("kv_heads"); kv_heads != 0) {
    layout.kv_heads = kv_heads;
  }
  if (layout.heads % layout.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("fox: kv_heads = ", layout.kv_heads,
                     " must divide the model's heads = ", layout.heads));
  }
  return std::make_unique<FoxMixer>(config, layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "fox";
  d.title = "Forgetting attention";
  d.family = "softmax";
  d.paper = "arXiv 2503.02130";
  d.summary = "softmax attention that a learned gate makes forget";
  d.tolerance = 5e-6;
  d.options = {
      OptionSpec::Int("kv_heads", 0, 0, 1024,
                      "key/value heads, shared by groups of query heads; 0: as "
                      "many as query heads"),
      OptionSpec::Bool("qk_norm", false, "RMS norm on queries and keys"),
      OptionSpec::Bool("output_gate", false,
                       "RMS norm and sigmoid gate on every head's output"),
      OptionSpec::Int("chunk", 64, 1, 65536,
                      "query tokens a block in the chunked form")};
  d.variations = {{{"qk_norm", "true"}, {"output_gate", "true"}},
                  {{"kv_heads", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
