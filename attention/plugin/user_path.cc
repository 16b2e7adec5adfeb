// SPDX-License-Identifier: Apache-2.0

#include "attention/plugin/user_path.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace mneme {

std::string UserPath(const std::string& path) {
  const char* from = std::getenv("BUILD_WORKING_DIRECTORY");
  if (from == nullptr || path.empty() || path[0] == '/') return path;
  return absl::StrCat(from, "/", path);
}

}  // namespace mneme
