// SPDX-License-Identifier: Apache-2.0

#include "harness/descriptor_json.h"

#include <vector>

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

Json OptionsJson(const std::vector<OptionSpec>& specs) {
  Json options = Json::array();
  for (const OptionSpec& spec : specs) {
    options.push_back({{"name", spec.name},
                       {"default", spec.default_value},
                       {"range", spec.RangeText()},
                       {"help", spec.help}});
  }
  return options;
}

Json ValuesJson(const OptionValues& values) {
  Json json = Json::object();
  for (const auto& [name, value] : values) json[name] = value;
  return json;
}

}  // namespace

nlohmann::ordered_json VariantJson(const VariantDescriptor& d) {
  Json others = Json::array();
  for (const VariantDescriptor::OtherTolerance& other : d.other_tolerances) {
    others.push_back({{"option", other.option},
                      {"value", other.value},
                      {"tolerance", other.tolerance}});
  }
  return {{"name", d.name},
          {"title", d.title},
          {"family", d.family},
          {"paper", d.paper},
          {"summary", d.summary},
          {"version", d.version},
          {"causal", d.causal},
          {"streaming", d.streaming},
          {"exact", d.exact},
          {"tolerance", d.tolerance},
          {"other_tolerances", others},
          {"options", OptionsJson(d.options)}};
}

nlohmann::ordered_json TaskJson(const TaskDescriptor& d) {
  Json profiles = Json::array();
  for (const TaskProfile& profile : d.profiles) {
    profiles.push_back({{"name", profile.name},
                        {"options", ValuesJson(profile.values)},
                        {"model", ValuesJson(profile.model)},
                        {"train", ValuesJson(profile.train)}});
  }
  return {{"name", d.name},       {"group", d.group},
          {"paper", d.paper},     {"summary", d.summary},
          {"version", d.version}, {"options", OptionsJson(d.options)},
          {"profiles", profiles}};
}

}  // namespace mneme
