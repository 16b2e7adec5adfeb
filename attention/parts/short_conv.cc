// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/short_conv.h"

#include <cmath>
#include <cstring>

#include "attention/tensor/ops.h"

namespace mneme {

ShortConv::ShortConv(const std::string& name, int64_t channels, int64_t width,
                     ParameterSet* parameters, bool bias)
    : channels_(channels), width_(width) {
  if (width == 0) return;
  const Init init = Init::Uniform(1 / std::sqrt(static_cast<double>(width)));
  weight_ = parameters->Add(name, {width, channels}, init);
  if (bias) {
    bias_ = parameters->Add(name + "_bias", {channels}, init, /*decay=*/false);
  }
}

std::unique_ptr<State> ShortConv::NewState(int64_t batch, DType dtype) const {
  if (!has_state()) return nullptr;
  return std::make_unique<DenseState>(dtype,
                                      Shape({batch, width_ - 1, channels_}));
}

Variable ShortConv::Apply(Variable x, State* state) const {
  if (weight_ == nullptr || !x.valid()) return x;
  Variable weight = x.tape()->Use(*weight_);
  Variable bias = bias_ == nullptr ? Variable() : x.tape()->Use(*bias_);
  if (state == nullptr) return CausalConv(x, weight, bias);
  const Tensor& history = static_cast<DenseState*>(state)->tensor();
  Variable y = CausalConv(x, weight, bias, history);
  if (!y.valid()) return y;
  // Slide the window: keep the newest width - 1 rows of (history, x).
  const int64_t past = width_ - 1, length = x.shape().dim(1);
  const size_t row = channels_ * SizeOf(x.dtype());
  for (int64_t b = 0; b < history.dim(0); ++b) {
    char* window = static_cast<char*>(history.raw()) + b * past * row;
    const char* fresh =
        static_cast<const char*>(x.value().raw()) + b * length * row;
    if (length >= past) {
      std::memcpy(window, fresh + (length - past) * row, past * row);
    } else {
      std::memmove(window, window + length * row, (past - length) * row);
      std::memcpy(window + (past - length) * row, fresh, length * row);
    }
  }
  return y;
}

}  // namespace mneme
