// SPDX-License-Identifier: Apache-2.0

#include "attention/variant.h"

#include <string>
#include <utility>

namespace mneme {

Registry<Variant>& Variants() {
  // Leaked on purpose: static destructors of plugins may still refer to it.
  static auto* registry = new Registry<Variant>("variant");
  return *registry;
}

bool RegisterVariant(Variant variant) {
  std::string name = variant.descriptor.name;
  return Variants().Add(name, std::move(variant));
}

}  // namespace mneme
