// SPDX-License-Identifier: Apache-2.0
//
// Training as the quick profile of mqar does it, in models of two layers: whole
// optimiser steps, the making of examples included, of
//   mneme      the variant's mixer;
//   backbone   a mixer that adds its normalised input to the residual: what a
//              step costs that is not the mixer.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "harness/model.h"
#include "harness/settings.h"
#include "harness/throughput/contender.h"
#include "harness/trainer.h"
#include "tasks/task.h"

namespace mneme {
namespace {

class NoMixer : public Mixer {
 public:
  Variable Forward(const MixerCall& call) const override {
    return Add(call.residual, call.x);
  }
  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    return std::make_unique<CompositeState>(dtype, batch);
  }
};

const Variant& Backbone() {
  static const auto* variant = [] {
    auto* v = new Variant;
    v->descriptor.name = "backbone";
    v->make_mixer = [](const MixerConfig&) {
      return absl::StatusOr<std::unique_ptr<Mixer>>(
          std::make_unique<NoMixer>());
    };
    return v;
  }();
  return *variant;
}

class Training : public Workload {
 public:
  static absl::StatusOr<std::unique_ptr<Workload>> Make(
      const Problem& problem, const Variant& variant, const Options& options) {
    const Dims& d = problem.dims;
    const absl::StatusOr<const TaskPlugin*> plugin = Tasks().Find("mqar");
    if (!plugin.ok()) return plugin.status();
    std::vector<std::string> set = {
        absl::StrCat("task.length=", d.length),
        absl::StrCat("model.width=", d.heads * d.key_dim),
        absl::StrCat("model.heads=", d.heads),
        absl::StrCat("train.batch=", d.batch),
        absl::StrCat("train.form=", FormName(problem.form)),
        // Never stops by itself, and validates next to nothing.
        absl::StrCat("train.steps=", kSteps),
        absl::StrCat("train.eval_every=", kSteps),
        "train.validation_examples=1",
        "train.stop_accuracy=2",
    };
    for (const auto& [name, value] : options.ToValues()) {
      set.push_back(absl::StrCat("variant.", name, "=", value));
    }
    absl::StatusOr<Settings> settings = ResolveSettings(
        variant.descriptor, (*plugin)->descriptor, "quick", set);
    if (!settings.ok()) return settings.status();
    absl::StatusOr<std::unique_ptr<Task>> task =
        (*plugin)->make(settings->task);
    if (!task.ok()) return task.status();
    auto workload = std::unique_ptr<Training>(new Training);
    workload->task_ = *std::move(task);
    absl::StatusOr<std::unique_ptr<Model>> model = Model::Create(
        variant, settings->variant, settings->model,
        workload->task_->vocabulary(), d.length, DType::kFloat32, /*seed=*/0);
    if (!model.ok()) return model.status();
    workload->model_ = *std::move(model);
    workload->trainer_ = std::make_unique<Trainer>(
        workload->model_.get(), workload->task_.get(), settings->train,
        /*seed=*/0, problem.pool == nullptr ? 1 : problem.pool->threads());
    return std::unique_ptr<Workload>(std::move(workload));
  }

  absl::Status Run() override {
    absl::StatusOr<TrainResult> result = trainer_->Train(nullptr);
    if (!result.ok()) return result.status();
    if (result->diverged) {
      return absl::FailedPreconditionError("training diverged");
    }
    seconds_ = result->seconds;
    return absl::OkStatus();
  }

  int64_t Times() const override { return kSteps; }
  kernels::ThreadPool* pool() const override { return trainer_->pool(); }
  double Seconds() const override { return seconds_; }
  std::vector<Tensor> Outputs() const override { return {}; }

 private:
  static constexpr int kSteps = 10;

  Training() = default;

  std::unique_ptr<Task> task_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Trainer> trainer_;
  double seconds_ = 0;
};

absl::StatusOr<std::unique_ptr<Workload>> MakeOwn(const Problem& problem) {
  return Training::Make(problem, *problem.variant, problem.options);
}

absl::StatusOr<std::unique_ptr<Workload>> MakeBackbone(const Problem& problem) {
  return Training::Make(problem, Backbone(), Options());
}

[[maybe_unused]] const bool registered =
    RegisterContender({"mneme", "", Phase::kTrain, 0, MakeOwn}) &&
    RegisterContender({"backbone", "", Phase::kTrain, 0, MakeBackbone});

}  // namespace
}  // namespace mneme
