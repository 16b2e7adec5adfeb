// SPDX-License-Identifier: Apache-2.0
//
// Softmax cross-entropy of rows of logits against integer labels:
// loss_i = logsumexp(x_i) - x_i[label_i].

#ifndef MNEME_ATTENTION_KERNELS_CROSS_ENTROPY_H_
#define MNEME_ATTENTION_KERNELS_CROSS_ENTROPY_H_

#include <cstdint>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// logits [rows, classes]; labels [rows], each in [0, classes). Writes
// losses [rows] (null: unwanted), the argmax of each row to predictions [rows]
// (null: unwanted; the first of equal maxima), and, when d_logits.data is not
// null, d_logits = weight * (softmax(logits) - onehot(label)). d_logits may be
// logits. A row with NaN has a NaN loss.
void SoftmaxCrossEntropy(MatrixView<const float> logits, const int32_t* labels,
                         float weight, float* losses, int32_t* predictions,
                         MatrixView<float> d_logits);
void SoftmaxCrossEntropy(MatrixView<const double> logits, const int32_t* labels,
                         double weight, double* losses, int32_t* predictions,
                         MatrixView<double> d_logits);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_CROSS_ENTROPY_H_
