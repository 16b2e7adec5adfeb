// SPDX-License-Identifier: Apache-2.0

#include "reports/text_settings.h"

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tasks/text_corpus.h"

namespace mneme {
namespace {

using Settings = std::vector<std::string>;

std::string Write(const std::string& text) {
  std::string path = absl::StrCat(testing::TempDir(), "/text_settings");
  std::ofstream(path) << text;
  return path;
}

TEST(TextSettings, APathIsFollowedByTheHashOfTheTextAsItIs) {
  const std::string path = Write("some text");
  Settings before = {"task.path=" + path, "steps=7"};
  Settings after = before;
  ASSERT_TRUE(PinTexts(&before).ok());
  EXPECT_EQ(before,
            (Settings{"task.path=" + path, "steps=7",
                      "task.data=" + (*TextCorpus::Open(path))->hash()}));
  Write("some other text");
  ASSERT_TRUE(PinTexts(&after).ok());
  EXPECT_NE(after, before);
}

TEST(TextSettings, ARelativePathBecomesAbsolute) {
  const std::string path = Write("some text");
  setenv("BUILD_WORKING_DIRECTORY", testing::TempDir().c_str(), 1);
  Settings settings = {"path=text_settings"};
  ASSERT_TRUE(PinTexts(&settings).ok());
  EXPECT_EQ(settings[0],
            absl::StrCat("path=", testing::TempDir(), "/", "text_settings"));
  EXPECT_EQ(settings.size(), 2);
  unsetenv("BUILD_WORKING_DIRECTORY");
}

TEST(TextSettings, OtherSettingsAndGivenHashesStay) {
  for (const Settings& given :
       {Settings{}, Settings{"pathological=1", "train.path=2", "path"},
        Settings{"path=nowhere", "data=0123"}}) {
    Settings settings = given;
    EXPECT_TRUE(PinTexts(&settings).ok());
    EXPECT_EQ(settings, given);
  }
}

TEST(TextSettings, APathWithoutTextIsRefused) {
  Settings settings = {"path=/no/such/thing"};
  const absl::Status status = PinTexts(&settings);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "--set: /no/such/thing: no such file or folder");
}

}  // namespace
}  // namespace mneme
