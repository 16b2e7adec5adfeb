// SPDX-License-Identifier: Apache-2.0
//
// Infini-attention (arXiv 2404.07143): softmax attention inside segments of N
// tokens, beside a linear memory of all complete segments. With sigma = elu + 1
// and M = 0, z = 0 at the start, a segment first reads, then writes:
//
//   A_mem = sigma(Q) M / (sigma(Q) z + eps),    A_dot = causal softmax(Q K^T) V
//   A     = gate A_mem + (1 - gate) A_dot,      gate = sigmoid(beta) per head
//   M    += sigma(K)^T V                                             (linear)
//   M    += sigma(K)^T (V - sigma(K) M / (sigma(K) z + eps))         (delta)
//   z    += sum_t sigma(K_t)                                         (both)
//
// Peculiar: the delta rule takes away what the memory before the segment
// returns, for all its tokens at once, and leaves z alone. While the memory is
// empty A_mem is 0 (not 0/0), so the first segment gives (1 - gate) A_dot.
// Positions are rotated in A_dot only, relative to the segment; the memory and
// the state hold keys as they came. Gradients flow through the memory across
// all segments. A_dot is scaled by key_dim^-1/2, as usual and in published
// code, where the paper's text has the model's width. beta starts at 0: the
// paper does not say.

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/infini/infini_head.h"
#include "attention/infini/infini_state.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/one_token.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::MatrixView;

enum Input { kQuery, kKey, kValue, kGate };
enum Saved { kMemories, kLse, kLocal };

