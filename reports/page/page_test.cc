// SPDX-License-Identifier: Apache-2.0

#include "reports/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

std::string Page(const std::vector<ResultRecord>& records,
                 const std::vector<ProbeRecord>& probes = {}) {
  absl::StatusOr<std::string> page =
      RenderPage(MakeLeaderboard(records, probes));
  EXPECT_TRUE(page.ok()) << page.status();
  return page.value_or("");
}

// What is not the contents of a <script> or <style>.
std::string Markup(std::string page) {
  for (const char* tag : {"script", "style"}) {
    const std::string end = absl::StrCat("</", tag, ">");
    std::string markup;
    for (absl::string_view rest = page; !rest.empty();) {
      const size_t open = rest.find(absl::StrCat("<", tag));
      absl::StrAppend(&markup, rest.substr(0, open));
      const size_t close = rest.find(end);
      if (open == absl::string_view::npos || close == absl::string_view::npos) {
        break;
      }
      rest.remove_prefix(close + end.size());
    }
    page = markup;
  }
  return page;
}

// The contents of each <script type="application/json">.
std::vector<std::string> Specs(const std::string& page) {
  std::vector<std::string> specs;
  const std::vector<std::string> parts =
      absl::StrSplit(page, "<script type=\"application/json\">");
  for (size_t i = 1; i < parts.size(); ++i) {
    specs.push_back(parts[i].substr(0, parts[i].find("</script>")));
  }
  return specs;
}

TEST(Page, IsSelfContained) {
  const std::string page =
      Page({OkCell("softmax", 1.0), OkCell("linear", 0.5)});
  EXPECT_LT(page.size(), 1000 * 1000);
  const std::string markup = Markup(page);
  EXPECT_THAT(markup, Not(HasSubstr("src=")));
  EXPECT_THAT(markup, Not(HasSubstr("://")));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  // Of styles and scripts: what would make a browser fetch.
  EXPECT_THAT(page, Not(HasSubstr("@import")));
  EXPECT_THAT(page, Not(HasSubstr("url(http")));
  EXPECT_THAT(page, Not(HasSubstr("sourceMappingURL")));
  for (const char* name :
       {"leaderboard.json", "leaderboard.csv", "leaderboard.md"}) {
    EXPECT_THAT(markup, HasSubstr(absl::StrCat("href=\"", name, "\"")));
  }
}

TEST(Page, TheRankingNeedsNoScript) {
  const std::string markup =
      Markup(Page({OkCell("softmax", 1.0), OkCell("linear", 0.5)}));
  const size_t ranking = markup.find("<table class=\"ranking\">");
  ASSERT_NE(ranking, std::string::npos);
  EXPECT_LT(ranking, markup.find("<figure"));
  EXPECT_LT(markup.find("id=\"mqar.softmax\""),
            markup.find("id=\"mqar.linear\""));
  EXPECT_THAT(markup, HasSubstr(">1.0000</td>"));
  EXPECT_THAT(markup, HasSubstr(">never</td>"));
}

TEST(Page, SaysWhatEverythingIs) {
  const std::string markup = Markup(Page({OkCell("softmax", 1.0)}));
  EXPECT_THAT(markup, HasSubstr("22 November 2025, 04:05 UTC"));
  EXPECT_THAT(markup, HasSubstr("0123456789ab"));
  EXPECT_THAT(markup, HasSubstr("Example CPU"));
  EXPECT_THAT(markup, HasSubstr("AVX2"));
  EXPECT_THAT(markup, HasSubstr("Guessing any answer scores 0.0312"));
  EXPECT_THAT(markup, HasSubstr("lower is better"));
  EXPECT_THAT(markup, HasSubstr("<th scope=\"col\""));
  EXPECT_THAT(markup, HasSubstr("<th scope=\"row\""));
  EXPECT_THAT(markup, HasSubstr("for a claim, run --seeds=0,1,2,3,4"));
}

TEST(Page, AnchorsAreUnique) {
  ResultRecord needle = OkCell("softmax", 0.3);
  needle.set_task("needle");
  ResultRecord pure = OkCell("softmax", 0.2);
  pure.mutable_model_options(0)->set_value("false");
  const std::string markup = Markup(
      Page({OkCell("softmax", 1.0), OkCell("linear", 1.0), needle, pure},
           {CapacityProbe("linear", 0.5), ApproximationProbe("b", "blocks")}));
  const std::regex id(" id=\"([^\"]*)\"");
  std::set<std::string> ids;
  for (auto it = std::sregex_iterator(markup.begin(), markup.end(), id);
       it != std::sregex_iterator(); ++it) {
    EXPECT_TRUE(ids.insert((*it)[1]).second) << (*it)[1];
  }
  EXPECT_EQ(ids.count("capacity"), 1);
  EXPECT_EQ(ids.count("approximation"), 1);
  EXPECT_EQ(ids.count("mqar.softmax"), 1);
  EXPECT_EQ(ids.count("mqar-2.softmax"), 1);
  EXPECT_EQ(ids.count("needle.softmax"), 1);
  // Each link within the page leads somewhere.
  const std::regex link("href=\"#([^\"]*)\"");
  for (auto it = std::sregex_iterator(markup.begin(), markup.end(), link);
       it != std::sregex_iterator(); ++it) {
    EXPECT_EQ(ids.count((*it)[1]), 1) << (*it)[1];
  }
}

