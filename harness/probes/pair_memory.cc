// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/pair_memory.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace mneme {

absl::StatusOr<PairMemory> PairMemory::Create(const Operator* op, int64_t batch,
                                              int64_t key_dim,
                                              int64_t value_dim) {
  // One token, for the sizes of the operator's own axes.
  const Tensor keys(DType::kFloat32, {batch, 1, 1, key_dim});
  const Tensor values(DType::kFloat32, {batch, 1, 1, value_dim});
  const auto inputs = op->PairInputs(keys, keys, values);
  if (!inputs.ok()) return inputs.status();
  const absl::StatusOr<Dims> dims = InferDims(op->Inputs(), *inputs);
  if (!dims.ok()) return dims.status();
  std::unique_ptr<State> state = op->NewState(*dims, DType::kFloat32);
  if (state == nullptr) {
    return absl::UnimplementedError(
        "it keeps no state: all tokens are read at once");
  }
  return PairMemory(op, std::move(state));
}

absl::Status PairMemory::Write(const Tensor& keys, const Tensor& values) {
  if (keys.dim(1) == 0) return absl::OkStatus();
  // What these tokens read on the way nobody asks for.
  const auto outputs = Run(keys, keys, values, Form::kChunked);
  if (!outputs.ok()) return outputs.status();
  tokens_ += keys.dim(1);
  return absl::OkStatus();
}

absl::StatusOr<Tensor> PairMemory::Read(const Tensor& key, const Tensor& value,
                                        const Tensor& queries) {
  const int64_t batch = queries.dim(0), reads = queries.dim(1);
  const int64_t key_dim = queries.dim(3), value_dim = value.dim(3);
  const Tensor query(DType::kFloat32, key.shape());
  const Tensor result(DType::kFloat32, {batch, reads, 1, value_dim});
  const std::string before = state_->Serialize();
  for (int64_t r = 0; r < reads; ++r) {
    for (int64_t b = 0; b < batch; ++b) {
      std::copy_n(queries.data<float>() + (b * reads + r) * key_dim, key_dim,
                  query.data<float>() + b * key_dim);
    }
    const auto output = Run(query, key, value, Form::kRecurrent);
    if (!output.ok()) return output.status();
    for (int64_t b = 0; b < batch; ++b) {
      std::copy_n(output->data<float>() + b * value_dim, value_dim,
                  result.data<float>() + (b * reads + r) * value_dim);
    }
    const absl::Status restored = state_->Restore(before, tokens_);
    if (!restored.ok()) return restored;
  }
  return result;
}

int64_t PairMemory::StateBytes() const {
  return static_cast<int64_t>(state_->Serialize().size()) / state_->batch();
}

absl::StatusOr<Tensor> PairMemory::Run(const Tensor& queries,
                                       const Tensor& keys, const Tensor& values,
                                       Form form) {
  const auto inputs = op_->PairInputs(queries, keys, values);
  if (!inputs.ok()) return inputs.status();
  arena_->Reset();
  OperatorCall call;
  call.inputs = *inputs;
  call.form = form;
  call.state = state_.get();
  call.arena = arena_.get();
  const absl::Status status = RunOperator(*op_, &call);
  if (!status.ok()) return status;
  return call.output;
}

}  // namespace mneme
