// SPDX-License-Identifier: Apache-2.0
//
// Descriptors as JSON: what `list` and `describe` print for programs.

#ifndef MNEME_HARNESS_DESCRIPTOR_JSON_H_
#define MNEME_HARNESS_DESCRIPTOR_JSON_H_

#include "attention/variant.h"
#include "nlohmann/json.hpp"
#include "tasks/task.h"

namespace mneme {

nlohmann::ordered_json VariantJson(const VariantDescriptor& descriptor);
nlohmann::ordered_json TaskJson(const TaskDescriptor& descriptor);

}  // namespace mneme

#endif  // MNEME_HARNESS_DESCRIPTOR_JSON_H_
