// SPDX-License-Identifier: Apache-2.0
//
// What a leaderboard can show, as leaderboard() (defs.bzl) was told: known
// without building or linking a single variant. The source is written by the
// build.

#ifndef MNEME_REPORTS_CATALOG_H_
#define MNEME_REPORTS_CATALOG_H_

#include <map>
#include <string>
#include <vector>

namespace mneme {

// Labels are spelled as Bazel's events spell them: "//reports:leaderboard", or
// "@mneme//reports:leaderboard" where that is another repository.
struct Catalog {
  std::string command;  // that starts it: "./bazelw run //reports:leaderboard"
  std::string cells;    // target whose output groups are cells
  std::string probes;   // target whose output groups probe.VARIANT are records
  std::string flags;    // package of the flags that choose them
  std::map<std::string, std::string> variants;  // name -> library
  std::vector<std::string> tasks;               // sorted
  std::vector<std::string> headline;  // those shown when none are asked for
};

Catalog DeclaredCatalog();

}  // namespace mneme

#endif  // MNEME_REPORTS_CATALOG_H_
