// SPDX-License-Identifier: Apache-2.0

#include "harness/command_list.h"

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "attention/variant.h"
#include "harness/descriptor_json.h"
#include "tasks/task.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

absl::Status List(bool json) {
  Json variants = Json::array(), tasks = Json::array();
  for (const std::string& name : Variants().Names()) {
    absl::StatusOr<const Variant*> variant = Variants().Find(name);
    if (!variant.ok()) return variant.status();
    variants.push_back(VariantJson((*variant)->descriptor));
  }
  for (const std::string& name : Tasks().Names()) {
    absl::StatusOr<const TaskPlugin*> task = Tasks().Find(name);
    if (!task.ok()) return task.status();
    tasks.push_back(TaskJson((*task)->descriptor));
  }
  if (json) {
    std::puts(Json{{"variants", variants}, {"tasks", tasks}}.dump(2).c_str());
    return absl::OkStatus();
  }
  const auto print = [](const char* heading, const Json& entries,
                        const char* kind) {
    absl::PrintF("%s\n", heading);
    for (const Json& e : entries) {
      absl::PrintF("  %-18s %-22s %s\n", e["name"].get<std::string>(),
                   e[kind].get<std::string>(), e["summary"].get<std::string>());
    }
  };
  print("variants", variants, "family");
  print("tasks", tasks, "group");
  absl::PrintF("\nmneme describe NAME says more.\n");
  return absl::OkStatus();
}

}  // namespace

void AddListCommand(CLI::App* app, Action* action) {
  CLI::App* command =
      app->add_subcommand("list", "Name all variants and tasks");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print JSON");
  command->callback(
      [action, json] { *action = [json] { return List(*json); }; });
}

}  // namespace mneme
