// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/plan.h"

#include <algorithm>
#include <regex>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

// Throws std::regex_error when made of what is no regular expression, and may
// when asked about a name.
class Filter {
 public:
  explicit Filter(const std::string& text)
      : inverted_(!text.empty() && text[0] == '-'),
        wanted_(inverted_ ? text.substr(1) : text) {}

  bool Wants(const std::string& name) const {
    return std::regex_search(name, wanted_) != inverted_;
  }

 private:
  const bool inverted_;
  const std::regex wanted_;
};

// The group of this shape and number of threads, added if it is new.
PlannedGroup& GroupOf(const ThroughputShape& shape, int threads,
                      std::vector<PlannedGroup>* groups) {
  for (PlannedGroup& group : *groups) {
    if (group.shape == shape && group.threads == threads) return group;
  }
  groups->push_back({shape, threads, {}});
  return groups->back();
}

bool Has(const PlannedGroup& group, Phase phase) {
  return std::any_of(
      group.phases.begin(), group.phases.end(),
      [&](const auto& planned) { return planned.phase == phase; });
}

std::vector<const Contender*> ChosenContenders(const Selection& selection,
                                               const Filter& filter,
                                               absl::string_view variant,
                                               const PlannedGroup& group,
                                               Phase phase) {
  std::vector<const Contender*> chosen;
  for (const Contender* contender : ContendersOf(variant, phase)) {
    const auto& names = selection.contenders;
    const bool named =
        names.empty() ||
        std::find(names.begin(), names.end(), contender->name) != names.end();
    if (named && filter.Wants(MeasurementName(variant, group, *contender))) {
      chosen.push_back(contender);
    }
  }
  return chosen;
}

std::vector<PlannedGroup> PlanOf(const Selection& selection,
                                 const Filter& filter,
                                 absl::string_view variant) {
  std::vector<PlannedGroup> groups;
  const auto add = [&](const ThroughputShape& shape, int threads, Phase phase) {
    PlannedGroup& group = GroupOf(shape, threads, &groups);
    if (Has(group, phase)) return;
    auto contenders =
        ChosenContenders(selection, filter, variant, group, phase);
    if (contenders.empty()) return;
    group.phases.push_back({phase, std::move(contenders)});
  };
  for (const int threads : selection.threads) {
    for (const Phase phase : selection.phases) {
      if (selection.shapes.empty()) add(DefaultShape(phase), threads, phase);
      for (const ThroughputShape& shape : selection.shapes) {
        add(shape, threads, phase);
      }
    }
  }
  groups.erase(
      std::remove_if(groups.begin(), groups.end(),
                     [](const PlannedGroup& g) { return g.phases.empty(); }),
      groups.end());
  return groups;
}

}  // namespace

absl::StatusOr<std::vector<PlannedGroup>> PlanOf(const Selection& selection,
                                                 absl::string_view variant) {
  try {
    return PlanOf(selection, Filter(selection.filter), variant);
  } catch (const std::regex_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("--benchmark_filter: \"", selection.filter,
                     "\" is no regular expression that can be searched for: ",
                     error.what()));
  }
}

std::string MeasurementName(absl::string_view variant,
                            const PlannedGroup& group,
                            const Contender& contender) {
  return absl::StrCat(variant, "/", PhaseName(contender.phase), "/",
                      group.shape.ToString(), "/", group.threads, "/",
                      contender.name);
}

}  // namespace mneme
