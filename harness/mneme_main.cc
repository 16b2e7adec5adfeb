// SPDX-License-Identifier: Apache-2.0
//
// The command line, with every variant and every task.

#include "harness/command_apply.h"
#include "harness/command_approximation.h"
#include "harness/command_capacity.h"
#include "harness/command_describe.h"
#include "harness/command_doctor.h"
#include "harness/command_evaluate.h"
#include "harness/command_line.h"
#include "harness/command_list.h"
#include "harness/command_new_variant.h"

int main(int argc, char** argv) {
  return mneme::RunCommandLine(
      argc, argv,
      "Mneme trains attention and memory mechanisms on synthetic tasks and "
      "compares them.\nFor a leaderboard: ./bazelw run //reports:leaderboard",
      [](CLI::App* app, mneme::Action* action) {
        mneme::AddListCommand(app, action);
        mneme::AddDescribeCommand(app, action);
        mneme::AddEvaluateCommand(app, action);
        mneme::AddApplyCommand(app, action);
        mneme::AddCapacityCommand(app, action);
        mneme::AddApproximationCommand(app, action);
        mneme::AddDoctorCommand(app, action);
        mneme::AddNewVariantCommand(app, action);
      });
}