class InfiniOperator : public Operator {
 public:
  explicit InfiniOperator(const Options& options)
      : segment_(options.Int("segment")),
        delta_(options.Choice("update") == "delta"),
        rope_(options.Bool("rope")),
        rope_base_(options.Real("rope_base")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
            {"v", "BLHV", "values [batch, length, heads, value_dim]"},
            {"gate", "H", "share of the memory in the output [heads]",
             Domain::kUnit}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    if (rope_ && d.key_dim % 2 != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("infini: rope = true turns pairs, so key_dim must be "
                       "even, not ",
                       d.key_dim));
    }
    const DType dtype = call->output.dtype();
    std::unique_ptr<State> own;
    if (call->state == nullptr) own = NewState(d, dtype);
    auto* state = static_cast<InfiniState*>(own ? own.get() : call->state);
    Tensor memories, lse, local;
    if (call->keep) {
      memories = Tensor(call->arena, dtype, MemoriesShape(d));
      lse = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
      local = Tensor(call->arena, dtype, call->output.shape());
      call->saved = {memories, lse, local};
    }
    if (TakesOneToken(*call)) {
      DispatchDType(dtype,
                    [&](auto zero) { Step<decltype(zero)>(*call, state); });
      return absl::OkStatus();
    }
    for (int64_t start = 0; start < d.length;) {
      // As much of the current segment as there is, or one token of it.
      const int64_t held = state->recent.held();
      int64_t rows = std::min(segment_ - held, d.length - start);
      if (call->form == Form::kRecurrent) rows = 1;
      state->recent.Append(call->inputs[kKey], call->inputs[kValue], start,
                           rows);
      const bool complete = held + rows == segment_;
      DispatchDType(dtype, [&](auto zero) {
        using T = decltype(zero);
        const InfiniHead<T> head(delta_, state->frequencies);
        ForEachHead(call->pool, d, [&](int64_t b, int64_t h, int64_t) {
          const auto q =
              call->inputs[kQuery].Sequence<T>(b, h).Rows(start, rows);
          const auto o = call->output.Sequence<T>(b, h).Rows(start, rows);
          const auto k = state->recent.Keys<T>(b, h);
          const auto v = state->recent.Values<T>(b, h);
          const auto memory = Memory<T>(state->memory, b * d.heads + h);
          T* head_lse = HeadRow<T>(lse, b, h);
          head.Local(q, k, v, held, o,
                     head_lse == nullptr ? nullptr : head_lse + start);
          if (call->keep) {
            Copy<T>(memory, MemoryBefore<T>(memories, b, h, start / segment_));
            Copy<T>(o, local.Sequence<T>(b, h).Rows(start, rows));
          }
          const Block<T> phi(rows, d.key_dim), read(rows, d.value_dim + 1);
          head.Read(q, memory, phi.view, read.view);
          Mix<T>(call->inputs[kGate].data<T>()[h], read.view, o);
          if (complete) head.Write(k, v, memory);
        });
      });
      if (complete) state->recent.Clear();
      start += rows;
    }
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    Tensor to[3];
    for (Input i : {kQuery, kKey, kValue}) {
      to[i] = GradientOrScratch(d_inputs[i], call.inputs[i]);
    }
    const auto frequencies = Frequencies(d);
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const InfiniHead<T> head(delta_, frequencies);
      std::vector<T> d_gate(d.batch * d.heads);
      ForEachHead(call.pool, d, [&](int64_t b, int64_t h, int64_t) {
        const Block<T> d_memory(d.key_dim, d.value_dim + 1);
        const int64_t last = (d.length - 1) / segment_;
        for (int64_t s = last; s >= 0; --s) {
          const int64_t start = s * segment_;
          const int64_t rows = std::min(segment_, d.length - start);
          const auto part = [&](const Tensor& x) {
            return x.Sequence<T>(b, h).Rows(start, rows);
          };
          const auto q = part(call.inputs[kQuery]), k = part(call.inputs[kKey]),
                     v = part(call.inputs[kValue]),
                     local = part(call.saved[kLocal]), d_o = part(d_output),
                     d_q = part(to[kQuery]), d_k = part(to[kKey]),
                     d_v = part(to[kValue]);
          const auto memory = MemoryBefore<T>(call.saved[kMemories], b, h, s);

          // The write, unless nobody reads the memory after it.
          if (s < last) {
            const Block<T> d_phi(rows, d.key_dim);
            head.WriteBackward(k, v, memory, d_memory.view, d_phi.view, d_v);
            head.PhiBackward(k, d_phi.view, d_k);
          }

          const T gate = call.inputs[kGate].data<T>()[h];
          const Block<T> phi(rows, d.key_dim), read(rows, d.value_dim + 1),
              d_read(rows, d.value_dim + 1), d_local(rows, d.value_dim);
          head.Read(q, memory, phi.view, read.view);
          for (int64_t t = 0; t < rows; ++t) {
            for (int64_t c = 0; c < d.value_dim; ++c) {
              const T g = d_o(t, c);
              d_gate[b * d.heads + h] += g * (read.view(t, c) - local(t, c));
              d_read.view(t, c) = gate * g;
              d_local.view(t, c) = (1 - gate) * g;
            }
          }
          // Before the first segment the memory is empty and constant.
          if (s > 0) {
            const Block<T> d_phi(rows, d.key_dim);
            head.ReadBackward(phi.view, memory, read.view, d_read.view,
                              d_phi.view, d_memory.view);
            head.PhiBackward(q, d_phi.view, d_q);
          }
          head.LocalBackward(q, k, v, local,
                             HeadRow<T>(call.saved[kLse], b, h) + start,
                             d_local.view, d_q, d_k, d_v);
        }
      });
      if (d_inputs[kGate].empty()) return;
      for (int64_t i = 0; i < d.batch * d.heads; ++i) {
        d_inputs[kGate].data<T>()[i % d.heads] += d_gate[i];
      }
    });
    return absl::OkStatus();
  }

  // Half of each: a pair is in the memory or in the segment, never in both.
  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override {
    return NeutralInputs(Inputs(), {{"q", queries}, {"k", keys}, {"v", values}},
                         {{"gate", 0.5}});
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<InfiniState>(d, dtype, segment_, Frequencies(d));
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads *
           (d.key_dim * (d.value_dim + 1) +
            d.length % segment_ * (d.key_dim + d.value_dim));
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
    const double keys = (std::min(d.length, segment_) + 1) / 2.0;
    const double memory = 2.0 * d.key_dim * (d.value_dim + 1);
    Cost cost;
    // Local scores and values; a read and a write, and the delta rule's read.
    cost.flops = tokens * (2 * keys * (d.key_dim + d.value_dim) +
                           (delta_ ? 3 : 2) * memory);
    cost.exps = tokens * (keys + (delta_ ? 3 : 2) * d.key_dim);
    cost.bytes =
        sizeof(float) * (tokens * 2 * (d.key_dim + d.value_dim) + d.heads);
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    // The local scores once more.
    cost.flops += 1.0 * d.batch * d.heads * d.length *
                  (std::min(d.length, segment_) + 1) * d.key_dim;
    return cost;
  }

  // The memory is written where a segment ends, by all of its tokens.
  Cost StepCost(const Dims& d) const override {
    const double heads = static_cast<double>(d.batch) * d.heads;
    const int64_t keys = d.length % segment_ + 1;
    const double memory = 2.0 * d.key_dim * (d.value_dim + 1);
    Cost cost = Operator::StepCost(d);
    cost.flops = heads * (2.0 * keys * (d.key_dim + d.value_dim) + memory);
    cost.exps = heads * (keys + d.key_dim);
    if (keys == segment_) {
      cost.flops += heads * segment_ * (delta_ ? 2 : 1) * memory;
      cost.exps += heads * segment_ * (delta_ ? 2.0 : 1.0) * d.key_dim;
      cost.bytes += heads * sizeof(float) * d.key_dim * (d.value_dim + 1);
    }
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override;

 private:
  // o = gate read + (1 - gate) o; read has a last column more.
  template <typename T>
  static void Mix(T gate, MatrixView<const T> read, MatrixView<T> o) {
    for (size_t t = 0; t < o.rows; ++t) {
      const T* const from = read.row(t);
      T* const to = o.row(t);
      for (size_t c = 0; c < o.cols; ++c) {
        to[c] = gate * from[c] + (1 - gate) * to[c];
      }
    }
  }

  // One token: what is alike for all heads is done for all at once.
  template <typename T>
  void Step(const OperatorCall& call, InfiniState* state) const {
    const Dims& d = call.dims;
    const int64_t heads = d.batch * d.heads, held = state->recent.held();
    state->recent.Append(call.inputs[kKey], call.inputs[kValue], 0, 1);
    const bool complete = held + 1 == segment_;
    const InfiniHead<T> head(delta_, state->frequencies);
    const size_t keys = held + 1, cols = heads * d.key_dim;
    const size_t read_cols = d.value_dim + 1;
    // Not cleared: every entry is written.
    const std::unique_ptr<T[]> memory(
        new T[(2 + keys) * cols + heads * read_cols]);
    const MatrixView<T> q(memory.get(), 1, cols), phi(q.row(1), 1, cols),
        k(phi.row(1), keys, cols), reads(k.row(keys), heads, read_cols);
    const T* const query = call.inputs[kQuery].data<T>();
    kernels::Map(kernels::Unary::kEluPlusOne, query, phi.data, cols);
    std::copy_n(query, cols, q.data);
    head.Turn(q, held, false);
    Copy<T>(state->recent.AllKeys<T>(), k);
    head.Turn(k, 0, false);
    ForHeadRanges(call.pool, heads, [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i) {
        const int64_t b = i / d.heads, h = i % d.heads;
        const auto o = call.output.Sequence<T>(b, h);
        const auto v = state->recent.Values<T>(b, h);
        const auto stored = Memory<T>(state->memory, i);
        const auto of_head = [&](MatrixView<T> x) {
          return MatrixView<T>(x.data + i * d.key_dim, x.rows, d.key_dim,
                               x.stride);
        };
        head.LocalOfTurned(of_head(q), of_head(k), v, held, o, nullptr);
        head.ReadWith(of_head(phi), stored, reads.Rows(i, 1));
        Mix<T>(call.inputs[kGate].data<T>()[h], reads.Rows(i, 1), o);
        if (complete) head.Write(state->recent.Keys<T>(b, h), v, stored);
      }
    });
    if (complete) state->recent.Clear();
  }

  Shape MemoriesShape(const Dims& d) const {
    return {d.batch, d.heads, (d.length + segment_ - 1) / segment_, d.key_dim,
            d.value_dim + 1};
  }

  // Matrix number i of a [..., key_dim, value_dim + 1] array.
  template <typename T>
  static MatrixView<T> Memory(const Tensor& t, int64_t i) {
    const size_t rows = t.dim(2), cols = t.dim(3);
    return {t.data<T>() + i * rows * cols, rows, cols};
  }

  // The memory that segment s reads.
  template <typename T>
  MatrixView<T> MemoryBefore(const Tensor& memories, int64_t b, int64_t h,
                             int64_t s) const {
    const int64_t heads = memories.dim(1), segments = memories.dim(2);
    const size_t rows = memories.dim(3), cols = memories.dim(4);
    return {memories.data<T>() + ((b * heads + h) * segments + s) * rows * cols,
            rows, cols};
  }

  template <typename T>
  static void Copy(MatrixView<const T> from, MatrixView<T> to) {
    for (size_t r = 0; r < from.rows; ++r) {
      std::copy_n(from.row(r), from.cols, to.row(r));
    }
  }

  std::vector<double> Frequencies(const Dims& d) const {
    return rope_ ? kernels::RotaryFrequencies(d.key_dim, rope_base_)
                 : std::vector<double>();
  }

  int64_t segment_;
  bool delta_, rope_;
  double rope_base_;
};

