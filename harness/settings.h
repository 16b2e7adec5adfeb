// SPDX-License-Identifier: Apache-2.0
//
// From a profile's name and `--set` assignments to the checked options of a
// cell. There are four scopes: variant, task, model and train. An assignment
// may name its scope ("train.steps=500") or leave it out when only one scope
// has such an option ("pairs=16").

#ifndef MNEME_HARNESS_SETTINGS_H_
#define MNEME_HARNESS_SETTINGS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attention/plugin/options.h"
#include "attention/variant.h"
#include "tasks/task.h"

namespace mneme {

struct Settings {
  Options variant, task, model, train;
};

// What a profile sets for the backbone and its training; the task's own profile
// of the same name sets the task.
struct HarnessProfile {
  std::string name;
  std::string summary;
  OptionValues model, train;
  // Whether tasks have it that do not declare it: with what their "quick" sets,
  // and this over it.
  bool of_every_task = false;
};

// "quick" first. A profile that only a task knows must say itself what its
// model and its training are.
const std::vector<HarnessProfile>& HarnessProfiles();

// Later assignments win over earlier ones and over the profile. Errors name
// the option, the value and the range, or the nearest known name.
absl::StatusOr<Settings> ResolveSettings(const VariantDescriptor& variant,
                                         const TaskDescriptor& task,
                                         absl::string_view profile,
                                         const std::vector<std::string>& set);

}  // namespace mneme

#endif  // MNEME_HARNESS_SETTINGS_H_
