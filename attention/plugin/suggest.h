// SPDX-License-Identifier: Apache-2.0
//
// "Did you mean ...?": the nearest known name to a mistyped one.

#ifndef MNEME_ATTENTION_PLUGIN_SUGGEST_H_
#define MNEME_ATTENTION_PLUGIN_SUGGEST_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mneme {

// The known name with the smallest edit distance (insert, delete, replace, swap
// of neighbours; case ignored), or "" when none is within a third of the longer
// one's length (at least 2 edits are always forgiven, as long as a letter of it
// survives). Of several equally near, the first.
std::string NearestName(absl::string_view name,
                        const std::vector<std::string>& known);

// NotFound: `unknown <what> "<name>"; did you mean "<nearest>"? known: a, b,
// c`.
absl::Status UnknownName(absl::string_view what, absl::string_view name,
                         const std::vector<std::string>& known);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PLUGIN_SUGGEST_H_
