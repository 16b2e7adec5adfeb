// SPDX-License-Identifier: Apache-2.0
//
// The beginning of a variant, written to disk: a folder that compiles, with a
// contract test that fails until its gradients are written (harness/skeleton).

#ifndef MNEME_HARNESS_NEW_VARIANT_H_
#define MNEME_HARNESS_NEW_VARIANT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mneme {

struct NewVariant {
  std::string name;
  // Root of the workspace that the folder belongs to; "" when not known.
  std::string workspace;
  // Where the folder `name` is made. "" is attention/ in Mneme's own workspace
  // and the root of others.
  std::string directory;
};

struct WrittenVariant {
  std::string folder;
  std::string label;    // "//attention/my_memory", as far as it is known
  bool listed = false;  // added to Mneme's attention/variants.bzl
};

// InvalidArgument, in one line that says why, for what cannot name a variant:
// anything but lower_snake_case, words that mean something else, and names
// that Mneme ships.
absl::Status CheckVariantName(const std::string& name);

// Writes the folder as a whole or not at all and, if it is in Mneme's own
// workspace, adds its line to attention/variants.bzl. AlreadyExists if there is
// something by that name: nothing is ever overwritten.
absl::StatusOr<WrittenVariant> WriteNewVariant(const NewVariant& variant);

}  // namespace mneme

#endif  // MNEME_HARNESS_NEW_VARIANT_H_
