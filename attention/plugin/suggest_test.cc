// SPDX-License-Identifier: Apache-2.0

#include "attention/plugin/suggest.h"

#include "gtest/gtest.h"

namespace mneme {
namespace {

const std::vector<std::string>& Variants() {
  static const auto& names = *new std::vector<std::string>(
      {"linear", "mamba2", "retention", "softmax"});
  return names;
}

TEST(NearestNameTest, EachKindOfEditIsForgiven) {
  EXPECT_EQ(NearestName("softmax", Variants()), "softmax");
  EXPECT_EQ(NearestName("softmaxx", Variants()), "softmax");  // inserted
  EXPECT_EQ(NearestName("sofmax", Variants()), "softmax");    // deleted
  EXPECT_EQ(NearestName("softmix", Variants()), "softmax");   // replaced
  EXPECT_EQ(NearestName("sotfmax", Variants()), "softmax");   // swapped
  EXPECT_EQ(NearestName("SoftMax", Variants()), "softmax");   // case
  EXPECT_EQ(NearestName("softmax", {"SOFTMAX"}), "SOFTMAX");
}

// Two swaps are two edits; as replacements they would be four, too many.
TEST(NearestNameTest, ASwapIsOneEdit) {
  EXPECT_EQ(NearestName("badc", {"abcd"}), "abcd");
  EXPECT_EQ(NearestName("badcfe", {"abcdef"}), "");
}

TEST(NearestNameTest, AThirdOfALongNameMayBeWrong) {
  EXPECT_EQ(NearestName("retent", Variants()), "retention");
  EXPECT_EQ(NearestName("reten", Variants()), "");
  EXPECT_EQ(NearestName("retentionxxxx", Variants()), "retention");
  EXPECT_EQ(NearestName("retentionxxxxx", Variants()), "");
}

TEST(NearestNameTest, ShortNamesMayHaveTwoEdits) {
  EXPECT_EQ(NearestName("mqr", {"mqar"}), "mqar");
  EXPECT_EQ(NearestName("qa", {"mqar"}), "mqar");
  EXPECT_EQ(NearestName("q", {"mqar"}), "");
}

TEST(NearestNameTest, NothingInCommonIsNoSuggestion) {
  EXPECT_EQ(NearestName("xy", {"ab"}), "");
  EXPECT_EQ(NearestName("", {"ab"}), "");
  EXPECT_EQ(NearestName("ab", {}), "");
}

TEST(NearestNameTest, TheNearestWinsThenTheFirst) {
  EXPECT_EQ(NearestName("mamba3", {"mamba", "mamba22", "mamba2"}), "mamba");
  EXPECT_EQ(NearestName("mamba2x", {"mamba", "mamba2"}), "mamba2");
}

TEST(UnknownNameTest, NamesWhatWasWrongAndWhatIsKnown) {
  const absl::Status status = UnknownName("variant", "sotfmax", Variants());
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(),
            "unknown variant \"sotfmax\"; did you mean \"softmax\"? known: "
            "linear, mamba2, retention, softmax");
  EXPECT_EQ(UnknownName("task", "xyzzy", {"mqar"}).message(),
            "unknown task \"xyzzy\"; known: mqar");
  EXPECT_EQ(UnknownName("task", "x", {}).message(),
            "unknown task \"x\"; known: none");
}

// Whatever was typed, the message stays one printable line.
TEST(UnknownNameTest, ControlCharactersAreEscaped) {
  EXPECT_EQ(UnknownName("task", "a\nb\x1b[31m", {"mqar"}).message(),
            "unknown task \"a\\nb\\033[31m\"; known: mqar");
}

}  // namespace
}  // namespace mneme
