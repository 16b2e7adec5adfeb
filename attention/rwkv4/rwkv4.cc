// SPDX-License-Identifier: Apache-2.0
//
// RWKV-4 (arXiv 2305.13048): no queries and no matrix memory. Every channel
// remembers one weighted mean of its values, with weights e^k that fade by a
// learned e^w a token; the current token has not faded and counts with a bonus
// u:
//
//   y_t = sum_{i < t} e^{(t - 1 - i) w + k_i} v_i + e^{u + k_t} v_t,
//         divided by the same sum without the v.
//
// All exponentials are of differences to the largest exponent so far
// (kernels/wkv.h), which is part of the state. The channels of the operator are
// heads times value_dim; heads mean nothing to it.
//
// The layer: out = (sigmoid(x_r W_r) * y) W_o, with receptance r, key and value
// each projected from a mixture of a token and the one before,
// x_t + (x_{t-1} - x_t) * mu_i, whose weights are learned for each channel. w =
// -e^d for a learned d. Initial values are the published ones: mixtures, decays
// and bonuses depend on channel and layer, W_r, W_k and W_o are zero; but W_v
// holds normal numbers of the scale of the orthogonal matrix drawn there. The
// larger learning rates that d and u have there are left out.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_math.h"
#include "attention/kernels/wkv.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/rwkv_init.h"
#include "attention/parts/token_shift.h"
#include "attention/variant.h"

namespace mneme {
namespace {

enum Input { kValue, kKey, kDecay, kBonus };

int64_t ChannelsOf(const Dims& d) { return d.heads * d.value_dim; }

// How many channels of a sequence are scanned at a time. Channels do not meet,
// so that it changes no result: parts are for threads that would have no
// sequence of their own, and as few as there are such threads, as rows of
// memory are longer then. One token is done before a thread has woken.
int64_t ChannelsAPart(const OperatorCall& call) {
  const Dims& d = call.dims;
  const int64_t threads = call.pool == nullptr ? 1 : call.pool->threads();
  if (d.length == 1 || d.batch >= threads) return ChannelsOf(d);
  constexpr int64_t kWhole = 64;  // vectors, of any target
  const int64_t parts = (threads + d.batch - 1) / d.batch;
  const int64_t width = (ChannelsOf(d) + parts - 1) / parts;
  return (width + kWhole - 1) / kWhole * kWhole;
}

// Calls run(sequence, first channel, how many channels at most) for each part.
template <typename Run>
void ForParts(const OperatorCall& call, const Run& run) {
  const int64_t width = ChannelsAPart(call);
  const int64_t parts = (ChannelsOf(call.dims) + width - 1) / width;
  const auto item = [&](size_t i, int) {
    run(static_cast<int64_t>(i) / parts, i % parts * width, width);
  };
  // Only a reference, which a std::function holds without memory of its own.
  kernels::ParallelFor(call.pool, call.dims.batch * parts, std::cref(item));
}

// Sequence b of [batch, length, heads, dim] as a [length, channels] matrix.
template <typename T>
kernels::MatrixView<T> SequenceOf(const Tensor& x, const Dims& d, int64_t b) {
  if (x.empty()) return {};
  const size_t length = d.length, channels = ChannelsOf(d);
  return {x.data<T>() + b * length * channels, length, channels};
}

class Rwkv4Operator : public Operator {
 public:
  explicit Rwkv4Operator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"v", "BLHV", "values [batch, length, heads, value_dim]"},
            {"k", "BLHV", "log weights [batch, length, heads, value_dim]"},
            {"w", "HV", "log decays a token [heads, value_dim]",
             Domain::kNonPositive},
            {"u", "HV", "bonuses of the current token [heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    const int64_t size = kernels::WkvStateSize(ChannelsOf(d));
    Tensor saved;
    if (call->keep) {
      const int64_t saved_size = kernels::WkvSavedSize(
          d.length, Chunk(call->form, d.length), ChannelsOf(d));
      saved = Tensor(call->arena, call->output.dtype(), {d.batch, saved_size});
      call->saved = {saved};
    }
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForParts(*call, [&](int64_t b, int64_t begin, int64_t width) {
        std::vector<T> fresh;
        T* state;
        if (call->state == nullptr) {
          fresh.resize(size);
          state = fresh.data();
          kernels::WkvClear(ChannelsOf(d), state);
        } else {
          const Tensor& all = static_cast<DenseState*>(call->state)->tensor();
          state = all.data<T>() + b * size;
        }
        kernels::Wkv<T> sequence = OneSequence<T>(*call, b);
        sequence.begin = begin;
        sequence.end = begin + width;
        kernels::WkvForward(
            sequence, state, SequenceOf<T>(call->output, d, b),
            call->keep ? saved.data<T>() + b * saved.dim(1) : nullptr);
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const int64_t batch = call.dims.batch, channels = ChannelsOf(call.dims);
    const Tensor& saved = call.saved[0];
    // Sequences share w and u: each gets its own sums, which are then added.
    Tensor sums(call.arena, d_output.dtype(), {batch, 2, channels});
    sums.FillZero();
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      ForParts(call, [&](int64_t b, int64_t begin, int64_t width) {
        kernels::WkvGradients<T> gradients;
        gradients.d_k = SequenceOf<T>(d_inputs[kKey], call.dims, b);
        gradients.d_v = SequenceOf<T>(d_inputs[kValue], call.dims, b);
        gradients.d_w = sums.data<T>() + 2 * b * channels;
        gradients.d_u = gradients.d_w + channels;
        kernels::Wkv<T> sequence = OneSequence<T>(call, b);
        sequence.begin = begin;
        sequence.end = begin + width;
        kernels::WkvBackward(sequence, saved.data<T>() + b * saved.dim(1),
                             SequenceOf<T>(d_output, call.dims, b), gradients);
      });
      for (Input i : {kDecay, kBonus}) {
        if (d_inputs[i].empty()) continue;
        const T* from = sums.data<T>() + (i == kDecay ? 0 : channels);
        for (int64_t b = 0; b < batch; ++b, from += 2 * channels) {
          kernels::Axpy(T{1}, from, d_inputs[i].data<T>(), channels);
        }
      }
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    const int64_t channels = ChannelsOf(d), size = 3 * channels;
    auto state =
        std::make_unique<DenseState>(dtype, Shape({d.batch, 3, channels}));
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      for (int64_t b = 0; b < d.batch; ++b) {
        kernels::WkvClear(channels, state->tensor().data<T>() + b * size);
      }
    });
    return state;
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * 3 * ChannelsOf(d);
  }