TEST(Page, RecordsCannotAddMarkup) {
  const std::string evil = "</script><script>alert('\"&')</script>{{title}}";
  ResultRecord cell = OkCell(evil, 1.0);
  cell.set_family(evil);
  cell.set_task(evil);
  cell.set_profile(evil);
  cell.mutable_environment()->set_machine(evil);
  cell.mutable_environment()->set_date(evil);
  cell.mutable_task_options(0)->set_value(evil);
  ResultRecord failed = cell;
  failed.set_variant(evil + "2");
  failed.set_status(STATUS_FAILED);
  failed.set_status_message(evil);
  ProbeRecord capacity = CapacityProbe(evil, 1);
  capacity.set_family(evil);
  capacity.mutable_capacity(0)->set_keys(evil);
  ProbeRecord approximation = ApproximationProbe(evil + "2", evil);
  approximation.mutable_approximation(0)->set_exact(evil);
  approximation.mutable_approximation(0)->set_setting(evil);
  const std::string page =
      Page({cell, failed}, {capacity, approximation, FailedProbe("a", evil),
                            UnsupportedProbe(evil + "3", evil)});
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert"));
  // Every script that begins ends, and there are none but ours.
  const std::string plain =
      Page({OkCell("softmax", 1.0)},
           {CapacityProbe("softmax", 1), ApproximationProbe("performer", "k")});
  const auto count = [](const std::string& text, const std::string& part) {
    const std::vector<std::string> parts = absl::StrSplit(text, part);
    return parts.size() - 1;
  };
  EXPECT_EQ(count(page, "</script>"), count(plain, "</script>"));
  for (const std::string& spec : Specs(page)) {
    EXPECT_THAT(spec, Not(HasSubstr("<")));
    EXPECT_NO_THROW(nlohmann::json::parse(spec));
  }
}

TEST(Page, ChartsHoldTheDataAndADescription) {
  const std::string page =
      Page({OkCell("softmax", 1.0), OkCell("linear", 0.5)});
  const std::vector<std::string> specs = Specs(page);
  ASSERT_THAT(specs, SizeIs(2));
  const auto curves = nlohmann::json::parse(specs[0]);
  EXPECT_THAT(curves["description"].get<std::string>(),
              HasSubstr("for softmax and linear"));
  EXPECT_EQ(curves["data"][0]["name"], "curves");
  EXPECT_THAT(curves["data"][0]["values"], SizeIs(4));
  EXPECT_THAT(curves["data"][2]["values"], SizeIs(2));  // chance and 1/K
  const auto states = nlohmann::json::parse(specs[1]);
  EXPECT_THAT(states["data"][0]["values"], SizeIs(2));
  EXPECT_EQ(states["data"][0]["values"][0]["state_bytes"], 16640);
  // The same as tables.
  const std::string markup = Markup(page);
  EXPECT_THAT(markup, HasSubstr("<th scope=\"row\" class=\"number\">100</th>"
                                "<td class=\"number\">0.5000</td>"
                                "<td class=\"number\">0.2500</td>"));
  EXPECT_THAT(markup, HasSubstr("<td class=\"number\">16,640</td>"));
}

TEST(Page, UnfinishedRowsStayWithTheirReason) {
  const std::string markup =
      Markup(Page({OkCell("softmax", 1.0), DivergedCell("linear")}));
  EXPECT_THAT(markup, HasSubstr("1 of 2 cells did not finish"));
  EXPECT_THAT(markup, HasSubstr("<tr id=\"mqar.linear\" class=\"unfinished\""));
  EXPECT_THAT(markup,
              HasSubstr("seed 0 diverged at step 120: the loss became NaN"));
}

TEST(Page, DifferencesOfContextAreSaid) {
  ResultRecord elsewhere = OkCell("linear", 0.5);
  elsewhere.mutable_environment()->set_commit("ffff-dirty");
  const std::string markup = Markup(Page({OkCell("softmax", 1.0), elsewhere}));
  EXPECT_THAT(markup, HasSubstr("The cells differ in commit: 0123456789ab "
                                "(1 cell); ffff-dirty (1 cell)"));
}