double Sigma(double x) { return x > 0 ? x + 1 : std::exp(x); }

// q_i . k_j after turning both by their positions: q_i . R(j - i) k_j.
double RotatedDot(MatrixView<double> q, int64_t i, MatrixView<double> k,
                  int64_t j, double base, bool rope) {
  double sum = 0;
  const int64_t half = q.cols / 2;
  if (!rope) {
    for (size_t c = 0; c < q.cols; ++c) sum += q(i, c) * k(j, c);
    return sum;
  }
  for (int64_t c = 0; c < half; ++c) {
    const double angle = (j - i) * std::pow(base, -2.0 * c / q.cols);
    const double cos = std::cos(angle), sin = std::sin(angle);
    const double q0 = q(i, c), q1 = q(i, c + half);
    const double k0 = k(j, c), k1 = k(j, c + half);
    sum += cos * (q0 * k0 + q1 * k1) + sin * (q1 * k0 - q0 * k1);
  }
  return sum;
}

absl::Status InfiniOperator::Reference(const OperatorCall& call) const {
  const Dims& d = call.dims;
  constexpr double kEps = 1e-6;
  const int64_t dk = d.key_dim, dv = d.value_dim;
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const auto q = call.inputs[kQuery].Sequence<double>(b, h);
      const auto k = call.inputs[kKey].Sequence<double>(b, h);
      const auto v = call.inputs[kValue].Sequence<double>(b, h);
      const auto o = call.output.Sequence<double>(b, h);
      const double gate = call.inputs[kGate].data<double>()[h];
      std::vector<double> memory(dk * dv), z(dk);
      const auto retrieved = [&](MatrixView<double> x, int64_t t, int64_t c) {
        double num = 0, den = kEps;
        for (int64_t a = 0; a < dk; ++a) {
          num += Sigma(x(t, a)) * memory[a * dv + c];
          den += Sigma(x(t, a)) * z[a];
        }
        return num / den;
      };
      for (int64_t start = 0; start < d.length; start += segment_) {
        const int64_t end = std::min(start + segment_, d.length);
        for (int64_t i = start; i < end; ++i) {
          std::vector<double> weight(end);
          double top = -INFINITY, total = 0;
          for (int64_t j = start; j <= i; ++j) {
            weight[j] = RotatedDot(q, i, k, j, rope_base_, rope_) /
                        std::sqrt(static_cast<double>(dk));
            top = std::max(top, weight[j]);
          }
          for (int64_t j = start; j <= i; ++j) {
            total += weight[j] = std::exp(weight[j] - top);
          }
          for (int64_t c = 0; c < dv; ++c) {
            double local = 0;
            for (int64_t j = start; j <= i; ++j) {
              local += weight[j] / total * v(j, c);
            }
            o(i, c) = gate * retrieved(q, i, c) + (1 - gate) * local;
          }
        }
        std::vector<double> next = memory;
        for (int64_t j = start; j < end; ++j) {
          for (int64_t c = 0; c < dv; ++c) {
            const double write = v(j, c) - (delta_ ? retrieved(k, j, c) : 0);
            for (int64_t a = 0; a < dk; ++a) {
              next[a * dv + c] += Sigma(k(j, a)) * write;
            }
          }
        }
        memory = next;
        for (int64_t j = start; j < end; ++j) {
          for (int64_t a = 0; a < dk; ++a) z[a] += Sigma(k(j, a));
        }
      }
    }
  }
  return absl::OkStatus();
}

