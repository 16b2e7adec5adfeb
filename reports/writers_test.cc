// SPDX-License-Identifier: Apache-2.0

// leaderboard.json, .csv and .md: that what goes in can be read back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "reports/boards.h"
#include "reports/csv_writer.h"
#include "reports/json_writer.h"
#include "reports/lengths_csv.h"
#include "reports/markdown_writer.h"
#include "reports/speed_csv.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using nlohmann::json;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

json Written(const std::vector<ResultRecord>& records) {
  return json::parse(RenderJson(MakeLeaderboard(records)));
}

TEST(JsonWriter, HoldsWhatTheRecordHolds) {
  const json document = Written({OkCell("softmax", 0.95, 3)});
  EXPECT_EQ(document["schema"], 1);
  ASSERT_THAT(document["cells"], SizeIs(1));
  const json& cell = document["cells"][0];
  EXPECT_EQ(cell["variant"], "softmax");
  EXPECT_EQ(cell["family"], "attention");
  EXPECT_EQ(cell["task"], "mqar");
  EXPECT_EQ(cell["profile"], "quick");
  EXPECT_EQ(cell["seed"], 3);
  EXPECT_EQ(cell["status"], "ok");
  EXPECT_EQ(cell["metrics"]["accuracy"], 0.95);
  EXPECT_EQ(cell["metrics"]["steps_to_90"], 200);
  EXPECT_EQ(cell["metrics"]["seconds_to_90"], 2.5);
  EXPECT_EQ(cell["metrics"]["curve"][1]["validation_accuracy"], 0.95);
  EXPECT_EQ(cell["state_bytes"], 16640);
  EXPECT_EQ(cell["parameters"], 37312);
  EXPECT_EQ(cell["train_tokens_per_second"], 150000);
}

TEST(JsonWriter, HoldsLengthsAndReferences) {
  const json metrics =
      Written({LengthsCell("hyena", 0.8, 0, 128)})["cells"][0]["metrics"];
  ASSERT_THAT(metrics["lengths"], SizeIs(4));
  const json& longer = metrics["lengths"][1];
  EXPECT_EQ(longer["length"], 128);
  EXPECT_TRUE(longer["unsupported"].is_null());
  EXPECT_THAT(longer["depths"], SizeIs(40));
  EXPECT_THAT(longer["loss_by_position"], SizeIs(8));
  EXPECT_TRUE(longer["details"].contains("recall"));
  EXPECT_EQ(metrics["lengths"][2]["unsupported"],
            "its filter is of a fixed length");
  EXPECT_EQ(metrics["references"][4]["table"], 1);
}

TEST(LengthsCsv, HasALineForEachNumber) {
  const std::string csv = RenderLengthsCsv(
      MakeLeaderboard({LengthsCell("hyena", 1.0, 0, 64), DivergedCell("gla")}));
  const std::vector<std::string> lines = absl::StrSplit(csv, '\n');
  EXPECT_EQ(lines[0],
            "variant,task,profile,seed,length,measure,first,last,answers,value,"
            "bytes,reason");
  EXPECT_EQ(lines[1], "hyena,needle,quick,0,64,accuracy,,,,1,,");
  EXPECT_THAT(csv, HasSubstr("hyena,needle,quick,0,64,depth,0.5,0.525,4,0.75"));
  EXPECT_THAT(csv, HasSubstr("0,64,position_loss,32,64,3200,"));
  EXPECT_THAT(csv, HasSubstr("0,64,detail.recall,,,,1,,\n"));
  EXPECT_THAT(csv, HasSubstr("0,128,unsupported,,,,,,its filter is of a"));
  EXPECT_THAT(csv, HasSubstr("0,,table,,,,1,16384,\n"));
  EXPECT_THAT(csv, HasSubstr("0,64,window,,,,0.25,,\n"));
  EXPECT_THAT(csv, Not(HasSubstr("gla")));
}

TEST(MarkdownWriter, HasAccuracyByLength) {
  const std::string markdown =
      RenderMarkdown(MakeLeaderboard({LengthsCell("hyena", 1.0, 0, 128)}));
  EXPECT_THAT(markdown, HasSubstr("| variant | 64 | 128 | 256 | 512 | "
                                  "effective |"));
  EXPECT_THAT(markdown, HasSubstr("| hyena | 1.0000 | 0.7500 | unsupported | "
                                  "unsupported | 64 |"));
}

TEST(JsonWriter, OptionsHaveTheirTypes) {
  const json options = Written({OkCell("softmax", 1.0)})["cells"][0]["options"];
  EXPECT_EQ(options["task"]["length"], 64);
  EXPECT_EQ(options["task"]["filler"], "zero");
  EXPECT_EQ(options["model"]["short_conv"], true);
  EXPECT_EQ(options["train"]["learning_rate"], 0.003);
  EXPECT_EQ(options["variant"]["heads"], 2);
}

