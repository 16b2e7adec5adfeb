// SPDX-License-Identifier: Apache-2.0
//
// Operations that are matrix products, and the token lookups around them.

#include <cstring>
#include <utility>

#include "attention/kernels/cross_entropy.h"
#include "attention/kernels/gemm.h"
#include "attention/tensor/op_util.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

using internal::AllValid;
using internal::ShapeError;
using kernels::Gemm;
using kernels::MatrixView;
using kernels::Transpose;

// target (+)= op(a) op(b), overwriting when the gradient is fresh.
template <typename T>
void AccumulateProduct(Transpose transpose_a, Transpose transpose_b,
                       MatrixView<const T> a, MatrixView<const T> b,
                       Variable target) {
  if (!target.needs_gradient()) return;
  const GradientSlot slot = target.gradient_slot();
  kernels::GemmEpilogue<T> epilogue;
  epilogue.beta = slot.fresh ? 0 : 1;
  Gemm(transpose_a, transpose_b, a, b, slot.tensor.Matrix<T>(), epilogue);
}

// bias gradient: column sums, rows in order.
template <typename T>
void AccumulateColumnSums(MatrixView<const T> d_y, Variable bias) {
  if (!bias.needs_gradient()) return;
  T* sums = bias.gradient().data<T>();
  for (size_t r = 0; r < d_y.rows; ++r) {
    kernels::Add(sums, d_y.row(r), sums, d_y.cols);
  }
}

// y = residual + x w + bias with residual and bias optional; the whole family
// of dense projections.
Variable Project(Variable x, Variable w, Variable bias, Variable residual) {
  Tape* tape = x.tape();
  if (w.shape().rank() != 2 || x.shape().dim(-1) != w.shape().dim(0)) {
    return ShapeError("Linear", x, w, "want [..., in] and [in, out]");
  }
  if (bias.valid() && bias.value().elements() != w.shape().dim(1)) {
    return ShapeError("Linear", w, bias, "want [in, out] and a bias of [out]");
  }
  Tensor y = tape->New(x.shape().WithLast(w.shape().dim(1)));
  if (residual.valid()) {
    if (residual.shape() != y.shape()) {
      return ShapeError("LinearResidual", residual, w,
                        "the projection and the residual differ");
    }
    std::memcpy(y.raw(), residual.value().raw(), y.bytes());
  }
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::GemmEpilogue<T> epilogue;
    epilogue.beta = residual.valid() ? 1 : 0;
    epilogue.bias = internal::OptionalData<T>(bias);
    Gemm(Transpose::kNo, Transpose::kNo, x.value().Matrix<T>(),
         w.value().Matrix<T>(), y.Matrix<T>(), epilogue);
  });
  return tape->Record(std::move(y), {x, w, bias, residual},
                      [x, w, bias, residual](const Tensor& d_y) {
                        DispatchDType(d_y.dtype(), [&](auto zero) {
                          using T = decltype(zero);
                          const MatrixView<const T> dy = d_y.Matrix<T>();
                          AccumulateProduct<T>(Transpose::kNo, Transpose::kYes,
                                               dy, w.value().Matrix<T>(), x);
                          AccumulateProduct<T>(Transpose::kYes, Transpose::kNo,
                                               x.value().Matrix<T>(), dy, w);
                          AccumulateColumnSums(dy, bias);
                          if (residual.needs_gradient()) {
                            const GradientSlot slot = residual.gradient_slot();
                            if (slot.fresh) {
                              std::memcpy(slot.tensor.raw(), d_y.raw(),
                                          d_y.bytes());
                            } else {
                              T* g = slot.tensor.data<T>();
                              kernels::Add(g, d_y.data<T>(), g, d_y.elements());
                            }
                          }
                        });
                      });
}

}  // namespace

Variable Linear(Variable x, Variable weight, Variable bias) {
  if (!AllValid({x, weight})) return {};
  return Project(x, weight, bias, {});
}

Variable LinearResidual(Variable residual, Variable x, Variable weight) {
  if (!AllValid({residual, x, weight})) return {};
  return Project(x, weight, {}, residual);
}

Variable LinearTransposed(Variable x, Variable table) {
  if (!AllValid({x, table})) return {};
  Tape* tape = x.tape();
  if (table.shape().rank() != 2 || x.shape().dim(-1) != table.shape().dim(1)) {
    return ShapeError("LinearTransposed", x, table,
                      "want [..., in] and [out, in]");
  }
  Tensor y = tape->New(x.shape().WithLast(table.shape().dim(0)));
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    Gemm(Transpose::kNo, Transpose::kYes, x.value().Matrix<T>(),
         table.value().Matrix<T>(), y.Matrix<T>());
  });
  return tape->Record(std::move(y), {x, table}, [x, table](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const MatrixView<const T> dy = d_y.Matrix<T>();
      AccumulateProduct<T>(Transpose::kNo, Transpose::kNo, dy,
                           table.value().Matrix<T>(), x);
      AccumulateProduct<T>(Transpose::kYes, Transpose::kNo, dy,
                           x.value().Matrix<T>(), table);
    });
  });
}

