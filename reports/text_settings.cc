// SPDX-License-Identifier: Apache-2.0

#include "reports/text_settings.h"

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "attention/plugin/user_path.h"
#include "tasks/text_corpus.h"

namespace mneme {
namespace {

// Whether the setting is of a task's option, which may be named with its scope.
bool IsOf(absl::string_view setting, absl::string_view option) {
  absl::ConsumePrefix(&setting, "task.");
  return absl::ConsumePrefix(&setting, option) &&
         absl::StartsWith(setting, "=");
}

}  // namespace

absl::Status PinTexts(std::vector<std::string>* settings) {
  if (absl::c_any_of(*settings, [](const std::string& setting) {
        return IsOf(setting, "data");
      })) {
    return absl::OkStatus();
  }
  std::string hash;
  for (std::string& setting : *settings) {
    if (!IsOf(setting, "path")) continue;
    const size_t value = setting.find('=') + 1;
    const std::string path = UserPath(setting.substr(value));
    const auto corpus = TextCorpus::Open(path);
    if (!corpus.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--set: ", corpus.status().message()));
    }
    setting.replace(value, std::string::npos, path);
    hash = (*corpus)->hash();  // later settings win
  }
  if (!hash.empty()) settings->push_back(absl::StrCat("task.data=", hash));
  return absl::OkStatus();
}

}  // namespace mneme
