// SPDX-License-Identifier: Apache-2.0
//
// What every operator's ForwardCost must hold, since rooflines divide by it:
// work grows with the sequence and with the batch, and no forward moves fewer
// bytes than its inputs and its output take. A step takes some work, and
// rewriting a state takes reading and writing it; a backward takes more than
// its forward.

#include <cmath>
#include <cstdint>
#include <string>

#include "attention/contract/operator_cases.h"
#include "attention/operator.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {
namespace {

Cost CostOf(const Operator& op, int64_t batch, int64_t length, Form form) {
  const Dims dims =
      WithOwnAxes(op, {batch, length, /*heads=*/2, /*kv_heads=*/2, 8, 8, {}});
  return op.ForwardCost(dims, form);
}

// Between lengths that are far apart: where a sequence is cut into blocks, one
// token more may be fewer pairs.
TEST(OperatorContract, CostsGrowWithTheSequence) {
  ForEachOperator([](const Variant&, const Operator& op) {
    for (Form form : kForms) {
      Cost shorter;
      for (int64_t length : {1, 8, 64, 512, 4096}) {
        const Cost cost = CostOf(op, 2, length, form);
        EXPECT_GT(cost.flops, shorter.flops) << FormName(form) << length;
        EXPECT_GE(cost.exps, shorter.exps) << FormName(form) << length;
        EXPECT_GT(cost.bytes, shorter.bytes) << FormName(form) << length;
        shorter = cost;
      }
    }
  });
}

// What is done once for a batch, as to the parameters of a mechanism, may be
// spared, but not more than all of one sequence's work.
TEST(OperatorContract, CostsAreLinearInTheBatch) {
  ForEachOperator([](const Variant&, const Operator& op) {
    for (Form form : kForms) {
      const Cost one = CostOf(op, 1, 100, form);
      const Cost two = CostOf(op, 2, 100, form);
      const Cost three = CostOf(op, 3, 100, form);
      const auto expect_linear = [&](double a, double b, double c) {
        EXPECT_DOUBLE_EQ(c - b, b - a) << FormName(form);
        EXPECT_LE(b, 2 * a) << FormName(form);
      };
      expect_linear(one.flops, two.flops, three.flops);
      expect_linear(one.exps, two.exps, three.exps);
      expect_linear(one.bytes, two.bytes, three.bytes);
    }
  });
}

// An input with an axis of the operator's own may be longer than what is read.
TEST(OperatorContract, CostsReadEveryInputAndWriteTheOutput) {
  ForEachOperator([](const Variant&, const Operator& op) {
    for (int64_t length : {1, 5, 100}) {
      const Dims dims = WithOwnAxes(op, {2, length, 2, 2, 8, 8, {}});
      double elements = static_cast<double>(dims.batch) * dims.length *
                        dims.heads * dims.value_dim;
      for (const InputSpec& spec : op.Inputs()) {
        if (spec.axes.find_first_not_of("BLHGKV") != std::string::npos) {
          continue;
        }
        elements += InputShape(spec, dims).elements();
      }
      for (Form form : kForms) {
        EXPECT_GE(op.ForwardCost(dims, form).bytes, sizeof(float) * elements)
            << FormName(form) << length;
      }
    }
  });
}

TEST(OperatorContract, AStepCostsTheStateThatItRewrites) {
  ForEachOperator([](const Variant& variant, const Operator& op) {
    if (!variant.descriptor.streaming) return;
    // Also where blocks and segments end.
    for (int64_t length : {1, 2, 7, 15, 63, 64, 100, 511, 512}) {
      Dims dims = WithOwnAxes(op, {2, length, 2, 2, 8, 8, {}});
      const Cost cost = op.StepCost(dims);
      for (double part : {cost.flops, cost.bytes}) {
        EXPECT_TRUE(std::isfinite(part)) << length;
        EXPECT_GT(part, 0) << length;
      }
      EXPECT_TRUE(std::isfinite(cost.exps)) << length;
      EXPECT_GE(cost.exps, 0) << length;
      if (!op.StepRewritesState()) continue;
      const int64_t before = op.StateBytes(dims);
      ++dims.length;
      EXPECT_GE(cost.bytes, before + op.StateBytes(dims)) << length;
    }
  });
}

TEST(OperatorContract, ABackwardCostsMoreThanItsForward) {
  ForEachOperator([](const Variant&, const Operator& op) {
    for (int64_t length : {1, 5, 100}) {
      const Dims dims = WithOwnAxes(op, {2, length, 2, 2, 8, 8, {}});
      for (Form form : kForms) {
        const Cost forward = op.ForwardCost(dims, form);
        const Cost backward = op.BackwardCost(dims, form);
        EXPECT_GT(backward.flops, forward.flops) << FormName(form) << length;
        EXPECT_GE(backward.exps, 0) << FormName(form) << length;
        EXPECT_GT(backward.bytes, forward.bytes) << FormName(form) << length;
      }
    }
  });
}

}  // namespace
}  // namespace mneme::contract