Variable Embedding(Variable table, absl::Span<const int32_t> ids, int64_t batch,
                   int64_t length) {
  if (!table.valid()) return {};
  Tape* tape = table.tape();
  const int64_t vocabulary = table.shape().dim(0), width = table.shape().dim(1);
  if (static_cast<int64_t>(ids.size()) != batch * length) {
    return tape->Fail(absl::InvalidArgumentError(
        absl::StrCat("Embedding: ", ids.size(), " ids for a batch of ", batch,
                     " x ", length)));
  }
  for (int32_t id : ids) {
    if (id < 0 || id >= vocabulary) {
      return tape->Fail(absl::OutOfRangeError(absl::StrCat(
          "Embedding: token ", id, " is outside [0, ", vocabulary, ")")));
    }
  }
  Tensor y = tape->New({batch, length, width});
  const size_t row_bytes = width * SizeOf(tape->dtype());
  char* out = static_cast<char*>(y.raw());
  const char* rows = static_cast<const char*>(table.value().raw());
  for (size_t i = 0; i < ids.size(); ++i) {
    std::memcpy(out + i * row_bytes, rows + ids[i] * row_bytes, row_bytes);
  }
  std::vector<int32_t> kept(ids.begin(), ids.end());
  return tape->Record(std::move(y), {table},
                      [table, kept, width](const Tensor& d_y) {
                        DispatchDType(d_y.dtype(), [&](auto zero) {
                          using T = decltype(zero);
                          T* grad = table.gradient().data<T>();
                          const T* dy = d_y.data<T>();
                          for (size_t i = 0; i < kept.size(); ++i) {
                            T* row = grad + kept[i] * width;
                            kernels::Add(row, dy + i * width, row, width);
                          }
                        });
                      });
}

Variable GatherRows(Variable x, absl::Span<const int64_t> rows) {
  if (!x.valid()) return {};
  Tape* tape = x.tape();
  const int64_t count = x.shape().rows(), n = x.shape().dim(-1);
  for (int64_t row : rows) {
    if (row < 0 || row >= count) {
      return tape->Fail(absl::OutOfRangeError(absl::StrCat(
          "GatherRows: row ", row, " of a tensor with ", count, " rows")));
    }
  }
  Tensor y = tape->New({static_cast<int64_t>(rows.size()), n});
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(y.data<T>() + i * n, x.value().data<T>() + rows[i] * n,
                  n * sizeof(T));
    }
  });
  std::vector<int64_t> kept(rows.begin(), rows.end());
  return tape->Record(std::move(y), {x}, [x, kept, n](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* grad = x.gradient().data<T>();
      for (size_t i = 0; i < kept.size(); ++i) {
        T* row = grad + kept[i] * n;
        kernels::Add(row, d_y.data<T>() + i * n, row, n);
      }
    });
  });
}

Variable CrossEntropy(Variable logits, absl::Span<const int32_t> labels,
                      double weight, std::vector<double>* losses,
                      std::vector<int32_t>* predictions) {
  if (!logits.valid()) return {};
  Tape* tape = logits.tape();
  const int64_t rows = logits.shape().rows(), classes = logits.shape().dim(-1);
  if (static_cast<int64_t>(labels.size()) != rows) {
    return tape->Fail(absl::InvalidArgumentError(
        absl::StrCat("CrossEntropy: ", labels.size(), " labels for logits ",
                     logits.shape().ToString())));
  }
  for (int32_t label : labels) {
    if (label < 0 || label >= classes) {
      return tape->Fail(absl::OutOfRangeError(absl::StrCat(
          "CrossEntropy: label ", label, " is outside [0, ", classes, ")")));
    }
  }
  if (predictions != nullptr) predictions->resize(rows);
  Tensor loss = tape->New({});
  // The gradient is cheapest right here, while the logits are in cache.
  Tensor d_logits;
  if (logits.needs_gradient()) d_logits = tape->New(logits.shape());
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    Tensor row_losses = tape->New({rows});
    MatrixView<T> gradient;
    if (!d_logits.empty()) gradient = d_logits.Matrix<T>();
    kernels::SoftmaxCrossEntropy(
        logits.value().Matrix<T>(), labels.data(), static_cast<T>(weight),
        row_losses.data<T>(),
        predictions == nullptr ? nullptr : predictions->data(), gradient);
    double sum = 0;
    if (losses != nullptr) losses->resize(rows);
    for (int64_t i = 0; i < rows; ++i) {
      const double row_loss = row_losses.data<T>()[i];
      if (losses != nullptr) (*losses)[i] = row_loss;
      sum += row_loss;
    }
    *loss.data<T>() = static_cast<T>(weight * sum);
  });
  return tape->Record(
      std::move(loss), {logits}, [logits, d_logits](const Tensor& d_loss) {
        DispatchDType(d_loss.dtype(), [&](auto zero) {
          using T = decltype(zero);
          kernels::Axpy(*d_loss.data<T>(), d_logits.data<T>(),
                        logits.gradient().data<T>(), d_logits.elements());
        });
      });
}

}  // namespace mneme
