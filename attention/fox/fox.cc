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
// float32, however far G has sunk since the start of the text.
//
// The layer is FoX (LLaMA), without rotary positions. output_gate and qk_norm
// add those parts of FoX (Pro); its shift of keys and values is left to the
// model's short convolution.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::MatrixView;

enum Input { kQuery, kKey, kValue, kLogForget };

// The first `cols` columns of a matrix.
template <typename T>
MatrixView<T> Columns(MatrixView<T> m, size_t cols) {
  return {m.data, m.rows, cols, m.stride};
}

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
    auto* cache = static_cast<KeyValueCache*>(call->state);
    const int64_t before = cache == nullptr ? 0 : cache->tokens();
    Tensor lse;
    const DType dtype = call->output.dtype();
    if (call->keep) {
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      call->saved = {lse};
    }
    const int64_t block = Block(call->form);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      if (cache != nullptr) {
        cache->Append(KeysWithGates<T>(*call), call->inputs[kValue]);
      }
      ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t g) {
        MatrixView<const T> k = call->inputs[kKey].Sequence<T>(b, g);
        MatrixView<const T> v = call->inputs[kValue].Sequence<T>(b, g);
        MatrixView<const T> gates = Gates<T>(call->inputs[kLogForget], b, h);
        if (cache != nullptr) {
          const MatrixView<const T> rows = cache->Keys<T>(b, g);
          k = Columns(rows, d.key_dim);
          v = cache->Values<T>(b, g);
          const int64_t column = d.key_dim + h % (d.heads / d.kv_heads);
          gates = {rows.data + column, rows.rows, 1, rows.stride};
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

  // A key's row ends with the gates of the query heads that read it.
  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<KeyValueCache>(dtype, d.batch, d.kv_heads,
                                           d.key_dim + d.heads / d.kv_heads,
                                           d.value_dim);
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

  template <typename T>
  static Tensor KeysWithGates(const OperatorCall& call) {
    const Dims& d = call.dims;
    const int64_t group = d.heads / d.kv_heads;
    Tensor rows(call.arena, call.output.dtype(),
                {d.batch, d.length, d.kv_heads, d.key_dim + group});
    const T* k = call.inputs[kKey].data<T>();
    const T* g = call.inputs[kLogForget].data<T>();
    T* out = rows.data<T>();
    for (int64_t i = 0; i < d.batch * d.length * d.kv_heads; ++i) {
      out = std::copy_n(k + i * d.key_dim, d.key_dim, out);
      out = std::copy_n(g + i * group, group, out);
    }
    return rows;
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
