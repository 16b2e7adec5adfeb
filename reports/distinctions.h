// SPDX-License-Identifier: Apache-2.0
//
// What tells one set of settings from others: what rows and probes of one
// variant are called apart by.

#ifndef MNEME_REPORTS_DISTINCTIONS_H_
#define MNEME_REPORTS_DISTINCTIONS_H_

#include <map>
#include <string>
#include <vector>

#include "google/protobuf/repeated_field.h"
#include "harness/result.pb.h"

namespace mneme {

using Settings = google::protobuf::RepeatedPtrField<Setting>;
using Values = std::map<std::string, std::string>;

// One "name=value\n" after another, for comparison.
std::string SettingsText(const Settings& settings);

Values ValuesOf(const Settings& settings);

// The name=value pairs of mine in which some of the others differ. An empty set
// of options is one that is not known, and differs from none.
std::vector<std::string> Differences(const Values& mine,
                                     const std::vector<Values>& others);

// "softmax", or "softmax (rope=true, heads=2)".
std::string NameWith(const std::string& variant,
                     const std::vector<std::string>& differences);

}  // namespace mneme

#endif  // MNEME_REPORTS_DISTINCTIONS_H_
