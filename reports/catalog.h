// SPDX-License-Identifier: Apache-2.0
//
// The names of all variants and tasks there are, as //attention:variants.bzl
// and
// //tasks:tasks.bzl declare them: known without building or linking a single
// one. The source is written by the build.

#ifndef MNEME_REPORTS_CATALOG_H_
#define MNEME_REPORTS_CATALOG_H_

#include <string>
#include <vector>

namespace mneme {

// Sorted.
std::vector<std::string> DeclaredVariants();
std::vector<std::string> DeclaredTasks();

}  // namespace mneme

#endif  // MNEME_REPORTS_CATALOG_H_
