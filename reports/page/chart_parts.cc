// SPDX-License-Identifier: Apache-2.0

#include "reports/page/chart_parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mneme {
namespace {

// Between the middles of two names, in pixels, and of a letter on average.
constexpr double kNameHeight = 15;
constexpr double kNameLetterWidth = 7.5;
constexpr size_t kMostNameLetters = 24;

}  // namespace

ChartJson& Named(ChartJson& array, absl::string_view name) {
  return *std::find_if(array.begin(), array.end(),
                       [name](const ChartJson& entry) {
                         return entry.value("name", "") == name;
                       });
}

std::string Dump(const ChartJson& spec) {
  return spec.dump(-1, ' ', false, ChartJson::error_handler_t::replace);
}

std::string NameList(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) list += i + 1 == names.size() ? " and " : ", ";
    list += names[i];
  }
  return list;
}

ChartJson PowerTicks(double low, double high) {
  const int first = static_cast<int>(std::lround(std::log2(low)));
  const int last = static_cast<int>(std::lround(std::log2(high)));
  const int stride = std::max(1, (last - first + 4) / 5);
  ChartJson ticks = ChartJson::array();
  for (int power = first; power <= last; power += stride) {
    ticks.push_back(std::exp2(power));
  }
  return ticks;
}

double NamesWidth(size_t letters) {
  return 16 + kNameLetterWidth *
                  static_cast<double>(std::min(letters, kMostNameLetters));
}

double HeightForNames(size_t names) {
  return std::max(kPlotHeight, kNameHeight * static_cast<double>(names));
}

void PlaceNames(std::initializer_list<ChartJson*> arrays, double height,
                const std::function<double(const ChartJson&)>& share) {
  std::vector<std::pair<double, ChartJson*>> entries;
  for (ChartJson* array : arrays) {
    for (ChartJson& entry : *array) {
      entries.emplace_back((1 - share(entry)) * height, &entry);
    }
  }
  std::stable_sort(
      entries.begin(), entries.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<double> positions;
  for (const auto& [position, entry] : entries) positions.push_back(position);
  positions = SpreadOut(std::move(positions), kNameHeight, 0, height);
  for (size_t i = 0; i < entries.size(); ++i) {
    (*entries[i].second)["label_y"] = positions[i];
  }
}

std::vector<double> SpreadOut(std::vector<double> sorted, double gap,
                              double low, double high) {
  double lowest = low;
  for (double& position : sorted) {
    position = std::max(position, lowest);
    lowest = position + gap;
  }
  double highest = high;
  for (auto position = sorted.rbegin(); position != sorted.rend(); ++position) {
    *position = std::min(*position, highest);
    highest = *position - gap;
  }
  return sorted;
}

}  // namespace mneme
