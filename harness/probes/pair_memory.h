// SPDX-License-Identifier: Apache-2.0
//
// A bare operator as what it is to a probe: a memory to which pairs are written
// and from which they are read. Pairs go in through Operator::PairInputs, in
// the chunked form, into the state that a decoder would keep.
//
// Reading must not write. But an operator's token does both; so the last pair
// is written and a key asked for by one token, and the state is put back to
// what it was before that token for the next question.

#ifndef MNEME_HARNESS_PROBES_PAIR_MEMORY_H_
#define MNEME_HARNESS_PROBES_PAIR_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attention/operator.h"

namespace mneme {

// `batch` memories of one head each. All arrays are float32.
class PairMemory {
 public:
  // Empty. Unimplemented, with a phrase that says why, for an operator that
  // holds no pairs or has no state to hold them in.
  static absl::StatusOr<PairMemory> Create(const Operator* op, int64_t batch,
                                           int64_t key_dim, int64_t value_dim);

  // keys [batch, n, 1, key_dim], values [batch, n, 1, value_dim]; n may be 0.
  absl::Status Write(const Tensor& keys, const Tensor& values);

  // What each of the queries [batch, reads, 1, key_dim] reads, [batch, reads,
  // 1, value_dim], just after one more pair, key [batch, 1, 1, key_dim] and
  // value, is written. Leaves the memory without that pair, as it was.
  absl::StatusOr<Tensor> Read(const Tensor& key, const Tensor& value,
                              const Tensor& queries);

  // Bytes of one memory, counted in its serialised state.
  int64_t StateBytes() const;

 private:
  PairMemory(const Operator* op, std::unique_ptr<State> state)
      : op_(op), state_(std::move(state)) {}

  absl::StatusOr<Tensor> Run(const Tensor& queries, const Tensor& keys,
                             const Tensor& values, Form form);

  const Operator* op_;
  std::unique_ptr<State> state_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
  int64_t tokens_ = 0;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_PAIR_MEMORY_H_
