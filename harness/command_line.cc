// SPDX-License-Identifier: Apache-2.0

#include "harness/command_line.h"

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "attention/plugin/suggest.h"

namespace mneme {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

// One line on stderr, whatever the message contains.
int Complain(int code, absl::string_view message) {
  std::string line(message);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  std::fprintf(stderr, "mneme: %s\n", line.c_str());
  return code;
}

bool IsUsageError(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status);
}

// "unknown flag --sed of evaluate; did you mean --seed?"
std::string ExplainExtras(const CLI::App& app, const std::string& fallback) {
  std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  if (extras.empty()) return fallback;
  const std::string name = extras.front().substr(0, extras.front().find('='));
  std::vector<std::string> known;
  const auto chosen = app.get_subcommands();
  if (chosen.empty()) {
    for (const CLI::App* sub :
         app.get_subcommands([](const CLI::App*) { return true; })) {
      known.push_back(sub->get_name());
    }
    return std::string(UnknownName("command", name, known).message());
  }
  for (const CLI::Option* option : chosen.front()->get_options()) {
    known.push_back(option->get_name());
  }
  return std::string(
      UnknownName(absl::StrCat("flag of ", chosen.front()->get_name()), name,
                  known)
          .message());
}

int ParseAndRun(int argc, char** argv, const std::string& description,
                const std::function<void(CLI::App*, Action*)>& add_commands) {
  CLI::App app(description, "mneme");
  app.require_subcommand(1);
  Action action;
  add_commands(&app, &action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ExtrasError& error) {
    return Complain(kUsage, ExplainExtras(app, error.what()));
  } catch (const CLI::RequiredError& error) {
    // No command, a mistyped one, or one that misses a flag.
    if (!app.remaining(/*recurse=*/true).empty()) {
      return Complain(kUsage, ExplainExtras(app, error.what()));
    }
    return Complain(
        kUsage,
        absl::StrCat(error.what(),
                     app.get_subcommands().empty() ? "" : " by this command",
                     "; --help shows how"));
  } catch (const CLI::ParseError& error) {
    return Complain(kUsage, error.what());
  }
  const absl::Status status = action();
  if (status.ok()) return 0;
  return Complain(IsUsageError(status) ? kUsage : kFailed, status.message());
}

}  // namespace

int RunCommandLine(
    int argc, char** argv, const std::string& description,
    const std::function<void(CLI::App*, Action*)>& add_commands) {
  try {
    return ParseAndRun(argc, argv, description, add_commands);
  } catch (const std::bad_alloc&) {
    return Complain(
        kFailed,
        "out of memory; choose a shorter sequence, a narrower model or a "
        "smaller train.shard_tokens");
  } catch (const std::exception& error) {
    return Complain(kFailed, error.what());
  }
}

}  // namespace mneme
