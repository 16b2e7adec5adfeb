// SPDX-License-Identifier: Apache-2.0
//
// Initial values in the published code of the RWKV family (arXiv 2305.13048,
// 2404.05892, 2503.14456), which depend on the channel and on the layer: from
// channel to channel memories get shorter and mixtures hold less of the token
// before, and deeper layers hold less of it too.

#ifndef MNEME_ATTENTION_PARTS_RWKV_INIT_H_
#define MNEME_ATTENTION_PARTS_RWKV_INIT_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "attention/mixer.h"

namespace mneme {

class RwkvInit {
 public:
  explicit RwkvInit(const MixerConfig& config)
      : width_(config.width),
        depth_(static_cast<double>(config.layer) /
               std::max(1, config.layers - 1)),
        rest_(1 - static_cast<double>(config.layer) / config.layers) {}

  // 0 for the first layer to 1 for the last.
  double depth() const { return depth_; }

  // f(c) for each channel, with c from 0 to 1.
  template <typename F>
  std::vector<double> Channels(const F& f) const {
    return Channels(width_ - 1, f);
  }

  // Weights of the token before in a mixture with the current one: 1 -
  // (c^(power rest) + offset), with c from 0 to almost 1 over the channels and
  // rest from 1 to almost 0 over the layers.
  std::vector<double> Shift(double power, double offset) const {
    return Channels(width_, [&](double c) {
      return 1 - (std::pow(c, power * rest_) + offset);
    });
  }

  // Logarithms of decay rates: least + range c^(0.7 + 1.3 depth).
  std::vector<double> LogRates(double least, double range) const {
    return Channels([&](double c) {
      return least + range * std::pow(c, 0.7 + 1.3 * depth_);
    });
  }

  // values + size times 0, 1, -1, 0, 1, -1, ...: bonuses of neighbours differ.
  static std::vector<double> Zigzag(std::vector<double> values, double size) {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] += size * (static_cast<int>((i + 1) % 3) - 1);
    }
    return values;
  }

 private:
  template <typename F>
  std::vector<double> Channels(int64_t last, const F& f) const {
    std::vector<double> values;
    for (int64_t i = 0; i < width_; ++i) {
      values.push_back(f(static_cast<double>(i) / std::max<int64_t>(1, last)));
    }
    return values;
  }

  int64_t width_;
  double depth_, rest_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_RWKV_INIT_H_
