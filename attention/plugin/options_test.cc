// SPDX-License-Identifier: Apache-2.0

#include "attention/plugin/options.h"

#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

const std::vector<OptionSpec>& Specs() {
  static const auto& specs = *new std::vector<OptionSpec>{
      OptionSpec::Int("pairs", 8, 1, 4096, "key-value pairs"),
      OptionSpec::Real("alpha", 0.01, 0, 10, "power of the slots"),
      OptionSpec::Bool("rope", false, "rotate queries and keys"),
      OptionSpec::Choice("filler", "zero", {"zero", "random"}, "filler"),
      OptionSpec::Text("path", "", "a file"),
  };
  return specs;
}

// The message with which the one assignment is refused, or "" if it is not.
std::string Refusal(const std::string& name, const std::string& text) {
  const absl::Status status = Options::Parse(Specs(), {{name, text}}).status();
  if (status.ok()) return "";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(OptionsTest, DefaultsThenValuesThenLaterValues) {
  absl::StatusOr<Options> options = Options::Parse(Specs());
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->Int("pairs"), 8);
  EXPECT_EQ(options->Real("alpha"), 0.01);
  EXPECT_FALSE(options->Bool("rope"));
  EXPECT_EQ(options->Choice("filler"), "zero");

  options = Options::Parse(Specs(), {{"pairs", "1"},
                                     {"filler", "random"},
                                     {"rope", "true"},
                                     {"alpha", "1"},
                                     {"pairs", "4096"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->Int("pairs"), 4096);
  EXPECT_EQ(options->Real("alpha"), 1);
  EXPECT_TRUE(options->Bool("rope"));
  EXPECT_EQ(options->Choice("filler"), "random");
}

TEST(OptionsTest, TextIsAnyOneLine) {
  for (const char* text : {"", "/home/a b/c=d,e.txt", "naïve", "true"}) {
    absl::StatusOr<Options> options = Options::Parse(Specs(), {{"path", text}});
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->Text("path"), text);
  }
  EXPECT_EQ(Refusal("path", "two\nlines"),
            "option \"path\": \"two\\nlines\" is not text without control "
            "characters");
  EXPECT_EQ(Specs().back().RangeText(), "text");
}

TEST(OptionsTest, IntegersAreReadStrictly) {
  for (const char* text :
       {"0", "4097", "-1", "8.0", "8x", "x8", " 8", "8 ", "+8", "", "1e2",
        "0x10", "99999999999999999999", "nan"}) {
    EXPECT_EQ(Refusal("pairs", text), "option \"pairs\": \"" +
                                          std::string(text) +
                                          "\" is not an integer in 1..4096");
  }
}

TEST(OptionsTest, RealsAreReadStrictly) {
  for (const char* text :
       {"-0.1", "10.5", "nan", "inf", "-inf", "1e999", "1e-999", "0.1x", " 0.1",
        "0.1 ", "+0.1", "", "0,1", "0x1p-3"}) {
    EXPECT_EQ(Refusal("alpha", text), "option \"alpha\": \"" +
                                          std::string(text) +
                                          "\" is not a number in 0..10");
  }
}

TEST(OptionsTest, InfinityIsNoNumberEvenWithoutAnUpperBound) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<OptionSpec> specs = {
      OptionSpec::Real("x", 1, 0, kInfinity, "")};
  EXPECT_TRUE(Options::Parse(specs, {{"x", "1e308"}}).ok());
  EXPECT_FALSE(Options::Parse(specs, {{"x", "inf"}}).ok());
}

TEST(OptionsTest, BoundsAreInclusive) {
  for (const char* text : {"1", "4096"}) EXPECT_EQ(Refusal("pairs", text), "");
  for (const char* text : {"0", "10"}) EXPECT_EQ(Refusal("alpha", text), "");
}

TEST(OptionsTest, IntegersCoverAll64Bits) {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const std::vector<OptionSpec> specs = {
      OptionSpec::Int("low", kMin, kMin, kMax, ""),
      OptionSpec::Int("high", kMax, kMin, kMax, ""),
  };
  absl::StatusOr<Options> options = Options::Parse(specs);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->Int("low"), kMin);
  EXPECT_EQ(options->Int("high"), kMax);
  EXPECT_FALSE(Options::Parse(specs, {{"high", "9223372036854775808"}}).ok());
}

TEST(OptionsTest, BoolsAndChoicesAreReadStrictly) {
  for (const char* text : {"1", "yes", "True", ""}) {
    EXPECT_EQ(Refusal("rope", text), "option \"rope\": \"" + std::string(text) +
                                         "\" is not one of true|false");
  }
  EXPECT_EQ(Refusal("filler", "zeros"),
            "option \"filler\": \"zeros\" is not one of zero|random; did you "
            "mean \"zero\"?");
  EXPECT_EQ(Refusal("filler", ""),
            "option \"filler\": \"\" is not one of zero|random");
}

