// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/quadratic_operator.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/kernels/gemm.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"

namespace mneme {
namespace {

using kernels::Gemm;
using kernels::GemmEpilogue;
using kernels::MatrixView;
using kernels::Transpose;

enum Input { kQuery, kKey, kValue };
enum Saved { kStates, kDenominator };

// Rows of a causal product taken at once: what they multiply above the diagonal
// is zero, and wasted.
constexpr size_t kCausalRows = 16;

template <typename T>
GemmEpilogue<T> Epilogue(double alpha, double beta) {
  GemmEpilogue<T> epilogue;
  epilogue.alpha = static_cast<T>(alpha);
  epilogue.beta = static_cast<T>(beta);
  return epilogue;
}

// A matrix in memory of its own, taken at the first use.
template <typename T>
class Scratch {
 public:
  Scratch(size_t rows, size_t cols) : rows_(rows), cols_(cols) {}
  // The first `rows` rows, zero at the first use.
  MatrixView<T> Rows(size_t rows) { return As(rows, cols_); }
  // A smaller matrix of another width in the same memory.
  MatrixView<T> As(size_t rows, size_t cols) {
    if (values_.empty()) values_.resize(rows_ * cols_);
    return {values_.data(), rows, cols};
  }

 private:
  std::vector<T> values_;
  size_t rows_, cols_;
};

// c = lower triangle of a, times b. Not even a zero may meet a b of the future
// that is NaN or infinite, so such values are taken row by row.
template <typename T>
void CausalProduct(MatrixView<const T> a, MatrixView<const T> b,
                   MatrixView<T> c) {
  const bool finite =
      std::isfinite(kernels::Dot(b.data, b.data, b.rows * b.cols));
  const size_t step = finite ? kCausalRows : 1;
  for (size_t row = 0; row < a.rows; row += step) {
    const size_t rows = std::min(step, a.rows - row);
    const MatrixView<const T> left(a.row(row), rows, row + rows, a.stride);
    Gemm(Transpose::kNo, Transpose::kNo, left, b.Rows(0, row + rows),
         c.Rows(row, rows));
  }
}

// The kernel on one head, in numbers of type T.
template <typename T>
class Head {
 public:
  Head(const QuadraticKernel& kernel, double eps, const Dims& dims,
       int64_t chunk)
      : kernel_(kernel),
        eps_(static_cast<T>(eps)),
        scale_(1 / std::sqrt(static_cast<double>(dims.key_dim))),
        chunk_(std::min(chunk, dims.length)),
        features_(kernel.Features(dims.key_dim)),
        width_(dims.value_dim + 1),
        scores_(chunk_, chunk_),
        values_(chunk_, width_),
        sums_(chunk_, width_),
        phi_(chunk_, features_) {}

  size_t state_size() const { return features_ * width_; }

  // state [features, value_dim + 1] is read and advanced; null starts from
  // nothing. den [length]; saved, unless null, gets the state before every
  // chunk but the first.
  void Forward(MatrixView<const T> q, MatrixView<const T> k,
               MatrixView<const T> v, T* state, MatrixView<T> o, T* den,
               T* saved) {
    std::vector<T> own_state;
    const bool continues = state != nullptr;
    if (!continues && q.rows > chunk_) {
      own_state.resize(state_size());
      state = own_state.data();
    }
    const MatrixView<T> memory(state, features_, width_);
    for (size_t start = 0; start < q.rows; start += chunk_) {
      const size_t n = std::min(chunk_, q.rows - start);
      const MatrixView<const T> keys = k.Rows(start, n);
      const MatrixView<const T> queries = q.Rows(start, n);
      const MatrixView<T> values = WithOnes(v.Rows(start, n));
      const MatrixView<T> scores = scores_.As(n, n), sums = sums_.Rows(n);
      Gemm(Transpose::kNo, Transpose::kYes, queries, keys, scores,
           Epilogue<T>(scale_, 0));
      Weigh(scores, scores);
      CausalProduct<T>(scores, values, sums);
      if (continues || start > 0) {
        if (saved != nullptr && start > 0) {
          std::memcpy(saved + (start / chunk_ - 1) * state_size(), state,
                      state_size() * sizeof(T));
        }
        Gemm(Transpose::kNo, Transpose::kNo, Expand(queries), memory, sums,
             Epilogue<T>(1, 1));
      }
      if (continues || start + n < q.rows) {
        Gemm(Transpose::kYes, Transpose::kNo, Expand(keys), values, memory,
             Epilogue<T>(1, 1));
      }
      for (size_t i = 0; i < n; ++i) {
        den[start + i] = sums(i, width_ - 1) + eps_;
        const T inverse = 1 / den[start + i];
        for (size_t c = 0; c + 1 < width_; ++c) {
          o(start + i, c) = sums(i, c) * inverse;
        }
      }
    }
  }

