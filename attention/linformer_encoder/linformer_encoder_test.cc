// SPDX-License-Identifier: Apache-2.0
//
// What the contract cannot know: who shares projections, which of their rows a
// short sequence takes, and what happens to one that is too long.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

constexpr int64_t kWidth = 6, kHeads = 2, kSlots = 3;
constexpr int kLayers = 2;

struct Stack {
  ParameterSet parameters{DType::kFloat64, /*seed=*/1};
  std::vector<std::unique_ptr<Mixer>> mixers;

  Stack(const std::string& sharing, int64_t max_length) {
    const Variant& variant = **Variants().Find("linformer_encoder");
    MixerConfig config;
    config.width = kWidth;
    config.heads = kHeads;
    config.max_length = max_length;
    config.layers = kLayers;
    config.options =
        *Options::Parse(variant.descriptor.options,
                        {{"k", std::to_string(kSlots)}, {"sharing", sharing}});
    config.parameters = &parameters;
    for (config.layer = 0; config.layer < kLayers; ++config.layer) {
      config.name = absl::StrCat("mixer", config.layer);
      mixers.push_back(*variant.make_mixer(config));
    }
  }

  // Numbers in all projections.
  int64_t ProjectionElements() const {
    int64_t elements = 0;
    for (const auto& parameter : parameters.all()) {
      if (parameter->name.find("project") != std::string::npos) {
        elements += parameter->value.elements();
      }
    }
    return elements;
  }

  absl::Status Forward(const Tensor& x, Tensor* y) const {
    Arena arena;
    Tape tape(&arena, DType::kFloat64, nullptr);
    CrossLayer shared;
    Variable variable = tape.Input(x);
    for (const auto& mixer : mixers) {
      MixerCall call;
      call.residual = call.x = variable;
      call.shared = &shared;
      variable = mixer->Forward(call);
      if (!variable.valid()) break;
    }
    if (tape.status().ok()) *y = variable.value().Clone();
    return tape.status();
  }
};

Tensor Input(int64_t length) {
  Tensor x(DType::kFloat64, {1, length, kWidth});
  Random random(1, StreamId("linformer test"));
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.data<double>()[i] = random.Normal();
  }
  return x;
}

TEST(LinformerEncoder, SharingIsThePapers) {
  constexpr int64_t kLength = 7, kMatrix = kLength * kSlots;
  const auto elements = [](const char* sharing) {
    return Stack(sharing, kLength).ProjectionElements();
  };
  EXPECT_EQ(elements("none"), kLayers * kHeads * 2 * kMatrix);
  EXPECT_EQ(elements("headwise"), kLayers * 2 * kMatrix);
  EXPECT_EQ(elements("key_value"), kLayers * kMatrix);
  EXPECT_EQ(elements("layerwise"), kMatrix);
}

TEST(LinformerEncoder, AShortSequenceTakesTheFirstColumns) {
  constexpr int64_t kShort = 5, kLong = 9;
  for (const char* sharing : {"none", "headwise", "key_value", "layerwise"}) {
    SCOPED_TRACE(sharing);
    Stack narrow(sharing, kShort), wide(sharing, kLong);
    for (size_t i = 0; i < narrow.parameters.all().size(); ++i) {
      Tensor& to = narrow.parameters.all()[i]->value;
      const Tensor& from = wide.parameters.all()[i]->value;
      if (to.elements() == from.elements()) continue;
      for (int64_t h = 0; h < to.dim(0); ++h) {
        std::copy_n(from.data<double>() + h * kLong * kSlots, kShort * kSlots,
                    to.data<double>() + h * kShort * kSlots);
      }
    }
    Tensor expected, actual;
    ASSERT_TRUE(narrow.Forward(Input(kShort), &expected).ok());
    ASSERT_TRUE(wide.Forward(Input(kShort), &actual).ok());
    EXPECT_EQ(actual.ToDoubles(), expected.ToDoubles());
  }
}

TEST(LinformerEncoder, ALongerSequenceIsAnErrorThatSaysSo) {
  Tensor y;
  const absl::Status status = Stack("none", 5).Forward(Input(6), &y);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("6 tokens"), absl::string_view::npos);
}

}  // namespace
}  // namespace mneme
