// SPDX-License-Identifier: Apache-2.0
//
// That what is wrong is not timed. That Mneme's operators are right is what
// their contract tests say.

#include "harness/throughput/oracle_check.h"

#include <cmath>
#include <list>
#include <map>
#include <utility>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/parallel.h"
#include "gtest/gtest.h"
#include "harness/throughput/problem.h"

namespace mneme {
namespace {

absl::StatusOr<std::unique_ptr<Workload>> MakeChecked(
    const Contender& contender, const Problem& problem) {
  Oracle oracle(problem);
  return MakeChecked(contender, &oracle);
}

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

// Also where only the shortened problem has it.
TEST_P(OracleCheckTest, NotANumberIsFoundAtTheBeginning) {
  Contender contender = SpoiltBy(GetParam(), 3, std::nanf(""));
  contender.make =
      [](const Problem& p) -> absl::StatusOr<std::unique_ptr<Workload>> {
    auto own = Own(p.phase).make(p);
    if (!own.ok()) return own;
    const bool whole = p.dims.length > kCheckedTokens;
    return std::unique_ptr<Workload>(
        new Spoilt(*std::move(own), 3, whole ? 0.0f : std::nanf("")));
  };
  EXPECT_TRUE(
      absl::IsFailedPrecondition(MakeChecked(contender, problem_).status()));
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

// Softmax attention that counts what is asked of it, and is wrong in blocks.
class Watched : public Operator {
 public:
  explicit Watched(std::unique_ptr<Operator> op) : op_(std::move(op)) {}

  std::vector<InputSpec> Inputs() const override { return op_->Inputs(); }
  absl::Status Forward(OperatorCall* call) const override {
    if (call->output.dtype() == DType::kFloat64) ++in_doubles;
    absl::Status status = op_->Forward(call);
    if (!status.ok()) return status;
    float wrong = call->form == wrong_in ? WrongBy(call->dims.length) : 0.0f;
    if (call->state != nullptr) {
      // What the state saw so far.
      int64_t& tokens = tokens_[call->state];
      float& read_wrong = wrong_by_[call->state];
      tokens += call->dims.length;
      // Not of the token after a shortened context either.
      if (call->form == wrong_in) read_wrong = WrongBy(tokens - 1);
      wrong = read_wrong;
    }
    const Tensor& o = call->output;
    const int64_t last = o.elements() - 1;
    if (o.dtype() == DType::kFloat64) {
      o.data<double>()[last] += wrong;
    } else {
      o.data<float>()[last] += wrong;
    }
    return status;
  }
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    return op_->Backward(call, d_output, d_inputs);
  }
  std::unique_ptr<State> NewState(const Dims& dims,
                                  DType dtype) const override {
    std::unique_ptr<State> state = op_->NewState(dims, dtype);
    tokens_[state.get()] = 0;  // may be where another was
    wrong_by_[state.get()] = 0;
    return state;
  }
  int64_t StateBytes(const Dims& dims) const override {
    return op_->StateBytes(dims);
  }
  Cost ForwardCost(const Dims& dims, Form form) const override {
    return op_->ForwardCost(dims, form);
  }
  absl::Status Reference(const OperatorCall& call) const override {
    ++references;
    return op_->Reference(call);
  }

  absl::optional<Form> wrong_in;
  mutable int in_doubles = 0, references = 0;

 private:
  // Where the shortened problem does not reach.
  static float WrongBy(int64_t length) {
    return length > kCheckedTokens ? 1.0f : 0.0f;
  }

  std::unique_ptr<Operator> op_;
  mutable std::map<const State*, int64_t> tokens_;
  mutable std::map<const State*, float> wrong_by_;
};

class OracleTest : public testing::Test {
 protected:
  void SetUp() override {
    variant_ = *Variants().Find("softmax");
    op_ = std::make_unique<Watched>(*variant_->make_operator(
        *Options::Parse(variant_->descriptor.options)));
  }
  Problem MakeProblemOf(Phase phase, Form form) {
    return MakeProblem(phase, *variant_, Options(), op_.get(), form,
                       {2, 300, 2, 16}, nullptr);
  }
  const Variant* variant_;
  std::unique_ptr<Watched> op_;
};

TEST_F(OracleTest, IsComputedOnceForAllContenders) {
  for (const Phase phase :
       {Phase::kPrefill, Phase::kDecode, Phase::kBackward}) {
    const Problem problem = MakeProblemOf(phase, Form::kChunked);
    Oracle oracle(problem);
    op_->in_doubles = op_->references = 0;
    ASSERT_TRUE(MakeChecked(Own(phase), &oracle).ok());
    const int in_doubles = op_->in_doubles, references = op_->references;
    EXPECT_GT(in_doubles, 0);
    EXPECT_GT(references, 0);
    EXPECT_FALSE(MakeChecked(SpoiltBy(phase, 0, 0.5f), &oracle).ok());
    EXPECT_TRUE(MakeChecked(Own(phase), &oracle).ok());
    EXPECT_EQ(op_->in_doubles, in_doubles);
    EXPECT_EQ(op_->references, references);
  }
}

// An operator that is wrong in float64 as well, but not in all of its forms.
TEST_F(OracleTest, AnotherFormFindsWhatIsWrongInOne) {
  for (const Form form : {Form::kParallel, Form::kChunked, Form::kRecurrent}) {
    const Problem problem = MakeProblemOf(Phase::kPrefill, form);
    op_->wrong_in = absl::nullopt;
    EXPECT_TRUE(MakeChecked(Own(Phase::kPrefill), problem).ok());
    op_->wrong_in = form;
    EXPECT_TRUE(absl::IsFailedPrecondition(
        MakeChecked(Own(Phase::kPrefill), problem).status()))
        << FormName(form);
  }
  // Whose context is read in blocks, before a token.
  for (const Form form : {Form::kChunked, Form::kRecurrent}) {
    const Problem problem = MakeProblemOf(Phase::kDecode, Form::kChunked);
    op_->wrong_in = absl::nullopt;
    EXPECT_TRUE(MakeChecked(Own(Phase::kDecode), problem).ok());
    op_->wrong_in = form;
    EXPECT_TRUE(absl::IsFailedPrecondition(
        MakeChecked(Own(Phase::kDecode), problem).status()))
        << "decoding: " << FormName(form);
  }
}

TEST_F(OracleTest, TakesTheOwnFormWhereAnotherIsTooMuch) {
  const auto form_of = [&](Phase phase, Form form, int64_t length) {
    Problem problem = MakeProblemOf(phase, form);
    problem.dims.length = length;  // its inputs do not matter here
    return Oracle(problem).WholeForm();
  };
  EXPECT_EQ(form_of(Phase::kBackward, Form::kChunked, 300), Form::kParallel);
  EXPECT_EQ(form_of(Phase::kBackward, Form::kParallel, 300), Form::kChunked);
  // Of all scores at once, in memory.
  EXPECT_EQ(form_of(Phase::kBackward, Form::kChunked, 10000), Form::kChunked);
  EXPECT_EQ(form_of(Phase::kPrefill, Form::kChunked, 5000), Form::kRecurrent);
  EXPECT_EQ(form_of(Phase::kPrefill, Form::kChunked, 15000), Form::kChunked);
  EXPECT_EQ(form_of(Phase::kPrefill, Form::kChunked, 1000000), absl::nullopt);
  EXPECT_EQ(form_of(Phase::kDecode, Form::kChunked, 300), Form::kParallel);
  EXPECT_EQ(form_of(Phase::kDecode, Form::kParallel, 10000), Form::kChunked);
}

// Each thread has scores of its own, of a head.
TEST_F(OracleTest, ManyThreadsTakeMoreMemory) {
  kernels::ThreadPool two(2), eight(8);
  Problem problem = MakeProblemOf(Phase::kBackward, Form::kChunked);
  problem.dims.length = 3500;
  EXPECT_EQ(Oracle(problem).WholeForm(), Form::kParallel);
  problem.pool = &two;
  EXPECT_EQ(Oracle(problem).WholeForm(), Form::kParallel);
  problem.pool = &eight;  // of which four have a head
  EXPECT_EQ(Oracle(problem).WholeForm(), Form::kChunked);
  problem.dims.length = 2500;
  EXPECT_EQ(Oracle(problem).WholeForm(), Form::kParallel);
}

TEST_F(OracleTest, SaysWhatItKeeps) {
  const Problem problem = MakeProblemOf(Phase::kPrefill, Form::kChunked);
  Oracle oracle(problem);
  EXPECT_EQ(oracle.Bytes(), 0);
  ASSERT_TRUE(MakeChecked(Own(Phase::kPrefill), &oracle).ok());
  // Three inputs, and two outputs in float64.
  const int64_t row = 2 * 16;
  EXPECT_EQ(oracle.Bytes(), 3 * kCheckedTokens * row * 4 +
                                (kCheckedTokens + 2 * 300) * row * 8);
}

// Means of thousands of values are small: what is wrong by as much as they are
// is much less than bfloat16 may be off where one value is the mean.
TEST(OracleCheckTest, WhatIsWrongAtLateTokensIsFoundInBf16) {
  const Variant& variant = **Variants().Find("softmax");
  const Options options =
      *Options::Parse(variant.descriptor.options, {{"precision", "bf16"}});
  const auto op = *variant.make_operator(options);
  const Problem problem =
      MakeProblem(Phase::kPrefill, variant, options, op.get(), Form::kChunked,
                  {1, 2048, 2, 32}, nullptr);
  Oracle oracle(problem);
  EXPECT_TRUE(MakeChecked(Own(Phase::kPrefill), &oracle).ok());
  // 0.03 is about their standard deviation.
  EXPECT_TRUE(absl::IsFailedPrecondition(
      MakeChecked(SpoiltBy(Phase::kPrefill, -1, 0.03f), &oracle).status()));
  // About a thirtieth of the largest of the first tokens' values.
  EXPECT_TRUE(absl::IsFailedPrecondition(
      MakeChecked(SpoiltBy(Phase::kPrefill, 0, 0.1f), &oracle).status()));
}

// Only what is not to be differentiated is in bfloat16.
TEST(OracleCheckTest, GradientsBesideBf16AreHeldToFloat32) {
  const Variant& variant = **Variants().Find("softmax");
  const Options options =
      *Options::Parse(variant.descriptor.options, {{"precision", "bf16"}});
  const auto op = *variant.make_operator(options);
  const Problem problem =
      MakeProblem(Phase::kBackward, variant, options, op.get(), Form::kChunked,
                  {1, 300, 2, 16}, nullptr);
  Oracle oracle(problem);
  EXPECT_TRUE(MakeChecked(Own(Phase::kBackward), &oracle).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(
      MakeChecked(SpoiltBy(Phase::kBackward, -1, 0.003f), &oracle).status()));
}

// Whose roundings add up like those of any float32.
TEST(OracleCheckTest, PeersBesideBf16MayDifferByMoreOfMoreTokens) {
  const Variant& variant = **Variants().Find("softmax");
  const Options bf16 =
      *Options::Parse(variant.descriptor.options, {{"precision", "bf16"}});
  const auto op = *variant.make_operator(bf16);
  const auto op_of_float32 =
      *variant.make_operator(*Options::Parse(variant.descriptor.options));
  const Problem problem =
      MakeProblem(Phase::kPrefill, variant, bf16, op.get(), Form::kChunked,
                  {1, 2048, 2, 32}, nullptr);
  Oracle oracle(problem);
  std::list<Problem> in_float32;  // outlive their workloads
  const auto status_of = [&](float change) {
    Contender peer = SpoiltBy(Phase::kPrefill, -1, 0);
    peer.tolerance = 1e-3;
    peer.make =
        [&](const Problem& p) -> absl::StatusOr<std::unique_ptr<Workload>> {
      in_float32.push_back(p);
      in_float32.back().op = op_of_float32.get();
      auto own = Own(p.phase).make(in_float32.back());
      if (!own.ok()) return own;
      const bool whole = p.dims.length > kCheckedTokens;
      return std::unique_ptr<Workload>(
          new Spoilt(*std::move(own), -1, whole ? change : 0.0f));
    };
    return MakeChecked(peer, &oracle).status();
  };
  // The largest of the last tokens' values is about 0.1, and the root of the
  // length in kCheckedTokens 3.3.
  EXPECT_TRUE(status_of(0).ok()) << status_of(0);
  EXPECT_TRUE(status_of(2 * 1e-3 * kOracleSlack * 0.1).ok());
  EXPECT_TRUE(
      absl::IsFailedPrecondition(status_of(8 * 1e-3 * kOracleSlack * 0.1)));
}

// Every variant, in every phase, as the suite would run it.
void ExpectAllVariantsPass(int64_t length) {
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
                      {1, length, 2, 32}, nullptr);
      const auto workload = MakeChecked(Own(phase), problem);
      const bool encoder =
          phase == Phase::kDecode && !variant.descriptor.streaming;
      EXPECT_TRUE(encoder ? absl::IsUnimplemented(workload.status())
                          : workload.ok())
          << PhaseName(phase) << " of " << length << ": " << workload.status();
    }
  }
}

TEST(OracleCheckTest, AllVariantsPass) {
  kernels::ForEachSimdTarget([] {
    // Of one token, attention's scores have no gradients but for rounding.
    for (const int64_t length : {1, 200}) ExpectAllVariantsPass(length);
  });
}

TEST(OracleCheckTest, AllVariantsPassFarFromTheBeginning) {
  ExpectAllVariantsPass(1000);
}

}  // namespace
}  // namespace mneme
