// SPDX-License-Identifier: Apache-2.0

#include "harness/instruction_counts/counted_kernels.h"

#include <cstddef>
#include <vector>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/causal_conv.h"
#include "attention/kernels/cross_entropy.h"
#include "attention/kernels/gated_delta.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/norm.h"
#include "attention/kernels/selective_scan.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_decay_recurrence.h"
#include "attention/tensor/random.h"

namespace mneme {
namespace {

using kernels::MatrixView;

// Tokens and width of a head. Callgrind takes some hundred times as long as the
// processor, and emulates each lane of a fused multiply-add by a call, so these
// are no larger than it takes to have whole blocks of every kernel.
constexpr size_t kLength = 256;
constexpr size_t kDim = 64;
constexpr float kScale = 0.125f;  // kDim ^ -1/2

// A matrix that owns its numbers.
class Numbers {
 public:
  Numbers(size_t rows, size_t cols)
      : rows_(rows), cols_(cols), values_(rows * cols) {}

  MatrixView<float> view() { return {values_.data(), rows_, cols_}; }
  float* data() { return values_.data(); }

 private:
  size_t rows_, cols_;
  std::vector<float> values_;
};

// Uniform on [low, high). `index` keeps one problem's inputs apart.
Numbers Uniform(size_t rows, size_t cols, float low, float high,
                uint64_t index) {
  Numbers numbers(rows, cols);
  Random random(/*seed=*/0, StreamId("instruction_counts"), index);
  for (size_t i = 0; i < rows * cols; ++i) {
    numbers.data()[i] =
        low + (high - low) * static_cast<float>(random.Uniform());
  }
  return numbers;
}

// What the attention kernels have in common: a head's inputs, gradients, and
// whatever the forward leaves for the backward.
struct Head {
  // 0.2 makes keys a little shorter than 1, where the delta rule is stable.
  Numbers q = Uniform(kLength, kDim, -1, 1, 0);
  Numbers k = Uniform(kLength, kDim, -0.2f, 0.2f, 1);
  Numbers v = Uniform(kLength, kDim, -1, 1, 2);
  Numbers d_o = Uniform(kLength, kDim, -1, 1, 3);
  Numbers beta = Uniform(kLength, 1, 0, 1, 4);
  Numbers log_decay = Uniform(kLength, 1, -0.1f, 0, 5);
  Numbers log_decays = Uniform(kLength, kDim, -0.1f, 0, 6);
  Numbers o{kLength, kDim};
  Numbers d_q{kLength, kDim}, d_k{kLength, kDim}, d_v{kLength, kDim};
  Numbers d_beta{kLength, 1}, d_log_decay{kLength, 1};
  Numbers lse{kLength, 1};
  Numbers state{kDim, kDim}, d_state{kDim, kDim};
  // Enough for a state before each token.
  Numbers saved{kLength * kDim, kDim};
};

KernelCall MakeGemm() {
  return [a = Uniform(128, kDim, -1, 1, 0), b = Uniform(kDim, 128, -1, 1, 1),
          c = Numbers(128, 128)]() mutable {
    kernels::Gemm(kernels::Transpose::kNo, kernels::Transpose::kNo, a.view(),
                  b.view(), c.view());
  };
}
constexpr int64_t kGemmFlops = 2 * 128 * 128 * kDim;

KernelCall MakeGemmOfRow() {
  return [a = Uniform(1, kLength, -1, 1, 0),
          b = Uniform(kLength, kLength, -1, 1, 1),
          c = Numbers(1, kLength)]() mutable {
    kernels::Gemm(kernels::Transpose::kNo, kernels::Transpose::kNo, a.view(),
                  b.view(), c.view());
  };
}
constexpr int64_t kGemmOfRowFlops = 2 * kLength * kLength;

void SoftmaxForward(Head& h) {
  kernels::SoftmaxAttentionForward(h.q.view(), h.k.view(), h.v.view(), kScale,
                                   {}, h.o.view(), h.lse.data());
}

KernelCall MakeSoftmaxForward() {
  return [h = Head()]() mutable { SoftmaxForward(h); };
}
// Two products of the visible half of kLength x kLength.
constexpr int64_t kSoftmaxFlops = kLength * (kLength + 1) * 2 * kDim;

KernelCall MakeSoftmaxBackward() {
  Head head;
  SoftmaxForward(head);
  return [h = head]() mutable {
    kernels::SoftmaxAttentionBackward(
        h.q.view(), h.k.view(), h.v.view(), h.o.view(), h.lse.data(),
        h.d_o.view(), kScale, {}, h.d_q.view(), h.d_k.view(), h.d_v.view());
  };
}
// Five products rather than two.
constexpr int64_t kSoftmaxBackwardFlops = kSoftmaxFlops / 2 * 5;

// One query at the end of the keys.
KernelCall MakeSoftmaxDecode() {
  return [h = Head()]() mutable {
    kernels::SoftmaxAttentionForward(h.q.view().Rows(0, 1), h.k.view(),
                                     h.v.view(), kScale, {/*causal=*/false},
                                     h.o.view().Rows(0, 1), nullptr);
  };
}
constexpr int64_t kSoftmaxDecodeFlops = 2 * kLength * 2 * kDim;

kernels::AdditiveRecurrence<float> Additive(Head& h) {
  kernels::AdditiveRecurrence<float> a;
  a.q = h.q.view();
  a.k = h.k.view();
  a.v = h.v.view();
  a.log_decay = h.log_decay.data();
  a.scale = kScale;
  return a;
}

KernelCall MakeAdditiveForward() {
  return [h = Head()]() mutable {
    kernels::AdditiveRecurrenceForward(Additive(h), h.state.data(), h.o.view(),
                                       nullptr, nullptr);
  };
}
// Each token writes, reads, and fades the state.
constexpr int64_t kRecurrenceFlops = kLength * kDim * kDim * 5;

KernelCall MakeAdditiveBackward() {
  Head head;
  kernels::AdditiveRecurrenceForward(Additive(head), head.state.data(),
                                     head.o.view(), nullptr, head.saved.data());
  return [h = head]() mutable {
    kernels::AdditiveRecurrenceBackward(
        Additive(h), h.saved.data(), h.d_o.view(), nullptr, h.d_state.data(),
        {h.d_q.view(), h.d_k.view(), h.d_v.view(), h.d_log_decay.data()});
  };
}
// The gradients of q, k, v, state and decay at 2 each, and the fading.
constexpr int64_t kRecurrenceBackwardFlops = kLength * kDim * kDim * 11;

KernelCall MakeVectorDecayForward() {
  return [h = Head()]() mutable {
    kernels::VectorDecayRecurrence<float> a;
    a.q = h.q.view();
    a.k = h.k.view();
    a.v = h.v.view();
    a.log_decay = h.log_decays.view();
    a.scale = kScale;
    kernels::VectorDecayForward(a, h.state.data(), h.o.view(), nullptr);
  };
}

kernels::GatedDelta<float> Delta(Head& h) {
  kernels::GatedDelta<float> a;
  a.q = h.q.view();
  a.k = h.k.view();
  a.v = h.v.view();
  a.beta = h.beta.view();
  a.log_decay = h.log_decay.view();
  a.scale = kScale;
  return a;
}

KernelCall MakeDeltaForward() {
  return [h = Head()]() mutable {
    kernels::GatedDeltaForward(Delta(h), h.state.data(), h.o.view(), nullptr);
  };
}
// Another read of the state, before it is written.
constexpr int64_t kDeltaFlops = kLength * kDim * kDim * 7;

KernelCall MakeDeltaBackward() {
  Head head;
  kernels::GatedDeltaForward(Delta(head), head.state.data(), head.o.view(),
                             head.saved.data());
  return [h = head]() mutable {
    kernels::GatedDeltaBackward(Delta(h), h.saved.data(), h.d_o.view(),
                                h.d_state.data(),
                                {h.d_q.view(), h.d_k.view(), h.d_v.view(),
                                 h.d_beta.view(), h.d_log_decay.view()});
  };
}
// Each of three products twice, the decay's gradient, and the fading.
constexpr int64_t kDeltaBackwardFlops = kLength * kDim * kDim * 15;

constexpr size_t kStateDim = 16;

KernelCall MakeSelectiveScan() {
  return
      [x = Uniform(kLength, kDim, -1, 1, 0),
       dt = Uniform(kLength, kDim, 0, 0.1f, 1),
       a = Uniform(kDim, kStateDim, -1, 0, 2),
       b = Uniform(kLength, kStateDim, -1, 1, 3),
       c = Uniform(kLength, kStateDim, -1, 1, 4),
       state = Numbers(kStateDim, kDim), y = Numbers(kLength, kDim)]() mutable {
        kernels::SelectiveScan<float> s;
        s.x = x.view();
        s.dt = dt.view();
        s.a = a.view();
        s.b = b.view();
        s.c = c.view();
        kernels::SelectiveScanForward(s, state.data(), y.view(), nullptr);
      };
}
// dt a, exp, fade, write, read; dt x once for all of a channel's states.
constexpr int64_t kSelectiveScanFlops = kLength * kDim * (7 * kStateDim + 1);

constexpr size_t kConvWidth = 4;

KernelCall MakeCausalConv() {
  return [x = Uniform(kLength, kDim, -1, 1, 0),
          w = Uniform(kConvWidth, kDim, -1, 1, 1),
          y = Numbers(kLength, kDim)]() mutable {
    kernels::CausalConvForward(x.view(), w.view(), nullptr, {}, y.view());
  };
}
constexpr int64_t kCausalConvFlops = kLength * kDim * 2 * kConvWidth;

KernelCall MakeRmsNorm() {
  return [x = Uniform(kLength, kDim, -1, 1, 0),
          gain = Uniform(1, kDim, 0.5f, 1.5f, 1), y = Numbers(kLength, kDim),
          rstd = Numbers(1, kLength)]() mutable {
    kernels::NormForward(kernels::NormKind::kRms, x.view(), gain.data(),
                         nullptr, 1e-5f, y.view(), nullptr, rstd.data());
  };
}
// Square, add, and two factors.
constexpr int64_t kRmsNormFlops = kLength * kDim * 4;

KernelCall MakeCrossEntropy() {
  std::vector<int32_t> labels(kLength);
  for (size_t i = 0; i < kLength; ++i) labels[i] = i * 7 % kDim;
  return [labels, logits = Uniform(kLength, kDim, -4, 4, 0),
          losses = Numbers(1, kLength),
          d_logits = Numbers(kLength, kDim)]() mutable {
    kernels::SoftmaxCrossEntropy(logits.view(), labels.data(), 1, losses.data(),
                                 nullptr, d_logits.view());
  };
}
// Maximum, difference, exp, sum, and a factor.
constexpr int64_t kCrossEntropyFlops = kLength * kDim * 5;

}  // namespace

const std::vector<CountedKernel>& CountedKernels() {
  static const auto& kernels = *new std::vector<CountedKernel>{
      {"gemm", kGemmFlops, MakeGemm},
      {"gemm_of_row", kGemmOfRowFlops, MakeGemmOfRow},
      {"softmax_forward", kSoftmaxFlops, MakeSoftmaxForward},
      {"softmax_backward", kSoftmaxBackwardFlops, MakeSoftmaxBackward},
      {"softmax_decode", kSoftmaxDecodeFlops, MakeSoftmaxDecode},
      {"additive_forward", kRecurrenceFlops, MakeAdditiveForward},
      {"additive_backward", kRecurrenceBackwardFlops, MakeAdditiveBackward},
      {"vector_decay_forward", kRecurrenceFlops, MakeVectorDecayForward},
      {"gated_delta_forward", kDeltaFlops, MakeDeltaForward},
      {"gated_delta_backward", kDeltaBackwardFlops, MakeDeltaBackward},
      {"selective_scan_forward", kSelectiveScanFlops, MakeSelectiveScan},
      {"causal_conv_forward", kCausalConvFlops, MakeCausalConv},
      {"rms_norm_forward", kRmsNormFlops, MakeRmsNorm},
      {"cross_entropy", kCrossEntropyFlops, MakeCrossEntropy},
  };
  return kernels;
}

}  // namespace mneme
