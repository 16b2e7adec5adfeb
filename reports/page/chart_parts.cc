// SPDX-License-Identifier: Apache-2.0

#include "reports/page/chart_parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "reports/page/series.h"

namespace mneme {
namespace {

// Between the middles of two names, in pixels, and of a letter on average.
constexpr double kNameHeight = 15;
constexpr double kNameLetterWidth = 7.5;
constexpr size_t kMostNameLetters = 24;

size_t MostLetters(const ChartJson& looks) {
  size_t letters = 0;
  for (const ChartJson& look : looks) {
    letters =
        std::max(letters, look["name"].get_ref<const std::string&>().size());
  }
  return letters;
}

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

double Rounded(double value, int digits) {
  if (value == 0) return 0;
  const double scale =
      std::pow(10, digits - 1 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

ChartJson LookOf(size_t id, const std::string& name, const std::string& variant,
                 size_t variant_index) {
  return {{"id", id},
          {"name", name},
          {"variant", variant},
          {"color", SeriesColor(variant_index)},
          {"marker", SeriesMarker(variant_index)}};
}

void SetLines(ChartJson looks, ChartJson curves, ChartJson ends,
              ChartJson& spec) {
  ChartJson variants = ChartJson::array();
  for (const ChartJson& look : looks) variants.push_back(look["variant"]);
  Named(spec["signals"], "variants")["value"] = std::move(variants);
  Named(spec["signals"], "names")["value"] = NamesWidth(MostLetters(looks));
  Named(spec["data"], "looks")["values"] = std::move(looks);
  Named(spec["data"], "curves")["values"] = std::move(curves);
  Named(spec["data"], "ends")["values"] = std::move(ends);
}

ChartJson DecimalTicks(double low, double high) {
  constexpr double kFewDecades = 2.5;
  const bool few = std::log10(high / low) < kFewDecades;
  ChartJson ticks = ChartJson::array();
  for (int power = static_cast<int>(std::floor(std::log10(low)));
       std::pow(10, power) <= high; ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = Rounded(factor * std::pow(10, power), 1);
      if (tick >= low && tick <= high && (few || factor == 1)) {
        ticks.push_back(tick);
      }
    }
  }
  return ticks;
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
