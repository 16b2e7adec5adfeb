// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/sequence_projection.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

constexpr char kLayerwise[] = "linformer.project";  // in CrossLayer

}  // namespace

OptionSpec SequenceProjection::SharingOption() {
  return OptionSpec::Choice(
      "sharing", "none", {"none", "headwise", "key_value", "layerwise"},
      "who shares projections: nobody; all heads; keys and values too; all "
      "layers too");
}

SequenceProjection::SequenceProjection(const MixerConfig& config, int64_t rows,
                                       int64_t cols)
    : heads_(config.heads), rows_(rows), cols_(cols) {
  const std::string sharing = config.options.Choice("sharing");
  layerwise_ = sharing == "layerwise";
  per_head_ = sharing == "none";
  if (layerwise_ && config.layer > 0) return;
  const auto add = [&](const char* name) {
    return config.parameters->Add(
        absl::StrCat(config.name, name), {per_head_ ? heads_ : 1, rows, cols},
        Init::Normal(std::sqrt(2.0 / static_cast<double>(rows + cols))));
  };
  e_ = add(".project_keys");
  const bool one = layerwise_ || sharing == "key_value";
  f_ = one ? e_ : add(".project_values");
}

std::vector<Variable> SequenceProjection::Rows(const MixerCall& call,
                                               int64_t count) const {
  const bool all = per_head_ && count == rows_;
  std::vector<int64_t> chosen;
  for (int64_t h = 0; h < heads_; ++h) {
    for (int64_t r = 0; r < count; ++r) {
      chosen.push_back((per_head_ ? h * rows_ : 0) + r);
    }
  }
  std::vector<Variable> matrices;
  for (const Parameter* parameter : {e_, f_}) {
    Variable whole;
    if (layerwise_) {
      Variable& shared = (*call.shared)[kLayerwise];
      if (parameter != nullptr) shared = call.x.tape()->Use(*parameter);
      whole = shared;
    } else {
      whole = call.x.tape()->Use(*parameter);
    }
    matrices.push_back(Reshape(all ? whole : GatherRows(whole, chosen),
                               {heads_, count, cols_}));
  }
  return matrices;
}

Tensor NeighbourMeans(kernels::Transpose stored, int64_t heads, int64_t slots,
                      int64_t tokens, DType dtype) {
  const bool transposed = stored == kernels::Transpose::kYes;
  const Tensor e(DType::kFloat64, transposed ? Shape({heads, tokens, slots})
                                             : Shape({heads, slots, tokens}));
  double* head = e.data<double>();
  for (int64_t h = 0; h < heads; ++h, head += slots * tokens) {
    for (int64_t s = 0; s < slots; ++s) {
      const int64_t begin = s * tokens / slots, end = (s + 1) * tokens / slots;
      for (int64_t t = begin; t < end; ++t) {
        head[transposed ? t * slots + s : s * tokens + t] =
            1 / static_cast<double>(end - begin);
      }
    }
  }
  return e.Cast(dtype);
}

}  // namespace mneme
