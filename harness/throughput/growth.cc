// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/growth.h"

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "boost/math/statistics/linear_regression.hpp"

namespace mneme {
namespace {

constexpr size_t kFewestLengths = 4;

std::string SeriesOf(const ThroughputMeasurement& m) {
  return absl::StrCat(m.contender(), " ", m.phase(), " ", m.form(), " ",
                      m.batch(), " ", m.heads(), " ", m.head_dim(), " ",
                      m.threads());
}

}  // namespace

void FitGrowth(ThroughputRecord* record) {
  std::map<std::string, std::vector<ThroughputMeasurement*>> series;
  for (ThroughputMeasurement& m : *record->mutable_measurements()) {
    if (m.error().empty() && m.milliseconds() > 0) {
      series[SeriesOf(m)].push_back(&m);
    }
  }
  for (const auto& [name, members] : series) {
    std::vector<double> log_length, log_time;
    std::set<int64_t> lengths;
    for (const ThroughputMeasurement* m : members) {
      lengths.insert(m->length());
      log_length.push_back(std::log(static_cast<double>(m->length())));
      log_time.push_back(std::log(m->milliseconds()));
    }
    if (lengths.size() < kFewestLengths) continue;
    const double slope =
        std::get<1>(boost::math::statistics::simple_ordinary_least_squares(
            log_length, log_time));
    for (ThroughputMeasurement* m : members) m->set_growth_exponent(slope);
  }
}

}  // namespace mneme
