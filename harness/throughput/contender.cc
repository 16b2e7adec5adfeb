// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/contender.h"

#include <algorithm>
#include <utility>

namespace mneme {
namespace {

std::vector<Contender>& All() {
  static auto* contenders = new std::vector<Contender>;
  return *contenders;
}

bool Precedes(const std::string& a, const std::string& b) {
  if ((a == kOwnContender) != (b == kOwnContender)) return a == kOwnContender;
  return a < b;
}

}  // namespace

bool RegisterContender(Contender contender) {
  All().push_back(std::move(contender));
  return true;
}

std::vector<const Contender*> ContendersOf(absl::string_view variant,
                                           Phase phase) {
  std::vector<const Contender*> found;
  for (const Contender& contender : All()) {
    if (contender.phase == phase &&
        (contender.variant.empty() || contender.variant == variant)) {
      found.push_back(&contender);
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Contender* a, const Contender* b) {
              return Precedes(a->name, b->name);
            });
  return found;
}

std::vector<std::string> ContenderNames() {
  std::vector<std::string> names;
  for (const Contender& contender : All()) names.push_back(contender.name);
  std::sort(names.begin(), names.end(), Precedes);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace mneme
