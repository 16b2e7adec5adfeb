// SPDX-License-Identifier: Apache-2.0
//
// Attention and the MLP as one operation, the read of an associative memory,
//
//   mem(q, K, V, T) = V^T softmax(K q / T),
//
// used three times with a residual each: for every token x_t,
//
//   q  = x_t + mem(x_t, K, V, T_1)       persistent: learned patterns
//   q += mem(q, X, X, T_2)               context: X = x_0 ... x_{t-1}
//   q += mem(q, V, K, T_3)               swapped: the same patterns, backwards.
//
// The persistent read is a two-layer MLP whose nonlinearity is a softmax (keys
// and values are its weights; arXiv 2012.14913 reads MLPs so). The context read
// is one update of a modern Hopfield network (2008.02217). The swapped read
// makes K and V an association in both directions, so both get two gradients.
// The first token has no context: its context read is 0. The state is X.
//
// The layer learns T as e^tau, starting at dim^1/2, and K and V from N(0, 1 /
// dim); x is a projection of its input to heads.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/short_conv.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::AttentionMask;
using kernels::MatrixView;

enum Input { kX, kKeys, kValues, kTemperature };
enum Read { kPersistent, kContext, kSwapped, kReads };

// What Backward needs of every read: its query (but the first, which is x), its
// result, and its log-sum-exps.
enum Saved { kQueries, kResults = kQueries + kReads, kLse = kResults + kReads };

int64_t Patterns(const Dims& d) { return d.own.at('N'); }

// The matrix of one head in a [heads, patterns, dim] array.
template <typename T>
MatrixView<T> OfHead(const Tensor& x, int64_t h) {
  const size_t rows = x.dim(1), cols = x.dim(2);
  return {x.data<T>() + h * rows * cols, rows, cols};
}

// 1 / T of a read, T [reads, heads].
template <typename T>
T Sharpness(const OperatorCall& call, Read read, int64_t h) {
  return 1 / call.inputs[kTemperature].data<T>()[read * call.dims.heads + h];
}

AttentionMask Everything() {
  AttentionMask mask;
  mask.causal = false;
  return mask;
}

