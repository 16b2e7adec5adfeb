// SPDX-License-Identifier: Apache-2.0
//
// What files of records must do in general record_test.cc proves.

#include "harness/probe_record.h"

#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

ProbeRecord Sample() {
  ProbeRecord record;
  record.set_schema(kProbeSchema);
  record.set_variant("deltanet");
  CapacityCurve* curve = record.add_capacity();
  curve->set_key_dim(64);
  curve->mutable_pairs_at_90()->set_mean(0);  // present, though zero
  CapacityPoint* point = curve->add_points();
  point->set_pairs(8);
  point->mutable_recall()->set_high(0.1 + 0.2);
  return record;
}

TEST(ProbeRecordTest, FilesComeBack) {
  const std::string path = testing::TempDir() + "/test.probe";
  ASSERT_EQ(WriteProbe(path, Sample()), absl::OkStatus());
  const absl::StatusOr<ProbeRecord> record = ReadProbe(path);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->SerializeAsString(), Sample().SerializeAsString());
  EXPECT_TRUE(record->capacity(0).has_pairs_at_90());
}

TEST(ProbeRecordTest, OtherSchemasAreRefused) {
  EXPECT_EQ(FormatProbe(ProbeRecord()).status(),
            absl::InvalidArgumentError(
                "cannot write a record of schema 0, only of 1"));
}

}  // namespace
}  // namespace mneme
