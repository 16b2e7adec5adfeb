// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/operators.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/tensor/random.h"

namespace mneme {

absl::StatusOr<Operators> MakeOperators(const Variant& variant,
                                        const OptionValues& set, int64_t trials,
                                        uint64_t seed) {
  constexpr uint64_t kSeeds = 1000000;  // every such option takes so many
  if (variant.make_operator == nullptr) {
    return absl::UnimplementedError("it is no function of per-head arrays");
  }
  const VariantDescriptor& described = variant.descriptor;
  const bool one = described.redraw.empty() ||
                   std::any_of(set.begin(), set.end(), [&](const auto& value) {
                     return value.first == described.redraw;
                   });
  Operators operators;
  for (int64_t t = 0; t < (one ? 1 : trials); ++t) {
    OptionValues values = set;
    if (!one) {
      Random random(seed, StreamId("probe redraw"), t);
      values.emplace_back(described.redraw, absl::StrCat(random.Below(kSeeds)));
    }
    const auto options = Options::Parse(described.options, values);
    if (!options.ok()) return options.status();
    auto made = variant.make_operator(*options);
    if (!made.ok()) return made.status();
    operators.push_back(*std::move(made));
  }
  return operators;
}

}  // namespace mneme
