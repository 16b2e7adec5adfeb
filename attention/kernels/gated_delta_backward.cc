// SPDX-License-Identifier: Apache-2.0
//
// Blocks are differentiated last to first, each after its state is computed
// again from the one saved before its chunk, while d_state becomes the gradient
// by ever earlier states.

#include <algorithm>
#include <cstddef>

#include "attention/kernels/gated_delta.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/gated_delta_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/gated_delta-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
class Backward {
 public:
  Backward(const GatedDelta<T>& a, const T* saved, MatrixView<const T> d_o,
           T* d_state, const GatedDeltaGradients<T>& gradients)
      : a_(a),
        length_(a.q.rows),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        chunk_(std::min(a.chunk, length_)),
        saved_(saved),
        d_o_(d_o),
        d_state_(d_state, key_dim_, value_dim_),
        gradients_(gradients),
        block_(a) {}

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
    d_update_ = matrix(kBlock, value_dim_);
    d_reads_ = matrix(2 * kBlock, value_dim_);
    d_scores_ = matrix(2 * kBlock, kBlock);
    d_readers_ = matrix(2 * kBlock, key_dim_);
    d_key_end_ = matrix(kBlock, key_dim_);
    d_log_decay_ = matrix(kBlock, key_dim_);
    d_total_ = take(key_dim_);
  }

  void RunBlock(size_t begin, MatrixView<const T> state) {
    constexpr Transpose kNo = Transpose::kNo, kYes = Transpose::kYes;
    const size_t rows = block_.rows();
    const MatrixView<T> d_reads = d_reads_.Rows(0, 2 * rows);
    block_.decay().Spread();
    for (size_t i = 0; i < rows; ++i) {
      std::copy_n(d_o_.row(begin + i), value_dim_, d_reads.row(rows + i));
    }
    Product<T>(kNo, kNo, block_.key_end(), d_state_, d_update_.Rows(0, rows));
    SubstituteBack(begin);
    for (size_t i = 0; i < rows && gradients_.d_beta.data != nullptr; ++i) {
      *gradients_.d_beta.row(begin + i) +=
          DotRows(d_update_.row(i), block_.error().row(i), value_dim_);
    }
    Product<T>(kNo, kYes, d_reads, block_.update(),
               {d_scores_.data, 2 * rows, rows, kBlock});
    Product<T>(kNo, kYes, d_reads, state, d_readers_.Rows(0, 2 * rows));
    Product<T>(kNo, kYes, block_.update(), d_state_, d_key_end_.Rows(0, rows));
    if (block_.decays()) {
      for (size_t r = 0; r < key_dim_; ++r) {
        d_total_[r] = block_.decay().total()[r] *
                      DotRows(state.row(r), d_state_.row(r), value_dim_);
      }
      ScaleStateRows(block_.decay().total(), d_state_);
    }
    Product<T>(kYes, kNo, block_.readers(), d_reads, d_state_, T{1});
    BackToTokens(begin);
    if (block_.decays() && gradients_.d_log_decay.data != nullptr) {
      AddLogDecayGradients(begin);
    }
  }

  // The transpose of the forward's substitution. On entry d_update_ holds the
  // gradient by u that comes from S_out; on return that by b e (u without b's
  // share), and the upper half of d_reads_, which the errors subtract, that by
  // S_in^T (k d).
  HWY_FLATTEN HWY_NOINLINE void SubstituteBack(size_t begin) {
    const hn::ScalableTag<T> d;
    const size_t rows = block_.rows();
    const MatrixView<T> d_v = gradients_.d_v;
    ForEachVector(d, value_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      for (size_t i = rows; i-- > 0;) {
        auto d_u = hn::MulAdd(hn::Set(d, block_.query_scores()(i, i)),
                              lanes.Load(d_reads_.row(rows + i) + c),
                              lanes.Load(d_update_.row(i) + c));
        for (size_t m = i + 1; m < rows; ++m) {
          d_u = hn::MulAdd(hn::Set(d, block_.query_scores()(m, i)),
                           lanes.Load(d_reads_.row(rows + m) + c), d_u);
          d_u = hn::MulAdd(hn::Set(d, block_.key_scores()(m, i)),
                           lanes.Load(d_reads_.row(m) + c), d_u);
        }
        lanes.Store(d_u, d_update_.row(i) + c);
        const auto d_error = hn::Mul(hn::Set(d, block_.beta(i)), d_u);
        lanes.Store(hn::Neg(d_error), d_reads_.row(i) + c);
        if (d_v.data == nullptr) continue;
        T* target = d_v.row(begin + i) + c;
        lanes.Store(hn::Add(lanes.Load(target), d_error), target);
      }
    });
  }

  HWY_NOINLINE void BackToTokens(size_t begin) {
    const hn::ScalableTag<T> d;
    ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      BackToColumns(d, begin, c, lanes);
    });
  }

  // From the gradients by scores and decayed keys and queries to those by keys,
  // queries and log decays, for a vector of key dimensions. With G_i the sum of
  // g up to token i, every decay is e^{G_i - G_j}: a gradient by G_i is one
  // factor times its gradient, positive where the token is the later one (as a
  // query, or a key that is read with: `row`) and negative where it is the
  // earlier one (a key that was written: `column`).
  template <class D, class Lanes>
  HWY_NOINLINE void BackToColumns(D d, size_t begin, size_t c,
                                  const Lanes& lanes) {
    using V = hn::VFromD<D>;
    const size_t rows = block_.rows();
    const V scale = hn::Set(d, a_.scale);
    const auto d_row = [&](size_t i) { return d_readers_.row(i) + c; };
    const auto d_query = [&](size_t i) { return d_readers_.row(rows + i) + c; };
    for (size_t i = 0; i < rows; ++i) {
      const V decay = lanes.Load(block_.decay().from_start(i) + c);
      lanes.Store(hn::Mul(decay, lanes.Load(d_row(i))), d_row(i));
      lanes.Store(hn::Mul(decay, lanes.Load(d_query(i))), d_query(i));
    }
    V d_end = block_.decays() ? lanes.Load(d_total_ + c) : hn::Zero(d);
    for (size_t j = 0; j < rows; ++j) {
      const V key = lanes.Load(block_.k(j) + c);
      V d_column = hn::Mul(lanes.Load(block_.decay().to_end(j) + c),
                           lanes.Load(d_key_end_.row(j) + c));
      d_end = hn::MulAdd(key, d_column, d_end);
      V d_score = hn::Set(d, d_scores_(rows + j, j));
      lanes.Store(hn::MulAdd(d_score, key, lanes.Load(d_query(j))), d_query(j));
      d_column = hn::MulAdd(
          d_score, hn::Mul(scale, lanes.Load(block_.q(j) + c)), d_column);
      V decay = hn::Set(d, 1);
      for (size_t i = j + 1; i < rows; ++i) {
        decay = hn::Mul(decay, lanes.Load(block_.decay().factor(i) + c));
        const V decayed = hn::Mul(decay, key);
        const V d_key_score = hn::Set(d, d_scores_(i, j));
        d_score = hn::Set(d, d_scores_(rows + i, j));
        lanes.Store(hn::MulAdd(d_score, decayed, lanes.Load(d_query(i))),
                    d_query(i));
        lanes.Store(hn::MulAdd(d_key_score, decayed, lanes.Load(d_row(i))),
                    d_row(i));
        const V d_decayed =
            hn::MulAdd(d_score, hn::Mul(scale, lanes.Load(block_.q(i) + c)),
                       hn::Mul(d_key_score, lanes.Load(block_.k(i) + c)));
        d_column = hn::MulAdd(decay, d_decayed, d_column);
      }
      lanes.Store(d_column, d_key_end_.row(j) + c);
    }
    V d_sum = d_end;  // by g of token i: all later G contain it
    for (size_t i = rows; i-- > 0;) {
      const V row = lanes.Load(d_row(i)), query = lanes.Load(d_query(i));
      const V column = lanes.Load(d_key_end_.row(i) + c);
      const V d_q = hn::Mul(scale, query);
      d_sum = hn::MulAdd(lanes.Load(block_.q(i) + c), d_q, d_sum);
      d_sum =
          hn::MulAdd(lanes.Load(block_.k(i) + c), hn::Sub(row, column), d_sum);
      lanes.Store(d_sum, d_log_decay_.row(i) + c);
      if (gradients_.d_q.data != nullptr) {
        T* target = gradients_.d_q.row(begin + i) + c;
        lanes.Store(hn::Add(lanes.Load(target), d_q), target);
      }
      if (gradients_.d_k.data != nullptr) {
        T* target = gradients_.d_k.row(begin + i) + c;
        lanes.Store(hn::Add(lanes.Load(target), hn::Add(row, column)), target);
      }
    }
  }

  HWY_NOINLINE void AddLogDecayGradients(size_t begin) {
    const hn::ScalableTag<T> d;
    for (size_t i = 0; i < block_.rows(); ++i) {
      const T* from = d_log_decay_.row(i);
      T* to = gradients_.d_log_decay.row(begin + i);
      if (gradients_.d_log_decay.cols == 1) {
        *to += SumVectors(d, key_dim_,
                          [&](auto sum, size_t c, const auto& lanes) HWY_ATTR {
                            return hn::Add(sum, lanes.Load(from + c));
                          });
        continue;
      }
      ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
        lanes.Store(hn::Add(lanes.Load(to + c), lanes.Load(from + c)), to + c);
      });
    }
  }

  const GatedDelta<T>& a_;
  const size_t length_;
  const size_t key_dim_;
  const size_t value_dim_;
  const size_t chunk_;
  const T* const saved_;
  const MatrixView<const T> d_o_;
  const MatrixView<T> d_state_;
  const GatedDeltaGradients<T>& gradients_;

  Block<T> block_;
  T* states_ = nullptr;  // before each block of the chunk
  MatrixView<T> d_update_, d_reads_, d_scores_, d_readers_, d_key_end_;
  MatrixView<T> d_log_decay_;
  T* d_total_ = nullptr;
};

}  // namespace delta

void GatedDeltaBackwardFloat(const GatedDelta<float>& a, const float* saved,
                             MatrixView<const float> d_o, float* d_state,
                             const GatedDeltaGradients<float>& gradients) {
  delta::Backward<float>(a, saved, d_o, d_state, gradients).Run();
}
void GatedDeltaBackwardDouble(const GatedDelta<double>& a, const double* saved,
                              MatrixView<const double> d_o, double* d_state,
                              const GatedDeltaGradients<double>& gradients) {
  delta::Backward<double>(a, saved, d_o, d_state, gradients).Run();
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(GatedDeltaBackwardFloat);
HWY_EXPORT(GatedDeltaBackwardDouble);

void GatedDeltaBackward(const GatedDelta<float>& a, const float* saved,
                        MatrixView<const float> d_o, float* d_state,
                        const GatedDeltaGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaBackwardFloat)
  (a, saved, d_o, d_state, gradients);
}
void GatedDeltaBackward(const GatedDelta<double>& a, const double* saved,
                        MatrixView<const double> d_o, double* d_state,
                        const GatedDeltaGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(GatedDeltaBackwardDouble)
  (a, saved, d_o, d_state, gradients);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
