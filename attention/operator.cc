// SPDX-License-Identifier: Apache-2.0

#include "attention/operator.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/plugin/suggest.h"
#include "attention/tensor/random.h"

namespace mneme {
namespace {

constexpr struct {
  Form form;
  absl::string_view name;
} kForms[] = {{Form::kParallel, "parallel"},
              {Form::kChunked, "chunked"},
              {Form::kRecurrent, "recurrent"}};

int64_t* Axis(Dims* dims, char letter) {
  switch (letter) {
    case 'B':
      return &dims->batch;
    case 'L':
      return &dims->length;
    case 'H':
      return &dims->heads;
    case 'G':
      return &dims->kv_heads;
    case 'K':
      return &dims->key_dim;
    case 'V':
      return &dims->value_dim;
    default:
      return &dims->own[letter];
  }
}

// One number of a domain. Log decays cover what models produce: mostly mild,
// now and then none at all or a near reset.
double Drawn(Domain domain, Random& random) {
  const double x = random.Normal();
  switch (domain) {
    case Domain::kNonPositive: {
      const uint64_t kind = random.Below(16);
      return kind == 0 ? 0.0 : kind == 1 ? -20.0 : -std::abs(x) / 4;
    }
    case Domain::kUnit:
      return 1 / (1 + std::exp(-x));
    case Domain::kPositive:
      return std::log1p(std::exp(x));
    case Domain::kReal:
    case Domain::kUnitNorm:
      return x;
  }
  return x;
}

}  // namespace

absl::string_view AxisName(char letter) {
  switch (letter) {
    case 'B':
      return "batch";
    case 'L':
      return "length";
    case 'H':
      return "heads";
    case 'G':
      return "key/value heads";
    case 'K':
      return "key_dim";
    case 'V':
      return "value_dim";
    default:
      return "own axis";
  }
}

absl::string_view FormName(Form form) {
  return kForms[static_cast<int>(form)].name;
}

absl::StatusOr<Form> ParseForm(absl::string_view name) {
  std::vector<std::string> known;
  for (const auto& entry : kForms) {
    if (entry.name == name) return entry.form;
    known.emplace_back(entry.name);
  }
  return UnknownName("form", name, known);
}

absl::StatusOr<Dims> InferDims(absl::Span<const InputSpec> specs,
                               absl::Span<const Tensor> inputs) {
  if (specs.size() != inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the operator takes ", specs.size(), " inputs, not ", inputs.size()));
  }
  Dims dims;
  std::string seen;  // axes whose size an earlier input has fixed
  for (size_t i = 0; i < specs.size(); ++i) {
    const InputSpec& spec = specs[i];
    const Shape& shape = inputs[i].shape();
    if (shape.rank() != static_cast<int>(spec.axes.size())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "input ", spec.name, " has shape ", shape.ToString(), "; it takes ",
          spec.axes.size(), " axes (", spec.doc, ")"));
    }
    if (inputs[i].dtype() != inputs[0].dtype()) {
      return absl::InvalidArgumentError(
          absl::StrCat("inputs ", specs[0].name, " and ", spec.name,
                       " have different element types; convert one of them"));
    }
    for (int axis = 0; axis < shape.rank(); ++axis) {
      const char letter = spec.axes[axis];
      int64_t* size = Axis(&dims, letter);
      if (seen.find(letter) == std::string::npos) {
        seen += letter;
        *size = shape.dim(axis);
      } else if (*size != shape.dim(axis)) {
        return absl::InvalidArgumentError(
            absl::StrCat("input ", spec.name, " has shape ", shape.ToString(),
                         ": its ", AxisName(letter), " is ", shape.dim(axis),
                         ", that of earlier inputs ", *size));
      }
    }
  }
  if (seen.find('G') == std::string::npos) dims.kv_heads = dims.heads;
  if (dims.kv_heads < 1 || dims.heads % dims.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the number of key/value heads, ", dims.kv_heads,
        ", does not divide the number of query heads, ", dims.heads));
  }
  return dims;
}