  // o, den and saved are the forward's; adds to d_q, d_k and d_v.
  void Backward(MatrixView<const T> q, MatrixView<const T> k,
                MatrixView<const T> v, MatrixView<const T> o, const T* den,
                const T* saved, MatrixView<const T> d_o, MatrixView<T> d_q,
                MatrixView<T> d_k, MatrixView<T> d_v) {
    const size_t chunks = (q.rows + chunk_ - 1) / chunk_;
    // The gradient by the state after the chunk at hand.
    Scratch<T> d_state(features_, width_);
    Scratch<T> weight_memory(chunk_, chunk_), d_score_memory(chunk_, chunk_);
    Scratch<T> d_sum_memory(chunk_, width_), d_phi_memory(chunk_, features_);
    for (size_t chunk = chunks; chunk-- > 0;) {
      const size_t start = chunk * chunk_;
      const size_t n = std::min(chunk_, q.rows - start);
      const MatrixView<const T> queries = q.Rows(start, n);
      const MatrixView<const T> keys = k.Rows(start, n);
      const MatrixView<T> values = WithOnes(v.Rows(start, n));
      const MatrixView<T> d_queries = d_q.Rows(start, n);
      const MatrixView<T> d_keys = d_k.Rows(start, n);

      const MatrixView<T> d_sums = d_sum_memory.Rows(n);
      for (size_t i = 0; i < n; ++i) {
        const T inverse = 1 / den[start + i];
        const T *d_row = d_o.row(start + i), *row = o.row(start + i);
        for (size_t c = 0; c + 1 < width_; ++c) {
          d_sums(i, c) = d_row[c] * inverse;
        }
        d_sums(i, width_ - 1) = -kernels::Dot(d_row, row, width_ - 1) * inverse;
      }

      // Pairs inside the chunk.
      const MatrixView<T> scores = scores_.As(n, n);
      const MatrixView<T> weights = weight_memory.As(n, n);
      const MatrixView<T> d_scores = d_score_memory.As(n, n);
      const MatrixView<T> d_values = sums_.Rows(n);
      Gemm(Transpose::kNo, Transpose::kYes, queries, keys, scores,
           Epilogue<T>(scale_, 0));
      Weigh(scores, weights);
      Gemm(Transpose::kYes, Transpose::kNo, weights, d_sums, d_values);
      Gemm(Transpose::kNo, Transpose::kYes, d_sums, values, d_scores);
      WeighBackward(scores, d_scores);
      Gemm(Transpose::kNo, Transpose::kNo, d_scores, keys, d_queries,
           Epilogue<T>(scale_, 1));
      Gemm(Transpose::kYes, Transpose::kNo, d_scores, queries, d_keys,
           Epilogue<T>(scale_, 1));

      // What later chunks read of this one's keys and values; then what this
      // chunk's queries read of the state.
      if (chunks == 1) {
        AddValues(d_values, d_v.Rows(start, n));
        return;
      }
      const MatrixView<T> d_memory = d_state.Rows(features_);
      const MatrixView<T> d_phi = d_phi_memory.Rows(n);
      if (chunk + 1 < chunks) {
        Gemm(Transpose::kNo, Transpose::kNo, Expand(keys), d_memory, d_values,
             Epilogue<T>(1, 1));
        Gemm(Transpose::kNo, Transpose::kYes, values, d_memory, d_phi);
        ExpandBackward(keys, d_phi, d_keys);
      }
      if (chunk > 0) {
        const MatrixView<const T> memory(saved + (chunk - 1) * state_size(),
                                         features_, width_);
        Gemm(Transpose::kNo, Transpose::kYes, d_sums, memory, d_phi);
        ExpandBackward(queries, d_phi, d_queries);
        Gemm(Transpose::kYes, Transpose::kNo, Expand(queries), d_sums, d_memory,
             Epilogue<T>(1, 1));
      }
      AddValues(d_values, d_v.Rows(start, n));
    }
  }

 private:
  // (v, 1): the last column of every product with it is a sum of weights.
  MatrixView<T> WithOnes(MatrixView<const T> v) {
    const MatrixView<T> values = values_.Rows(v.rows);
    for (size_t i = 0; i < v.rows; ++i) {
      std::memcpy(values.row(i), v.row(i), v.cols * sizeof(T));
      values(i, v.cols) = 1;
    }
    return values;
  }

  // d_v += d_values without its last column: the ones were no input.
  static void AddValues(MatrixView<const T> d_values, MatrixView<T> d_v) {
    for (size_t i = 0; i < d_v.rows; ++i) {
      kernels::Add(d_v.row(i), d_values.row(i), d_v.row(i), d_v.cols);
    }
  }

