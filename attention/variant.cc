// SPDX-License-Identifier: Apache-2.0

#include "attention/variant.h"

#include <algorithm>
#include <string>
#include <utility>

namespace mneme {

Registry<Variant>& Variants() {
  // Leaked on purpose: static destructors of plugins may still refer to it.
  static auto* registry = new Registry<Variant>("variant");
  return *registry;
}

double ToleranceUnder(const VariantDescriptor& d, const Options& options) {
  double largest = d.tolerance;
  const OptionValues values = options.ToValues();
  for (const VariantDescriptor::OtherTolerance& other : d.other_tolerances) {
    for (const auto& [name, value] : values) {
      if (name != other.option || value != other.value) continue;
      largest = std::max(largest, other.tolerance);
    }
  }
  return largest;
}

bool RegisterVariant(Variant variant) {
  std::string name = variant.descriptor.name;
  return Variants().Add(name, std::move(variant));
}

}  // namespace mneme
