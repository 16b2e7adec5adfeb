// SPDX-License-Identifier: Apache-2.0
//
// Contender "onednn": attention put together from oneDNN's primitives: a
// product, a softmax and a product for each block of queries. A causal block
// sees the keys up to its own end, so that only in its last square is anything
// computed in vain; what nobody may see there is masked by hand. Its gradients
// are products with plain loops between them.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/peers/attention_gradient_workload.h"
#include "harness/throughput/peers/attention_workload.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace mneme::peers {
namespace {

using dnnl::matmul;
using dnnl::memory;
using dnnl::softmax_forward;
using kernels::MatrixView;
using kernels::Transpose;

constexpr double kTolerance = 1e-5;

memory::desc Layout(const MatrixView<const float>& x) {
  return memory::desc(
      {static_cast<int64_t>(x.rows), static_cast<int64_t>(x.cols)},
      memory::data_type::f32, {static_cast<int64_t>(x.stride), 1});
}

memory::desc TransposedLayout(const MatrixView<const float>& x) {
  return memory::desc(
      {static_cast<int64_t>(x.cols), static_cast<int64_t>(x.rows)},
      memory::data_type::f32, {1, static_cast<int64_t>(x.stride)});
}

class OneDnnAttention : public AttentionWorkload {
 public:
  // Throws dnnl::error.
  explicit OneDnnAttention(const Problem& problem)
      : AttentionWorkload(problem), engine_(dnnl::engine::kind::cpu, 0) {
    omp_set_num_threads(1);
    const AttentionJob& job = first_job();
    const size_t block = QueryBlock(job.q.rows);
    size_t scores = 0, scratchpad = 0;
    for (size_t first = 0; first < job.q.rows; first += block) {
      const size_t rows = std::min(block, job.q.rows - first);
      blocks_.push_back(MakeBlock(job, first, rows, &scratchpad));
      scores = std::max(scores, rows * blocks_.back().keys);
    }
    for (int i = 0; i < workers(); ++i) {
      scratch_.push_back({dnnl::stream(engine_), std::vector<float>(scores),
                          std::vector<char>(scratchpad)});
    }
  }

 private:
  // Primitives are made once for all heads, whose arrays have equal layouts.
  struct Block {
    size_t first, rows, keys;
    memory::desc q, k_transposed, v, o, scores, scratchpad[3];
    matmul query_by_key, weight_by_value;
    softmax_forward softmax;
  };

  struct Scratch {
    dnnl::stream stream;
    std::vector<float> scores;
    std::vector<char> pad;
  };

  Block MakeBlock(const AttentionJob& job, size_t first, size_t rows,
                  size_t* scratchpad) const {
    Block block;
    block.first = first;
    block.rows = rows;
    block.keys = job.causal ? first + rows : job.k.rows;
    block.q = Layout(job.q.Rows(first, rows));
    block.k_transposed = TransposedLayout(job.k.Rows(0, block.keys));
    block.v = Layout(job.v.Rows(0, block.keys));
    block.o = Layout(job.o.Rows(first, rows));
    block.scores = Layout({nullptr, rows, block.keys});

    dnnl::primitive_attr attributes;
    // One of the caller's is needed to run a primitive in several threads.
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const softmax_forward::primitive_desc softmax(
        {dnnl::prop_kind::forward_inference, block.scores, 1}, attributes,
        engine_);
    const matmul::primitive_desc weight_by_value(
        {block.scores, block.v, block.o}, attributes, engine_);
    attributes.set_output_scales(0, {job.scale});
    const matmul::primitive_desc query_by_key(
        {block.q, block.k_transposed, block.scores}, attributes, engine_);

    block.query_by_key = matmul(query_by_key);
    block.softmax = softmax_forward(softmax);
    block.weight_by_value = matmul(weight_by_value);
    block.scratchpad[0] = query_by_key.scratchpad_desc();
    block.scratchpad[1] = softmax.scratchpad_desc();
    block.scratchpad[2] = weight_by_value.scratchpad_desc();
    for (const memory::desc& pad : block.scratchpad) {
      *scratchpad = std::max(*scratchpad, pad.get_size());
    }
    return block;
  }

  void Attend(const AttentionJob& job, int worker) override {
    omp_set_num_threads(1);  // holds for the calling thread only
    for (const Block& block : blocks_)
      AttendBlock(job, block, scratch_[worker]);
  }

  void AttendBlock(const AttentionJob& job, const Block& block,
                   Scratch& scratch) const {
    const auto wrap = [&](const memory::desc& layout, const void* data) {
      return memory(layout, engine_, const_cast<void*>(data));
    };
    float* const data = scratch.scores.data();
    const memory scores = wrap(block.scores, data);
    const auto pad = [&](int i) {
      return wrap(block.scratchpad[i], scratch.pad.data());
    };
    block.query_by_key.execute(
        scratch.stream,
        {{DNNL_ARG_SRC, wrap(block.q, job.q.row(block.first))},
         {DNNL_ARG_WEIGHTS, wrap(block.k_transposed, job.k.data)},
         {DNNL_ARG_DST, scores},
         {DNNL_ARG_SCRATCHPAD, pad(0)}});
    if (job.causal) {
      for (size_t i = 0; i < block.rows; ++i) {
        float* const row = data + i * block.keys;
        std::fill(row + block.first + i + 1, row + block.keys, -INFINITY);
      }
    }
    block.softmax.execute(scratch.stream, {{DNNL_ARG_SRC, scores},
                                           {DNNL_ARG_DST, scores},
                                           {DNNL_ARG_SCRATCHPAD, pad(1)}});
    block.weight_by_value.execute(
        scratch.stream, {{DNNL_ARG_SRC, scores},
                         {DNNL_ARG_WEIGHTS, wrap(block.v, job.v.data)},
                         {DNNL_ARG_DST, wrap(block.o, job.o.row(block.first))},
                         {DNNL_ARG_SCRATCHPAD, pad(2)}});
    scratch.stream.wait();
  }

