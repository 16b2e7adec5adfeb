// SPDX-License-Identifier: Apache-2.0

#include "harness/command_new_variant.h"

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "harness/new_variant.h"

namespace mneme {
namespace {

absl::Status Write(NewVariant variant) {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace != nullptr) variant.workspace = workspace;
  if (workspace == nullptr && variant.directory.empty()) {
    return absl::InvalidArgumentError(
        "new-variant: have Bazel run me in a workspace, or give me --dir");
  }
  variant.directory = UserPath(variant.directory);
  absl::StatusOr<WrittenVariant> written = WriteNewVariant(variant);
  if (!written.ok()) return written.status();
  const std::string& name = variant.name;
  absl::PrintF("wrote %1$s/%2$s.cc\nwrote %1$s/BUILD\n", written->folder, name);
  if (written->listed) {
    absl::PrintF("added \"%s\" to attention/variants.bzl\n", written->label);
  } else {
    absl::PrintF(
        "\nTo rank it, add one line to the leaderboard() in your BUILD file "
        "(load it from @mneme//reports:defs.bzl):\n"
        "    variants = [\"%s\"],\n",
        written->label);
  }
  const char* bazel = written->listed ? "./bazelw" : "bazel";
  absl::PrintF(
      "\nnext:\n"
      "  %s test %s:%s_contract_test   # fails until Backward is written\n"
      "  %s run %s:leaderboard -- --variants=softmax,%s\n",
      bazel, written->label, name, bazel, written->listed ? "//reports" : "//",
      name);
  return absl::OkStatus();
}

}  // namespace

void AddNewVariantCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "new-variant", "Begin a mechanism of your own: a folder that compiles");
  auto variant = std::make_shared<NewVariant>();
  command->add_option("NAME", variant->name, "Its name, in lower_snake_case")
      ->required();
  command->add_option("--dir", variant->directory,
                      "Where to make the folder NAME; attention/ in Mneme's "
                      "workspace, the root in others");
  command->callback(
      [action, variant] { *action = [variant] { return Write(*variant); }; });
}

}  // namespace mneme
