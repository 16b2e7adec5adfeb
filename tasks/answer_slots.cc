// SPDX-License-Identifier: Apache-2.0

#include "tasks/answer_slots.h"

#include <cassert>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace mneme {

void AskAtTheEnd(int64_t length, absl::Span<const int32_t> answers,
                 Example* example) {
  const int64_t slots = static_cast<int64_t>(answers.size());
  const int64_t first = length - slots;
  assert(first >= kQuestionMarks);
  example->tokens.assign(length, kBlankToken);
  example->targets.assign(length, kUnscored);
  example->roles.assign(length, TokenRole::kContext);
  example->origins.clear();
  example->notes.clear();
  example->tokens[first - 2] = kEndToken;
  example->tokens[first - 1] = kQuestionToken;
  for (int64_t i = 0; i < slots; ++i) {
    example->tokens[first + i] = static_cast<int32_t>(kFirstSlotToken + i);
    example->targets[first + i] = answers[i];
    example->roles[first + i] = TokenRole::kQuery;
  }
}

std::string SlotTaskTokenText(int32_t token, int64_t slots,
                              absl::string_view name) {
  if (token == kBlankToken) return "_";
  if (token == kEndToken) return "|";
  if (token == kQuestionToken) return "=";
  if (token < FirstFreeToken(slots)) {
    return absl::StrCat("?", token - kFirstSlotToken + 1);
  }
  return absl::StrCat(name, token - FirstFreeToken(slots) + 1);
}

}  // namespace mneme
