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
        std::vector<int64_t> seen;
        std::vector<double> weight;
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < d.length; ++j) {
          const double extra = bias(b, h, i, j);
          if (extra == -INFINITY) continue;
          double score = 0;
          for (int64_t c = 0; c < d.key_dim; ++c) score += q(i, c) * k(j, c);
          score = score / std::sqrt(static_cast<double>(d.key_dim)) + extra;
          seen.push_back(j);
          weight.push_back(score);
          top = std::max(top, score);
        }
        for (double& w : weight) total += w = std::exp(w - top);
        for (int64_t c = 0; c < d.value_dim; ++c) {
          o(i, c) = 0;
          for (size_t s = 0; s < seen.size(); ++s) {
            o(i, c) += weight[s] / total * v(seen[s], c);
          }
        }
      }
    }
  }
}

}  // namespace mneme
