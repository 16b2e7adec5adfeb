// SPDX-License-Identifier: Apache-2.0

#include "reports/distinctions.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mneme {

std::string SettingsText(const Settings& settings) {
  std::string text;
  for (const Setting& setting : settings) {
    absl::StrAppend(&text, setting.name(), "=", setting.value(), "\n");
  }
  return text;
}

Values ValuesOf(const Settings& settings) {
  Values values;
  for (const Setting& setting : settings) {
    values[setting.name()] = setting.value();
  }
  return values;
}

std::vector<std::string> Differences(const Values& mine,
                                     const std::vector<Values>& others) {
  std::vector<std::string> differences;
  for (const auto& [name, value] : mine) {
    for (const Values& other : others) {
      const auto found = other.find(name);
      if (!other.empty() && (found == other.end() || found->second != value)) {
        differences.push_back(absl::StrCat(name, "=", value));
        break;
      }
    }
  }
  return differences;
}

std::string NameWith(const std::string& variant,
                     const std::vector<std::string>& differences) {
  if (differences.empty()) return variant;
  return absl::StrCat(variant, " (", absl::StrJoin(differences, ", "), ")");
}

}  // namespace mneme
