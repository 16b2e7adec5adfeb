// SPDX-License-Identifier: Apache-2.0
//
// What the page's charts have in common: filling a Vega specification, and
// finding room for the names beside lines.

#ifndef MNEME_REPORTS_PAGE_CHART_PARTS_H_
#define MNEME_REPORTS_PAGE_CHART_PARTS_H_

#include <algorithm>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace mneme {

using ChartJson = nlohmann::ordered_json;

// Of the plots, in pixels, unless there are more names than fit.
inline constexpr double kPlotHeight = 300;

// The element of an array of a specification that has that name.
ChartJson& Named(ChartJson& array, absl::string_view name);

// One line of JSON. Text that is not UTF-8 is replaced, never refused.
std::string Dump(const ChartJson& spec);

// "softmax, retention and linear".
std::string NameList(const std::vector<std::string>& names);

// To so many significant digits: the page has thousands of numbers, and holds
// of each what can be seen, and no more.
double Rounded(double value, int digits);

// The smallest and largest of what was added.
struct ChartRange {
  double low = std::numeric_limits<double>::max();
  double high = 0;

  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// How a line looks, which stands once for each in `looks`; its points name it
// by its id.
ChartJson LookOf(size_t id, const std::string& name, const std::string& variant,
                 size_t variant_index);

// Fills in the lines of a specification that has data `looks`, `curves` and
// `ends`, and signals `variants` and `names`.
void SetLines(ChartJson looks, ChartJson curves, ChartJson ends,
              ChartJson& spec);

// Powers of ten, and over few of them 2 and 5 times those too.
ChartJson DecimalTicks(double low, double high);

// At most six ticks, at powers of two.
ChartJson PowerTicks(double low, double high);

// The room, in pixels, that names of so many letters get beside a plot.
double NamesWidth(size_t letters);

// The height of a plot beside which that many names fit, at least kPlotHeight.
double HeightForNames(size_t names);

// Gives each entry of the arrays a "label_y", as near as there is room to its
// share of the height, from 0 at the foot to 1 at the top.
void PlaceNames(std::initializer_list<ChartJson*> arrays, double height,
                const std::function<double(const ChartJson&)>& share);

// Moves positions, in order, as little as is needed for neighbours to be `gap`
// apart and all to stay in [low, high]; keeps the gap when both cannot be.
std::vector<double> SpreadOut(std::vector<double> sorted, double gap,
                              double low, double high);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_CHART_PARTS_H_
