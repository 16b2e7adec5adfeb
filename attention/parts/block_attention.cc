// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/block_attention.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/kernels/vector_math.h"
#include "attention/tensor/random.h"

namespace mneme {

using kernels::MatrixView;

std::vector<OptionSpec> BlockAttention::BlockOptions() {
  return {OptionSpec::Int("block", 8, 1, 1 << 20, "tokens a block"),
          OptionSpec::Int("random", 3, 0, 1024, "random blocks a query sees"),
          OptionSpec::Int("seed", 0, 0, 1e9, "of the random blocks")};
}

BlockAttention::BlockAttention(const Options& options,
                               absl::string_view variant, int layer,
                               bool causal)
    : block_(options.Int("block")),
      random_(options.Int("random")),
      seed_(options.Int("seed")),
      stream_(StreamId(absl::StrCat(variant, "/layer ", layer))),
      causal_(causal) {}

std::vector<uint64_t> BlockAttention::Drawn(int64_t head, int64_t i,
                                            int64_t candidates) const {
  std::vector<uint64_t> drawn(std::min(random_, candidates));
  constexpr uint64_t kHead = uint64_t{1} << 40;
  Random random(seed_, stream_, head * kHead + i);
  DrawDistinct(candidates, absl::MakeSpan(drawn), &random);
  return drawn;
}

// Cuts `length` queries, the first at position `before`, where blocks begin and
// after every `rows` tokens.
template <typename Body>
void BlockAttention::ForEachPiece(int64_t head, int64_t before, int64_t length,
                                  int64_t rows, const Body& body) const {
  const int64_t end = before + length;
  const int64_t blocks = (end + block_ - 1) / block_;
  for (int64_t t = 0; t < length;) {
    const int64_t at = before + t, i = at / block_;
    Piece p;
    p.first = t;
    p.rows = std::min({rows, block_ - at % block_, length - t});
    p.seen = BlocksSeen(head, i, causal_ ? i + 1 : blocks);
    const int64_t visible = causal_ ? at + p.rows : end;
    const int64_t last = p.seen.back() * block_;
    p.keys = (p.seen.size() - 1) * block_ + std::min(block_, visible - last);
    p.mask = causal_ ? CausalFrom(p.keys - p.rows) : Everything();
    body(p);
    t += p.rows;
  }
}

// Calls body(row of the sequence, row among the seen ones, count) for every
// block that a piece sees.
template <typename Body>
void BlockAttention::ForEachSeen(const Piece& piece, const Body& body) const {
  for (size_t s = 0; s < piece.seen.size(); ++s) {
    const int64_t to = s * block_;
    body(piece.seen[s] * block_, to, std::min(block_, piece.keys - to));
  }
}

template <typename T>
MatrixView<const T> BlockAttention::Gather(MatrixView<const T> all,
                                           const Piece& piece,
                                           std::vector<T>* memory) const {
  memory->resize(piece.keys * all.cols);
  const MatrixView<T> seen(memory->data(), piece.keys, all.cols);
  ForEachSeen(piece, [&](int64_t from, int64_t to, int64_t count) {
    for (int64_t r = 0; r < count; ++r) {
      std::copy_n(all.row(from + r), all.cols, seen.row(to + r));
    }
  });
  return seen;
}

template <typename T>
void BlockAttention::ScatterAdd(MatrixView<T> seen, const Piece& piece,
                                MatrixView<T> all) const {
  ForEachSeen(piece, [&](int64_t to, int64_t from, int64_t count) {
    for (int64_t r = 0; r < count; ++r) {
      kernels::Axpy(T{1}, seen.row(from + r), all.row(to + r), all.cols);
    }
  });
}

absl::Status BlockAttention::Forward(OperatorCall* call) const {
  const int64_t rows = call->form == Form::kRecurrent ? 1 : block_;
  const KeysSeen seen = KeysSeen::Of(*call);
  ForwardHeads(call, seen, [&](const auto& head) {
    std::vector<std::decay_t<decltype(head.scale)>> keys, values;
    ForEachPiece(head.h, seen.before(), call->dims.length, rows,
                 [&](const Piece& p) {
                   head.Forward(p.first, p.rows, Gather(head.k, p, &keys),
                                Gather(head.v, p, &values), p.mask);
                 });
  });
  return absl::OkStatus();
}

absl::Status BlockAttention::Backward(const OperatorCall& call,
                                      const Tensor& d_output,
                                      absl::Span<const Tensor> d_inputs) const {
  const Dims& d = call.dims;
  BackwardHeads(call, d_output, d_inputs, [&](const auto& head) {
    using T = std::decay_t<decltype(head.scale)>;
    std::vector<T> keys, values, d_keys, d_values;
    ForEachPiece(head.h, 0, d.length, block_, [&](const Piece& p) {
      d_keys.assign(p.keys * d.key_dim, 0);
      d_values.assign(p.keys * d.value_dim, 0);
      const MatrixView<T> d_k(d_keys.data(), p.keys, d.key_dim);
      const MatrixView<T> d_v(d_values.data(), p.keys, d.value_dim);
      head.Backward(p.first, p.rows, Gather(head.k, p, &keys),
                    Gather(head.v, p, &values), p.mask, d_k, d_v);
      ScatterAdd(d_k, p, head.d_k);
      ScatterAdd(d_v, p, head.d_v);
    });
  });
  return absl::OkStatus();
}

Cost BlockAttention::StepCost(const Dims& d) const {
  Cost cost = Operator::StepCost(d);
  if (!causal_) return cost;
  // Of all keys, a step reads those in the blocks that a head of their group
  // sees; the token itself is an input.
  const int64_t i = d.length / block_, group = d.heads / d.kv_heads;
  int64_t rows = 0;
  for (int64_t g = 0; g < d.kv_heads; ++g) {
    std::set<int64_t> seen;
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
      for (int64_t block : BlocksSeen(h, i, i + 1)) seen.insert(block);
    }
    for (int64_t block : seen) {
      rows += std::min(block_, d.length - block * block_);
    }
  }
  cost.bytes += sizeof(float) * static_cast<double>(d.batch) *
                (rows - d.length * d.kv_heads) * (d.key_dim + d.value_dim);
  return cost;
}

double BlockAttention::Pairs(const Dims& d) const {
  double pairs = 0;  // of head 0: all heads see as many blocks
  ForEachPiece(0, 0, d.length, block_, [&](const Piece& p) {
    pairs += p.rows * (p.keys - (causal_ ? (p.rows - 1) / 2.0 : 0));
  });
  return pairs;
}

}  // namespace mneme
