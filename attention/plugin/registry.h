// SPDX-License-Identifier: Apache-2.0
//
// The plugin registry: a table of entries by name that plugins fill from static
// initialisers of libraries linked with alwayslink. Registration only stores
// the entry; nothing of a plugin runs before main asks for it by name.

#ifndef MNEME_ATTENTION_PLUGIN_REGISTRY_H_
#define MNEME_ATTENTION_PLUGIN_REGISTRY_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "attention/plugin/suggest.h"

namespace mneme {

// Entry is any movable type. Filled during static initialisation, which is
// single-threaded; read-only and so thread-safe afterwards.
template <typename Entry>
class Registry {
 public:
  // what names the kind in messages: "variant", "task".
  explicit Registry(std::string what) : what_(std::move(what)) {}

  // Returns true so that a namespace-scope constant can hold the call. The
  // first entry of a name stays; a second is remembered as an error.
  bool Add(const std::string& name, Entry entry) {
    if (!entries_.emplace(name, std::move(entry)).second) {
      status_ = absl::AlreadyExistsError(
          absl::StrCat("two plugins register the ", what_, " \"", name, "\""));
    }
    return true;
  }

  // The entry, or NotFound with the nearest known name, or AlreadyExists when
  // two plugins claimed one name (whichever name is asked for: the binary is
  // wrong). The pointer lives as long as the registry.
  absl::StatusOr<const Entry*> Find(absl::string_view name) const {
    if (!status_.ok()) return status_;
    auto it = entries_.find(std::string(name));
    if (it == entries_.end()) return UnknownName(what_, name, Names());
    return &it->second;
  }

  // All names, sorted.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
  }

 private:
  std::string what_;
  std::map<std::string, Entry> entries_;
  absl::Status status_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PLUGIN_REGISTRY_H_
