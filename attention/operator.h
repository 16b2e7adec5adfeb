// SPDX-License-Identifier: Apache-2.0
//
// The first face of a variant: the bare mechanism on per-head arrays, without
// parameters. It is what numerical proofs, throughput, capacity probes and
// `mneme apply` use, and what mixers are built from.
//
// Arrays are [batch, length, heads, dim] in memory, so a projection's output is
// an operator's input as it stands.

#ifndef MNEME_ATTENTION_OPERATOR_H_
#define MNEME_ATTENTION_OPERATOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attention/kernels/parallel.h"
#include "attention/state.h"
#include "attention/tensor/tape.h"

namespace mneme {

// Three ways to compute the same function. kParallel looks at all tokens at
// once; kChunked runs through blocks of tokens, carrying the state; kRecurrent
// takes one token at a time, as decoding does. An operator that cannot continue
// from a state, because every output depends on the whole sequence, takes its
// queries in these portions: all, by blocks, one by one.
enum class Form { kParallel, kChunked, kRecurrent };
absl::string_view FormName(Form form);
absl::StatusOr<Form> ParseForm(absl::string_view name);

// The sizes of a call, inferred from its inputs.
struct Dims {
  int64_t batch = 1;
  int64_t length = 1;
  int64_t heads = 1;     // query heads
  int64_t kv_heads = 1;  // key/value heads; divides heads
  int64_t key_dim = 1;
  int64_t value_dim = 1;
  std::map<char, int64_t> own;  // sizes of the operator's own axes
};

// Which numbers an input may hold.
enum class Domain {
  kReal,         // any
  kNonPositive,  // log decays
  kUnit,         // (0, 1): write strengths, gates
  kPositive,     // > 0: step sizes
  kUnitNorm,     // rows of length 1: keys of delta rules
};

// A named input. axes is a string of one letter per axis: B batch, L length,
// H query heads, G key/value heads, K key_dim, V value_dim. Queries are "BLHK",
// a gate per token and head "BLH", a parameter of the mechanism per head "H".
// Any other capital is an axis of the operator's own. At least one input with L
// has V.
struct InputSpec {
  std::string name;
  std::string axes;
  std::string doc;
  Domain domain = Domain::kReal;
};

// Sizes >= 1 that make all inputs fit their specs, or InvalidArgument that
// names the input, its shape and the axis that disagrees or is empty.
absl::StatusOr<Dims> InferDims(absl::Span<const InputSpec> specs,
                               absl::Span<const Tensor> inputs);

// The shape an input must have under dims.
Shape InputShape(const InputSpec& spec, const Dims& dims);

// Reproducible inputs of the given sizes: standard normal, or in their domain.
std::vector<Tensor> RandomInputs(absl::Span<const InputSpec> specs,
                                 const Dims& dims, DType dtype, uint64_t seed);

// All inputs of an operator that stores pairs, when only some matter: those
// given by name, at least one, whose rows are brought to length 1 where the
// spec says kUnitNorm; and for the others the constants given by name or, where
// there are none, what leaves the memory alone: log decays of 0, gates and step
// sizes of 1. A given [batch, length, 1, dim] also fits an input without heads.
// Unimplemented for another input of domain kReal or kUnitNorm, or one with an
// axis whose size no given input says; InvalidArgument for a given name that no
// spec has.
absl::StatusOr<std::vector<Tensor>> NeutralInputs(
    absl::Span<const InputSpec> specs,
    const std::map<std::string, Tensor>& given,
    const std::map<std::string, double>& constants = {});

// One evaluation of an operator.
struct OperatorCall {
  // In. inputs are in the order of Inputs() and fit dims.
  absl::Span<const Tensor> inputs;
  Dims dims;
  Form form = Form::kChunked;
  // Continues from this state and advances it; null starts from nothing.
  State* state = nullptr;
  // Keep in `saved` what Backward needs.
  bool keep = false;
  Arena* arena = nullptr;  // where saved tensors live
  kernels::ThreadPool* pool = nullptr;

  // Out. output [batch, length, heads, value_dim] is allocated by the caller.
  Tensor output;
  std::vector<Tensor> saved;
};

// What one call costs, as exact functions of the shape: rooflines divide by it.
struct Cost {
  double flops = 0;  // multiply and add count one each; masked work does not
  double exps = 0;   // exponentials, which share the FMA ports
  // Compulsory traffic: inputs, outputs, the state before and after, once each.
  double bytes = 0;
};

// Immutable and thread-safe; all working memory is in the call.
class Operator {
 public:
  virtual ~Operator() = default;

