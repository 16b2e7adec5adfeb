// SPDX-License-Identifier: Apache-2.0
//
// How a variant looks, in tables and charts alike: one of six colours and one
// of seven markers. A variant is told from the next by both, so that neither
// colour blindness nor a grey printout takes the difference away; as 6 and 7
// have no common divisor, 42 variants pass before a look returns.

#ifndef MNEME_REPORTS_PAGE_SERIES_H_
#define MNEME_REPORTS_PAGE_SERIES_H_

#include <cstddef>
#include <string>

namespace mneme {

// The colours themselves are --series-0 to --series-5 in page.css, which has
// them once for light and once for dark.
inline constexpr size_t kSeriesColors = 6;

// Index of the colour of the variant with that index in Leaderboard::variants.
size_t SeriesColor(size_t variant_index);

// An SVG path about the origin, of which each part stays within 1.2 of it. It
// is understood by browsers and as a `shape` by Vega.
std::string SeriesMarker(size_t variant_index);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_SERIES_H_
