// SPDX-License-Identifier: Apache-2.0
//
// Accuracy by where in a sequence the answer was said, as tables whose cells
// have a colour: the picture that needle tests are known by. They need no
// script.
//
// Tested at several lengths, each variant has a table of its own, depth against
// length; at one length all share one, variant against depth.

#ifndef MNEME_REPORTS_PAGE_HEAT_MAP_H_
#define MNEME_REPORTS_PAGE_HEAT_MAP_H_

#include "absl/types/span.h"
#include "reports/length_results.h"
#include "reports/page/view.h"

namespace mneme {

// The element `heat` of a board in page.mustache; false where answers are said
// at too few depths to make a picture.
ViewData HeatMaps(absl::Span<const RowLengths> rows);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_HEAT_MAP_H_