  // One token alone takes e^{-|p - u - k|} and e^{-|p + w - k|}, with 10 FLOPs
  // to read and 8 to write. Of many, e^w and e^u are known, and each takes one
  // exponential: 6 FLOPs to read, 5 to write.
  Cost ForwardCost(const Dims& d, Form form) const override {
    const double tokens = static_cast<double>(d.batch) * d.length;
    const double channels = ChannelsOf(d);
    const bool one_by_one = d.length == 1 || Chunk(form, d.length) == 1;
    Cost cost;
    cost.flops = (one_by_one ? 18 : 11) * tokens * channels;
    cost.exps = (one_by_one ? 2 : 1) * tokens * channels;
    cost.bytes = sizeof(float) * channels * (3 * tokens + 6.0 * d.batch + 2);
    return cost;
  }

  // What any way back from a few kept states must compute: the forward's 11
  // FLOPs and its exponential once more, and 23 FLOPs for the gradients. Not
  // counted is that the kernel, which keeps no state but those before blocks of
  // a chunk, computes nearly all of its blocks twice.
  Cost BackwardCost(const Dims& d, Form form) const override {
    const double numbers =
        static_cast<double>(d.batch) * d.length * ChannelsOf(d);
    Cost cost = Operator::BackwardCost(d, form);
    cost.flops = 34 * numbers;
    cost.exps = numbers;
    return cost;
  }

