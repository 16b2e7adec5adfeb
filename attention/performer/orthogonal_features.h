// SPDX-License-Identifier: Apache-2.0
//
// Directions for random features of the exponential (FAVOR+, arXiv 2009.14794).
// For w drawn from N(0, I),
//
//   E[exp(w . x - |x|^2 / 2) exp(w . y - |y|^2 / 2)] = exp(x . y),
//
// and directions that are orthogonal to one another estimate it with less
// variance than independent ones while each is still distributed as N(0, I).

#ifndef MNEME_ATTENTION_PERFORMER_ORTHOGONAL_FEATURES_H_
#define MNEME_ATTENTION_PERFORMER_ORTHOGONAL_FEATURES_H_

#include <cstdint>
#include <vector>

namespace mneme {

// features rows of dim numbers each, row-major. Rows [dim * b, dim * (b + 1))
// are orthogonal to one another: the Q of a Gaussian matrix's QR decomposition,
// each row as long as an independent Gaussian vector. A function of its
// arguments: draw tells the layers of a model apart.
std::vector<double> OrthogonalFeatures(int64_t features, int64_t dim,
                                       uint64_t seed, uint64_t draw);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PERFORMER_ORTHOGONAL_FEATURES_H_
