// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_ATTENTION_PLUGIN_USER_PATH_H_
#define MNEME_ATTENTION_PLUGIN_USER_PATH_H_

#include <string>

namespace mneme {

// Resolves a path given by a person: relative to where `bazel run` was called
// from, not to the runfiles tree it starts programs in.
std::string UserPath(const std::string& path);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PLUGIN_USER_PATH_H_