  bool StepRewritesState() const override { return true; }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const int64_t channels = ChannelsOf(d);
    const auto at = [&](Input i, int64_t index) {
      return call.inputs[i].data<double>()[index];
    };
    std::vector<double> exponents(d.length);
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t c = 0; c < channels; ++c) {
        const auto place = [&](int64_t t) {
          return (b * d.length + t) * channels + c;
        };
        for (int64_t t = 0; t < d.length; ++t) {
          double top = -INFINITY, num = 0, den = 0;
          for (int64_t i = 0; i <= t; ++i) {
            exponents[i] =
                at(kKey, place(i)) +
                (i == t ? at(kBonus, c) : (t - 1 - i) * at(kDecay, c));
            top = std::max(top, exponents[i]);
          }
          for (int64_t i = 0; i <= t; ++i) {
            const double weight = std::exp(exponents[i] - top);
            num += weight * at(kValue, place(i));
            den += weight;
          }
          call.output.data<double>()[place(t)] = num / den;
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // Tokens between states kept for the backward, which computes those of blocks
  // in between and holds them: of a chunk only, not of a whole long sequence.
  int64_t Chunk(Form form, int64_t length) const {
    constexpr int64_t kMostAtOnce = 256;
    const int64_t chunk = ChunkOf(form, length, chunk_);
    return form == Form::kParallel ? std::min(chunk, kMostAtOnce) : chunk;
  }

  template <typename T>
  kernels::Wkv<T> OneSequence(const OperatorCall& call, int64_t b) const {
    kernels::Wkv<T> s;
    s.k = SequenceOf<T>(call.inputs[kKey], call.dims, b);
    s.v = SequenceOf<T>(call.inputs[kValue], call.dims, b);
    s.w = call.inputs[kDecay].data<T>();
    s.u = call.inputs[kBonus].data<T>();
    s.chunk = Chunk(call.form, call.dims.length);
    return s;
  }

  int64_t chunk_;
};

class Rwkv4Mixer : public Mixer {
 public:
  explicit Rwkv4Mixer(const MixerConfig& config)
      : op_(config.options), width_(config.width), heads_(config.heads) {
    const RwkvInit published(config);
    const auto add_values = [&](const std::string& name, Shape shape,
                                std::vector<double> values) {
      return config.parameters->Add(absl::StrCat(config.name, ".", name), shape,
                                    Init::Values(std::move(values)),
                                    /*decay=*/false);
    };
    const auto add_matrix = [&](const std::string& name, const Init& init) {
      Parameter* added = config.parameters->Add(
          absl::StrCat(config.name, ".", name), {width_, width_}, init);
      added->role = name == "out" ? Role::kResidual : Role::kDense;
      return added;
    };
    const auto add_path = [&](const std::string& name, double power,
                              double offset, const Init& init) {
      return Path{
          add_values(name + "_mix", {width_}, published.Shift(power, offset)),
          add_matrix(name, init)};
    };
    receptance_ = add_path("receptance", 0.5, 0, Init::Zeros());
    key_ = add_path("key", 1, 0, Init::Zeros());
    value_ = add_path("value", 1, 0.3 * published.depth(),
                      Init::Normal(1 / std::sqrt(static_cast<double>(width_))));
    const Shape by_head({heads_, width_ / heads_});
    log_rate_ = add_values("decay", by_head, published.LogRates(-5, 8));
    bonus_ = add_values(
        "bonus", by_head,
        RwkvInit::Zigzag(std::vector<double>(width_, std::log(0.3)), 0.5));
    out_ = add_matrix("out", Init::Zeros());
  }

  Variable Forward(const MixerCall& call) const override {
    using kernels::Unary;
    Variable x = call.x;
    if (!x.valid()) return x;
    Tape* tape = x.tape();
    const Shape by_head(
        {x.shape().dim(0), x.shape().dim(1), heads_, width_ / heads_});
    const auto part = [&](size_t i) {
      return call.state == nullptr ? nullptr : call.state->part(i);
    };
    const auto project = [&](const Path& path) {
      return Linear(TokenShift(x, tape->Use(*path.mix), part(0)),
                    tape->Use(*path.weight));
    };
    Variable r = project(receptance_), k = project(key_), v = project(value_);
    AdvanceTokenShift(x, part(0));
    Variable y =
        ApplyOperator(op_,
                      {Reshape(v, by_head), Reshape(k, by_head),
                       Scale(Map(Unary::kExp, tape->Use(*log_rate_)), -1),
                       tape->Use(*bonus_)},
                      call.form, part(1));
    y = Multiply(Reshape(y, x.shape()), Map(Unary::kSigmoid, r));
    return LinearResidual(call.residual, y, tape->Use(*out_));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    state->Add(NewTokenShiftState(batch, width_, dtype));
    Dims dims;
    dims.batch = batch;
    dims.heads = heads_;
    dims.value_dim = width_ / heads_;
    state->Add(op_.NewState(dims, dtype));
    return state;
  }

 private:
  struct Path {  // one of receptance, key, value
    const Parameter *mix, *weight;
  };

  Rwkv4Operator op_;
  int64_t width_, heads_;
  Path receptance_, key_, value_;
  const Parameter *log_rate_, *bonus_, *out_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "rwkv4";
  d.title = "RWKV-4";
  d.family = "additive recurrence";
  d.paper = "arXiv 2305.13048";
  d.summary = "token shift; each channel one weighted mean of its values";
  d.tolerance = 5e-7;  // measured 3.8e-7
  d.options = {OptionSpec::Int("chunk", 32, 1, 4096,
                               "tokens between states kept for the backward")};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<Rwkv4Operator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<Rwkv4Mixer>(config);
     }});

}  // namespace
}  // namespace mneme
