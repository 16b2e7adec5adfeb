// SPDX-License-Identifier: Apache-2.0

#include "reports/table.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "reports/format.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

Leaderboard Example() {
  return MakeLeaderboard({OkCell("softmax", 1.0), OkCell("linear", 0.5),
                          DivergedCell("retention")});
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n');
}

TEST(Table, ShowsRowsInOrder) {
  const auto lines = Lines(RenderTable(Example(), {kUnlimitedColumns, false}));
  ASSERT_THAT(lines, SizeIs(7));
  EXPECT_EQ(lines[0], "mqar (quick, seed 0): 2/3 variants complete");
  EXPECT_THAT(lines[1], HasSubstr("steps to 90%"));
  EXPECT_THAT(lines[2], HasSubstr("softmax"));
  EXPECT_THAT(lines[2], HasSubstr("1.0000"));
  EXPECT_THAT(lines[3], HasSubstr("never"));
  EXPECT_THAT(lines[4], HasSubstr("-  retention  0/1 finished; seed 0 "
                                  "diverged at step 120: the loss became NaN"));
  EXPECT_THAT(lines[5], HasSubstr("any answer 0.0312"));
}

TEST(Table, NoLineIsWiderThanTheTerminal) {
  for (int columns = 45; columns <= 120; ++columns) {
    for (const std::string& line :
         Lines(RenderTable(Example(), {columns, false}))) {
      // The last line is a sentence, left to the terminal to break.
      if (line.find("guessing") != std::string::npos) continue;
      EXPECT_LE(line.size(), columns) << line;
    }
  }
}

TEST(Table, AccuracyIsLeftWhenNearlyNothingFits) {
  const std::string table = RenderTable(Example(), {20, false});
  EXPECT_THAT(table, HasSubstr("1.0000"));
  EXPECT_THAT(table, Not(HasSubstr("tokens/s")));
}

TEST(Table, ColourOnlyWhenAsked) {
  EXPECT_THAT(RenderTable(Example(), {80, false}), Not(HasSubstr("\033")));
  EXPECT_THAT(RenderTable(Example(), {80, true}), HasSubstr("\033[90m"));
}

TEST(Table, NamesCannotSteerTheTerminal) {
  ResultRecord cell = FailedCell("\033[2Jevil\n", "\033]0;title\a");
  const std::string table =
      RenderTable(MakeLeaderboard({cell}), {kUnlimitedColumns, false});
  EXPECT_THAT(table, Not(HasSubstr("\033")));
  EXPECT_THAT(table, Not(HasSubstr("\a")));
  EXPECT_THAT(Lines(table), SizeIs(4));
}

TEST(Table, MixedMachinesAreNoted) {
  ResultRecord elsewhere = OkCell("linear", 0.5);
  elsewhere.mutable_environment()->set_simd_target("AVX3");
  EXPECT_THAT(RenderTable(MakeLeaderboard({OkCell("softmax", 1.0), elsewhere}),
                          {80, false}),
              HasSubstr("note: cells differ in SIMD target: AVX2 (1), AVX3"));
}

TEST(Table, SpeedsStandBelow) {
  ThroughputRecord failed = SpeedRecord("gla", 1);
  failed.clear_measurements();
  *failed.add_measurements() = NotTimed("mneme", "\033[2Jit is wrong");
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("softmax", 1.0)}, {}, {SpeedRecord("linear", 654321), failed});
  const std::string table =
      RenderTable(leaderboard, {kUnlimitedColumns, false});
  EXPECT_THAT(
      table,
      HasSubstr(
          "\nspeed: tokens per second, and how much of the limit that is\n"
          "  variant       prefill       decode    training\n"
          "            1x2048x8x64  1x4096x8x64  64x64x2x32\n"
          "  linear   654,321  50%  65,432  50%      65,432\n"
          "  gla         not timed            -           -\n"
          "  not timed: gla (prefill, 1x2048x8x64): [2Jit is wrong\n"));
  for (int columns = 30; columns <= 60; ++columns) {
    const std::string narrow = RenderTable(leaderboard, {columns, false});
    for (const std::string& line :
         Lines(narrow.substr(narrow.find("speed:")))) {
      EXPECT_LE(line.size(), columns) << line;
    }
  }
  EXPECT_THAT(RenderTable(Example(), {80, false}), Not(HasSubstr("speed:")));
}

