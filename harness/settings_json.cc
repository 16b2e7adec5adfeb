// SPDX-License-Identifier: Apache-2.0

#include "harness/settings_json.h"

namespace mneme {

using Json = nlohmann::ordered_json;

Json JsonFromText(const std::string& text) {
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_number() || value.is_boolean()) return value;
  return text;
}

Json JsonFromSettings(
    const google::protobuf::RepeatedPtrField<Setting>& settings) {
  Json object = Json::object();
  for (const Setting& setting : settings) {
    object[setting.name()] = JsonFromText(setting.value());
  }
  return object;
}

}  // namespace mneme