TEST(JsonWriter, WhatWasNotMeasuredIsNull) {
  const json document = Written({OkCell("linear", 0.5), DivergedCell("softmax"),
                                 FailedCell("gla", "exit code 1")});
  const json& never = document["cells"][1];
  EXPECT_EQ(never["variant"], "linear");
  EXPECT_TRUE(never["metrics"]["steps_to_90"].is_null());
  EXPECT_EQ(never["metrics"]["accuracy"], 0.5);

  const json& diverged = document["cells"][2];
  EXPECT_EQ(diverged["status"], "diverged");
  EXPECT_EQ(diverged["status_step"], 120);
  EXPECT_EQ(diverged["status_message"], "the loss became NaN");
  EXPECT_TRUE(diverged["metrics"]["accuracy"].is_null());
  EXPECT_TRUE(diverged["metrics"]["loss"].is_null());
  EXPECT_FALSE(diverged["metrics"]["curve"].empty()) << "how far it came";
  EXPECT_EQ(diverged["metrics"].size(), never["metrics"].size());

  const json& failed = document["cells"][0];
  EXPECT_EQ(failed["status"], "failed");
  EXPECT_TRUE(failed["state_bytes"].is_null());
}

TEST(JsonWriter, ContextIsScalarWhereCellsAgree) {
  ResultRecord elsewhere = OkCell("linear", 0.5);
  elsewhere.mutable_environment()->set_cores(64);
  const json context = Written({OkCell("softmax", 1.0), elsewhere})["context"];
  EXPECT_EQ(context["simd_target"], "AVX2");
  EXPECT_EQ(context["date"], "2025-11-22T04:05:06Z");
  EXPECT_EQ(context["cores"], json({2, 64}));
}

TEST(JsonWriter, RankingsTellTies) {
  const json rows =
      Written({OkCell("a", 0.90), OkCell("b", 0.901),
               FailedCell("c", "no luck")})["rankings"][0]["rows"];
  EXPECT_EQ(rows[0]["variant"], "b");
  EXPECT_EQ(rows[0]["rank"], json({1, 2}));
  EXPECT_EQ(rows[1]["rank"], json({1, 2}));
  EXPECT_TRUE(rows[2]["rank"].is_null());
  EXPECT_EQ(rows[2]["reasons"][0], "seed 0 failed: no luck");
}

TEST(JsonWriter, BadUtf8IsReplaced) {
  ResultRecord cell = OkCell("softmax", 1.0);
  cell.mutable_environment()->set_machine("\xff CPU");
  EXPECT_THAT(Written({cell})["context"]["machine"].get<std::string>(),
              HasSubstr(" CPU"));
}

TEST(JsonWriter, HoldsWhatProbesHold) {
  const json document = json::parse(RenderJson(MakeLeaderboard(
      {}, {CapacityProbe("delta", 0.5), FailedProbe("gla", "no luck"),
           ApproximationProbe("performer", "features"),
           CapacityProbe("softmax", 16),
           UnsupportedProbe("zero", "has no memory")})));
  const json& probes = document["probes"];
  ASSERT_THAT(probes, SizeIs(5));
  const json& curve = probes[0]["capacity"][1];
  EXPECT_EQ(probes[0]["variant"], "delta");
  EXPECT_EQ(probes[0]["options"]["heads"], 2);
  EXPECT_TRUE(probes[0]["failure"].is_null());
  EXPECT_EQ(curve["key_dim"], 64);
  EXPECT_EQ(curve["pairs_at_90"]["mean"], 32);
  EXPECT_EQ(curve["state_bytes"], 16384);
  EXPECT_EQ(curve["pairs_at_90_per_kib"], 2);
  EXPECT_EQ(curve["points"][2]["pairs"], 32);
  EXPECT_DOUBLE_EQ(curve["points"][2]["recall"]["mean"], 0.9);
  EXPECT_LT(curve["points"][2]["cosine"]["low"], 0.9);
  EXPECT_GT(curve["points"][2]["cosine"]["high"], 0.9);
  EXPECT_EQ(probes[1]["failure"], "no luck");
  EXPECT_TRUE(probes[1]["seconds"].is_null());
  const json& approximation = probes[2]["approximation"][0];
  EXPECT_EQ(approximation["knob"], "features");
  EXPECT_EQ(approximation["points"][1]["size"], 64);
  EXPECT_EQ(approximation["points"][1]["error"]["mean"], 1.0 / 64);
  EXPECT_TRUE(probes[3]["capacity"][0]["pairs_at_90"].is_null());
  EXPECT_EQ(probes[4]["unsupported"], "has no memory");
  EXPECT_THAT(Written({})["probes"], SizeIs(0));
}