  // weights = f(scores) up to the diagonal, 0 after it. May be in place.
  void Weigh(MatrixView<const T> scores, MatrixView<T> weights) const {
    const T constant = static_cast<T>(kernel_.constant);
    const T linear = static_cast<T>(kernel_.linear);
    const T square = static_cast<T>(kernel_.square);
    for (size_t i = 0; i < scores.rows; ++i) {
      const T* a = scores.row(i);
      T* w = weights.row(i);
      for (size_t j = 0; j <= i; ++j) {
        w[j] = constant + a[j] * (linear + square * a[j]);
      }
      std::fill(w + i + 1, w + weights.cols, T{0});
    }
  }

  // d becomes d f'(scores), and 0 after the diagonal.
  void WeighBackward(MatrixView<const T> scores, MatrixView<T> d) const {
    const T linear = static_cast<T>(kernel_.linear);
    const T twice = static_cast<T>(2 * kernel_.square);
    for (size_t i = 0; i < scores.rows; ++i) {
      const T* a = scores.row(i);
      T* row = d.row(i);
      for (size_t j = 0; j <= i; ++j) row[j] *= linear + twice * a[j];
      std::fill(row + i + 1, row + d.cols, T{0});
    }
  }

  // phi of every row, valid until the next call.
  MatrixView<T> Expand(MatrixView<const T> x) {
    const MatrixView<T> phi = phi_.Rows(x.rows);
    const T one = static_cast<T>(std::sqrt(kernel_.constant));
    const T linear = static_cast<T>(std::sqrt(kernel_.linear * scale_));
    const T square = static_cast<T>(std::sqrt(kernel_.square) * scale_);
    const T pair = static_cast<T>(std::sqrt(2 * kernel_.square) * scale_);
    for (size_t r = 0; r < x.rows; ++r) {
      const T* row = x.row(r);
      T* out = phi.row(r);
      if (one > 0) *out++ = one;
      if (linear > 0) {
        for (size_t i = 0; i < x.cols; ++i) *out++ = linear * row[i];
      }
      for (size_t i = 0; i < x.cols; ++i) {
        *out++ = square * row[i] * row[i];
        const T factor = pair * row[i];
        for (size_t j = i + 1; j < x.cols; ++j) *out++ = factor * row[j];
      }
    }
    return phi;
  }

  // d_x += the gradient of Expand.
  void ExpandBackward(MatrixView<const T> x, MatrixView<const T> d_phi,
                      MatrixView<T> d_x) const {
    const T linear = static_cast<T>(std::sqrt(kernel_.linear * scale_));
    const T square = static_cast<T>(2 * std::sqrt(kernel_.square) * scale_);
    const T pair = static_cast<T>(std::sqrt(2 * kernel_.square) * scale_);
    for (size_t r = 0; r < x.rows; ++r) {
      const T *row = x.row(r), *d = d_phi.row(r);
      T* to = d_x.row(r);
      if (kernel_.constant > 0) ++d;
      if (linear > 0) {
        for (size_t i = 0; i < x.cols; ++i) to[i] += linear * *d++;
      }
      for (size_t i = 0; i < x.cols; ++i) {
        T sum = square * row[i] * *d++;
        const T factor = pair * row[i];
        for (size_t j = i + 1; j < x.cols; ++j) {
          sum += pair * *d * row[j];
          to[j] += factor * *d++;
        }
        to[i] += sum;
      }
    }
  }

  const QuadraticKernel& kernel_;
  T eps_;
  double scale_;  // of scores
  size_t chunk_, features_, width_;
  Scratch<T> scores_, values_, sums_, phi_;
};

}  // namespace

std::vector<InputSpec> QuadraticOperator::Inputs() const {
  return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
          {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
          {"v", "BLHV", "values [batch, length, heads, value_dim]"}};
}

absl::Status QuadraticOperator::Forward(OperatorCall* call) const {
  const Dims& d = call->dims;
  const DType dtype = call->output.dtype();
  const int64_t chunk = ChunkOf(call->form, d.length, chunk_);
  const int64_t size = kernel_.Features(d.key_dim) * (d.value_dim + 1);
  const int64_t later_chunks = (d.length - 1) / chunk;
  const Tensor denominator(call->arena, dtype, {d.batch * d.heads, d.length});
  Tensor states;
  if (call->keep) {
    states = Tensor(call->arena, dtype,
                    {d.batch * d.heads, std::max<int64_t>(later_chunks, 1),
                     later_chunks > 0 ? size : 0});
    call->saved = {states, denominator};
  }
  DispatchDType(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* memory = call->state == nullptr
                    ? nullptr
                    : static_cast<DenseState*>(call->state)->tensor().data<T>();
    kernels::ParallelFor(call->pool, d.batch * d.heads, [&](size_t i, int) {
      const int64_t b = i / d.heads, h = i % d.heads;
      Head<T>(kernel_, eps_, d, chunk)
          .Forward(call->inputs[kQuery].Sequence<T>(b, h),
                   call->inputs[kKey].Sequence<T>(b, h),
                   call->inputs[kValue].Sequence<T>(b, h),
                   memory == nullptr ? nullptr : memory + i * size,
                   call->output.Sequence<T>(b, h),
                   denominator.data<T>() + i * d.length,
                   later_chunks > 0 && call->keep
                       ? states.data<T>() + i * later_chunks * size
                       : nullptr);
    });
  });
  return absl::OkStatus();
}

