// SPDX-License-Identifier: Apache-2.0
//
// Blocks are differentiated last to first, each after its state is computed
// again from the one saved before its chunk, while Z, the gradient by the state
// behind a block, becomes that by the state before it. With the block's four
// scores (generalized_delta -inl.h) and its readers, writers and values,
//
//   d_u_j = Z^T b_j d_j* + sum_{i >= j} q_b_ij d_o_i + sum_{i > j} a_b_ij d_u_i
//   d_v_j = Z^T k_j d_j* + sum_{i >= j} q_k_ij d_o_i + sum_{i > j} a_k_ij d_u_i
//   d_scores  = (d_u, d_o) (u, v)^T
//   d_readers = (d_u, d_o) S_in^T
//   d_writers = (u, v) Z^T
//   Z'        = diag(d) Z + readers^T (d_u, d_o)
//
// of which the first is a substitution from the last token back. d_g_t sums all
// products that a decay at t takes part in, from before t (S_in or a writer) to
// after it (a reader or Z). Nothing is subtracted, so that strong decays have
// exact gradients.

#include <algorithm>
#include <cstddef>

#include "attention/kernels/generalized_delta.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/generalized_delta_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/generalized_delta-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
class GeneralizedBackward {
 public:
  GeneralizedBackward(const GeneralizedDelta<T>& x, const T* saved,
                      MatrixView<const T> d_o, T* d_state,
                      const GeneralizedDeltaGradients<T>& gradients)
      : length_(x.q.rows),
        key_dim_(x.q.cols),
        value_dim_(x.v.cols),
        chunk_(std::min(x.chunk, length_)),
        saved_(saved),
        d_o_(d_o),
        d_state_(d_state, key_dim_, value_dim_),
        gradients_(gradients),
        block_(x) {}

  void Run() {
    if (length_ == 0) return;
    recurrence::LayOutScratch<T>([&](const auto& take) { LayOut(take); });
    ForEachBlockBackwards(length_, chunk_, saved_, key_dim_, value_dim_,
                          states_, &block_,
                          [&](size_t begin, MatrixView<const T> state) {
                            RunBlock(begin, state);
                          });
  }

 private:
  template <class Take>
  void LayOut(const Take& take) {
    block_.LayOut(take);
    const auto matrix = [&](size_t rows, size_t cols) {
      return MatrixView<T>(take(rows * cols), rows, cols);
    };
    states_ = TakeBlockStates<T>(take, chunk_, key_dim_ * value_dim_);
    d_values_ = matrix(2 * kBlock, value_dim_);
    d_reads_ = matrix(2 * kBlock, value_dim_);
    d_scores_ = matrix(2 * kBlock, 2 * kBlock);
    d_readers_ = matrix(2 * kBlock, key_dim_);
    d_writers_ = matrix(2 * kBlock, key_dim_);
    d_log_decay_ = matrix(kBlock, key_dim_);
    d_total_ = take(key_dim_);
  }

  void RunBlock(size_t begin, MatrixView<const T> state) {
    constexpr Transpose kNo = Transpose::kNo, kYes = Transpose::kYes;
    const size_t rows = block_.rows();
    const MatrixView<T> d_reads = d_reads_.Rows(0, 2 * rows);
    for (size_t i = 0; i < rows; ++i) {
      std::copy_n(d_o_.row(begin + i), value_dim_, d_reads.row(rows + i));
    }
    Product<T>(kNo, kNo, block_.writers(), d_state_,
               d_values_.Rows(0, 2 * rows));
    SubstituteBack(begin);
    Product<T>(kNo, kYes, d_reads, block_.values(),
               {d_scores_.data, 2 * rows, 2 * rows, d_scores_.stride});
    Product<T>(kNo, kYes, d_reads, state, d_readers_.Rows(0, 2 * rows));
    Product<T>(kNo, kYes, block_.values(), d_state_,
               d_writers_.Rows(0, 2 * rows));
    const T* total = block_.decay().total();
    for (size_t r = 0; r < key_dim_; ++r) {
      d_total_[r] =
          total[r] * DotRows(state.row(r), d_state_.row(r), value_dim_);
    }
    ScaleStateRows(total, d_state_);
    Product<T>(kYes, kNo, block_.readers(), d_reads, d_state_, T{1});
    BackToTokens();
    Add(d_readers_.Rows(0, rows), begin, gradients_.d_a);
    Add(d_readers_.Rows(rows, rows), begin, gradients_.d_q);
    Add(d_writers_.Rows(0, rows), begin, gradients_.d_b);
    Add(d_writers_.Rows(rows, rows), begin, gradients_.d_k);
    Add(d_log_decay_.Rows(0, rows), begin, gradients_.d_log_decay);
  }