class MemoryMachineOperator : public Operator {
 public:
  explicit MemoryMachineOperator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"x", "BLHV", "tokens [batch, length, heads, dim]"},
            {"k", "HNV", "persistent keys [heads, patterns, dim]"},
            {"v", "HNV", "persistent values [heads, patterns, dim]"},
            {"t", "RH",
             "temperatures [3, heads] of the persistent, the context and the "
             "swapped read",
             Domain::kPositive}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    if (d.own.at('R') != kReads) {
      return absl::InvalidArgumentError(
          absl::StrCat("memory_machine: t has temperatures for ", d.own.at('R'),
                       " reads; there are ", int{kReads}));
    }
    const DType dtype = call->output.dtype();
    const Tensor& x = call->inputs[kX];
    auto* cache = static_cast<KeyValueCache*>(call->state);
    const int64_t before = cache == nullptr ? 0 : cache->tokens();
    if (cache != nullptr) {  // keys and values are one, and kept once
      cache->Append(x, Tensor(dtype, x.shape().WithLast(0)));
    }
    std::vector<Tensor> saved(kLse + kReads);
    for (int read = 0; read < kReads; ++read) {
      saved[kQueries + read] =
          read == 0 ? x : Tensor(call->arena, dtype, x.shape());
      saved[kResults + read] = Tensor(call->arena, dtype, x.shape());
      saved[kLse + read] =
          Tensor(call->arena, dtype, {d.batch * d.heads, d.length});
    }
    const int64_t block = ChunkOf(call->form, d.length, chunk_);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      kernels::ParallelFor(call->pool, d.batch * d.heads, [&](size_t i, int) {
        const int64_t b = i / d.heads, h = i % d.heads;
        const auto context =
            cache != nullptr ? cache->Keys<T>(b, h) : x.Sequence<T>(b, h);
        const auto keys = OfHead<T>(call->inputs[kKeys], h);
        const auto values = OfHead<T>(call->inputs[kValues], h);
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          for (Read read : {kPersistent, kContext, kSwapped}) {
            const auto q =
                saved[kQueries + read].Sequence<T>(b, h).Rows(start, rows);
            const auto result =
                saved[kResults + read].Sequence<T>(b, h).Rows(start, rows);
            T* lse = saved[kLse + read].data<T>() + i * d.length + start;
            const T sharpness = Sharpness<T>(*call, read, h);
            if (read == kContext) {
              ReadContext<T>(q, context, before + start, sharpness, result,
                             lse);
            } else {
              const bool swapped = read == kSwapped;
              kernels::SoftmaxAttentionForward(
                  q, swapped ? values : keys, swapped ? keys : values,
                  sharpness, Everything(), result, lse);
            }
            const Tensor& next =
                read == kSwapped ? call->output : saved[kQueries + read + 1];
            const auto to = next.Sequence<T>(b, h).Rows(start, rows);
            for (int64_t r = 0; r < rows; ++r) {
              kernels::Add(q.row(r), result.row(r), to.row(r), q.cols);
            }
          }
        }
      });
    });
    if (call->keep) call->saved = saved;
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    Tensor targets[4];  // a gradient nobody wants still has to go somewhere
    for (Input i : {kX, kKeys, kValues, kTemperature}) {
      targets[i] = d_inputs[i].empty()
                       ? Tensor(d_output.dtype(), call.inputs[i].shape())
                       : d_inputs[i];
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      // All sequences add to the patterns of a head: one task.
      kernels::ParallelFor(call.pool, call.dims.heads, [&](size_t h, int) {
        for (int64_t b = 0; b < call.dims.batch; ++b) {
          BackwardHead<T>(call, d_output, targets, b, h);
        }
      });
    });
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Tensor>> PairInputs(const Tensor&, const Tensor&,
                                                 const Tensor&) const override {
    return absl::UnimplementedError(
        "it stores a token under itself, and pairs only in its weights");
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<KeyValueCache>(dtype, d.batch, d.heads, d.value_dim,
                                           /*value_dim=*/0);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.length * d.heads * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
    const double pairs = Pairs(d);
    Cost cost;
    cost.flops = 4 * pairs * d.value_dim + kReads * tokens * d.value_dim;
    cost.exps = pairs;
    cost.bytes = sizeof(float) * 2.0 * d.value_dim *
                 (tokens + static_cast<double>(d.heads) * Patterns(d));
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    cost.flops += 2 * Pairs(d) * d.value_dim;  // the scores once more
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const int64_t dim = d.value_dim;
    // q += mem(q, keys, values, temperature).
    const auto add_read = [&](kernels::ConstMatrixView<double> keys,
                              kernels::ConstMatrixView<double> values,
                              double temperature, double* q) {
      std::vector<double> p(keys.rows);
      double top = -INFINITY, total = 0;
      for (size_t j = 0; j < keys.rows; ++j) {
        for (int64_t c = 0; c < dim; ++c) p[j] += keys(j, c) * q[c];
        p[j] /= temperature;
        top = std::max(top, p[j]);
      }
      for (double& s : p) total += s = std::exp(s - top);
      for (size_t j = 0; j < keys.rows; ++j) {
        for (int64_t c = 0; c < dim; ++c) q[c] += p[j] / total * values(j, c);
      }
    };
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto x = call.inputs[kX].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        const auto k = OfHead<double>(call.inputs[kKeys], h);
        const auto v = OfHead<double>(call.inputs[kValues], h);
        const double* t = call.inputs[kTemperature].data<double>() + h;
        for (int64_t i = 0; i < d.length; ++i) {
          std::copy(x.row(i), x.row(i) + dim, o.row(i));
          add_read(k, v, t[0], o.row(i));
          add_read(x.Rows(0, i), x.Rows(0, i), t[d.heads], o.row(i));
          add_read(v, k, t[2 * d.heads], o.row(i));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // Of tokens, and the patterns and earlier tokens that they read.
  static double Pairs(const Dims& d) {
    return static_cast<double>(d.batch) * d.heads * d.length *
           (2.0 * Patterns(d) + 0.5 * (d.length - 1.0));
  }

  // Rows q of tokens position, position + 1, ... read the tokens before them.
  template <typename T>
  static void ReadContext(MatrixView<const T> q, MatrixView<const T> context,
                          int64_t position, T sharpness, MatrixView<T> result,
                          T* lse) {
    size_t first = 0;
    if (position == 0) {  // nothing comes before the first token
      std::fill_n(result.row(0), result.cols, T{0});
      first = 1;
    }
    if (q.rows == first) return;
    AttentionMask mask;
    mask.query_offset = position + first - 1;
    const MatrixView<const T> seen = context.Rows(0, position + q.rows - 1);
    kernels::SoftmaxAttentionForward(
        q.Rows(first, q.rows - first), seen, seen, sharpness, mask,
        result.Rows(first, q.rows - first), lse + first);
  }

  template <typename T>
  static void BackwardHead(const OperatorCall& call, const Tensor& d_output,
                           const Tensor (&targets)[4], int64_t b, int64_t h) {
    const Dims& d = call.dims;
    const size_t length = d.length, dim = d.value_dim;
    const MatrixView<T> x = call.inputs[kX].Sequence<T>(b, h);
    const MatrixView<T> d_x = targets[kX].Sequence<T>(b, h);
    const auto keys = OfHead<T>(call.inputs[kKeys], h);
    const auto values = OfHead<T>(call.inputs[kValues], h);
    const auto d_keys = OfHead<T>(targets[kKeys], h);
    const auto d_values = OfHead<T>(targets[kValues], h);
    // The gradient by the query after, and through, the read at hand.
    std::vector<T> after_memory(length * dim), through_memory;
    std::vector<T> d_context_memory(length * dim);
    const MatrixView<T> after(after_memory.data(), length, dim);
    const MatrixView<T> d_context(d_context_memory.data(), length, dim);
    for (size_t t = 0; t < length; ++t) {
      std::copy_n(d_output.Sequence<T>(b, h).row(t), dim, after.row(t));
    }
    for (Read read : {kSwapped, kContext, kPersistent}) {
      through_memory.assign(length * dim, 0);
      const MatrixView<T> through(through_memory.data(), length, dim);
      const MatrixView<T> q = call.saved[kQueries + read].Sequence<T>(b, h);
      const MatrixView<T> result =
          call.saved[kResults + read].Sequence<T>(b, h);
      const T* lse =
          call.saved[kLse + read].data<T>() + (b * d.heads + h) * length;
      const T sharpness = Sharpness<T>(call, read, h);
      if (read == kContext) {
        const size_t n = length - 1;  // the first token reads nothing
        if (n > 0) {
          kernels::SoftmaxAttentionBackward(
              q.Rows(1, n), x.Rows(0, n), x.Rows(0, n), result.Rows(1, n),
              lse + 1, after.Rows(1, n), sharpness, AttentionMask(),
              through.Rows(1, n), d_context.Rows(0, n), d_x.Rows(0, n));
        }
      } else {
        const bool swapped = read == kSwapped;
        kernels::SoftmaxAttentionBackward(
            q, swapped ? values : keys, swapped ? keys : values, result, lse,
            after, sharpness, Everything(), through,
            swapped ? d_values : d_keys, swapped ? d_keys : d_values);
      }
      // With scores s = K q / T, dT = -(ds . s) / T; and ds . s = q . K^T ds /
      // T is q . dq, so the kernel need not hand out ds.
      T* d_t = targets[kTemperature].data<T>() + read * d.heads + h;
      for (size_t t = 0; t < length; ++t) {
        *d_t -= kernels::Dot(q.row(t), through.row(t), dim) * sharpness;
      }
      kernels::Add(after.data, through.data, after.data, length * dim);
    }
    for (size_t t = 0; t < length; ++t) {
      kernels::Add(d_x.row(t), after.row(t), d_x.row(t), dim);
      kernels::Add(d_x.row(t), d_context.row(t), d_x.row(t), dim);
    }
  }

  int64_t chunk_;
};

class MemoryMachineMixer : public Mixer {
 public:
  explicit MemoryMachineMixer(const MixerConfig& config)
      : op_(config.options),
        heads_(config.heads),
        dim_(config.width / config.heads),
        patterns_(config.options.Int("patterns")),
        in_(AddDense(config, "in", config.width, config.width)),
        conv_(absl::StrCat(config.name, ".in_conv"), config.width,
              config.short_conv, config.parameters),
        out_(AddDense(config, "out", config.width, config.width)) {
    const double dim = dim_;
    const auto add = [&](const char* name, const Shape& shape, const Init& init,
                         bool decay) {
      return config.parameters->Add(absl::StrCat(config.name, ".", name), shape,
                                    init, decay);
    };
    const Shape shape({heads_, patterns_, dim_});
    const Init patterns = Init::Normal(1 / std::sqrt(dim));
    keys_ = add("keys", shape, patterns, /*decay=*/true);
    values_ = add("values", shape, patterns, /*decay=*/true);
    tau_ = add("tau", {kReads, heads_}, Init::Constant(std::log(dim) / 2),
               /*decay=*/false);
  }

  Variable Forward(const MixerCall& call) const override {
    if (!call.x.valid()) return {};
    Tape* tape = call.x.tape();
    size_t part = 0;
    const auto next_state = [&]() {
      return call.state == nullptr ? nullptr : call.state->part(part++);
    };
    Variable x = conv_.Apply(Linear(call.x, tape->Use(*in_)),
                             conv_.has_state() ? next_state() : nullptr);
    const int64_t batch = call.x.shape().dim(0), length = call.x.shape().dim(1);
    Variable o = ApplyOperator(
        op_,
        {Reshape(x, {batch, length, heads_, dim_}), tape->Use(*keys_),
         tape->Use(*values_), Map(kernels::Unary::kExp, tape->Use(*tau_))},
        call.form, next_state());
    return LinearResidual(call.residual,
                          Reshape(o, {batch, length, heads_ * dim_}),
                          tape->Use(*out_));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    if (conv_.has_state()) state->Add(conv_.NewState(batch, dtype));
    Dims dims;
    dims.batch = batch;
    dims.heads = heads_;
    dims.value_dim = dim_;
    state->Add(op_.NewState(dims, dtype));
    return state;
  }

 private:
  MemoryMachineOperator op_;
  int64_t heads_, dim_, patterns_;
  const Parameter* in_;
  ShortConv conv_;
  const Parameter *out_, *keys_, *values_, *tau_;
};

// Patterns as both persistent keys and values, and every cue a sequence of one
// token, which has no context: the output is the cue and two reads, whose mean
// is what was retrieved.
absl::StatusOr<Tensor> Retrieve(const Operator& op, const Tensor& patterns,
                                const Tensor& cues) {
  const int64_t dim = cues.dim(1);
  const Tensor memory = patterns.Reshaped({1, patterns.dim(0), dim});
  const auto temperature = static_cast<float>(std::sqrt(dim));  // the layer's
  const std::vector<Tensor> inputs = {
      cues.Reshaped({cues.dim(0), 1, 1, dim}), memory, memory,
      Tensor::FromValues<float>({kReads, 1},
                                std::vector<float>(kReads, temperature))};
  OperatorCall call;
  call.inputs = inputs;
  const absl::Status status = RunOperator(op, &call);
  if (!status.ok()) return status;
  Tensor retrieved(DType::kFloat32, cues.shape());
  for (int64_t i = 0; i < cues.elements(); ++i) {
    retrieved.data<float>()[i] =
        (call.output.data<float>()[i] - cues.data<float>()[i]) / 2;
  }
  return retrieved;
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "memory_machine";
  d.title = "Associative memory machine";
  d.family = "softmax";
  d.paper = "arXiv 2008.02217";
  d.summary = "learned patterns, the context, and the patterns backwards";
  // Measured 5.7e-6, and, where T is small, 2.3e-4 in its gradient, which may
  // have ten times this.
  d.tolerance = 3e-5;
  d.options = {
      OptionSpec::Int("patterns", 64, 1, 65536, "persistent patterns a head"),
      OptionSpec::Int("chunk", 64, 1, 65536,
                      "query tokens a block in the chunked form")};
  d.variations = {{{"patterns", "3"}}};
  Approximation retrieval;
  retrieval.of = kStoredPattern;
  retrieval.knob = kPatterns;
  retrieval.sizes = {2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
  retrieval.retrieve = Retrieve;
  d.approximations = {retrieval};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<MemoryMachineOperator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<MemoryMachineMixer>(config);
     }});

}  // namespace
}  // namespace mneme
