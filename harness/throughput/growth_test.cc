// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/growth.h"

#include "gtest/gtest.h"

namespace mneme {
namespace {

ThroughputMeasurement* Add(ThroughputRecord* record, int64_t length,
                           double milliseconds) {
  ThroughputMeasurement* m = record->add_measurements();
  m->set_contender("mneme");
  m->set_phase("prefill");
  m->set_length(length);
  m->set_milliseconds(milliseconds);
  return m;
}

TEST(GrowthTest, FindsThePowerOfTheLength) {
  ThroughputRecord record;
  for (const double length : {512., 1024., 4096., 8192.}) {
    Add(&record, static_cast<int64_t>(length), 3e-6 * length * length);
  }
  FitGrowth(&record);
  for (const ThroughputMeasurement& m : record.measurements()) {
    EXPECT_NEAR(m.growth_exponent(), 2, 1e-9);
  }
}

TEST(GrowthTest, ThreeLengthsAreTooFew) {
  ThroughputRecord record;
  for (const int64_t length : {512, 1024, 4096, 4096}) Add(&record, length, 1);
  FitGrowth(&record);
  for (const ThroughputMeasurement& m : record.measurements()) {
    EXPECT_FALSE(m.has_growth_exponent());
  }
}

TEST(GrowthTest, WhatDiffersInOtherThingsIsAnotherSeries) {
  ThroughputRecord record;
  for (const int64_t length : {512, 1024, 2048, 4096}) {
    Add(&record, length, static_cast<double>(length));
    Add(&record, length, 1)->set_phase("decode");
  }
  Add(&record, 8192, 1)->set_error("wrong");
  FitGrowth(&record);
  EXPECT_NEAR(record.measurements(0).growth_exponent(), 1, 1e-9);
  EXPECT_NEAR(record.measurements(1).growth_exponent(), 0, 1e-9);
  EXPECT_FALSE(record.measurements(8).has_growth_exponent());
}

}  // namespace
}  // namespace mneme
