// SPDX-License-Identifier: Apache-2.0

#include "harness/settings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "attention/plugin/suggest.h"
#include "harness/model.h"
#include "harness/trainer.h"

namespace mneme {
namespace {

// One scope while it is being filled.
struct Scope {
  std::string name;
  const std::vector<OptionSpec>* specs;
  OptionValues values;

  bool Has(absl::string_view option) const {
    return std::any_of(specs->begin(), specs->end(),
                       [&](const OptionSpec& s) { return s.name == option; });
  }
};

void Append(const OptionValues& from, OptionValues* to) {
  to->insert(to->end(), from.begin(), from.end());
}

// The scope that an assignment's name means; *name loses its scope prefix.
absl::StatusOr<Scope*> FindScope(std::vector<Scope>& scopes,
                                 std::string* name) {
  const size_t dot = name->find('.');
  if (dot != std::string::npos) {
    const std::string prefix = name->substr(0, dot);
    std::vector<std::string> known;
    for (Scope& scope : scopes) {
      if (scope.name == prefix) {
        *name = name->substr(dot + 1);
        return &scope;
      }
      known.push_back(scope.name);
    }
    return UnknownName("scope of --set", prefix, known);
  }
  std::vector<Scope*> owners;
  std::vector<std::string> known, owner_names;
  for (Scope& scope : scopes) {
    for (const OptionSpec& spec : *scope.specs) known.push_back(spec.name);
    if (scope.Has(*name)) {
      owners.push_back(&scope);
      owner_names.push_back(absl::StrCat(scope.name, ".", *name));
    }
  }
  if (owners.empty()) return UnknownName("option of --set", *name, known);
  if (owners.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", *name, " is ambiguous: say ",
                     absl::StrJoin(owner_names, " or ")));
  }
  return owners[0];
}

}  // namespace

const std::vector<HarnessProfile>& HarnessProfiles() {
  static const auto* profiles = new std::vector<HarnessProfile>{
      {"quick",
       "a small model that learns within seconds: ranks mechanisms, one seed",
       {},
       {}},
      {"smoke",
       "a few steps of a tiny model: shows that everything runs, learns "
       "nothing",
       {{"width", "16"}},
       {{"steps", "6"},
        {"batch", "8"},
        {"eval_every", "3"},
        {"warmup", "2"},
        {"validation_examples", "16"},
        {"test_examples", "16"},
        {"shard_tokens", "64"}}},
      {"standard",
       "what the leaderboards are of: three learning rates, of which "
       "validation chooses, 1600 steps each or until nothing improves; for "
       "seeds 0, 1 and 2",
       {},
       {{"steps", "1600"},
        {"patience", "20"},
        {"learning_rate", "0.001"},
        {"rates", "3"},
        {"rate_factor", "3.1622776601683795"}},
       /*of_every_task=*/true},
  };
  return *profiles;
}

absl::StatusOr<Settings> ResolveSettings(const VariantDescriptor& variant,
                                         const TaskDescriptor& task,
                                         absl::string_view profile,
                                         const std::vector<std::string>& set) {
  enum { kVariant, kTask, kModel, kTrain };
  std::vector<Scope> scopes = {{"variant", &variant.options, {}},
                               {"task", &task.options, {}},
                               {"model", &ModelOptionSpecs(), {}},
                               {"train", &TrainOptionSpecs(), {}}};
  const auto append = [&](const auto& of) {
    Append(of.model, &scopes[kModel].values);
    Append(of.train, &scopes[kTrain].values);
  };
  std::vector<std::string> known;
  const TaskProfile* declared = nullptr;
  for (const TaskProfile& p : task.profiles) {
    known.push_back(p.name);
    if (p.name == profile) declared = &p;
  }
  const HarnessProfile* of_harness = nullptr;
  for (const HarnessProfile& p : HarnessProfiles()) {
    if (p.of_every_task) known.push_back(p.name);
    if (p.name == profile) of_harness = &p;
  }
  if (declared != nullptr) {
    // Quick's training under a published name would be a false claim.
    if (of_harness == nullptr && declared->train.empty()) {
      return absl::InternalError(absl::StrCat(
          "profile ", profile, " of task ", task.name,
          " says nothing of training; give its TaskProfile model and train"));
    }
    Append(declared->values, &scopes[kTask].values);
    if (of_harness != nullptr) append(*of_harness);
    append(*declared);
  } else if (of_harness != nullptr && of_harness->of_every_task) {
    const TaskProfile& quick = task.profiles.front();
    Append(quick.values, &scopes[kTask].values);
    append(quick);
    append(*of_harness);
  } else {
    return UnknownName(absl::StrCat("profile of task ", task.name), profile,
                       known);
  }
  for (const std::string& text : set) {
    auto assignment = ParseAssignment(text);
    if (!assignment.ok()) return assignment.status();
    std::string name = assignment->first;
    absl::StatusOr<Scope*> scope = FindScope(scopes, &name);
    if (!scope.ok()) return scope.status();
    (*scope)->values.emplace_back(name, assignment->second);
  }
  Settings settings;
  Options* const targets[] = {&settings.variant, &settings.task,
                              &settings.model, &settings.train};
  for (size_t i = 0; i < scopes.size(); ++i) {
    absl::StatusOr<Options> options =
        Options::Parse(*scopes[i].specs, scopes[i].values);
    if (!options.ok()) {
      return absl::Status(options.status().code(),
                          absl::StrCat(scopes[i].name, " options: ",
                                       options.status().message()));
    }
    *targets[i] = *std::move(options);
  }
  return settings;
}

}  // namespace mneme