  dnnl::engine engine_;
  std::vector<Block> blocks_;
  std::vector<Scratch> scratch_;  // by worker
};

// What a product depends on beside the addresses of its operands.
using ProductKey = std::tuple<Transpose, Transpose, size_t, size_t, size_t,
                              size_t, size_t, size_t, float, float>;

class OneDnnAttentionGradient : public AttentionGradientWorkload {
 public:
  // Throws dnnl::error.
  explicit OneDnnAttentionGradient(const Problem& problem)
      : AttentionGradientWorkload(problem),
        engine_(dnnl::engine::kind::cpu, 0) {
    for (int i = 0; i < workers(); ++i) {
      scratch_.push_back({dnnl::stream(engine_), {}});
    }
  }

 private:
  // With handles of its operands, which are only pointed elsewhere: to make
  // them takes longer than that.
  struct Product {
    memory a, b, c;
    matmul primitive;
    std::vector<char> pad;
    std::unordered_map<int, memory> arguments;
  };
  // Each worker's own: primitives are made for every shape that it meets, once.
  struct Scratch {
    dnnl::stream stream;
    std::map<ProductKey, Product> products;
  };

  Product MakeProduct(Transpose transpose_a, Transpose transpose_b,
                      const MatrixView<const float>& a,
                      const MatrixView<const float>& b,
                      const MatrixView<const float>& c, float alpha,
                      float beta) const {
    const auto layout_of = [](Transpose transpose,
                              const MatrixView<const float>& x) {
      return transpose == Transpose::kYes ? TransposedLayout(x) : Layout(x);
    };
    const memory::desc of_a = layout_of(transpose_a, a);
    const memory::desc of_b = layout_of(transpose_b, b);
    const memory::desc of_c = Layout(c);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (alpha != 1) attributes.set_output_scales(0, {alpha});
    if (beta != 0) {
      dnnl::post_ops sum;
      sum.append_sum(beta);
      attributes.set_post_ops(sum);
    }
    const matmul::primitive_desc description({of_a, of_b, of_c}, attributes,
                                             engine_);
    Product product;
    product.a = memory(of_a, engine_, nullptr);
    product.b = memory(of_b, engine_, nullptr);
    product.c = memory(of_c, engine_, nullptr);
    product.primitive = matmul(description);
    const memory::desc scratchpad = description.scratchpad_desc();
    product.pad.resize(scratchpad.get_size());
    product.arguments = {
        {DNNL_ARG_SRC, product.a},
        {DNNL_ARG_WEIGHTS, product.b},
        {DNNL_ARG_DST, product.c},
        {DNNL_ARG_SCRATCHPAD, memory(scratchpad, engine_, product.pad.data())}};
    return product;
  }

  void Multiply(Transpose transpose_a, Transpose transpose_b,
                MatrixView<const float> a, MatrixView<const float> b,
                MatrixView<float> c, float alpha, float beta,
                int worker) override {
    omp_set_num_threads(1);  // holds for the calling thread only
    Scratch& scratch = scratch_[worker];
    const ProductKey key(transpose_a, transpose_b, a.rows, a.cols, c.cols,
                         a.stride, b.stride, c.stride, alpha, beta);
    auto found = scratch.products.find(key);
    if (found == scratch.products.end()) {
      found = scratch.products
                  .emplace(key, MakeProduct(transpose_a, transpose_b, a, b, c,
                                            alpha, beta))
                  .first;
    }
    const Product& product = found->second;
    product.a.set_data_handle(const_cast<float*>(a.data));
    product.b.set_data_handle(const_cast<float*>(b.data));
    product.c.set_data_handle(c.data);
    product.primitive.execute(scratch.stream, product.arguments);
    scratch.stream.wait();
  }

  dnnl::engine engine_;
  std::vector<Scratch> scratch_;  // by worker
};

template <class W>
absl::StatusOr<std::unique_ptr<Workload>> Make(const Problem& problem) {
  try {
    return std::make_unique<W>(problem);
  } catch (const dnnl::error& e) {
    return absl::UnimplementedError(e.what());
  }
}

const bool kRegistered[] = {
    RegisterContender({"onednn", "softmax", Phase::kPrefill, kTolerance,
                       Make<OneDnnAttention>}),
    RegisterContender({"onednn", "softmax", Phase::kDecode, kTolerance,
                       Make<OneDnnAttention>}),
    RegisterContender({"onednn", "softmax", Phase::kBackward, kTolerance,
                       Make<OneDnnAttentionGradient>}),
};

}  // namespace
}  // namespace mneme::peers
