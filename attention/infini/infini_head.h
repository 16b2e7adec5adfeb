// SPDX-License-Identifier: Apache-2.0
//
// The mathematics of Infini-attention for one head and one segment, on raw
// matrices. See infini.cc for the definition.

#ifndef MNEME_ATTENTION_INFINI_INFINI_HEAD_H_
#define MNEME_ATTENTION_INFINI_INFINI_HEAD_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/rotary.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/attention_heads.h"

namespace mneme {

// A matrix with its own memory.
template <typename T>
struct Block {
  Block(size_t rows, size_t cols)
      : values(rows * cols), view(values.data(), rows, cols) {}
  explicit Block(kernels::MatrixView<const T> from)
      : Block(from.rows, from.cols) {
    for (size_t r = 0; r < from.rows; ++r) {
      std::copy_n(from.row(r), from.cols, view.row(r));
    }
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::vector<T> values;
  kernels::MatrixView<T> view;
};

template <typename T>
class InfiniHead {
 public:
  using View = kernels::MatrixView<T>;
  using ConstView = kernels::MatrixView<const T>;

  // frequencies of rotary positions inside a segment; empty for none.
  InfiniHead(bool delta, const std::vector<double>& frequencies)
      : delta_(delta), frequencies_(frequencies) {}

  // o = local softmax attention of queries that stand at `held`, held + 1, ...
  // over the segment's keys so far. lse may be null.
  void Local(ConstView q, ConstView k, ConstView v, size_t held, View o,
             T* lse) const {
    const Block<T> turned_q(q), turned_k(k);
    Turn(turned_q.view, held, false);
    Turn(turned_k.view, 0, false);
    LocalOfTurned(turned_q.view, turned_k.view, v, held, o, lse);
  }

  // The same of queries and keys that Turn has turned.
  static void LocalOfTurned(ConstView q, ConstView k, ConstView v, size_t held,
                            View o, T* lse) {
    kernels::SoftmaxAttentionForward(q, k, v, Scale(q), CausalFrom(held), o,
                                     lse);
  }

  // Turns rows that stand at `first` and after, of one head or of many side by
  // side.
  void Turn(View x, size_t first, bool inverse) const {
    if (frequencies_.empty()) return;
    kernels::Rotate(x, frequencies_, kernels::RotaryPairing::kHalves, first,
                    inverse, x);
  }

  // Gradient of Local with held = 0; adds to d_q, d_k, d_v.
  void LocalBackward(ConstView q, ConstView k, ConstView v, ConstView o,
                     const T* lse, ConstView d_o, View d_q, View d_k,
                     View d_v) const {
    const Block<T> turned_q(q), turned_k(k);
    Turn(turned_q.view, 0, false);
    Turn(turned_k.view, 0, false);
    const Block<T> d_tq(q.rows, q.cols), d_tk(k.rows, k.cols);
    kernels::SoftmaxAttentionBackward(turned_q.view, turned_k.view, v, o, lse,
                                      d_o, Scale(q), CausalFrom(0), d_tq.view,
                                      d_tk.view, d_v);
    Turn(d_tq.view, 0, true);
    Turn(d_tk.view, 0, true);
    AddTo(d_tq.view, d_q);
    AddTo(d_tk.view, d_k);
  }

  // What the memory [key_dim, value_dim + 1] holds for rows x (queries or
  // keys): columns sigma(x) M / (sigma(x) z + eps), and the denominator last.
  // phi receives sigma(x).
  void Read(ConstView x, ConstView memory, View phi, View read) const {
    const Block<T> copy(x);
    kernels::Map(kernels::Unary::kEluPlusOne, copy.view.data, phi.data,
                 x.rows * x.cols);
    ReadWith(phi, memory, read);
  }

  // The same of features.
  static void ReadWith(ConstView phi, ConstView memory, View read) {
    Product(phi, memory, read);
    const size_t last = read.cols - 1;
    for (size_t r = 0; r < read.rows; ++r) {
      T* const row = read.row(r);
      row[last] += kEps;
      const T inverse = 1 / row[last];
      for (size_t c = 0; c < last; ++c) row[c] *= inverse;
    }
  }

