// SPDX-License-Identifier: Apache-2.0
//
// My variant.
//
// This is a beginning, as `mneme new-variant` writes it: the plainest memory
// there is, one matrix to which every token adds,
//
//   S_t = S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t,
//
// whose gradients are still missing, so its contract test fails. Make it yours:
// say here what the mechanism is, in the symbols of its paper, with the arXiv
// id and what is peculiar about it, and then change what follows from the top.
// What each function owes its caller is written in attention/operator.h and
// attention/mixer.h; attention/kernels and attention/parts hold what others are
// made of, and attention/retention is a short one to compare with.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

constexpr char kName[] = "my_variant";

enum Input { kQuery, kKey, kValue };

// One sequence and head. state [key_dim, value_dim] goes from S_0 to S_length.
template <typename T>
void Run(kernels::MatrixView<const T> q, kernels::MatrixView<const T> k,
         kernels::MatrixView<const T> v, T* state, kernels::MatrixView<T> o) {
  for (size_t t = 0; t < q.rows; ++t) {
    for (size_t c = 0; c < v.cols; ++c) {
      T sum = 0;
      for (size_t n = 0; n < k.cols; ++n) {
        T& s = state[n * v.cols + c];
        s += k(t, n) * v(t, c);
        sum += q(t, n) * s;
      }
      o(t, c) = sum;
    }
  }
}

class MyVariantOperator : public Operator {
 public:
  // The first input has the queries' axes, one holds values; gates of your own
  // follow, each with the domain of its numbers.
  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
            {"v", "BLHV", "values [batch, length, heads, value_dim]"}};
  }

  // Token by token whatever call->form asks for: right, and slow. Blocks of
  // tokens as matrix products (kernels/gemm.h) make the other forms worthwhile.
  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const int64_t size = d.key_dim * d.value_dim;
      kernels::ParallelFor(call->pool, d.batch * d.heads, [&](size_t i, int) {
        const int64_t b = i / d.heads, h = i % d.heads;
        std::vector<T> fresh(size);
        T* state = fresh.data();
        if (call->state != nullptr) {
          auto* kept = static_cast<DenseState*>(call->state);
          state = kept->tensor().template data<T>() + i * size;
        }
        Run<T>(call->inputs[kQuery].Sequence<T>(b, h),
               call->inputs[kKey].Sequence<T>(b, h),
               call->inputs[kValue].Sequence<T>(b, h), state,
               call->output.Sequence<T>(b, h));
      });
    });
    return absl::OkStatus();
  }

  // d_inputs are in the order of Inputs(): add to those that are not empty the
  // gradients of the sum of output * d_output. What Forward should remember for
  // that it puts into call->saved when call->keep is set.
  absl::Status Backward(const OperatorCall&, const Tensor&,
                        absl::Span<const Tensor>) const override {
    return absl::UnimplementedError(std::string(kName) +
                                    ": Backward is not written yet");
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<DenseState>(
        dtype, Shape({d.batch, d.heads, d.key_dim, d.value_dim}));
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double heads = static_cast<double>(d.batch) * d.heads;
    const double tokens = heads * d.length, k = d.key_dim, v = d.value_dim;
    Cost cost;
    cost.flops = tokens * 4 * k * v;
    cost.bytes = sizeof(float) * (tokens * 2 * (k + v) + 2 * heads * k * v);
    return cost;
  }

  bool StepRewritesState() const override { return true; }

  // The definition once more, for float64: another way to the same numbers, so
  // that a mistake in one is not a mistake in both.
  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        for (int64_t i = 0; i < d.length; ++i) {
          for (int64_t c = 0; c < d.value_dim; ++c) o(i, c) = 0;
          for (int64_t j = 0; j <= i; ++j) {
            double score = 0;
            for (int64_t n = 0; n < d.key_dim; ++n) score += q(i, n) * k(j, n);
            for (int64_t c = 0; c < d.value_dim; ++c) {
              o(i, c) += score * v(j, c);
            }
          }
        }
      }
    }
    return absl::OkStatus();
  }
};

// Projections to queries, keys and values, the operator, a projection back. A
// paper with gates, norms or rotations derives from QkvMixer and overrides its
// hooks; one with another skeleton implements Mixer.
absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  auto op = std::make_unique<MyVariantOperator>();
  return std::make_unique<QkvMixer>(config, std::move(op),
                                    QkvMixer::EvenLayout(config));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = kName;
  d.title = "My variant";
  d.family = "additive recurrence";  // or whatever it is
  d.paper = "arXiv 0000.00000";
  d.summary = "one line for the list of variants";
  d.tolerance = 1e-5;  // the error that the contract test measures, rounded up
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options&) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<MyVariantOperator>();
     },
     MakeMixer});

}  // namespace
}  // namespace mneme
