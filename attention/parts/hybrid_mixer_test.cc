// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/hybrid_mixer.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// A letter for each of ten layers: the Mechanism (which this test does not
// have), a Window or a Convolution, by the parameters that they add.
std::string Layers(const std::string& hybrid) {
  ParameterSet parameters(DType::kFloat32, /*seed=*/1);
  MixerConfig config;
  config.width = 8;
  config.layers = 10;
  config.parameters = &parameters;
  config.options = *Options::Parse(
      WithHybridOptions({OptionSpec::Int("chunk", 8, 1, 8, "")}),
      {{"hybrid", hybrid}});
  std::string letters;
  for (config.layer = 0; config.layer < config.layers; ++config.layer) {
    config.name = absl::StrCat("layer", config.layer);
    char letter = '?';
    auto made = MakeHybridMixer(config, "test", [&](const MixerConfig&) {
      letter = 'M';
      return nullptr;
    });
    EXPECT_TRUE(made.ok()) << made.status();
    for (const auto& parameter : parameters.all()) {
      if (!absl::StartsWith(parameter->name, config.name)) continue;
      if (absl::EndsWith(parameter->name, ".query")) letter = 'W';
      if (absl::EndsWith(parameter->name, ".filter")) letter = 'C';
    }
    letters += letter;
  }
  return letters;
}

TEST(HybridMixer, LayersFollowThePattern) {
  EXPECT_EQ(Layers("none"), "MMMMMMMMMM");
  EXPECT_EQ(Layers("window"), "MWMWMWMWMW");
  EXPECT_EQ(Layers("release"), "CMWCCCMWCC");
}

TEST(HybridMixer, HeadsThatDoNotFitNameTheVariant) {
  ParameterSet parameters(DType::kFloat32, /*seed=*/1);
  MixerConfig config;
  config.width = 8;
  config.heads = 3;
  config.parameters = &parameters;
  config.options = *Options::Parse(
      WithHybridOptions({OptionSpec::Int("chunk", 8, 1, 8, "")}),
      {{"hybrid", "release"}});
  auto made = MakeHybridMixer(config, "test",
                              [](const MixerConfig&) { return nullptr; });
  EXPECT_TRUE(absl::StartsWith(made.status().message(), "test: "))
      << made.status();
}

}  // namespace
}  // namespace mneme