Shape InputShape(const InputSpec& spec, const Dims& dims) {
  std::vector<int64_t> sizes;
  Dims copy = dims;
  for (char letter : spec.axes) sizes.push_back(*Axis(&copy, letter));
  return Shape(sizes);
}

std::vector<Tensor> RandomInputs(absl::Span<const InputSpec> specs,
                                 const Dims& dims, DType dtype, uint64_t seed) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < specs.size(); ++i) {
    Tensor values(DType::kFloat64, InputShape(specs[i], dims));
    Random random(seed, StreamId("operator inputs"), i);
    double* x = values.data<double>();
    const int64_t n = values.elements();
    for (int64_t j = 0; j < n; ++j) {
      x[j] = Drawn(specs[i].domain, random);
    }
    if (specs[i].domain == Domain::kUnitNorm) {
      const int64_t width = values.dim(-1);
      for (int64_t row = 0; row < n; row += width) {
        double sum = 0;
        for (int64_t c = 0; c < width; ++c) sum += x[row + c] * x[row + c];
        for (int64_t c = 0; c < width; ++c) x[row + c] /= std::sqrt(sum);
      }
    }
    inputs.push_back(values.Cast(dtype));
  }
  return inputs;
}

absl::Status RunOperator(const Operator& op, OperatorCall* call) {
  absl::StatusOr<Dims> dims = InferDims(op.Inputs(), call->inputs);
  if (!dims.ok()) return dims.status();
  call->dims = *dims;
  if (const State* state = call->state; state != nullptr) {
    if (call->keep) {
      return absl::InvalidArgumentError(
          "gradients start at the beginning of a sequence: a call cannot both "
          "continue from a state and keep what Backward needs");
    }
    if (state->batch() != dims->batch ||
        state->dtype() != call->inputs[0].dtype()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the state was made for another call: it holds ", state->batch(),
          " sequences of ", 8 * SizeOf(state->dtype()), "-bit numbers"));
    }
  }
  const Shape shape({dims->batch, dims->length, dims->heads, dims->value_dim});
  if (call->output.empty()) {
    call->output = Tensor(call->arena, call->inputs[0].dtype(), shape);
  }
  return op.Forward(call);
}

absl::Status RefuseState(const OperatorCall& call) {
  if (call.state == nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      "every output of this operator depends on the whole sequence, so it "
      "cannot continue one from a state");
}

Variable ApplyOperator(const Operator& op, absl::Span<const Variable> inputs,
                       Form form, State* state) {
  std::vector<Tensor> values;
  bool needs_gradient = false;
  for (const Variable& input : inputs) {
    if (!input.valid()) return {};
    values.push_back(input.value());
    needs_gradient = needs_gradient || input.needs_gradient();
  }
  Tape* tape = inputs[0].tape();
  OperatorCall call;
  call.inputs = values;
  call.form = form;
  call.state = state;
  call.keep = needs_gradient && state == nullptr;
  call.arena = tape->arena();
  if (absl::Status s = RunOperator(op, &call); !s.ok()) return tape->Fail(s);
  Tensor output = call.output;
  if (state != nullptr) return tape->Input(std::move(output));
  std::vector<Variable> kept(inputs.begin(), inputs.end());
  return tape->Record(
      std::move(output), inputs,
      [&op, tape, call, kept, values](const Tensor& d_output) mutable {
        call.inputs = values;  // the copy in this closure
        std::vector<Tensor> d_inputs;
        for (const Variable& input : kept) {
          d_inputs.push_back(input.needs_gradient() ? input.gradient()
                                                    : Tensor());
        }
        if (absl::Status s = op.Backward(call, d_output, d_inputs); !s.ok()) {
          tape->Fail(s);
        }
      });
}

}  // namespace mneme
