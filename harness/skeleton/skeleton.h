// SPDX-License-Identifier: Apache-2.0
//
// The files that `mneme new-variant` begins a variant with, as they were when
// this was built, and the list that it adds to. See harness/embed.bzl.

#ifndef MNEME_HARNESS_SKELETON_SKELETON_H_
#define MNEME_HARNESS_SKELETON_SKELETON_H_

#include <string>

namespace mneme {

// A variant called my_variant, MyVariant or My variant, in a workspace that
// calls Mneme @mneme.
const std::string& SkeletonSource();  // my_variant.cc
const std::string& SkeletonBuild();   // my_variant.BUILD

const std::string& ShippedVariants();  // attention/variants.bzl

}  // namespace mneme

#endif  // MNEME_HARNESS_SKELETON_SKELETON_H_
