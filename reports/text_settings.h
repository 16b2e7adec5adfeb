// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_REPORTS_TEXT_SETTINGS_H_
#define MNEME_REPORTS_TEXT_SETTINGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace mneme {

// Bazel knows a cell by its settings, and a setting like path=notes.txt, of a
// task on the user's text, says the same when the text has changed. So each
// path is made absolute and followed by the text's hash, data=HASH, which the
// task holds it to: a changed text is another cell, and one that changes under
// way is an error. A hash that is there already stays. InvalidArgument for a
// path with no text.
absl::Status PinTexts(std::vector<std::string>* settings);

}  // namespace mneme

#endif  // MNEME_REPORTS_TEXT_SETTINGS_H_
