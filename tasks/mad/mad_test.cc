// SPDX-License-Identifier: Apache-2.0

#include "tasks/mad/mad.h"

#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(PublishedMadTest, TrainsTwoHundredEpochs) {
  for (const auto& [examples, steps] :
       std::map<int64_t, std::string>{{12800, "20000"}, {256, "400"}}) {
    const TaskProfile profile = PublishedMad({{"vocab", "16"}}, examples);
    EXPECT_EQ(profile.name, "published/mad");
    EXPECT_EQ(profile.values, (OptionValues{{"vocab", "16"}}));
    const std::map<std::string, std::string> train(profile.train.begin(),
                                                   profile.train.end());
    EXPECT_EQ(train.at("steps"), steps);
    EXPECT_EQ(train.at("train_examples"), std::to_string(examples));
    EXPECT_EQ(train.at("eval_every"), examples == 256 ? "2" : "100");
    EXPECT_EQ(train.at("select"), "test");
    EXPECT_EQ(train.at("average"), "classes");
  }
}

TEST(ExpectedLargestSharesTest, FewDrawsByHand) {
  // Two of three kinds are alike in one case of 3; three draws are alike in 3
  // cases of 27, two of them in 18, none in 6.
  const std::vector<double> shares = ExpectedLargestShares(3, 3);
  ASSERT_EQ(shares.size(), 3);
  EXPECT_DOUBLE_EQ(shares[0], 1);
  EXPECT_NEAR(shares[1], (1 + 1.0 / 3) / 2, 0.01);
  EXPECT_NEAR(shares[2], (3 * 3 + 18 * 2 + 6 * 1) / 27.0 / 3, 0.01);
}

TEST(LetterTextTest, LettersThenNumbers) {
  EXPECT_EQ(LetterText(0, 'a', "c"), "a");
  EXPECT_EQ(LetterText(25, 'A', "k"), "Z");
  EXPECT_EQ(LetterText(26, 'A', "k"), "k26");
}

}  // namespace
}  // namespace mneme
