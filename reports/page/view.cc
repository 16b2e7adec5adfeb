// SPDX-License-Identifier: Apache-2.0

#include "reports/page/view.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"

namespace mneme {

ViewData ViewList() { return ViewData(ViewData::type::list); }

ViewData TextOrNothing(const std::string& text) {
  return text.empty() ? ViewData(false) : ViewData(text);
}

std::string ScriptSafe(absl::string_view json) {
  return absl::StrReplaceAll(json, {{"<", "\\u003c"}});
}

std::string AnchorSafe(absl::string_view name) {
  std::string anchor(name);
  std::replace_if(
      anchor.begin(), anchor.end(),
      [](unsigned char c) {
        return !absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.';
      },
      '_');
  return anchor;
}

std::string WithDashes(absl::string_view numbers) {
  return absl::StrReplaceAll(numbers, {{"-", "–"}});
}

}  // namespace mneme
