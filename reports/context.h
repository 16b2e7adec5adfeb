// SPDX-License-Identifier: Apache-2.0
//
// What machine, code and settings a set of cells was measured with. Where
// cells differ all values are listed: a comparison across machines or commits
// must be seen as one.

#ifndef MNEME_REPORTS_CONTEXT_H_
#define MNEME_REPORTS_CONTEXT_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "harness/result.pb.h"

namespace mneme {

// A value, and how many cells it holds for.
struct ContextValue {
  std::string value;
  int cells = 0;
};

struct ContextField {
  std::string name;   // "simd_target": stable, for programs
  std::string title;  // "SIMD target": for people
  bool numeric = false;
  // Most frequent first; more than one when cells differ, none when no cell
  // knows.
  std::vector<ContextValue> values;
};

struct Context {
  std::string date;         // of the newest cell: UTC, ISO 8601
  std::string oldest_date;  // of the oldest
  std::vector<ContextField> fields;

  // The field of that name, which must be one of MakeContext's.
  const ContextField& Field(const std::string& name) const;
  // Whether all cells agree in all fields but the date and the profile.
  bool IsUniform() const;
};

// Cells without an environment, which never ran, are left out. Fields: profile,
// commit, machine, cores, simd_target, compiler, build_mode, threads.
Context MakeContext(absl::Span<const ResultRecord> cells);

}  // namespace mneme

#endif  // MNEME_REPORTS_CONTEXT_H_
