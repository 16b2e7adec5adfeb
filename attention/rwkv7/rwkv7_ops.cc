// SPDX-License-Identifier: Apache-2.0

#include "attention/rwkv7/rwkv7_ops.h"

#include <initializer_list>
#include <utility>
#include <vector>

namespace mneme {
namespace {

bool AllValid(std::initializer_list<Variable> variables) {
  for (const Variable& v : variables) {
    if (!v.valid()) return false;
  }
  return true;
}

// Where a backward adds; a scratch of zeros where nobody wants it.
template <typename T>
class Target {
 public:
  explicit Target(Variable x) {
    if (x.needs_gradient()) {
      data_ = x.gradient().data<T>();
    } else {
      scratch_.resize(x.value().elements());
      data_ = scratch_.data();
    }
  }
  T* data() const { return data_; }

 private:
  std::vector<T> scratch_;
  T* data_;
};

}  // namespace

Variable ReplacementKey(Variable k, Variable minus_eta, Variable weight) {
  if (!AllValid({k, minus_eta, weight})) return {};
  Tensor y = k.tape()->New(k.shape());
  const int64_t channels = weight.value().elements();
  const int64_t n = y.elements();
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *x = k.value().data<T>(), *e = minus_eta.value().data<T>();
    const T* w = weight.value().data<T>();
    T* out = y.data<T>();
    for (int64_t i = 0; i < n; i += channels) {
      for (int64_t c = 0; c < channels; ++c) {
        out[i + c] = x[i + c] * (1 - (1 + e[i + c]) * w[c]);
      }
    }
  });
  return k.tape()->Record(
      std::move(y), {k, minus_eta, weight}, [=](const Tensor& d_y) {
        DispatchDType(d_y.dtype(), [&](auto zero) {
          using T = decltype(zero);
          const T *x = k.value().data<T>(), *e = minus_eta.value().data<T>();
          const T *w = weight.value().data<T>(), *d = d_y.data<T>();
          const Target<T> d_k(k), d_e(minus_eta), d_weight(weight);
          T *to_k = d_k.data(), *to_e = d_e.data(), *to_w = d_weight.data();
          for (int64_t i = 0; i < n; i += channels) {
            for (int64_t c = 0; c < channels; ++c) {
              const T d_x = d[i + c] * x[i + c], rest = 1 + e[i + c];
              to_k[i + c] += d[i + c] * (1 - rest * w[c]);
              to_e[i + c] -= d_x * w[c];
              to_w[c] -= d_x * rest;
            }
          }
        });
      });
}

Variable GatedBonus(Variable o, Variable r, Variable k, Variable v,
                    Variable weight, Variable gate) {
  if (!AllValid({o, r, k, v, weight, gate})) return {};
  Tensor y = o.tape()->New(o.shape());
  const int64_t dim = weight.shape().dim(1);
  const int64_t channels = weight.value().elements();
  const int64_t n = y.elements();
  // body(i, c) for every head of every token: entries [i, i + dim) of arrays
  // and [c, c + dim) of the weight.
  const auto for_each_head = [n, dim, channels](const auto& body) {
    for (int64_t i = 0; i < n; i += channels) {
      for (int64_t c = 0; c < channels; c += dim) body(i + c, c);
    }
  };
  // One head's sum of r k weight.
  const auto sum = [dim](const auto* r, const auto* k, const auto* w) {
    auto total = r[0] * k[0] * w[0];
    for (int64_t j = 1; j < dim; ++j) total += r[j] * k[j] * w[j];
    return total;
  };
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *po = o.value().data<T>(), *pr = r.value().data<T>();
    const T *pk = k.value().data<T>(), *pv = v.value().data<T>();
    const T *pw = weight.value().data<T>(), *pg = gate.value().data<T>();
    T* out = y.data<T>();
    for_each_head([&](int64_t i, int64_t c) {
      const T bonus = sum(pr + i, pk + i, pw + c);
      for (int64_t j = i; j < i + dim; ++j) {
        out[j] = (po[j] + bonus * pv[j]) * pg[j];
      }
    });
  });
  return o.tape()->Record(
      std::move(y), {o, r, k, v, weight, gate}, [=](const Tensor& d_y) {
        DispatchDType(d_y.dtype(), [&](auto zero) {
          using T = decltype(zero);
          const T *po = o.value().data<T>(), *pr = r.value().data<T>();
          const T *pk = k.value().data<T>(), *pv = v.value().data<T>();
          const T *pw = weight.value().data<T>(), *pg = gate.value().data<T>();
          const T* d = d_y.data<T>();
          const Target<T> t_o(o), t_r(r), t_k(k), t_v(v), t_w(weight),
              t_g(gate);
          T *d_o = t_o.data(), *d_r = t_r.data(), *d_k = t_k.data();
          T *d_v = t_v.data(), *d_w = t_w.data(), *d_g = t_g.data();
          for_each_head([&](int64_t i, int64_t c) {
            const T bonus = sum(pr + i, pk + i, pw + c);
            T d_bonus = 0;
            for (int64_t j = i; j < i + dim; ++j) {
              d_g[j] += d[j] * (po[j] + bonus * pv[j]);
              const T d_sum = d[j] * pg[j];
              d_o[j] += d_sum;
              d_v[j] += bonus * d_sum;
              d_bonus += pv[j] * d_sum;
            }
            for (int64_t j = 0; j < dim; ++j) {
              const T rest = d_bonus * pw[c + j];
              d_r[i + j] += rest * pk[i + j];
              d_k[i + j] += rest * pr[i + j];
              d_w[c + j] += d_bonus * pr[i + j] * pk[i + j];
            }
          });
        });
      });
}

}  // namespace mneme
