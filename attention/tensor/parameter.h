// SPDX-License-Identifier: Apache-2.0
//
// Trainable arrays of a model and their gradients.

#ifndef MNEME_ATTENTION_TENSOR_PARAMETER_H_
#define MNEME_ATTENTION_TENSOR_PARAMETER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "attention/tensor/random.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// What a parameter is to its layer, for models that draw initial values anew.
enum class Role {
  kOther,
  kDense,     // the matrix of a dense layer, [in, out]
  kResidual,  // one whose outputs are added to the residual stream
  kBias,      // of a dense layer
};

struct Parameter {
  std::string name;  // unique path, "block0.mixer.query"
  Tensor value;
  // Weight decay is for matrices that multiply activations; norms, biases,
  // gates and embeddings are exempt.
  bool decay = true;
  double learning_rate_scale = 1.0;
  Role role = Role::kOther;
  int64_t offset = 0;  // of its gradient in a GradientBuffer, in elements
};

// How a new parameter is filled. Values are drawn in double and rounded to the
// model's dtype, so a float64 model starts from the same point as its float32
// twin up to rounding.
struct Init {
  enum class Kind { kZeros, kConstant, kNormal, kUniform, kValues };
  Kind kind = Kind::kZeros;
  double scale = 0;  // constant, standard deviation, or half-width
  std::vector<double> values;

  static Init Zeros() { return {}; }
  static Init Constant(double value) { return {Kind::kConstant, value, {}}; }
  static Init Normal(double deviation) {
    return {Kind::kNormal, deviation, {}};
  }
  // Uniform on [-half_width, half_width).
  static Init Uniform(double half_width) {
    return {Kind::kUniform, half_width, {}};
  }
  // Glorot and Bengio (2010): uniform, half-width gain * sqrt(6 / (in + out)).
  static Init Xavier(int64_t in, int64_t out, double gain = 1.0);
  static Init Values(std::vector<double> values) {
    return {Kind::kValues, 0, std::move(values)};
  }
};

// All parameters of one model. Adding is part of building the model; the
// addresses of added parameters never change.
class ParameterSet {
 public:
  // Every parameter draws from its own random stream, named by its path, so
  // adding one changes the initial values of no other.
  ParameterSet(DType dtype, uint64_t seed) : dtype_(dtype), seed_(seed) {}

  DType dtype() const { return dtype_; }

  Parameter* Add(const std::string& name, Shape shape, const Init& init,
                 bool decay = true);

  // Draws the values of one of them again, as if added with this init.
  void Redraw(const Init& init, Parameter* parameter) const;

  // AlreadyExists when a name was added twice: the two would start equal.
  const absl::Status& status() const { return status_; }

  const std::vector<std::unique_ptr<Parameter>>& all() const { return all_; }
  int64_t elements() const { return elements_; }

 private:
  DType dtype_;
  uint64_t seed_;
  std::vector<std::unique_ptr<Parameter>> all_;
  int64_t elements_ = 0;
  absl::Status status_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_PARAMETER_H_