// A reader of RFC 4180, written from the RFC.
std::vector<std::vector<std::string>> ParseCsv(const std::string& text) {
  std::vector<std::vector<std::string>> lines(1, {""});
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    std::string& field = lines.back().back();
    if (quoted) {
      if (text[i] == '"' && i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else if (text[i] == '"') {
        quoted = false;
      } else {
        field += text[i];
      }
    } else if (text[i] == '"') {
      quoted = true;
    } else if (text[i] == ',') {
      lines.back().emplace_back();
    } else if (text[i] == '\n') {
      lines.push_back({""});
    } else {
      field += text[i];
    }
  }
  lines.pop_back();
  return lines;
}

TEST(CsvWriter, AnyTextSurvives) {
  const std::string nasty = "a, \"b\"\nc\r,";
  const auto lines = ParseCsv(RenderCsv(
      MakeLeaderboard({OkCell("softmax", 1.0 / 3), FailedCell("gla", nasty),
                       FailedCell("linear", "two\nlines")})));
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines, Each(SizeIs(lines[0].size())));
  const auto column = [&lines](const std::string& name) {
    return std::find(lines[0].begin(), lines[0].end(), name) - lines[0].begin();
  };
  EXPECT_EQ(lines[1][column("status_message")], nasty);
  EXPECT_EQ(lines[1][column("accuracy")], "");
  EXPECT_EQ(lines[2][column("status_message")], "two\nlines");
  EXPECT_EQ(lines[3][column("variant")], "softmax");
  // Not a digit is lost.
  EXPECT_EQ(std::stod(lines[3][column("accuracy")]), 1.0 / 3);
  EXPECT_EQ(lines[3][column("steps_to_90")], "");
}

ThroughputRecord WithError(const std::string& error) {
  ThroughputRecord record = SpeedRecord("gla", 1000);
  record.clear_measurements();
  *record.add_measurements() = NotTimed("mneme", error);
  return record;
}

TEST(JsonWriter, HoldsWhatWasTimed) {
  const json document = json::parse(RenderJson(MakeLeaderboard(
      {}, {}, {SpeedRecord("linear", 1000), WithError("no luck")})));
  const json& throughput = document["throughput"];
  ASSERT_THAT(throughput, SizeIs(9));
  EXPECT_EQ(throughput[0]["variant"], "gla");
  EXPECT_EQ(throughput[0]["error"], "no luck");
  EXPECT_FALSE(throughput[0].contains("tokens_per_second"));
  EXPECT_EQ(throughput[1]["variant"], "linear");
  EXPECT_EQ(throughput[1]["options"]["heads"], 2);
  EXPECT_EQ(throughput[1]["shape"], "1x1024x8x64");
  EXPECT_EQ(throughput[1]["tokens_per_second"], 1000);
  EXPECT_EQ(throughput[1]["fraction_of_limit"], 0.5);
  EXPECT_EQ(throughput[1]["growth_exponent"], 1);
  EXPECT_TRUE(throughput[7]["fraction_of_limit"].is_null()) << "of training";
  EXPECT_EQ(throughput[7]["backbone_fraction"], 0.1);
  ASSERT_THAT(document["ceilings"], SizeIs(2));
  EXPECT_EQ(document["ceilings"][1]["beside"], "linear");
  EXPECT_EQ(document["ceilings"][1]["flops"], 1e11);
  EXPECT_THAT(Written({})["throughput"], SizeIs(0));
}

TEST(CsvWriter, SpeedsHaveALineForEachMeasurement) {
  const auto lines = ParseCsv(RenderSpeedCsv(MakeLeaderboard(
      {}, {}, {SpeedRecord("linear", 1000.0 / 3), WithError("no, \"luck\"")})));
  ASSERT_THAT(lines, SizeIs(1 + 9));
  const auto value = [&lines](size_t line, const std::string& name) {
    const auto& names = lines[0];
    return lines[line].at(static_cast<size_t>(
        std::find(names.begin(), names.end(), name) - names.begin()));
  };
  for (const auto& line : lines) EXPECT_EQ(line.size(), lines[0].size());
  EXPECT_EQ(value(1, "error"), "no, \"luck\"");
  EXPECT_EQ(value(1, "tokens_per_second"), "");
  EXPECT_EQ(value(2, "length"), "1024");
  EXPECT_EQ(std::stod(value(2, "tokens_per_second")), 1000.0 / 3);
  EXPECT_EQ(value(2, "noisy"), "false");
  EXPECT_EQ(value(8, "phase"), "train");
  EXPECT_EQ(value(8, "fraction_of_limit"), "");
  EXPECT_EQ(value(9, "contender"), "backbone");
}

