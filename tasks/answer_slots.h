// SPDX-License-Identifier: Apache-2.0
//
// The form of tasks that read a whole sequence and are then asked for a list:
//
//   context ...  | = ?1 ?2 ?3
//   target           a  b  c
//
// Each item of the list has a slot with a token of its own, and is wanted
// there; it never follows, so no slot sees what another was to say. The two
// marks before the slots keep the context out of the last three tokens: what an
// n-gram table knows at a slot is the slot's number.

#ifndef MNEME_TASKS_ANSWER_SLOTS_H_
#define MNEME_TASKS_ANSWER_SLOTS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tasks/task.h"

namespace mneme {

inline constexpr int32_t kBlankToken = 0;     // "_", filler
inline constexpr int32_t kEndToken = 1;       // "|", the context is over
inline constexpr int32_t kQuestionToken = 2;  // "=", the slots come
inline constexpr int32_t kFirstSlotToken = 3;
inline constexpr int64_t kQuestionMarks = 2;  // before the slots

// Tokens of a question with so many slots, marks included.
inline int64_t QuestionLength(int64_t slots) { return kQuestionMarks + slots; }

// The first token that a task with so many slots can give a meaning of its own.
inline int32_t FirstFreeToken(int64_t slots) {
  return static_cast<int32_t>(kFirstSlotToken + slots);
}

// Makes *example length tokens of blank context, none of them scored, with the
// question at its end, where answers are wanted in the order given.
// Precondition: QuestionLength(answers.size()) <= length.
void AskAtTheEnd(int64_t length, absl::Span<const int32_t> answers,
                 Example* example);

// The text of a token below FirstFreeToken(slots), and of the others `name` and
// their number from 1 on.
std::string SlotTaskTokenText(int32_t token, int64_t slots,
                              absl::string_view name);

}  // namespace mneme

#endif  // MNEME_TASKS_ANSWER_SLOTS_H_
