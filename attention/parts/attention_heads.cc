// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/attention_heads.h"

#include <algorithm>
#include <vector>

namespace mneme {

int64_t QueryBlock(Form form, int64_t length, int64_t chunked) {
  return form == Form::kParallel  ? std::max<int64_t>(length, 1)
         : form == Form::kChunked ? chunked
                                  : 1;
}

Tensor GradientOrScratch(const Tensor& gradient, const Tensor& input) {
  return gradient.empty() ? Tensor(input.dtype(), input.shape()) : gradient;
}

void SoftmaxReadOracle(int64_t count,
                       const std::function<double(int64_t s)>& score,
                       const std::function<double(int64_t s, int64_t c)>& value,
                       int64_t value_dim, double* o) {
  std::vector<double> weight(count);
  double top = -INFINITY, total = 0;
  for (int64_t s = 0; s < count; ++s) {
    weight[s] = score(s);
    top = std::max(top, weight[s]);
  }
  std::fill_n(o, value_dim, 0.0);
  for (double& w : weight) total += w = std::exp(w - top);
  for (int64_t s = 0; s < count; ++s) {
    if (weight[s] == 0) continue;  // what is hidden may be NaN
    for (int64_t c = 0; c < value_dim; ++c) {
      o[c] += weight[s] / total * value(s, c);
    }
  }
}

void SoftmaxOracle(const OperatorCall& call, const ScoreBias& bias) {
  const Dims& d = call.dims;
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const int64_t g = h * d.kv_heads / d.heads;
      const auto q = call.inputs[0].Sequence<double>(b, h);
      const auto k = call.inputs[1].Sequence<double>(b, g);
      const auto v = call.inputs[2].Sequence<double>(b, g);
      const auto o = call.output.Sequence<double>(b, h);
      for (int64_t i = 0; i < d.length; ++i) {
        const auto score = [&](int64_t j) {
          const double extra = bias(b, h, i, j);
          if (extra == -INFINITY) return extra;
          double dot = 0;
          for (int64_t c = 0; c < d.key_dim; ++c) dot += q(i, c) * k(j, c);
          return dot / std::sqrt(static_cast<double>(d.key_dim)) + extra;
        };
        SoftmaxReadOracle(
            d.length, score, [&](int64_t j, int64_t c) { return v(j, c); },
            d.value_dim, o.row(i));
      }
    }
  }
}

}  // namespace mneme