  // Gradient of Read by sum(d_read . read) over the columns that are not the
  // denominator: adds to d_phi and, unless it has no data, d_memory. d_read
  // [*, value_dim + 1] is overwritten.
  void ReadBackward(ConstView phi, ConstView memory, ConstView read,
                    View d_read, View d_phi, View d_memory) const {
    const size_t last = read.cols - 1;
    for (size_t r = 0; r < read.rows; ++r) {
      const T inverse = 1 / read(r, last);
      T dot = 0;
      for (size_t c = 0; c < last; ++c) {
        d_read(r, c) *= inverse;
        dot += d_read(r, c) * read(r, c);
      }
      d_read(r, last) = -dot;
    }
    AddProduct(kNo, kYes, d_read, memory, d_phi);
    AddProduct(kYes, kNo, phi, d_read, d_memory);
  }

  // Adds a complete segment to the memory.
  void Write(ConstView k, ConstView v, View memory) const {
    const Block<T> phi(k.rows, k.cols), read(k.rows, v.cols + 1),
        written(k.rows, v.cols + 1);
    Written(k, v, memory, phi.view, read.view, written.view);
    AddProduct(kYes, kNo, phi.view, written.view, memory);
  }

  // Gradient of Write. memory is the one before; d_memory holds the gradient by
  // the memory after on entry, by the one before on return.
  void WriteBackward(ConstView k, ConstView v, ConstView memory, View d_memory,
                     View d_phi, View d_v) const {
    const Block<T> phi(k.rows, k.cols), read(k.rows, v.cols + 1),
        written(k.rows, v.cols + 1);
    Block<T> d_written(k.rows, v.cols + 1);
    Written(k, v, memory, phi.view, read.view, written.view);
    Product(phi.view, d_memory, d_written.view);
    AddProduct(kNo, kYes, written.view, d_memory, d_phi);
    AddTo(View(d_written.view.data, k.rows, v.cols, v.cols + 1), d_v);
    if (!delta_) return;
    for (T& d : d_written.values) d = -d;
    ReadBackward(phi.view, memory, read.view, d_written.view, d_phi, d_memory);
  }

  // d_x += d_phi sigma'(x).
  static void PhiBackward(ConstView x, View d_phi, View d_x) {
    const Block<T> copy(x), d_copy(x.rows, x.cols);
    kernels::MapBackward(kernels::Unary::kEluPlusOne, copy.view.data,
                         d_phi.data, d_copy.view.data, x.rows * x.cols);
    AddTo(d_copy.view, d_x);
  }

 private:
  // Keeps the quotient finite where the memory is empty, and then zero.
  static constexpr T kEps = static_cast<T>(1e-6);
  static constexpr auto kNo = kernels::Transpose::kNo;
  static constexpr auto kYes = kernels::Transpose::kYes;

  static T Scale(ConstView q) {
    return static_cast<T>(1 / std::sqrt(static_cast<double>(q.cols)));
  }
  static void Product(ConstView a, ConstView b, View c) {
    kernels::Gemm(kNo, kNo, a, b, c);
  }
  static void AddProduct(kernels::Transpose ta, kernels::Transpose tb,
                         ConstView a, ConstView b, View c) {
    kernels::GemmEpilogue<T> add;
    add.beta = 1;
    kernels::Gemm(ta, tb, a, b, c, add);
  }
  static void AddTo(ConstView from, View to) {
    for (size_t r = 0; r < from.rows; ++r) {
      kernels::Axpy(T{1}, from.row(r), to.row(r), from.cols);
    }
  }

  // What a segment writes, (values, 1); the delta rule leaves out what the
  // memory before the segment already returns for the keys.
  void Written(ConstView k, ConstView v, ConstView memory, View phi, View read,
               View written) const {
    Read(k, memory, phi, read);
    for (size_t r = 0; r < v.rows; ++r) {
      T* const row = written.row(r);
      std::copy_n(v.row(r), v.cols, row);
      if (delta_) kernels::Axpy(T{-1}, read.row(r), row, v.cols);
      row[v.cols] = 1;
    }
  }

  bool delta_;
  const std::vector<double>& frequencies_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_INFINI_INFINI_HEAD_H_
