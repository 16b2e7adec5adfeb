// SPDX-License-Identifier: Apache-2.0

#include "reports/page/series.h"

#include <iterator>

namespace mneme {
namespace {

// Of about the same area each, so that none looks more important.
constexpr const char* kMarkers[] = {
    // circle, square, triangle, diamond, inverted triangle, cross, saltire
    "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z",
    "M-0.88,-0.88H0.88V0.88H-0.88Z",
    "M0,-1.15L1.15,0.9H-1.15Z",
    "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "M0,1.15L1.15,-0.9H-1.15Z",
    "M-0.4,-1.1H0.4V-0.4H1.1V0.4H0.4V1.1H-0.4V0.4H-1.1V-0.4H-0.4Z",
    "M-1.06,-0.5L-0.5,-1.06L0,-0.56L0.5,-1.06L1.06,-0.5L0.56,0L1.06,0.5"
    "L0.5,1.06L0,0.56L-0.5,1.06L-1.06,0.5L-0.56,0Z",
};

}  // namespace

size_t SeriesColor(size_t variant_index) {
  return variant_index % kSeriesColors;
}

std::string SeriesMarker(size_t variant_index) {
  return kMarkers[variant_index % std::size(kMarkers)];
}

}  // namespace mneme