TEST(MarkdownWriter, HasATableOfSpeeds) {
  const std::string markdown = RenderMarkdown(MakeLeaderboard(
      {}, {}, {SpeedRecord("linear", 654321), WithError("no|luck")}));
  EXPECT_THAT(
      markdown,
      HasSubstr("| variant | prefill, 1x2048x8x64 | decode, 1x4096x8x64 "
                "| backward, 1x2048x8x64 | training, 64x64x2x32 | state "
                "| growth |\n|---|---:|---:|---:|---:|---:|---:|\n"
                "| linear | 654,321 (50% of limit) | "));
  EXPECT_THAT(markdown, HasSubstr("| gla | not timed | – | – | – | – | – |"));
  EXPECT_THAT(markdown, HasSubstr("Not timed: gla (prefill, 1x2048x8x64): "
                                  "no\\|luck"));
  EXPECT_THAT(RenderMarkdown(MakeLeaderboard({})),
              Not(HasSubstr("Tokens per second")));
}

TEST(CsvWriter, ProbesHaveALineForEachPoint) {
  const auto lines = ParseCsv(RenderProbesCsv(MakeLeaderboard(
      {}, {CapacityProbe("delta", 1.0 / 3), FailedProbe("gla", "no, \"luck\""),
           ApproximationProbe("performer", "features")})));
  ASSERT_THAT(lines, SizeIs(1 + 2 * 7 + 1 + 3));
  EXPECT_THAT(lines, Each(SizeIs(lines[0].size())));
  const auto value = [&lines](size_t line, const std::string& name) {
    return lines[line][std::find(lines[0].begin(), lines[0].end(), name) -
                       lines[0].begin()];
  };
  EXPECT_EQ(value(1, "probe"), "capacity");
  EXPECT_EQ(value(14, "key_dim"), "64");
  EXPECT_EQ(value(14, "size"), "512");
  EXPECT_EQ(value(14, "state_bytes"), "16384");
  EXPECT_EQ(std::stod(value(14, "pairs_at_90")), 64.0 / 3);
  EXPECT_EQ(value(14, "error"), "");
  EXPECT_EQ(value(15, "failure"), "no, \"luck\"");
  EXPECT_EQ(value(15, "size"), "");
  EXPECT_EQ(value(18, "knob"), "features");
  EXPECT_EQ(std::stod(value(18, "error_high")), 1.1 / 256);
  EXPECT_EQ(value(18, "recall"), "");
}

TEST(MarkdownWriter, EachTableHasItsColumns) {
  const std::string markdown = RenderMarkdown(MakeLeaderboard(
      {OkCell("softmax", 1.0), DivergedCell("a|b\n<i>*c*</i>")}));
  size_t separators = 0;
  int lines = 0;
  for (absl::string_view line : absl::StrSplit(markdown, '\n')) {
    if (!absl::StartsWith(line, "|")) continue;
    size_t count = 0;
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else {
        count += line[i] == '|' ? 1 : 0;
      }
    }
    if (lines++ == 0) separators = count;
    EXPECT_EQ(count, separators) << line;
  }
  EXPECT_EQ(lines, 4);
  EXPECT_THAT(markdown, Not(HasSubstr("<i>")));
  EXPECT_THAT(markdown, HasSubstr(R"(a\|b \<i\>\*c\*\</i\>)"));
  EXPECT_THAT(markdown, HasSubstr("seed 0 diverged at step 120"));
  EXPECT_THAT(markdown, HasSubstr("accuracy ↑"));
}

TEST(MarkdownWriter, ShowsWhatMemoriesHold) {
  const std::string markdown = RenderMarkdown(MakeLeaderboard(
      {}, {CapacityProbe("delta", 0.5), FailedProbe("gla", "no|luck"),
           ApproximationProbe("performer", "features"),
           CapacityProbe("softmax", 16)}));
  EXPECT_THAT(markdown,
              HasSubstr("| variant | d=16 | per KiB | d=64 | per KiB |\n"
                        "|---|---:|---:|---:|---:|\n"
                        "| softmax | ≥128 | ≥32.0 | ≥512 | ≥32.0 |\n"
                        "| delta | 8.00 (7.60-8.40) | 2.00 | "
                        "32.0 (30.4-33.6) | 2.00 |\n"));
  EXPECT_THAT(markdown, HasSubstr("Not probed: gla: failed: no\\|luck"));
  EXPECT_THAT(markdown, HasSubstr("| performer, features | softmax | 1,024 "
                                  "tokens | 16: 0.0625, 64: 0.0156, "));
}

}  // namespace
}  // namespace mneme
