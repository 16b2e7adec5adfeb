// SPDX-License-Identifier: Apache-2.0
//
// Settings of records as JSON, for programs.

#ifndef MNEME_HARNESS_SETTINGS_JSON_H_
#define MNEME_HARNESS_SETTINGS_JSON_H_

#include <nlohmann/json.hpp>
#include <string>

#include "google/protobuf/repeated_field.h"
#include "harness/result.pb.h"

namespace mneme {

// Numbers and booleans as such; all else is text.
nlohmann::ordered_json JsonFromText(const std::string& text);

// {"heads": 2, "rope": true, ...}
nlohmann::ordered_json JsonFromSettings(
    const google::protobuf::RepeatedPtrField<Setting>& settings);

}  // namespace mneme

#endif  // MNEME_HARNESS_SETTINGS_JSON_H_
