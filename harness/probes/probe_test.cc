// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/probe.h"

#include <string>

#include "gtest/gtest.h"
#include "harness/probe_record.h"

namespace mneme {
namespace {

ProbeRequest Request(const std::string& variant) {
  ProbeRequest request;
  request.variant = variant;
  request.trials = 2;
  request.seed = 5;
  request.capacity = DefaultSweeps();
  request.capacity[0].key_dims = {8, 16};
  for (CapacitySweep& sweep : request.capacity) sweep.max_pairs = 24;
  return request;
}

TEST(ProbeTest, RecordsSayEverything) {
  const ProbeRequest request = Request("bigbird");
  const absl::StatusOr<ProbeRecord> record = RunProbe(request);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(FormatProbe(*record).ok());
  EXPECT_EQ(record->variant(), "bigbird");
  EXPECT_EQ(record->family(), "softmax");
  EXPECT_GE(record->variant_version(), 1);
  EXPECT_EQ(record->variant_options(0).name(), "kv_heads");
  EXPECT_EQ(record->seed(), 5);
  EXPECT_EQ(record->trials(), 2);
  EXPECT_EQ(record->unsupported(), "");
  EXPECT_FALSE(record->environment().simd_target().empty());
  EXPECT_GT(record->seconds(), 0);
  ASSERT_EQ(record->capacity_size(), 3);
  EXPECT_EQ(record->capacity(0).key_dim(), 8);
  EXPECT_EQ(record->capacity(1).key_dim(), 16);
  EXPECT_EQ(record->capacity(1).keys(), "random");
  EXPECT_EQ(record->capacity(1).passes(), 1);
  EXPECT_EQ(record->capacity(2).keys(), "correlated");
  EXPECT_EQ(record->capacity(2).passes(), 4);
  const CapacityCurve& curve = record->capacity(1);
  EXPECT_EQ(curve.points(0).pairs(), 2);
  EXPECT_EQ(curve.points(curve.points_size() - 1).pairs(), 24);
  EXPECT_EQ(curve.state_bytes(), 24 * 2 * 16 * sizeof(float));
  ASSERT_EQ(record->approximation_size(), 1);
  EXPECT_EQ(record->approximation(0).exact(), "softmax");
}

TEST(ProbeTest, WhatHoldsNoPairsMayStillApproximate) {
  const absl::StatusOr<ProbeRecord> record =
      RunProbe(Request("memory_machine"));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_FALSE(record->unsupported().empty());
  EXPECT_EQ(record->capacity_size(), 0);
  EXPECT_EQ(record->approximation_size(), 1);
}

TEST(ProbeTest, OptionsAreSetAndChecked) {
  ProbeRequest request = Request("sliding_window");
  request.set = {"window=4"};
  request.approximation = false;
  const absl::StatusOr<ProbeRecord> record = RunProbe(request);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_LT(record->capacity(1).pairs_at_90().mean(), 6);
  request.set = {"windows=4"};
  EXPECT_EQ(RunProbe(request).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.set = {};
  request.variant = "slidding_window";
  EXPECT_EQ(RunProbe(request).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace mneme
