// SPDX-License-Identifier: Apache-2.0

#include "attention/operator.h"

#include <algorithm>
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

// What an axis letter stands for: "batch", "key/value heads", ...
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

// Of a set of capitals.
constexpr uint32_t Bit(char letter) { return uint32_t{1} << (letter - 'A'); }

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

template <typename T>
void NormaliseRows(T* x, int64_t n, int64_t width) {
  for (int64_t row = 0; row < n; row += width) {
    double sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += double{x[row + c]} * x[row + c];
    if (sum == 0) continue;  // no direction
    for (int64_t c = 0; c < width; ++c) x[row + c] /= std::sqrt(sum);
  }
}

// The value of an input that leaves the memory alone; NaN if none does.
double Neutral(Domain domain) {
  switch (domain) {
    case Domain::kNonPositive:
      return 0;
    case Domain::kUnit:
    case Domain::kPositive:
      return 1;
    case Domain::kReal:
    case Domain::kUnitNorm:
      break;
  }
  return std::nan("");
}

}  // namespace

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
  uint32_t seen = 0;  // axes whose size an earlier input has fixed
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
      if ((seen & Bit(letter)) == 0) {
        seen |= Bit(letter);
        *size = shape.dim(axis);
        if (*size < 1) {
          return absl::InvalidArgumentError(
              absl::StrCat("input ", spec.name, " has shape ", shape.ToString(),
                           ": its ", AxisName(letter), " is empty"));
        }
      } else if (*size != shape.dim(axis)) {
        return absl::InvalidArgumentError(
            absl::StrCat("input ", spec.name, " has shape ", shape.ToString(),
                         ": its ", AxisName(letter), " is ", shape.dim(axis),
                         ", that of earlier inputs ", *size));
      }
    }
  }
  if ((seen & Bit('G')) == 0) dims.kv_heads = dims.heads;
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
      NormaliseRows(x, n, values.dim(-1));
    }
    inputs.push_back(values.Cast(dtype));
  }
  return inputs;
}

absl::StatusOr<std::vector<Tensor>> NeutralInputs(
    absl::Span<const InputSpec> specs,
    const std::map<std::string, Tensor>& given,
    const std::map<std::string, double>& constants) {
  for (const auto& [name, tensor] : given) {
    if (std::none_of(specs.begin(), specs.end(),
                     [&name = name](const InputSpec& spec) {
                       return spec.name == name;
                     })) {
      return absl::InvalidArgumentError(
          absl::StrCat("the operator has no input ", name));
    }
  }
  Dims dims;
  std::string seen;  // axes of given inputs
  std::vector<Tensor> inputs(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto it = given.find(specs[i].name);
    if (it == given.end()) continue;
    Tensor x = it->second;
    if (x.shape().rank() == 4 && specs[i].axes.size() == 3 && x.dim(2) == 1) {
      x = x.Reshaped({x.dim(0), x.dim(1), x.dim(3)});
    }
    if (x.shape().rank() != static_cast<int>(specs[i].axes.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("input ", specs[i].name, " cannot have shape ",
                       x.shape().ToString(), " (", specs[i].doc, ")"));
    }
    for (int axis = 0; axis < x.shape().rank(); ++axis) {
      *Axis(&dims, specs[i].axes[axis]) = x.dim(axis);
      seen += specs[i].axes[axis];
    }
    if (specs[i].domain == Domain::kUnitNorm) {
      x = x.Clone();
      DispatchDType(x.dtype(), [&](auto zero) {
        using T = decltype(zero);
        NormaliseRows(x.data<T>(), x.elements(), x.dim(-1));
      });
    }
    inputs[i] = x;
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!inputs[i].empty()) continue;
    const auto it = constants.find(specs[i].name);
    const double value =
        it == constants.end() ? Neutral(specs[i].domain) : it->second;
    if (std::isnan(value) ||
        specs[i].axes.find_first_not_of(seen) != std::string::npos) {
      return absl::UnimplementedError(absl::StrCat(
          "nothing says what its input ", specs[i].name, " should be"));
    }
    Tensor filled(DType::kFloat64, InputShape(specs[i], dims));
    std::fill_n(filled.data<double>(), filled.elements(), value);
    inputs[i] = filled.Cast(given.begin()->second.dtype());
  }
  return inputs;
}

Cost Operator::BackwardCost(const Dims& dims, Form form) const {
  const Cost forward = ForwardCost(dims, form);
  return {2 * forward.flops, forward.exps, 2 * forward.bytes};
}

Cost Operator::StepCost(const Dims& dims) const {
  Dims longer = dims;
  ++longer.length;
  const Cost before = ForwardCost(dims, Form::kRecurrent);
  const Cost after = ForwardCost(longer, Form::kRecurrent);
  double elements = static_cast<double>(dims.batch * dims.heads) *
                    static_cast<double>(dims.value_dim);  // of the output
  Dims token = dims;
  token.length = 1;
  for (const InputSpec& spec : Inputs()) {
    // An axis of the operator's own may be longer than what is read.
    if (spec.axes.find('L') != std::string::npos ||
        spec.axes.find_first_not_of("BHGKV") == std::string::npos) {
      elements += static_cast<double>(InputShape(spec, token).elements());
    }
  }
  double bytes =
      static_cast<double>(StateBytes(dims)) + sizeof(float) * elements;
  if (StepRewritesState()) bytes += static_cast<double>(StateBytes(longer));
  return {after.flops - before.flops, after.exps - before.exps,
          std::max(after.bytes - before.bytes, bytes)};
}

absl::StatusOr<std::vector<Tensor>> Operator::PairInputs(
    const Tensor& queries, const Tensor& keys, const Tensor& values) const {
  const std::vector<InputSpec> specs = Inputs();
  for (const char* name : {"q", "k", "v"}) {
    if (std::none_of(specs.begin(), specs.end(), [&](const InputSpec& spec) {
          return spec.name == name;
        })) {
      return absl::UnimplementedError("it has no queries, keys and values");
    }
  }
  return NeutralInputs(specs, {{"q", queries}, {"k", keys}, {"v", values}});
}

const std::vector<InputSpec>& Operator::KnownInputs() const {
  std::call_once(known_.made, [this] { known_.inputs = Inputs(); });
  return known_.inputs;
}

absl::Status RunOperator(const Operator& op, OperatorCall* call) {
  absl::StatusOr<Dims> inferred = InferDims(op.KnownInputs(), call->inputs);
  if (!inferred.ok()) return inferred.status();
  Dims& dims = call->dims;
  dims = *std::move(inferred);
  if (const State* state = call->state; state != nullptr) {
    if (call->keep) {
      return absl::InvalidArgumentError(
          "gradients start at the beginning of a sequence: a call cannot both "
          "continue from a state and keep what Backward needs");
    }
    if (state->batch() != dims.batch ||
        state->dtype() != call->inputs[0].dtype()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the state was made for another call: it holds ", state->batch(),
          " sequences of ", 8 * SizeOf(state->dtype()), "-bit numbers"));
    }
    // Heads or widths that disagree would be read out of bounds. One token is
    // enough to tell, and nothing needs to be allocated for it, not even a copy
    // of the operator's own axes.
    const int64_t length = std::exchange(dims.length, 1);
    const int64_t bytes = op.StateBytesOf(dims, state->dtype());
    dims.length = length;
    if (bytes > 0 && state->BytesAfter(1) != bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the state was made for other heads or widths: one token makes it ",
          state->BytesAfter(1), " bytes; these inputs need ", bytes));
    }
  }
  const Shape shape({dims.batch, dims.length, dims.heads, dims.value_dim});
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
