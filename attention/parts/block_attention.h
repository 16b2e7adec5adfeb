// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention between blocks of tokens, of which a query sees a few, some
// of them drawn at random (BigBird, arXiv 2007.14062). The keys that a block of
// queries sees are gathered, so that one dense kernel serves any set of blocks.

#ifndef MNEME_ATTENTION_PARTS_BLOCK_ATTENTION_H_
#define MNEME_ATTENTION_PARTS_BLOCK_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "attention/parts/attention_operator.h"
#include "attention/plugin/options.h"

namespace mneme {

// A derived operator chooses the blocks.
class BlockAttention : public AttentionOperator {
 public:
  // Options block, random and seed.
  static std::vector<OptionSpec> BlockOptions();

  absl::Status Forward(OperatorCall* call) const override;
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override;
  Cost StepCost(const Dims& d) const override;

 protected:
  // Every layer of a variant draws from its own stream. Causal: a query sees
  // nothing after itself, and its own block is the last of those it sees.
  BlockAttention(const Options& options, absl::string_view variant, int layer,
                 bool causal);

  // The blocks seen from block i of a head, ascending; each once, or its keys
  // would count twice. The sequence has `blocks` blocks, the last of which may
  // be short; if causal, i + 1 so far.
  virtual std::vector<int64_t> BlocksSeen(int64_t head, int64_t i,
                                          int64_t blocks) const = 0;

  // min(random, candidates) distinct integers from 0, ..., candidates - 1, the
  // same at every call.
  std::vector<uint64_t> Drawn(int64_t head, int64_t i,
                              int64_t candidates) const;

  double Pairs(const Dims& d) const override;
  int64_t block() const { return block_; }

 private:
  // Consecutive queries of one block, and where their keys are.
  struct Piece {
    int64_t first;              // query, counted in this call
    int64_t rows;               // queries
    std::vector<int64_t> seen;  // blocks
    int64_t keys;               // in those blocks, up to the last one seen
    kernels::AttentionMask mask;
  };

  template <typename Body>
  void ForEachPiece(int64_t head, int64_t before, int64_t length, int64_t rows,
                    const Body& body) const;
  template <typename Body>
  void ForEachSeen(const Piece& piece, const Body& body) const;
  template <typename T>
  kernels::MatrixView<const T> Gather(kernels::MatrixView<const T> all,
                                      const Piece& piece,
                                      std::vector<T>* memory) const;
  template <typename T>
  void ScatterAdd(kernels::MatrixView<T> seen, const Piece& piece,
                  kernels::MatrixView<T> all) const;

  int64_t block_, random_;
  uint64_t seed_, stream_;
  bool causal_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_BLOCK_ATTENTION_H_