  // The transpose of the forward's substitution. On entry d_values_ holds the
  // gradients by u and v that come from S_out; on return the upper half of
  // d_reads_ is the whole one by u, which is also that by S_in^T a.
  HWY_FLATTEN HWY_NOINLINE void SubstituteBack(size_t begin) {
    const hn::ScalableTag<T> d;
    const size_t rows = block_.rows();
    const MatrixView<T> d_v = gradients_.d_v;
    const MatrixView<T> a_b = block_.a_b(), a_k = block_.a_k();
    const MatrixView<T> q_b = block_.q_b(), q_k = block_.q_k();
    ForEachVector(d, value_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      for (size_t j = rows; j-- > 0;) {
        const auto d_o_j = lanes.Load(d_reads_.row(rows + j) + c);
        auto u_of_o = hn::MulAdd(hn::Set(d, q_b(j, j)), d_o_j,
                                 lanes.Load(d_values_.row(j) + c));
        auto v_of_o = hn::MulAdd(hn::Set(d, q_k(j, j)), d_o_j,
                                 lanes.Load(d_values_.row(rows + j) + c));
        auto u_of_u = hn::Zero(d), v_of_u = hn::Zero(d);
        for (size_t i = j + 1; i < rows; ++i) {
          const auto d_u_i = lanes.Load(d_reads_.row(i) + c);
          const auto d_o_i = lanes.Load(d_reads_.row(rows + i) + c);
          u_of_o = hn::MulAdd(hn::Set(d, q_b(i, j)), d_o_i, u_of_o);
          v_of_o = hn::MulAdd(hn::Set(d, q_k(i, j)), d_o_i, v_of_o);
          u_of_u = hn::MulAdd(hn::Set(d, a_b(i, j)), d_u_i, u_of_u);
          v_of_u = hn::MulAdd(hn::Set(d, a_k(i, j)), d_u_i, v_of_u);
        }
        lanes.Store(hn::Add(u_of_o, u_of_u), d_reads_.row(j) + c);
        if (d_v.data == nullptr) continue;
        T* target = d_v.row(begin + j) + c;
        lanes.Store(hn::Add(lanes.Load(target), hn::Add(v_of_o, v_of_u)),
                    target);
      }
    });
  }

  // From the gradients by scores, readers and writers to those by a, q, b, k
  // and log decays.
  HWY_NOINLINE void BackToTokens() {
    const hn::ScalableTag<T> d;
    ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      BackThroughState(d, c, lanes);
      for (size_t j = 0; j < block_.rows(); ++j) BackToWriter(d, j, c, lanes);
    });
  }

  // d_log_decay_ of the paths from S_in or to Z; d_readers_ and d_writers_
  // become the gradients by what decays made readers and writers.
  template <class D, class Lanes>
  HWY_NOINLINE void BackThroughState(D d, size_t c, const Lanes& lanes) {
    using V = hn::VFromD<D>;
    const size_t rows = block_.rows();
    const BlockDecay<T>& decay = block_.decay();
    const MatrixView<const T> readers = block_.readers();
    const MatrixView<const T> writers = block_.writers();
    // Turns a gradient into the one before the decay; returns what the pair
    // contributed to the loss.
    const auto back = [&](T* gradient, const T* factor,
                          const T* decayed) HWY_ATTR {
      const V d_x = lanes.Load(gradient + c);
      lanes.Store(hn::Mul(d_x, lanes.Load(factor + c)), gradient + c);
      return hn::Mul(d_x, lanes.Load(decayed + c));
    };
    // From S_in through the whole block, and from writers before t to Z.
    V sum = lanes.Load(d_total_ + c);
    for (size_t t = 0; t < rows; ++t) {
      lanes.Store(sum, d_log_decay_.row(t) + c);
      const T* factor = decay.to_end(t);
      sum = hn::Add(sum, back(d_writers_.row(t), factor, writers.row(t)));
      sum = hn::Add(
          sum, back(d_writers_.row(rows + t), factor, writers.row(rows + t)));
    }
    // From S_in to the readers behind decay t: q_t is, a_t is not.
    sum = hn::Zero(d);
    for (size_t t = rows; t-- > 0;) {
      sum = hn::Add(sum, back(d_readers_.row(rows + t), decay.from_start(t),
                              readers.row(rows + t)));
      T* d_g = d_log_decay_.row(t) + c;
      lanes.Store(hn::Add(lanes.Load(d_g), sum), d_g);
      sum = hn::Add(sum,
                    back(d_readers_.row(t), decay.before(t), readers.row(t)));
    }
  }

  // The pairs of b_j and k_j with all that reads them in this block.
  template <class D, class Lanes>
  HWY_NOINLINE void BackToWriter(D d, size_t j, size_t c, const Lanes& lanes) {
    using V = hn::VFromD<D>;
    const size_t rows = block_.rows();
    const auto add = [&](V v, T* to) HWY_ATTR {
      lanes.Store(hn::Add(v, lanes.Load(to + c)), to + c);
    };
    // Entries of d_scores_: (reader, writer).
    const auto score = [&](size_t reader, size_t writer) HWY_ATTR {
      return hn::Set(d, d_scores_(reader, writer));
    };
    const V b = lanes.Load(block_.b(j) + c), k = lanes.Load(block_.k(j) + c);
    add(hn::MulAdd(score(rows + j, j), b,
                   hn::Mul(score(rows + j, rows + j), k)),
        d_readers_.row(rows + j));
    V before[kBlock];  // the decay from j to the token before t
    V decay = hn::Set(d, T{1});
    for (size_t t = j + 1; t < rows; ++t) {
      before[t] = decay;
      add(hn::Mul(decay,
                  hn::MulAdd(score(t, j), b, hn::Mul(score(t, rows + j), k))),
          d_readers_.row(t));
      decay = hn::Mul(decay, lanes.Load(block_.decay().factor(t) + c));
      add(hn::Mul(decay, hn::MulAdd(score(rows + t, j), b,
                                    hn::Mul(score(rows + t, rows + j), k))),
          d_readers_.row(rows + t));
    }
    // Of later readers, decayed back to where t is.
    V d_b = hn::Zero(d), d_k = hn::Zero(d);
    for (size_t t = rows; t-- > j + 1;) {
      const V q = lanes.Load(block_.q(t) + c), a = lanes.Load(block_.a(t) + c);
      const V factor = lanes.Load(block_.decay().factor(t) + c);
      d_b = hn::Mul(factor, hn::MulAdd(score(rows + t, j), q, d_b));
      d_k = hn::Mul(factor, hn::MulAdd(score(rows + t, rows + j), q, d_k));
      add(hn::Mul(before[t], hn::MulAdd(b, d_b, hn::Mul(k, d_k))),
          d_log_decay_.row(t));
      d_b = hn::MulAdd(score(t, j), a, d_b);
      d_k = hn::MulAdd(score(t, rows + j), a, d_k);
    }
    const V q = lanes.Load(block_.q(j) + c);
    add(hn::MulAdd(score(rows + j, j), q, d_b), d_writers_.row(j));
    add(hn::MulAdd(score(rows + j, rows + j), q, d_k),
        d_writers_.row(rows + j));
  }

  static HWY_NOINLINE void Add(MatrixView<T> from, size_t begin,
                               MatrixView<T> to) {
    if (to.data == nullptr) return;
    const hn::ScalableTag<T> d;
    for (size_t i = 0; i < from.rows; ++i) {
      const T* x = from.row(i);
      T* y = to.row(begin + i);
      ForEachVector(d, from.cols, [&](size_t c, const auto& lanes) HWY_ATTR {
        lanes.Store(hn::Add(lanes.Load(y + c), lanes.Load(x + c)), y + c);
      });
    }
  }

  const size_t length_;
  const size_t key_dim_;
  const size_t value_dim_;
  const size_t chunk_;
  const T* const saved_;
  const MatrixView<const T> d_o_;
  const MatrixView<T> d_state_;
  const GeneralizedDeltaGradients<T>& gradients_;

  GeneralizedBlock<T> block_;
  T* states_ = nullptr;  // before each block of the chunk
  MatrixView<T> d_values_, d_reads_, d_scores_, d_readers_, d_writers_;
  MatrixView<T> d_log_decay_;
  T* d_total_ = nullptr;
};

}  // namespace delta

