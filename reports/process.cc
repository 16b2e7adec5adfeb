// SPDX-License-Identifier: Apache-2.0

#include "reports/process.h"

#include <signal.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

std::atomic<bool> interrupted(false);
// 0 when no program is running.
std::atomic<pid_t> running(0);

void OnInterrupt(int signal, siginfo_t* info, void*) {
  interrupted = true;
  // A signal of the kernel is the terminal's, which the program got as well.
  const pid_t program = running;
  if (program != 0 && info->si_code != SI_KERNEL) kill(program, signal);
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_sigaction = OnInterrupt;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() { return interrupted; }

absl::StatusOr<int> RunProgram(const std::vector<std::string>& command,
                               const std::string& directory) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const absl::Cleanup cleanup = [&actions] {
    posix_spawn_file_actions_destroy(&actions);
  };
  posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  pid_t program = 0;
  const int error = posix_spawnp(&program, arguments[0], &actions, nullptr,
                                 arguments.data(), environ);
  if (error != 0) {
    return absl::ErrnoToStatus(
        error, absl::StrCat("cannot run ", command[0], " in ", directory));
  }
  running = program;
  // Caught before there was anybody to pass it on to.
  if (Interrupted()) kill(program, SIGINT);
  int status = 0;
  while (waitpid(program, &status, 0) < 0 && errno == EINTR) {
  }
  running = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace mneme
