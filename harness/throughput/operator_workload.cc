// SPDX-License-Identifier: Apache-2.0
//
// Mneme's own contender in the phases of a bare operator.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/problem.h"

namespace mneme {
namespace {

class Prefill : public Workload {
 public:
  explicit Prefill(const Problem& problem)
      : problem_(problem), call_(CallOn(problem, problem.inputs)) {}

  absl::Status Run() override { return RunOperator(*problem_.op, &call_); }

  // The first run allocates the output, later ones write to it again.
  std::vector<Tensor> Outputs() const override { return {call_.output}; }

 private:
  const Problem& problem_;
  OperatorCall call_;
};

// A state that saw the context, or one of its size where it would take long.
absl::StatusOr<std::unique_ptr<State>> StateAfterContext(
    const Problem& problem) {
  const Operator& op = *problem.op;
  const Dims& dims = problem.dims;
  std::unique_ptr<State> state = op.NewState(dims, DType::kFloat32);
  if (state == nullptr) {
    return absl::UnimplementedError(
        "every output depends on the whole sequence: it cannot decode");
  }
  // Ten seconds or so on one core.
  constexpr double kTooMany = 2e11;
  if (op.ForwardCost(dims, Form::kChunked).flops < kTooMany) {
    OperatorCall call = CallOn(problem, problem.inputs);
    call.form = Form::kChunked;
    call.state = state.get();
    const absl::Status status = RunOperator(op, &call);
    if (!status.ok()) return status;
    return state;
  }
  // That of a few tokens over and over again: whatever its bytes stand for,
  // these are numbers as they come.
  const Problem few = Shortened(problem);
  const std::unique_ptr<State> little = op.NewState(few.dims, DType::kFloat32);
  OperatorCall call = CallOn(few, few.inputs);
  call.form = Form::kChunked;
  call.state = little.get();
  if (absl::Status s = RunOperator(op, &call); !s.ok()) return s;
  const std::string pattern = little->Serialize();
  const size_t size = state->BytesAfter(dims.length);
  std::string bytes;
  bytes.reserve(size + pattern.size());
  while (!pattern.empty() && bytes.size() < size) bytes += pattern;
  bytes.resize(size);
  const absl::Status status = state->Restore(bytes, dims.length);
  if (!status.ok()) return status;
  return state;
}

class Decode : public Workload {
 public:
  static absl::StatusOr<std::unique_ptr<Workload>> Make(
      const Problem& problem) {
    absl::StatusOr<std::unique_ptr<State>> state = StateAfterContext(problem);
    if (!state.ok()) return state.status();
    return std::unique_ptr<Workload>(new Decode(problem, *std::move(state)));
  }

  absl::Status Run() override { return RunOperator(*problem_.op, &call_); }

  int64_t RunsBeforeRewind() const override { return runs_; }

  absl::Status Rewind() override {
    return state_->Restore(start_, problem_.dims.length);
  }

  std::vector<Tensor> Outputs() const override { return {call_.output}; }

 private:
  Decode(const Problem& problem, std::unique_ptr<State> state)
      : problem_(problem),
        state_(std::move(state)),
        call_(CallOn(problem, problem.step)) {
    call_.form = Form::kRecurrent;
    call_.state = state_.get();
    const int64_t runs = DecodedTokens(problem.dims.length);
    if (!ChangesSize(runs)) return;
    runs_ = runs;
    start_ = state_->Serialize();
  }

  // In between as well: some states shrink again.
  bool ChangesSize(int64_t tokens) const {
    const int64_t length = problem_.dims.length;
    const int64_t bytes = state_->BytesAfter(length);
    for (int64_t i = 1; i <= tokens; ++i) {
      if (state_->BytesAfter(length + i) != bytes) return true;
    }
    return false;
  }

  const Problem& problem_;
  std::unique_ptr<State> state_;
  OperatorCall call_;
  int64_t runs_ = 0;
  std::string start_;
};

class Backward : public Workload {
 public:
  static absl::StatusOr<std::unique_ptr<Workload>> Make(
      const Problem& problem) {
    auto workload = std::unique_ptr<Backward>(new Backward(problem));
    const absl::Status status = RunOperator(*problem.op, &workload->call_);
    if (!status.ok()) return status;
    return std::unique_ptr<Workload>(std::move(workload));
  }

  // Gradients are added to what is there; what that is costs no time.
  absl::Status Run() override {
    return problem_.op->Backward(call_, problem_.d_output, d_inputs_);
  }
  int64_t RunsBeforeRewind() const override { return 1 << 10; }
  absl::Status Rewind() override {
    for (const Tensor& d : d_inputs_) Tensor(d).FillZero();
    return absl::OkStatus();
  }

  std::vector<Tensor> Outputs() const override { return d_inputs_; }

 private:
  explicit Backward(const Problem& problem)
      : problem_(problem), call_(CallOn(problem, problem.inputs)) {
    call_.keep = true;
    for (const Tensor& input : problem.inputs) {
      d_inputs_.emplace_back(DType::kFloat32, input.shape());
    }
  }

  const Problem& problem_;
  OperatorCall call_;
  std::vector<Tensor> d_inputs_;
};

absl::StatusOr<std::unique_ptr<Workload>> MakePrefill(const Problem& problem) {
  return std::unique_ptr<Workload>(new Prefill(problem));
}

[[maybe_unused]] const bool registered =
    RegisterContender({"mneme", "", Phase::kPrefill, 0, MakePrefill}) &&
    RegisterContender({"mneme", "", Phase::kDecode, 0, Decode::Make}) &&
    RegisterContender({"mneme", "", Phase::kBackward, 0, Backward::Make});

}  // namespace
}  // namespace mneme