void GeneralizedDeltaBackwardFloat(
    const GeneralizedDelta<float>& x, const float* saved,
    MatrixView<const float> d_o, float* d_state,
    const GeneralizedDeltaGradients<float>& gradients) {
  delta::GeneralizedBackward<float>(x, saved, d_o, d_state, gradients).Run();
}
void GeneralizedDeltaBackwardDouble(
    const GeneralizedDelta<double>& x, const double* saved,
    MatrixView<const double> d_o, double* d_state,
    const GeneralizedDeltaGradients<double>& gradients) {
  delta::GeneralizedBackward<double>(x, saved, d_o, d_state, gradients).Run();
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(GeneralizedDeltaBackwardFloat);
HWY_EXPORT(GeneralizedDeltaBackwardDouble);

void GeneralizedDeltaBackward(
    const GeneralizedDelta<float>& x, const float* saved,
    MatrixView<const float> d_o, float* d_state,
    const GeneralizedDeltaGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaBackwardFloat)
  (x, saved, d_o, d_state, gradients);
}
void GeneralizedDeltaBackward(
    const GeneralizedDelta<double>& x, const double* saved,
    MatrixView<const double> d_o, double* d_state,
    const GeneralizedDeltaGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(GeneralizedDeltaBackwardDouble)
  (x, saved, d_o, d_state, gradients);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