TEST(OptionsTest, UnknownNamesGetASuggestion) {
  EXPECT_EQ(Refusal("pair", "8"),
            "unknown option \"pair\"; did you mean \"pairs\"? known: pairs, "
            "alpha, rope, filler, path");
}

TEST(OptionsTest, MessagesStayOneLine) {
  EXPECT_TRUE(absl::StrContains(Refusal("pairs", "1\n2"), "\"1\\n2\""));
  EXPECT_TRUE(absl::StrContains(Refusal("a\tb", "1"), "\"a\\tb\""));
}

TEST(OptionsTest, AWrongDefaultIsFound) {
  const std::vector<OptionSpec> specs = {OptionSpec::Int("n", 0, 1, 2, "")};
  EXPECT_FALSE(Options::Parse(specs).ok());
}

TEST(OptionsTest, EqualSettingsHaveEqualText) {
  const OptionValues expected = {{"pairs", "8"},
                                 {"alpha", "1"},
                                 {"rope", "true"},
                                 {"filler", "zero"},
                                 {"path", ""}};
  for (const char* alpha :
       {"1", "1.0", "1e0", "0.1e1", "1.00000000000000000"}) {
    absl::StatusOr<Options> options = Options::Parse(
        Specs(), {{"rope", "true"}, {"alpha", alpha}, {"pairs", "08"}});
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->ToValues(), expected) << alpha;
  }
}

TEST(OptionsTest, MinusZeroIsZero) {
  absl::StatusOr<Options> options = Options::Parse(Specs(), {{"alpha", "-0"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(std::signbit(options->Real("alpha")));
  EXPECT_EQ(options->ToValues()[1].second, "0");
}

TEST(OptionsTest, CanonicalTextReadsBackExactly) {
  constexpr double kMax = std::numeric_limits<double>::max();
  for (const double value :
       {0.1, 1.0 / 3, 3e-3, 4.6e-4, 1e-300, 5e-324, 2.2250738585072014e-308,
        -kMax, kMax, 9007199254740993.0, std::nextafter(1.0, 2.0)}) {
    const std::vector<OptionSpec> specs = {
        OptionSpec::Real("x", value, -kMax, kMax, "")};
    absl::StatusOr<Options> options = Options::Parse(specs);
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->Real("x"), value);
    absl::StatusOr<Options> again = Options::Parse(specs, options->ToValues());
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->Real("x"), value);
    EXPECT_EQ(again->ToValues(), options->ToValues());
  }
}

// What a person typed is what a record and a page show.
TEST(OptionsTest, RealTextIsTheShortest) {
  for (const char* text : {"0.1", "0.003", "0.00046", "2.2", "0.01"}) {
    absl::StatusOr<Options> options =
        Options::Parse(Specs(), {{"alpha", text}});
    ASSERT_TRUE(options.ok()) << options.status();
    EXPECT_EQ(options->ToValues()[1].second, text);
  }
}

TEST(OptionsTest, RangesForPeople) {
  EXPECT_EQ(Specs()[0].RangeText(), "1..4096");
  EXPECT_EQ(Specs()[1].RangeText(), "0..10");
  EXPECT_EQ(Specs()[2].RangeText(), "true|false");
  EXPECT_EQ(Specs()[3].RangeText(), "zero|random");
  EXPECT_EQ(OptionSpec::Real("x", 0.5, 1e-4, 0.5, "").RangeText(),
            "1e-04..0.5");  // the shorter of two
}

TEST(OptionsTest, AskingForWhatWasNotDeclaredIsAProgrammingError) {
  absl::StatusOr<Options> options = Options::Parse(Specs());
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_DEBUG_DEATH(EXPECT_EQ(options->Int("pears"), 0), "declared");
  EXPECT_DEBUG_DEATH(EXPECT_EQ(options->Int("alpha"), 0), "declared");
  EXPECT_DEBUG_DEATH(EXPECT_EQ(options->Real("pairs"), 0), "declared");
  EXPECT_DEBUG_DEATH(EXPECT_FALSE(options->Bool("filler")), "declared");
  EXPECT_DEBUG_DEATH(EXPECT_EQ(options->Choice("rope"), ""), "declared");
}

TEST(ParseAssignmentTest, SplitsAtTheFirstEquals) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(*ParseAssignment("pairs=8"), Pair("pairs", "8"));
  EXPECT_EQ(*ParseAssignment("a=b=c"), Pair("a", "b=c"));
  EXPECT_EQ(*ParseAssignment("a="), Pair("a", ""));
  for (const char* text : {"", "pairs", "=8"}) {
    const absl::Status status = ParseAssignment(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(),
              "\"" + std::string(text) + "\" is not of the form name=value");
  }
}

}  // namespace
}  // namespace mneme
