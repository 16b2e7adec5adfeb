// SPDX-License-Identifier: Apache-2.0

#include "tasks/mqar/mqar_shape.h"

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

// Keeps stacked tokens printable in 8 characters, and embeddings within reason.
constexpr int64_t kMostStacked = 1024;

template <typename... Parts>
absl::Status Refused(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("mqar: ", parts...));
}

}  // namespace

MqarForm MqarFormNamed(absl::string_view name) {
  if (name == "forgetting") return MqarForm::kForgetting;
  if (name == "compositional") return MqarForm::kCompositional;
  return name == "stacked" ? MqarForm::kStacked : MqarForm::kPlain;
}

int64_t MqarShape::all_tokens() const {
  return form == MqarForm::kStacked ? vocabulary + keys() * values()
                                    : vocabulary;
}

int32_t MqarShape::Stacked(int32_t key, int32_t value) const {
  return vocabulary + (key - 1) * values() + (value - first_value());
}

int64_t MqarShape::grid() const {
  int64_t grid = 1;
  while ((grid + 1) * (grid + 1) <= pairs) ++grid;
  return grid;
}

int64_t MqarShape::drawn_keys() const {
  return form == MqarForm::kCompositional ? 2 * grid() : pairs;
}

int64_t MqarShape::entry_width() const {
  if (form == MqarForm::kStacked) return 1;
  return form == MqarForm::kCompositional ? 3 : 2;
}

absl::Status MqarShape::Check() const {
  if (length % 2 != 0) {
    return Refused("length=", length, " is odd; slots are two tokens wide");
  }
  if ((form == MqarForm::kForgetting) != (updates > 0)) {
    return Refused("updates=", updates,
                   "; form=forgetting has some, the others have none");
  }
  if (form == MqarForm::kCompositional && grid() * grid() != pairs) {
    return Refused("pairs=", pairs,
                   " is no square; keys of form=compositional are a grid");
  }
  if (form == MqarForm::kStacked && vocabulary > kMostStacked) {
    return Refused("form=stacked needs vocab <= ", kMostStacked,
                   " (each pair of key and value is a token), not ",
                   vocabulary);
  }
  const std::string of_pairs = absl::StrCat(
      "pairs=", pairs,
      updates > 0 ? absl::StrCat(" and updates=", updates) : std::string());
  if (length < context() + 2 * pairs) {
    constexpr absl::string_view kNumbers[] = {"no tokens", "one token",
                                              "two tokens", "three tokens"};
    return Refused(of_pairs, " need length >= ", context() + 2 * pairs, " (",
                   kNumbers[entry_width()],
                   " a pair in the context, two a query), not ", length);
  }
  if (keys() < drawn_keys()) {
    return Refused("pairs=", pairs, " need vocab >= ", 2 * (drawn_keys() + 1),
                   " (keys are different tokens in 1..vocab/2-1), not ",
                   vocabulary);
  }
  if (values() < entries()) {
    return Refused(of_pairs, " need vocab >= ", 2 * entries() - 1,
                   " (values are different tokens in vocab/2..vocab-1), not ",
                   vocabulary);
  }
  return absl::OkStatus();
}

std::string MqarShape::TokenText(int32_t token) const {
  if (token == 0) return "_";
  if (token < first_value()) return absl::StrCat("k", token);
  if (token < vocabulary) return absl::StrCat("v", token - first_value() + 1);
  const int64_t pair = token - vocabulary;
  return absl::StrCat("k", pair / values() + 1, "v", pair % values() + 1);
}

}  // namespace mneme
