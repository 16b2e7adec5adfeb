// SPDX-License-Identifier: Apache-2.0
//
// What the page's template needs to know of probes.

#ifndef MNEME_REPORTS_PAGE_PROBE_SECTION_H_
#define MNEME_REPORTS_PAGE_PROBE_SECTION_H_

#include "absl/types/span.h"
#include "reports/page/view.h"
#include "reports/probe_results.h"

namespace mneme {

// `capacity` in page.mustache: false when no probe says anything of it.
ViewData CapacitySection(absl::Span<const Probe> probes);

// `approximation` in page.mustache, likewise.
ViewData ApproximationSection(absl::Span<const Probe> probes);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_PROBE_SECTION_H_