TEST(Page, AnOverviewOfSeveralTasksSkipsNoHole) {
  ResultRecord needle = OkCell("softmax", 0.5);
  needle.set_task("needle");
  const std::string markup =
      Markup(Page({OkCell("softmax", 1.0), OkCell("linear", 0.5), needle}));
  const size_t overview = markup.find("id=\"overview\"");
  ASSERT_NE(overview, std::string::npos);
  EXPECT_LT(overview, markup.find("<table class=\"ranking\">"));
  EXPECT_THAT(markup, HasSubstr("<td class=\"number\">0.7419</td>\n"
                                "      <td class=\"number\">2/2</td>"));
  EXPECT_THAT(markup, HasSubstr("<td class=\"number\">–</td>\n"
                                "      <td class=\"number\">1/2</td>"));
  EXPECT_THAT(Markup(Page({OkCell("softmax", 1.0)})),
              Not(HasSubstr("id=\"overview\"")));
}

TEST(Page, WhatMemoriesHoldNeedsNoScript) {
  const std::string page =
      Page({OkCell("softmax", 1.0)},
           {CapacityProbe("delta", 0.5), CapacityProbe("softmax", 16),
            UnsupportedProbe("hyena", "it has no keys & values"),
            UnsupportedProbe("base_conv", "it has no keys & values"),
            FailedProbe("gla", "exit code 1")});
  const std::string markup = Markup(page);
  EXPECT_THAT(markup, HasSubstr("without training, 10 trials, seed 0"));
  EXPECT_THAT(markup, HasSubstr("colspan=\"2\" class=\"group\">d = 64</th>"));
  EXPECT_THAT(markup, HasSubstr("<td class=\"number group\">32.0<span "
                                "class=\"range\">30.4–33.6</span></td>"
                                "<td class=\"number\">2.00<span "
                                "class=\"range\">16.0 KiB</span></td>"));
  EXPECT_THAT(markup, HasSubstr(">≥512</td><td class=\"number\">≥32.0<"));
  EXPECT_LT(markup.find(">≥512</td>"), markup.find(">32.0<"));
  EXPECT_THAT(markup, HasSubstr("measured by serialising it"));
  EXPECT_THAT(markup, HasSubstr("<dt>base_conv, hyena</dt>"
                                "<dd>it has no keys &amp; values</dd>"));
  EXPECT_THAT(markup, HasSubstr("<dt>gla</dt><dd>failed: exit code 1</dd>"));
  EXPECT_THAT(markup, HasSubstr("href=\"probes.csv\""));
  // The choice of a key dimension is for the chart, which needs the script.
  EXPECT_THAT(markup, HasSubstr("<fieldset class=\"choice\" hidden>"));
  EXPECT_THAT(markup, HasSubstr("value=\"1\" data-signal=\"setup\" "
                                "autocomplete=\"off\" checked>64<"));
  ASSERT_THAT(Specs(page), SizeIs(3));
  EXPECT_THAT(
      nlohmann::json::parse(Specs(page)[2])["description"].get<std::string>(),
      HasSubstr("for softmax and delta"));
}

TEST(Page, ApproximationsAreATableToo) {
  const std::string page =
      Page({}, {ApproximationProbe("performer", "features")});
  const std::string markup = Markup(page);
  EXPECT_THAT(markup, HasSubstr("rowspan=\"3\">performer, features</th><td "
                                "class=\"number\">16</td><td class=\"number\">"
                                "0.0625</td><td class=\"number\">0.0563–0.0688"
                                "</td>"));
  EXPECT_THAT(markup, HasSubstr("<dt>performer, features</dt><dd>softmax; "
                                "1,024 tokens</dd>"));
  EXPECT_THAT(markup, Not(HasSubstr("exact but for rounding")));
  EXPECT_THAT(Specs(page), SizeIs(1));
  EXPECT_THAT(markup, Not(HasSubstr("id=\"capacity\"")));
}

TEST(Page, ProbesFromElsewhereAreSaid) {
  ProbeRecord elsewhere = CapacityProbe("linear", 0.5);
  elsewhere.mutable_environment()->set_commit("ffff-dirty");
  const std::string markup = Markup(Page(
      {OkCell("softmax", 1.0)}, {CapacityProbe("softmax", 16), elsewhere}));
  EXPECT_THAT(markup, HasSubstr("1 probe is of another commit than all cells: "
                                "ffff-dirty."));
  // It is of no mechanism that was trained.
  EXPECT_THAT(markup, HasSubstr("1 mechanism of attention"));
}

TEST(Page, ProbesAloneHaveAPage) {
  const std::string markup = Markup(Page({}, {CapacityProbe("linear", 0.5)}));
  EXPECT_THAT(markup, HasSubstr("probed without training"));
  EXPECT_THAT(markup, HasSubstr("22 November 2025, 04:05 UTC"));
  EXPECT_THAT(markup, HasSubstr("Example CPU"));
}

TEST(Page, EmptyAndFailedLeaderboardsHavePages) {
  EXPECT_THAT(Page({}), HasSubstr("</html>"));
  const std::string failed = Page({FailedCell("softmax", "no luck")});
  EXPECT_THAT(failed, HasSubstr("no luck"));
  EXPECT_THAT(Specs(failed), SizeIs(0));
}

}  // namespace
}  // namespace mneme
