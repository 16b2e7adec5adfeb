// SPDX-License-Identifier: Apache-2.0
//
// How operators cut attention into work for threads: held against the kernels,
// which have oracles of their own, on whole heads.

#include "attention/parts/attention_operator.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/parts/causal_attention.h"
#include "attention/parts/window_attention.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kWindow = 300;

std::unique_ptr<Operator> Causal() {
  return std::make_unique<CausalAttention>(
      *Options::Parse({OptionSpec::Int("chunk", 64, 1, 64, "")}));
}

std::unique_ptr<Operator> Window() {
  return std::make_unique<WindowAttention>(kWindow, /*chunk=*/64);
}

Dims DimsOf(int64_t batch, int64_t length, int64_t heads, int64_t kv_heads) {
  Dims d;
  d.batch = batch;
  d.length = length;
  d.heads = heads;
  d.kv_heads = kv_heads;
  d.key_dim = 5;
  d.value_dim = 6;
  return d;
}

double MaxDifference(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.ToDoubles(), y = b.ToDoubles();
  double greatest = x.size() == y.size() ? 0 : INFINITY;
  for (size_t i = 0; i < x.size(); ++i) {
    greatest = std::max(greatest, std::abs(x[i] - y[i]));
  }
  return greatest;
}

// A forward's output and a backward's gradients of q, k and v.
std::vector<Tensor> Results(const Operator& op, const Dims& d,
                            const std::vector<Tensor>& inputs,
                            const Tensor& d_output, kernels::ThreadPool* pool) {
  OperatorCall call;
  call.inputs = inputs;
  call.form = Form::kParallel;
  call.keep = true;
  call.pool = pool;
  EXPECT_TRUE(RunOperator(op, &call).ok());
  EXPECT_EQ(call.dims.length, d.length);
  std::vector<Tensor> results = {call.output};
  for (const Tensor& input : inputs) {
    results.emplace_back(input.dtype(), input.shape());
  }
  const absl::Span<const Tensor> gradients(results.data() + 1, 3);
  EXPECT_TRUE(op.Backward(call, d_output, gradients).ok());
  return results;
}

// The same, a head at a time in one piece.
std::vector<Tensor> InOnePiece(const Dims& d, int64_t window,
                               const std::vector<Tensor>& inputs,
                               const Tensor& d_output) {
  kernels::AttentionMask mask = CausalFrom(0);
  mask.window = window;
  const double scale = ScoreScale<double>(d);
  std::vector<Tensor> results = {Tensor(DType::kFloat64, d_output.shape())};
  for (const Tensor& input : inputs) {
    results.emplace_back(DType::kFloat64, input.shape());
  }
  std::vector<double> lse(d.length);
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const int64_t g = h * d.kv_heads / d.heads;
      const auto q = inputs[0].Sequence<double>(b, h);
      const auto k = inputs[1].Sequence<double>(b, g);
      const auto v = inputs[2].Sequence<double>(b, g);
      const auto o = results[0].Sequence<double>(b, h);
      kernels::SoftmaxAttentionForward(q, k, v, scale, mask, o, lse.data());
      kernels::SoftmaxAttentionBackward(
          q, k, v, o, lse.data(), d_output.Sequence<double>(b, h), scale, mask,
          results[1].Sequence<double>(b, h), results[2].Sequence<double>(b, g),
          results[3].Sequence<double>(b, g));
    }
  }
  return results;
}

TEST(AttentionOperator, PiecesOfHeadsMakeWholeHeads) {
  kernels::ThreadPool pool(3);
  // One head, four parts of its keys; two parts, of a group of heads; one.
  for (const Dims& d : {DimsOf(1, 1027, 1, 1), DimsOf(2, 515, 4, 2),
                        DimsOf(1, 257, 2, 1), DimsOf(3, 300, 3, 3)}) {
    for (const bool windowed : {false, true}) {
      SCOPED_TRACE(testing::Message()
                   << d.length << " tokens, windowed " << windowed);
      const std::unique_ptr<Operator> op = windowed ? Window() : Causal();
      const std::vector<Tensor> inputs =
          RandomInputs(op->Inputs(), d, DType::kFloat64, /*seed=*/1);
      const Tensor d_output =
          RandomInputs({{"d_o", "BLHV", ""}}, d, DType::kFloat64, 2)[0];
      const std::vector<Tensor> expected =
          InOnePiece(d, windowed ? kWindow : 0, inputs, d_output);
      const std::vector<Tensor> alone =
          Results(*op, d, inputs, d_output, nullptr);
      const std::vector<Tensor> together =
          Results(*op, d, inputs, d_output, &pool);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_LT(MaxDifference(alone[i], expected[i]), 1e-12) << i;
        EXPECT_EQ(MaxDifference(together[i], alone[i]), 0) << i;
      }
    }
  }
}

// One token after d.length others, alone and on threads, is what the kernel
// makes of whole heads.
template <typename T>
void ExpectWholeHeads(Dims d, int threads, double tolerance) {
  SCOPED_TRACE(testing::Message() << d.batch << " sequences of " << d.heads
                                  << " heads on " << threads << " threads");
  const DType dtype = kDTypeOf<T>;
  const int64_t tokens = d.length, group = d.heads / d.kv_heads;
  kernels::ThreadPool pool(threads);
  const std::unique_ptr<Operator> op = Causal();
  const Tensor keys = RandomInputs({{"k", "BLGK", ""}}, d, dtype, 1)[0];
  const Tensor values = RandomInputs({{"v", "BLGV", ""}}, d, dtype, 2)[0];
  d.length = 1;
  const std::vector<Tensor> inputs = RandomInputs(op->Inputs(), d, dtype, 3);
  Tensor outputs[2];
  for (const bool parallel : {false, true}) {
    const std::unique_ptr<State> state = op->NewState(d, dtype);
    auto* cache = static_cast<KeyValueCache*>(state.get());
    cache->Append(keys, values);
    OperatorCall call;
    call.inputs = inputs;
    call.form = Form::kRecurrent;
    call.state = state.get();
    call.pool = parallel ? &pool : nullptr;
    ASSERT_TRUE(RunOperator(*op, &call).ok());
    outputs[parallel] = call.output;

    Tensor expected(dtype, call.output.shape());
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        kernels::SoftmaxAttentionForward(
            inputs[0].Sequence<T>(b, h), cache->Keys<T>(b, h / group),
            cache->Values<T>(b, h / group), static_cast<T>(ScoreScale<T>(d)),
            Everything(), expected.Sequence<T>(b, h), nullptr);
      }
    }
    EXPECT_EQ(cache->tokens(), tokens + 1);
    EXPECT_LT(MaxDifference(call.output, expected), tolerance);
  }
  EXPECT_EQ(MaxDifference(outputs[0], outputs[1]), 0);
}

// Enough tokens that their keys are read in several parts, which even one head
// is then cut into.
TEST(AttentionOperator, OneTokenReadsPartsOfALongPast) {
  ExpectWholeHeads<double>(DimsOf(2, 10000, 4, 2), /*threads=*/3, 1e-13);
  ExpectWholeHeads<float>(DimsOf(1, 10000, 1, 1), /*threads=*/2, 1e-6);
}

}  // namespace
}  // namespace mneme