TEST(Table, ProbesThatFailedAreNoted) {
  const std::string table = RenderTable(
      MakeLeaderboard({OkCell("softmax", 1.0)},
                      {CapacityProbe("softmax", 16),
                       UnsupportedProbe("mean", "has no memory"),
                       FailedProbe("gla", "exit code 1: \033[2Jno luck")}),
      {80, false});
  EXPECT_THAT(table, HasSubstr("\nprobes: 1/3 variants measured without "
                               "training\n  gla: exit code 1:  [2Jno luck\n"));
}

TEST(Terminal, AFileHasNoColourAndNoWidth) {
  unsetenv("COLUMNS");
  FILE* file = tmpfile();
  ASSERT_NE(file, nullptr);
  TerminalStyle style = DetectTerminal(fileno(file));
  EXPECT_FALSE(style.color);
  EXPECT_EQ(style.columns, kUnlimitedColumns);
  setenv("COLUMNS", "72", 1);
  EXPECT_EQ(DetectTerminal(fileno(file)).columns, 72);
  setenv("COLUMNS", "wide", 1);
  EXPECT_EQ(DetectTerminal(fileno(file)).columns, kUnlimitedColumns);
  fclose(file);
}

TEST(Terminal, ATerminalHasBoth) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
    GTEST_SKIP() << "no pseudo-terminals here";
  }
  const int screen = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  if (screen < 0) GTEST_SKIP() << "no pseudo-terminals here";
  winsize size = {};
  size.ws_col = 64;
  ASSERT_EQ(ioctl(screen, TIOCSWINSZ, &size), 0);
  unsetenv("COLUMNS");
  unsetenv("NO_COLOR");
  setenv("TERM", "xterm", 1);
  EXPECT_EQ(DetectTerminal(screen).columns, 64);
  EXPECT_TRUE(DetectTerminal(screen).color);
  setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(DetectTerminal(screen).color);
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(DetectTerminal(screen).color);
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(DetectTerminal(screen).color);
  close(screen);
  close(terminal);
}

TEST(Format, ScoresAreCutNotRounded) {
  EXPECT_EQ(FormatScore(1.0), "1.0000");
  EXPECT_EQ(FormatScore(0.99999), "0.9999");
  EXPECT_EQ(FormatScore(0.9991), "0.9991");
  EXPECT_EQ(FormatScore(0.0), "0.0000");
}

TEST(Format, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999.6), "1,000");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
}

TEST(Format, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(65536), "64.0 KiB");
  EXPECT_EQ(FormatBytes(1048575), "1.0 MiB");
  EXPECT_EQ(FormatBytes(INT64_C(5) << 40), "5.0 TiB");
}

TEST(Format, Seconds) {
  EXPECT_EQ(FormatSeconds(0.254), "0.25 s");
  EXPECT_EQ(FormatSeconds(2.54), "2.5 s");
  EXPECT_EQ(FormatSeconds(84.2), "84 s");
  EXPECT_EQ(FormatSeconds(5000), "83 min");
}

TEST(Format, Seeds) {
  EXPECT_EQ(FormatSeeds({4}), "seed 4");
  EXPECT_EQ(FormatSeeds({0, 1}), "seeds 0, 1");
  EXPECT_EQ(FormatSeeds({0, 1, 2, 3}), "seeds 0-3");
  EXPECT_EQ(FormatSeeds({0, 2, 7}), "seeds 0, 2, 7");
}

}  // namespace
}  // namespace mneme
