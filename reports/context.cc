// SPDX-License-Identifier: Apache-2.0

#include "reports/context.h"

#include <algorithm>
#include <functional>
#include <map>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

struct FieldSpec {
  const char* name;
  const char* title;
  bool numeric;
  std::function<std::string(const ResultRecord&)> value;
};

const std::vector<FieldSpec>& FieldSpecs() {
  using Cell = const ResultRecord&;
  static const auto& specs = *new std::vector<FieldSpec>{
      {"profile", "profile", false, [](Cell c) { return c.profile(); }},
      {"commit", "commit", false,
       [](Cell c) { return c.environment().commit(); }},
      {"machine", "processor", false,
       [](Cell c) { return c.environment().machine(); }},
      {"cores", "cores", true,
       [](Cell c) { return absl::StrCat(c.environment().cores()); }},
      {"simd_target", "SIMD target", false,
       [](Cell c) { return c.environment().simd_target(); }},
      {"compiler", "compiler", false,
       [](Cell c) { return c.environment().compiler(); }},
      {"build_mode", "build mode", false,
       [](Cell c) { return c.environment().build_mode(); }},
      {"threads", "threads per cell", true,
       [](Cell c) {
         return c.has_timing() ? absl::StrCat(c.timing().threads()) : "";
       }},
  };
  return specs;
}

ContextField MakeField(const FieldSpec& spec,
                       absl::Span<const ResultRecord> cells) {
  std::map<std::string, int> counts;
  for (const ResultRecord& cell : cells) {
    if (!cell.has_environment()) continue;
    const std::string value = spec.value(cell);
    if (!value.empty()) ++counts[value];
  }
  ContextField field = {spec.name, spec.title, spec.numeric, {}};
  for (const auto& [value, count] : counts) {
    field.values.push_back({value, count});
  }
  std::stable_sort(field.values.begin(), field.values.end(),
                   [](const ContextValue& a, const ContextValue& b) {
                     return a.cells > b.cells;
                   });
  return field;
}

}  // namespace

const ContextField& Context::Field(const std::string& name) const {
  return *std::find_if(
      fields.begin(), fields.end(),
      [&name](const ContextField& field) { return field.name == name; });
}

bool Context::IsUniform() const {
  return std::all_of(
      fields.begin(), fields.end(), [](const ContextField& field) {
        return field.name == "profile" || field.values.size() <= 1;
      });
}

Context MakeContext(absl::Span<const ResultRecord> cells) {
  Context context;
  for (const ResultRecord& cell : cells) {
    const std::string& date = cell.environment().date();
    if (date.empty()) continue;
    context.date = std::max(context.date, date);
    if (context.oldest_date.empty() || date < context.oldest_date) {
      context.oldest_date = date;
    }
  }
  for (const FieldSpec& spec : FieldSpecs()) {
    context.fields.push_back(MakeField(spec, cells));
  }
  return context;
}

}  // namespace mneme
