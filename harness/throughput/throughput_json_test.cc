// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/throughput_json.h"

#include "gtest/gtest.h"
#include "harness/throughput/throughput_table.h"
#include "nlohmann/json.hpp"

namespace mneme {
namespace {

ThroughputRecord Sample() {
  ThroughputRecord record;
  record.set_variant("softmax");
  Setting* heads = record.add_variant_options();
  heads->set_name("kv_heads");
  heads->set_value("2");
  ThroughputMeasurement* m = record.add_measurements();
  m->set_contender("mneme");
  m->set_phase("prefill");
  m->set_batch(1);
  m->set_length(2048);
  m->set_heads(8);
  m->set_head_dim(64);
  m->set_threads(1);
  m->set_milliseconds(21.5);
  m->set_tokens_per_second(95000);
  m->set_gflops(200);
  m->set_limit_milliseconds(16);
  m->set_fraction_of_limit(0.75);
  m->set_bound("compute");
  m->set_noisy(true);
  ThroughputMeasurement* wrong = record.add_measurements();
  *wrong = *m;
  wrong->set_contender("peer");
  wrong->set_error("it is wrong");
  return record;
}

TEST(ThroughputJsonTest, HasTheNamedFields) {
  const auto json = nlohmann::json::parse(ThroughputJson({Sample()}));
  const auto& first = json["throughput"][0];
  EXPECT_EQ(first["variant"], "softmax");
  EXPECT_EQ(first["options"]["kv_heads"], 2);
  EXPECT_EQ(first["phase"], "prefill");
  EXPECT_EQ(first["shape"], "1x2048x8x64");
  EXPECT_EQ(first["threads"], 1);
  EXPECT_EQ(first["milliseconds"], 21.5);
  EXPECT_EQ(first["tokens_per_second"], 95000);
  EXPECT_EQ(first["gflops"], 200);
  EXPECT_EQ(first["fraction_of_limit"], 0.75);
  EXPECT_TRUE(first["growth_exponent"].is_null());
  const auto& second = json["throughput"][1];
  EXPECT_EQ(second["error"], "it is wrong");
  EXPECT_EQ(second.count("milliseconds"), 0);
}

TEST(ThroughputJsonTest, CeilingsThatWereNotMeasuredAreLeftOut) {
  ThroughputRecord record = Sample();
  MachineCeilings* c = record.add_ceilings();
  c->set_threads(1);
  c->set_flops(1e11);
  for (const double rate : {2e11, 0.0}) c->add_level_bytes_per_second(rate);
  c->add_level_read_write_bytes_per_second(4e11);  // an old record has none
  for (const int64_t bytes : {49152, 0}) c->add_level_capacity(bytes);
  const auto json = nlohmann::json::parse(ThroughputJson({record}));
  EXPECT_EQ(json["ceilings"][0],
            nlohmann::json({{"beside", "softmax"},
                            {"threads", 1},
                            {"flops", 1e11},
                            {"levels",
                             {{{"bytes_per_second", 2e11},
                               {"read_write_bytes_per_second", 4e11},
                               {"capacity", 49152}},
                              nlohmann::json::object()}}}));
}

TEST(ThroughputTableTest, NarrowTerminalsLoseColumnsFromTheRight) {
  TerminalStyle narrow;
  narrow.columns = 60;
  const ThroughputRecord record = Sample();
  const std::string row = TableRow("softmax", record.measurements(0), narrow);
  EXPECT_LE(row.size(), 61);
  EXPECT_NE(row.find("21.5"), std::string::npos);
  EXPECT_EQ(row.find("compute"), std::string::npos);
  TerminalStyle wide;
  wide.columns = 200;
  const std::string whole = TableRow("softmax", record.measurements(0), wide);
  EXPECT_NE(whole.find("75%"), std::string::npos);
  EXPECT_NE(whole.find("!"), std::string::npos) << "noisy";
  EXPECT_NE(whole.find("compute"), std::string::npos);
}

TEST(ThroughputTableTest, WhatWasNotTimedSaysWhy) {
  const std::string row =
      TableRow("softmax", Sample().measurements(1), TerminalStyle());
  EXPECT_NE(row.find("NOT TIMED: it is wrong"), std::string::npos);
}

}  // namespace
}  // namespace mneme
