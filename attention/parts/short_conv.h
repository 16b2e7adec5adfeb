// SPDX-License-Identifier: Apache-2.0
//
// The causal depthwise convolution that many mixers put on their queries, keys
// and values: it lets a token see its predecessor, without which no layer can
// bind a value to the key before it.

#ifndef MNEME_ATTENTION_PARTS_SHORT_CONV_H_
#define MNEME_ATTENTION_PARTS_SHORT_CONV_H_

#include <memory>
#include <string>

#include "attention/state.h"
#include "attention/tensor/tape.h"

namespace mneme {

class ShortConv {
 public:
  // width taps over `channels` channels, drawn from +-width^-1/2; width 0 is
  // the identity, with neither parameters nor state. A bias is drawn alike.
  ShortConv(const std::string& name, int64_t channels, int64_t width,
            ParameterSet* parameters, bool bias = false);

  // Whether it remembers earlier inputs: width > 1.
  bool has_state() const { return width_ > 1; }

  // The last width - 1 inputs of each sequence; null without has_state().
  std::unique_ptr<State> NewState(int64_t batch, DType dtype) const;

  // x [batch, length, channels] -> the same. state is from NewState or null
  // (start of a sequence); it is advanced.
  Variable Apply(Variable x, State* state) const;

 private:
  int64_t channels_, width_;
  const Parameter* weight_ = nullptr;
  const Parameter* bias_ = nullptr;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_SHORT_CONV_H_
