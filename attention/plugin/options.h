// SPDX-License-Identifier: Apache-2.0
//
// Named, typed settings of a plugin: what a variant or a task lets its user
// choose, with defaults, ranges and one line of help each. Values arrive as
// text (--set name=value) and are checked once, here; afterwards they are read
// by name without any failure path.
//
//   const std::vector<OptionSpec> kSpecs = {
//       OptionSpec::Int("pairs", 8, 1, 4096, "key-value pairs in the context"),
//       OptionSpec::Choice("filler", "zero", {"zero", "random"}, "..."),
//   };
//   absl::StatusOr<Options> options = Options::Parse(kSpecs, {{"pairs",
//   "16"}}); options->Int("pairs");  // 16

#ifndef MNEME_ATTENTION_PLUGIN_OPTIONS_H_
#define MNEME_ATTENTION_PLUGIN_OPTIONS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mneme {

// (name, value as text), in the order given.
using OptionValues = std::vector<std::pair<std::string, std::string>>;

struct OptionSpec {
  enum class Kind { kInt, kReal, kBool, kChoice, kText };

  std::string name;
  Kind kind;
  std::string default_value;  // as text, parses under the rules below
  std::string help;
  double min = 0;  // inclusive, of kInt and kReal
  double max = 0;
  std::vector<std::string> choices;  // of kChoice

  static OptionSpec Int(std::string name, int64_t default_value, int64_t min,
                        int64_t max, std::string help);
  static OptionSpec Real(std::string name, double default_value, double min,
                         double max, std::string help);
  static OptionSpec Bool(std::string name, bool default_value,
                         std::string help);
  static OptionSpec Choice(std::string name, std::string default_value,
                           std::vector<std::string> choices, std::string help);
  // Any text of one line: a path. The default may be empty.
  static OptionSpec Text(std::string name, std::string default_value,
                         std::string help);

  // "1..4096", "true|false", "zero|random", "text": for messages and
  // `describe`.
  std::string RangeText() const;
};

class Options {
 public:
  Options() = default;

  // Defaults overlaid with values (later ones win). InvalidArgument for an
  // unknown name (with the nearest known one), text that does not parse, or a
  // value out of range; the message names option, value and range.
  static absl::StatusOr<Options> Parse(const std::vector<OptionSpec>& specs,
                                       const OptionValues& values = {});

  // The value of an option that the specs declared with that kind. Asking for
  // another is a programming error: debug builds abort, release builds return
  // a zero value.
  int64_t Int(absl::string_view name) const;
  double Real(absl::string_view name) const;
  bool Bool(absl::string_view name) const;
  const std::string& Choice(absl::string_view name) const;
  const std::string& Text(absl::string_view name) const;

  // All values in canonical text, in the order of the specs: equal settings
  // give equal text. Parsing it back gives the same options.
  OptionValues ToValues() const;

 private:
  // std::string is of kChoice and kText.
  using Value = std::variant<int64_t, double, bool, std::string>;
  template <typename T>
  const T& Get(absl::string_view name) const;
  std::vector<std::pair<std::string, Value>> values_;  // in the specs' order
};

// Splits "name=value". InvalidArgument when there is no '=' or no name.
absl::StatusOr<std::pair<std::string, std::string>> ParseAssignment(
    absl::string_view text);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PLUGIN_OPTIONS_H_