class InfiniMixer : public QkvMixer {
 public:
  InfiniMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<InfiniOperator>(config.options),
                 layout),
        beta_(config.parameters->Add(config.name + ".beta", {layout.heads},
                                     Init::Zeros(), /*decay=*/false)) {}

 protected:
  void Prepare(const MixerCall& call, int64_t,
               std::vector<Variable>* inputs) const override {
    inputs->push_back(
        Map(kernels::Unary::kSigmoid, call.x.tape()->Use(*beta_)));
  }

 private:
  const Parameter* beta_;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<InfiniOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  const QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  if (config.options.Bool("rope") && layout.key_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "infini: rope = true turns pairs, so the head width must be even, not ",
        layout.key_dim));
  }
  return std::make_unique<InfiniMixer>(config, layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "infini";
  d.title = "Infini-attention";
  d.family = "softmax with memory";
  d.paper = "arXiv 2404.07143";
  d.summary = "softmax inside a segment, a linear memory of all before it";
  d.tolerance = 3e-7;  // measured 1.7e-7
  d.options = {
      OptionSpec::Int("segment", 16, 1, 1 << 20, "tokens a segment"),
      OptionSpec::Choice("update", "linear", {"linear", "delta"},
                         "how a segment is written to the memory"),
      OptionSpec::Bool("rope", true, "rotary positions inside a segment"),
      OptionSpec::Real("rope_base", 10000, 1, 1e9, "base of rotary angles")};
  d.variations = {{{"update", "delta"}, {"segment", "5"}},
                  {{"segment", "4"}, {"rope", "false"}},
                  {{"update", "delta"}, {"segment", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
