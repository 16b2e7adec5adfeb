// SPDX-License-Identifier: Apache-2.0
//
// The forms of multi-query associative recall (mqar.cc) and what they need of
// length and vocabulary.

#ifndef MNEME_TASKS_MQAR_MQAR_SHAPE_H_
#define MNEME_TASKS_MQAR_MQAR_SHAPE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mneme {

enum class MqarForm { kPlain, kForgetting, kCompositional, kStacked };

// Of "plain", "forgetting", "compositional" and "stacked".
MqarForm MqarFormNamed(absl::string_view name);

struct MqarShape {
  MqarForm form = MqarForm::kPlain;
  int64_t length = 0;
  int64_t pairs = 0;
  int64_t updates = 0;     // of the forgetting form
  int64_t vocabulary = 0;  // without the tokens of stacked pairs

  // Key tokens are 1 ... keys(), values the upper half of the vocabulary.
  int64_t first_value() const { return vocabulary / 2; }
  int64_t keys() const { return first_value() - 1; }
  int64_t values() const { return vocabulary - first_value(); }

  // Stacked pairs are tokens of their own, above all others.
  int64_t all_tokens() const;
  int32_t Stacked(int32_t key, int32_t value) const;

  // The largest g with g^2 <= pairs: rows of the grid of composed keys.
  int64_t grid() const;
  // Key tokens that an example draws.
  int64_t drawn_keys() const;

  int64_t entries() const { return pairs + updates; }  // of the context
  int64_t entry_width() const;
  int64_t context() const { return entries() * entry_width(); }
  int64_t slots() const { return (length - context()) / 2; }

  // InvalidArgument names the constraint that is broken.
  absl::Status Check() const;

  // "_", "k3", "v12", and "k3v12" of a stacked pair.
  std::string TokenText(int32_t token) const;
};

}  // namespace mneme

#endif  // MNEME_TASKS_MQAR_MQAR_SHAPE_H_
