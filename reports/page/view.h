// SPDX-License-Identifier: Apache-2.0
//
// Small conversions from what records say to what the page's template takes.

#ifndef MNEME_REPORTS_PAGE_VIEW_H_
#define MNEME_REPORTS_PAGE_VIEW_H_

#include <kainjow/mustache.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace mneme {

using ViewData = kainjow::mustache::data;

ViewData ViewList();

// A section of the template over "" is left out.
ViewData TextOrNothing(const std::string& text);

// JSON that no HTML parser can take for the end of its <script>.
std::string ScriptSafe(absl::string_view json);

// What may stand in an anchor and in a link to it alike: each other character
// becomes "_".
std::string AnchorSafe(absl::string_view name);

// En dashes between numbers, as in print.
std::string WithDashes(absl::string_view numbers);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_VIEW_H_