absl::Status QuadraticOperator::Backward(
    const OperatorCall& call, const Tensor& d_output,
    absl::Span<const Tensor> d_inputs) const {
  const Dims& d = call.dims;
  const int64_t chunk = ChunkOf(call.form, d.length, chunk_);
  const int64_t size = kernel_.Features(d.key_dim) * (d.value_dim + 1);
  const int64_t later_chunks = (d.length - 1) / chunk;
  Tensor targets[3];  // a gradient nobody wants still has to go somewhere
  for (Input i : {kQuery, kKey, kValue}) {
    targets[i] = d_inputs[i].empty()
                     ? Tensor(d_output.dtype(), call.inputs[i].shape())
                     : d_inputs[i];
  }
  DispatchDType(d_output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::ParallelFor(call.pool, d.batch * d.heads, [&](size_t i, int) {
      const int64_t b = i / d.heads, h = i % d.heads;
      Head<T>(kernel_, eps_, d, chunk)
          .Backward(call.inputs[kQuery].Sequence<T>(b, h),
                    call.inputs[kKey].Sequence<T>(b, h),
                    call.inputs[kValue].Sequence<T>(b, h),
                    call.output.Sequence<T>(b, h),
                    call.saved[kDenominator].data<T>() + i * d.length,
                    call.saved[kStates].data<T>() + i * later_chunks * size,
                    d_output.Sequence<T>(b, h),
                    targets[kQuery].Sequence<T>(b, h),
                    targets[kKey].Sequence<T>(b, h),
                    targets[kValue].Sequence<T>(b, h));
    });
  });
  return absl::OkStatus();
}

std::unique_ptr<State> QuadraticOperator::NewState(const Dims& d,
                                                   DType dtype) const {
  return NewAdditiveState(d, kernel_.Features(d.key_dim), /*normaliser=*/true,
                          dtype);
}

int64_t QuadraticOperator::StateBytes(const Dims& d) const {
  return sizeof(float) * d.batch * d.heads * kernel_.Features(d.key_dim) *
         (d.value_dim + 1);
}

Cost QuadraticOperator::ForwardCost(const Dims& d, Form form) const {
  const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
  const double chunk =
      std::min<double>(ChunkOf(form, d.length, chunk_), d.length);
  const double width = d.value_dim + 1, features = kernel_.Features(d.key_dim);
  Cost cost;
  // Scores, the polynomial and the product with values over the causal half of
  // a chunk; then features, reads and writes of the state between chunks.
  cost.flops = tokens * (chunk + 1) * (d.key_dim + 2 + width);
  cost.bytes = sizeof(float) * tokens * 2 * (d.key_dim + d.value_dim);
  if (chunk < d.length) {
    cost.flops += tokens * (4 * features * width + 2 * features);
    // The state before and after.
    cost.bytes += sizeof(float) * 2.0 * d.batch * d.heads * features * width;
  }
  return cost;
}

Cost QuadraticOperator::BackwardCost(const Dims& d, Form form) const {
  const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
  const double chunk =
      std::min<double>(ChunkOf(form, d.length, chunk_), d.length);
  Cost cost = Operator::BackwardCost(d, form);
  cost.flops += tokens * (chunk + 1) * d.key_dim;  // the scores once more
  return cost;
}

absl::Status QuadraticOperator::Reference(const OperatorCall& call) const {
  const Dims& d = call.dims;
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const auto q = call.inputs[kQuery].Sequence<double>(b, h);
      const auto k = call.inputs[kKey].Sequence<double>(b, h);
      const auto v = call.inputs[kValue].Sequence<double>(b, h);
      const auto o = call.output.Sequence<double>(b, h);
      for (int64_t i = 0; i < d.length; ++i) {
        std::vector<double> sum(d.value_dim);
        double total = eps_;
        for (int64_t j = 0; j <= i; ++j) {
          double a = 0;
          for (int64_t c = 0; c < d.key_dim; ++c) a += q(i, c) * k(j, c);
          a /= std::sqrt(static_cast<double>(d.key_dim));
          const double weight =
              kernel_.constant + kernel_.linear * a + kernel_.square * a * a;
          total += weight;
          for (int64_t c = 0; c < d.value_dim; ++c) sum[c] += weight * v(j, c);
        }
        for (int64_t c = 0; c < d.value_dim; ++c) o(i, c) = sum[c] / total;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace mneme
