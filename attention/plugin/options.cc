// SPDX-License-Identifier: Apache-2.0

#include "attention/plugin/options.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>
#include <system_error>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "attention/plugin/suggest.h"

namespace mneme {
namespace {

// The shortest text that reads back as the same double, whatever the locale.
std::string RealText(double value) {
  char text[32];  // "-2.2250738585072014e-308" is as long as it gets
  return std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

// Reads all of text as a number. False for anything else: spaces, a plus sign,
// trailing characters, no character, a value too large or too small for Number.
template <typename Number>
bool ParseNumber(absl::string_view text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [parsed_end, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && parsed_end == end;
}

// "an integer in 1..4096": what a value must be, for messages.
std::string Requirement(const OptionSpec& spec) {
  switch (spec.kind) {
    case OptionSpec::Kind::kInt:
      return absl::StrCat("an integer in ", spec.RangeText());
    case OptionSpec::Kind::kReal:
      return absl::StrCat("a number in ", spec.RangeText());
    case OptionSpec::Kind::kText:
      return "text without control characters";
    case OptionSpec::Kind::kBool:
    case OptionSpec::Kind::kChoice:
      break;
  }
  return absl::StrCat("one of ", spec.RangeText());
}

absl::Status BadValue(const OptionSpec& spec, absl::string_view text) {
  const std::string nearest = NearestName(text, spec.choices);
  return absl::InvalidArgumentError(absl::StrCat(
      "option \"", spec.name, "\": \"", absl::Utf8SafeCEscape(text),
      "\" is not ", Requirement(spec),
      nearest.empty() ? ""
                      : absl::StrCat("; did you mean \"", nearest, "\"?")));
}

using Value = std::variant<int64_t, double, bool, std::string>;

absl::StatusOr<Value> ParseValue(const OptionSpec& spec,
                                 absl::string_view text) {
  switch (spec.kind) {
    case OptionSpec::Kind::kInt: {
      int64_t value = 0;
      if (!ParseNumber(text, &value) || value < spec.min || value > spec.max) {
        return BadValue(spec, text);
      }
      return Value(value);
    }
    case OptionSpec::Kind::kReal: {
      double value = 0;
      // Written so that NaN, which compares false, is refused.
      if (!ParseNumber(text, &value) || !std::isfinite(value) ||
          !(value >= spec.min && value <= spec.max)) {
        return BadValue(spec, text);
      }
      // Adding zero turns -0 into 0: equal values have one text.
      return Value(value + 0.0);
    }
    case OptionSpec::Kind::kBool:
      if (text != "true" && text != "false") return BadValue(spec, text);
      return Value(text == "true");
    case OptionSpec::Kind::kText:
      // Messages, records and command lines carry it as one line.
      if (absl::c_any_of(text, absl::ascii_iscntrl)) {
        return BadValue(spec, text);
      }
      return Value(std::string(text));
    case OptionSpec::Kind::kChoice:
      break;
  }
  if (std::find(spec.choices.begin(), spec.choices.end(), text) ==
      spec.choices.end()) {
    return BadValue(spec, text);
  }
  return Value(std::string(text));
}

struct ToText {
  std::string operator()(int64_t value) const { return absl::StrCat(value); }
  std::string operator()(double value) const { return RealText(value); }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const std::string& value) const { return value; }
};

}  // namespace

OptionSpec OptionSpec::Int(std::string name, int64_t default_value, int64_t min,
                           int64_t max, std::string help) {
  return {std::move(name),
          Kind::kInt,
          ToText()(default_value),
          std::move(help),
          static_cast<double>(min),
          static_cast<double>(max),
          {}};
}

OptionSpec OptionSpec::Real(std::string name, double default_value, double min,
                            double max, std::string help) {
  return {std::move(name),
          Kind::kReal,
          ToText()(default_value),
          std::move(help),
          min,
          max,
          {}};
}

OptionSpec OptionSpec::Bool(std::string name, bool default_value,
                            std::string help) {
  return {std::move(name),
          Kind::kBool,
          ToText()(default_value),
          std::move(help),
          0,
          0,
          {}};
}

OptionSpec OptionSpec::Choice(std::string name, std::string default_value,
                              std::vector<std::string> choices,
                              std::string help) {
  return {std::move(name),
          Kind::kChoice,
          std::move(default_value),
          std::move(help),
          0,
          0,
          std::move(choices)};
}

OptionSpec OptionSpec::Text(std::string name, std::string default_value,
                            std::string help) {
  return {std::move(name),
          Kind::kText,
          std::move(default_value),
          std::move(help),
          0,
          0,
          {}};
}

std::string OptionSpec::RangeText() const {
  switch (kind) {
    case Kind::kInt:
      return absl::StrFormat("%.0f..%.0f", min, max);
    case Kind::kReal:
      return absl::StrCat(RealText(min), "..", RealText(max));
    case Kind::kBool:
      return "true|false";
    case Kind::kText:
      return "text";
    case Kind::kChoice:
      break;
  }
  return absl::StrJoin(choices, "|");
}

absl::StatusOr<Options> Options::Parse(const std::vector<OptionSpec>& specs,
                                       const OptionValues& values) {
  Options options;
  std::vector<std::string> names;
  for (const OptionSpec& spec : specs) {
    absl::StatusOr<Value> value = ParseValue(spec, spec.default_value);
    if (!value.ok()) return value.status();
    options.values_.emplace_back(spec.name, *std::move(value));
    names.push_back(spec.name);
  }
  for (const auto& [name, text] : values) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      // NotFound is for plugins; a wrong option is a wrong argument.
      return absl::InvalidArgumentError(
          UnknownName("option", name, names).message());
    }
    const size_t i = found - names.begin();
    absl::StatusOr<Value> value = ParseValue(specs[i], text);
    if (!value.ok()) return value.status();
    options.values_[i].second = *std::move(value);
  }
  return options;
}

template <typename T>
const T& Options::Get(absl::string_view name) const {
  for (const auto& [known, value] : values_) {
    if (known != name) continue;
    if (const T* typed = std::get_if<T>(&value)) return *typed;
  }
  assert(false && "no option of this name and kind was declared");
  static const T& zero = *new T();
  return zero;
}

int64_t Options::Int(absl::string_view name) const {
  return Get<int64_t>(name);
}

double Options::Real(absl::string_view name) const { return Get<double>(name); }

bool Options::Bool(absl::string_view name) const { return Get<bool>(name); }

const std::string& Options::Choice(absl::string_view name) const {
  return Get<std::string>(name);
}

const std::string& Options::Text(absl::string_view name) const {
  return Get<std::string>(name);
}

OptionValues Options::ToValues() const {
  OptionValues texts;
  for (const auto& [name, value] : values_) {
    texts.emplace_back(name, std::visit(ToText(), value));
  }
  return texts;
}

absl::StatusOr<std::pair<std::string, std::string>> ParseAssignment(
    absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", absl::Utf8SafeCEscape(text), "\" is not of the form name=value"));
  }
  return std::make_pair(std::string(text.substr(0, equals)),
                        std::string(text.substr(equals + 1)));
}

}  // namespace mneme
