// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/parameter.h"

#include <cassert>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mneme {

Init Init::Xavier(int64_t in, int64_t out, double gain) {
  return Uniform(gain * std::sqrt(6.0 / static_cast<double>(in + out)));
}

Parameter* ParameterSet::Add(const std::string& name, Shape shape,
                             const Init& init, bool decay) {
  for (const auto& other : all_) {
    if (other->name == name) {
      status_.Update(absl::AlreadyExistsError(
          absl::StrCat("two parameters are named \"", name, "\"")));
    }
  }
  auto parameter = std::make_unique<Parameter>();
  parameter->name = name;
  parameter->decay = decay;
  parameter->offset = elements_;
  parameter->value = Tensor(dtype_, std::move(shape));
  Redraw(init, parameter.get());
  elements_ += parameter->value.elements();
  all_.push_back(std::move(parameter));
  return all_.back().get();
}

void ParameterSet::Redraw(const Init& init, Parameter* parameter) const {
  Tensor value(DType::kFloat64, parameter->value.shape());
  Random random(seed_, StreamId(parameter->name));
  double* x = value.data<double>();
  const int64_t n = value.elements();
  switch (init.kind) {
    case Init::Kind::kZeros:
      break;
    case Init::Kind::kConstant:
      for (int64_t i = 0; i < n; ++i) x[i] = init.scale;
      break;
    case Init::Kind::kNormal:
      for (int64_t i = 0; i < n; ++i) x[i] = init.scale * random.Normal();
      break;
    case Init::Kind::kUniform:
      for (int64_t i = 0; i < n; ++i) {
        x[i] = init.scale * (2 * random.Uniform() - 1);
      }
      break;
    case Init::Kind::kValues:
      assert(n == static_cast<int64_t>(init.values.size()));
      for (int64_t i = 0; i < n; ++i) x[i] = init.values[i];
      break;
  }
  parameter->value = value.Cast(dtype_);
}

}  // namespace mneme
