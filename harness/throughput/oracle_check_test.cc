// SPDX-License-Identifier: Apache-2.0
//
// That what is wrong is not timed. That Mneme's operators are right is what
// their contract tests say.

#include "harness/throughput/oracle_check.h"

#include <utility>

#include "gtest/gtest.h"
#include "harness/throughput/problem.h"

namespace mneme {
namespace {

const Contender& Own(Phase phase) {
  return *ContendersOf("softmax", phase).front();
}

// Mneme's own workload, spoilt.
class Spoilt : public Workload {
 public:
  Spoilt(std::unique_ptr<Workload> workload, int64_t index, float change)
      : workload_(std::move(workload)), index_(index), change_(change) {}
  absl::Status Run() override { return workload_->Run(); }
  std::vector<Tensor> Outputs() const override {
    std::vector<Tensor> outputs;
    for (const Tensor& x : workload_->Outputs()) outputs.push_back(x.Clone());
    Tensor& last = outputs.back();
    const int64_t i = index_ < 0 ? last.elements() + index_ : index_;
    last.data<float>()[i] += change_;
    return outputs;
  }

 private:
  std::unique_ptr<Workload> workload_;
  int64_t index_;
  float change_;
};

Contender SpoiltBy(Phase phase, int64_t index, float change) {
  return {
      "spoilt", "softmax", phase, 0,
      [=](const Problem& problem) -> absl::StatusOr<std::unique_ptr<Workload>> {
        auto own = Own(phase).make(problem);
        if (!own.ok()) return own;
        return std::unique_ptr<Workload>(
            new Spoilt(*std::move(own), index, change));
      }};
}

class OracleCheckTest : public testing::TestWithParam<Phase> {
 protected:
  void SetUp() override {
    variant_ = *Variants().Find("softmax");
    op_ =
        *variant_->make_operator(*Options::Parse(variant_->descriptor.options));
    problem_ = MakeProblem(GetParam(), *variant_, Options(), op_.get(),
                           Form::kChunked, {2, 300, 2, 16}, nullptr);
  }
  const Variant* variant_;
  std::unique_ptr<Operator> op_;
  Problem problem_;
};

TEST_P(OracleCheckTest, WhatIsRightPasses) {
  const auto workload = MakeChecked(Own(GetParam()), problem_);
  EXPECT_TRUE(workload.ok()) << workload.status();
}

TEST_P(OracleCheckTest, OneWrongNumberIsFound) {
  for (const int64_t index : {0, -1}) {
    const auto workload =
        MakeChecked(SpoiltBy(GetParam(), index, 0.5f), problem_);
    EXPECT_TRUE(absl::IsFailedPrecondition(workload.status()))
        << workload.status();
  }
}

TEST_P(OracleCheckTest, NotANumberIsFound) {
  const auto workload =
      MakeChecked(SpoiltBy(GetParam(), 3, std::nanf("")), problem_);
  EXPECT_TRUE(absl::IsFailedPrecondition(workload.status()))
      << workload.status();
}

// Wrong only where the shortened problem does not reach.
TEST_P(OracleCheckTest, WhatIsWrongFarFromTheBeginningIsFound) {
  for (const float error : {0.5f, HUGE_VALF}) {
    Contender contender = SpoiltBy(GetParam(), -1, error);
    contender.make =
        [error](const Problem& p) -> absl::StatusOr<std::unique_ptr<Workload>> {
      auto own = Own(p.phase).make(p);
      if (!own.ok()) return own;
      const float change = p.dims.length > kCheckedTokens ? error : 0.0f;
      return std::unique_ptr<Workload>(new Spoilt(*std::move(own), -1, change));
    };
    EXPECT_TRUE(
        absl::IsFailedPrecondition(MakeChecked(contender, problem_).status()));
  }
}

INSTANTIATE_TEST_SUITE_P(Phases, OracleCheckTest,
                         testing::Values(Phase::kPrefill, Phase::kDecode,
                                         Phase::kBackward),
                         [](const auto& info) {
                           return std::string(PhaseName(info.param));
                         });

// Every variant, in every phase, as the suite would run it.
TEST(OracleCheckTest, AllVariantsPass) {
  for (const std::string& name : Variants().Names()) {
    const Variant& variant = **Variants().Find(name);
    if (variant.make_operator == nullptr) continue;
    SCOPED_TRACE(name);
    const Options options = *Options::Parse(variant.descriptor.options);
    const auto op = *variant.make_operator(options);
    for (const Phase phase :
         {Phase::kPrefill, Phase::kDecode, Phase::kBackward}) {
      const Problem problem =
          MakeProblem(phase, variant, options, op.get(), Form::kChunked,
                      {1, 200, 2, 32}, nullptr);
      const auto workload = MakeChecked(Own(phase), problem);
      const bool encoder =
          phase == Phase::kDecode && !variant.descriptor.streaming;
      EXPECT_TRUE(encoder ? absl::IsUnimplemented(workload.status())
                          : workload.ok())
          << PhaseName(phase) << ": " << workload.status();
    }
  }
}

}  // namespace
}  // namespace mneme
