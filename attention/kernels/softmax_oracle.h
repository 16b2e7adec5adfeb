// SPDX-License-Identifier: Apache-2.0
//
// What the test of softmax attention computes: problems, and their results and
// gradients straight from the definition.

#ifndef MNEME_ATTENTION_KERNELS_SOFTMAX_ORACLE_H_
#define MNEME_ATTENTION_KERNELS_SOFTMAX_ORACLE_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ostream>
#include <vector>

#include "attention/kernels/softmax_attention.h"

namespace mneme::kernels {

using Doubles = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Problem {
  size_t queries, keys, key_dim, value_dim;
  AttentionMask mask;
  size_t gap = 0;  // more than usual between the rows of all matrices
};

inline std::ostream& operator<<(std::ostream& out, const Problem& p) {
  return out << p.queries << " queries, " << p.keys << " keys, dimensions "
             << p.key_dim << " and " << p.value_dim << ", causal "
             << p.mask.causal << ", window " << p.mask.window << ", offset "
             << p.mask.query_offset << ", gap " << p.gap;
}

// Whole and ragged vectors, tiles and blocks of keys; few queries and many.
inline const std::vector<Problem>& Problems() {
  static const auto& problems = *new std::vector<Problem>{
      {0, 5, 4, 4, {}},
      {1, 1, 1, 1, {}},
      {1, 5, 3, 2, {false}},
      {2, 40, 17, 19, {true, 0, 20}},
      {3, 300, 32, 32, {true, 50, 250}},
      {4, 131, 33, 8, {false}},
      {5, 140, 64, 64, {true, 0, 135}},
      {7, 7, 5, 3, {}},
      {8, 257, 16, 48, {false}},
      {9, 9, 16, 16, {}},
      {16, 16, 8, 8, {true, 3, 0}},
      {17, 17, 1, 1, {}},
      {24, 50, 20, 12, {false, 7, 10}},
      {31, 64, 32, 32, {true, 0, 33}},
      {33, 33, 7, 9, {true, 5, 0}},
      {64, 64, 32, 32, {}},
      {64, 64, 32, 32, {false}},
      {65, 70, 31, 34, {true, 0, 2}},
      {100, 300, 24, 40, {true, 130, 200}},
      {40, 30, 16, 16, {true, 8, 20}},  // the last queries see no key
      {40, 0, 16, 16, {}},              // none does
      {3, 0, 16, 16, {false}},
      {150, 150, 18, 6, {true, 1, 0}},
      {200, 200, 8, 8, {true, 129, 0}},
      {20, 290, 3, 70, {false}},
      {12, 12, 4, 0, {}},
      {12, 12, 0, 4, {}},
      // Several blocks of keys, which are the longer the fewer the queries.
      {1, 8300, 20, 16, {false}},
      {2, 4300, 20, 16, {true, 2100, 4290}},
      {4, 1500, 16, 12, {true, 1100, 1450}},
      {8, 1100, 17, 16, {true, 0, 1090}},
      // Rows that lie so far apart that they are copied.
      {150, 150, 16, 32, {}, 600},
      {330, 340, 20, 7, {true, 0, 5}, 600},
      {400, 400, 32, 16, {true, 300, 0}, 600},
  };
  return problems;
}

inline double Scale(const Problem& p) {
  return p.key_dim == 0 ? 1 : 1 / std::sqrt(p.key_dim);
}

inline bool Visible(const AttentionMask& mask, size_t query, size_t key) {
  const int64_t at = static_cast<int64_t>(mask.query_offset + query);
  const int64_t j = static_cast<int64_t>(key);
  if (mask.causal && j > at) return false;
  return mask.window == 0 || j > at - static_cast<int64_t>(mask.window);
}

struct OracleResult {
  Doubles weights;  // [queries, keys]
  Doubles o, lse;
};

// Straight from the definition, with the whole matrix of weights.
inline OracleResult Oracle(const Problem& p, const Doubles& q, const Doubles& k,
                           const Doubles& v, double scale) {
  OracleResult result;
  for (size_t i = 0; i < p.queries; ++i) {
    Doubles scores(p.keys, -kInf);
    double max = -kInf;
    for (size_t j = 0; j < p.keys; ++j) {
      if (!Visible(p.mask, i, j)) continue;
      scores[j] = 0;
      for (size_t c = 0; c < p.key_dim; ++c) {
        scores[j] += scale * q[i * p.key_dim + c] * k[j * p.key_dim + c];
      }
      max = std::max(max, scores[j]);
    }
    double sum = 0;
    for (double score : scores) {
      if (score != -kInf) sum += std::exp(score - max);
    }
    const double lse = sum == 0 ? -kInf : max + std::log(sum);
    result.lse.push_back(lse);
    Doubles o(p.value_dim);
    for (size_t j = 0; j < p.keys; ++j) {
      const double weight = scores[j] == -kInf ? 0 : std::exp(scores[j] - lse);
      result.weights.push_back(weight);
      for (size_t c = 0; c < p.value_dim; ++c) {
        o[c] += weight * v[j * p.value_dim + c];
      }
    }
    result.o.insert(result.o.end(), o.begin(), o.end());
  }
  return result;
}

struct OracleGradients {
  Doubles d_q, d_k, d_v;
};

// The gradient of sum(d_o * o), by the chain rule.
inline OracleGradients Differentiate(const Problem& p, const Doubles& q,
                                     const Doubles& k, const Doubles& v,
                                     double scale, const Doubles& d_o) {
  const OracleResult forward = Oracle(p, q, k, v, scale);
  OracleGradients d{Doubles(q.size()), Doubles(k.size()), Doubles(v.size())};
  for (size_t i = 0; i < p.queries; ++i) {
    double mean = 0;
    Doubles d_weights(p.keys);
    for (size_t j = 0; j < p.keys; ++j) {
      const double weight = forward.weights[i * p.keys + j];
      for (size_t c = 0; c < p.value_dim; ++c) {
        d_weights[j] += d_o[i * p.value_dim + c] * v[j * p.value_dim + c];
        d.d_v[j * p.value_dim + c] += weight * d_o[i * p.value_dim + c];
      }
      mean += weight * d_weights[j];
    }
    for (size_t j = 0; j < p.keys; ++j) {
      const double d_score =
          forward.weights[i * p.keys + j] * (d_weights[j] - mean);
      for (size_t c = 0; c < p.key_dim; ++c) {
        d.d_q[i * p.key_dim + c] += scale * d_score * k[j * p.key_dim + c];
        d.d_k[j * p.key_dim + c] += scale * d_score * q[i * p.key_dim + c];
      }
    }
  }
  return d;
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_ORACLE_H_
