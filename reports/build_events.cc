// SPDX-License-Identifier: Apache-2.0

#include "reports/build_events.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mneme {
namespace {

using Json = nlohmann::json;

// The value at a path of keys, or null. Never fails, whatever the types.
const Json& At(const Json& json, std::initializer_list<const char*> path) {
  static const auto& null = *new Json(nullptr);
  const Json* current = &json;
  for (const char* key : path) {
    if (!current->is_object()) return null;
    const auto found = current->find(key);
    if (found == current->end()) return null;
    current = &*found;
  }
  return *current;
}

std::string TextAt(const Json& json, std::initializer_list<const char*> path) {
  const Json& value = At(json, path);
  return value.is_string() ? value.get<std::string>() : "";
}

// file:///a%20b -> /a b
std::string PathOf(const std::string& uri) {
  absl::string_view rest = absl::StripPrefix(uri, "file://");
  std::string path;
  for (size_t i = 0; i < rest.size(); ++i) {
    int code = 0;
    if (rest[i] == '%' && i + 2 < rest.size() &&
        absl::SimpleHexAtoi(rest.substr(i + 1, 2), &code)) {
      path += static_cast<char>(code);
      i += 2;
    } else {
      path += rest[i];
    }
  }
  return path;
}

FailedAction ToFailedAction(const Json& event) {
  FailedAction failure;
  failure.label = TextAt(event, {"id", "actionCompleted", "label"});
  failure.mnemonic = TextAt(event, {"action", "type"});
  failure.output = TextAt(event, {"id", "actionCompleted", "primaryOutput"});
  failure.stderr_path = PathOf(TextAt(event, {"action", "stderr", "uri"}));
  // `exitCode` is Bazel's own view of an action; the spawn's is the program's.
  const Json& spawn =
      At(event, {"action", "failureDetail", "spawn", "spawnExitCode"});
  const Json& action = At(event, {"action", "exitCode"});
  failure.exit_code = spawn.is_number()    ? spawn.get<int>()
                      : action.is_number() ? action.get<int>()
                                           : 0;
  return failure;
}

using FileSets = std::map<std::string, const Json*>;

// The first file of a named set. A cell's group holds one.
std::string FirstPath(const FileSets& sets, const Json& group) {
  for (const Json& reference : At(group, {"fileSets"})) {
    const auto set = sets.find(TextAt(reference, {"id"}));
    if (set == sets.end()) continue;
    for (const Json& file : At(*set->second, {"namedSetOfFiles", "files"})) {
      return PathOf(TextAt(file, {"uri"}));
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<BuildOutcome> ParseBuildEvents(
    absl::string_view json_lines, absl::Span<const std::string> labels) {
  std::vector<Json> events;
  for (absl::string_view line :
       absl::StrSplit(json_lines, '\n', absl::SkipWhitespace())) {
    Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object()) {
      return absl::DataLossError(absl::StrCat(
          "Bazel's build event ", events.size() + 1, " is no JSON object"));
    }
    events.push_back(std::move(event));
  }
  FileSets sets;
  for (const Json& event : events) {
    const std::string id = TextAt(event, {"id", "namedSet", "id"});
    if (!id.empty()) sets[id] = &event;
  }
  BuildOutcome outcome;
  for (const Json& event : events) {
    if (event.contains("action")) {
      // Bazel reports an action that succeeded only when asked to.
      if (At(event, {"action", "success"}) == true) continue;
      outcome.failures.push_back(ToFailedAction(event));
    } else if (event.contains("completed")) {
      const std::string label =
          TextAt(event, {"id", "targetCompleted", "label"});
      if (std::find(labels.begin(), labels.end(), label) == labels.end()) {
        continue;
      }
      outcome.attempted.insert(label);
      for (const Json& group : At(event, {"completed", "outputGroup"})) {
        const std::string path = FirstPath(sets, group);
        if (!path.empty()) outcome.records[TextAt(group, {"name"})] = path;
      }
    }
  }
  return outcome;
}

}  // namespace mneme