  virtual std::vector<InputSpec> Inputs() const = 0;

  // The same, made once: putting the strings together takes as long as a small
  // decoding step.
  const std::vector<InputSpec>& KnownInputs() const;

  // A size of the operator's own axis `letter` that suits sequences of
  // dims.length tokens, for whoever makes up inputs. Most axes take any.
  virtual int64_t OwnAxis(char /*letter*/, const Dims& /*dims*/) const {
    return 3;
  }

  // Computes call->output. Inputs have been checked by RunOperator.
  virtual absl::Status Forward(OperatorCall* call) const = 0;

  // Given a finished call with keep (and no state), adds to the gradients of
  // the inputs; an empty tensor is a gradient nobody wants.
  virtual absl::Status Backward(const OperatorCall& call,
                                const Tensor& d_output,
                                absl::Span<const Tensor> d_inputs) const = 0;

  // A state that has seen nothing; dims.length is not used. Null from an
  // operator that cannot continue from a state (VariantDescriptor::streaming is
  // false): its StateBytes is 0 and its Forward refuses one (RefuseState).
  virtual std::unique_ptr<State> NewState(const Dims& dims,
                                          DType dtype) const = 0;

  // Bytes of the float32 state of a batch after dims.length tokens. The
  // contract test holds this formula against State::bytes.
  virtual int64_t StateBytes(const Dims& dims) const = 0;

  // The same of a state for calls in dtype: as much larger as its numbers are,
  // unless the state does not hold numbers of the call's type.
  virtual int64_t StateBytesOf(const Dims& dims, DType dtype) const {
    return StateBytes(dims) * static_cast<int64_t>(SizeOf(dtype)) /
           static_cast<int64_t>(sizeof(float));
  }

  // Of a forward over the whole length without a state, in float32.
  virtual Cost ForwardCost(const Dims& dims, Form form) const = 0;

  // Whether that forward's products are of bfloat16 numbers, for which a
  // machine may have a unit of its own.
  virtual bool MultipliesBf16() const { return false; }

  // Of the gradients of all inputs, given a call with keep. By default twice
  // the forward, as the gradient of a product is two products, with its
  // exponentials; inputs and the output's gradient are read and the inputs'
  // gradients written. An operator adds the scores that nobody keeps: of
  // attention, five products where the forward has two.
  virtual Cost BackwardCost(const Dims& dims, Form form) const;

  // Whether a step rewrites the whole state, as recurrences do.
  virtual bool StepRewritesState() const { return false; }

  // Of the one token that follows dims.length others, which are in the state.
  // By default the difference that the token makes to a recurrent forward. Its
  // bytes are at least those of the token's inputs and output, of parameters,
  // and of the whole state, read and, where a step rewrites it, written: an
  // operator that reads a part of its state overrides this.
  virtual Cost StepCost(const Dims& dims) const;

  // Inputs under which token t writes the pair (key t, value t) and then reads
  // with query t, and no input makes it forget: log decays 0, write strengths
  // 1. What probes of the bare memory run on. queries and keys are [batch,
  // length, heads, key_dim], values [batch, length, heads, value_dim].
  //
  // By default NeutralInputs of "q", "k" and "v". Unimplemented, with a phrase
  // that says why, for an operator that holds no pairs.
  virtual absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys, const Tensor& values) const;

  // The independent oracle: the same function in float64, written straight from
  // the definition (one loop per sum, nothing shared with the kernels).
  virtual absl::Status Reference(const OperatorCall& call) const = 0;

 private:
  // A copy of an operator makes its own.
  struct Known {
    std::once_flag made;
    std::vector<InputSpec> inputs;

    Known() = default;
    Known(const Known&) {}
  };
  mutable Known known_;
};

// Checks the inputs, fills call->dims and runs Forward. call->output is
// allocated (from call->arena if given) when empty.
absl::Status RunOperator(const Operator& op, OperatorCall* call);

// Unimplemented if the call continues from a state: for operators that cannot.
absl::Status RefuseState(const OperatorCall& call);

// The operator as one differentiable step on a tape: its fused Backward is the
// gradient. With a state (decoding) the result is not differentiable.
Variable ApplyOperator(const Operator& op, absl::Span<const Variable> inputs,
                       Form form, State* state = nullptr);

}  // namespace mneme

#endif  // MNEME_ATTENTION_OPERATOR_H_
