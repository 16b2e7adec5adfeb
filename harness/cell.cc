// SPDX-License-Identifier: Apache-2.0

#include "harness/cell.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/variant.h"
#include "harness/environment.h"
#include "harness/long_sequences.h"
#include "harness/model.h"
#include "harness/rate_search.h"
#include "harness/record.h"
#include "harness/record_scores.h"
#include "harness/reference_memory.h"
#include "harness/score_sheet.h"
#include "harness/settings.h"
#include "tasks/task.h"

namespace mneme {
namespace {

using RepeatedSettings = google::protobuf::RepeatedPtrField<Setting>;

void Store(const Options& options, RepeatedSettings* to) {
  for (const auto& [name, value] : options.ToValues()) {
    Setting* setting = to->Add();
    setting->set_name(name);
    setting->set_value(value);
  }
}

// The task with sequences of another length.
absl::StatusOr<std::unique_ptr<Task>> AtLength(const TaskPlugin& plugin,
                                               const Options& options,
                                               int64_t length) {
  OptionValues values = options.ToValues();
  values.emplace_back("length", absl::StrCat(length));
  absl::StatusOr<Options> longer =
      Options::Parse(plugin.descriptor.options, values);
  if (!longer.ok()) return longer.status();
  return plugin.make(*longer);
}

// Keys and values in float32, of every layer.
int64_t CacheBytesPerToken(const Settings& settings) {
  return settings.model.Int("layers") * 2 * settings.model.Int("width") *
         static_cast<int64_t>(sizeof(float));
}

// Tests at twice, four times, ... the training length. What cannot be done is
// said in the record.
void TestLonger(const Model& model, const TaskPlugin& plugin,
                const Settings& settings, uint64_t seed,
                kernels::ThreadPool* pool, ResultRecord* record) {
  constexpr int64_t kFewestExamples = 8;
  const int64_t doublings = settings.train.Int("test_doublings");
  LengthTestOptions options;
  options.piece = settings.train.Int("stream_piece");
  options.bytes_per_token = CacheBytesPerToken(settings);
  options.average = AverageOf(settings.train);
  int64_t length = record->metrics().lengths(0).length();
  for (int64_t i = 0; i < doublings; ++i) {
    length *= 2;
    LengthScore* score = record->mutable_metrics()->add_lengths();
    score->set_length(length);
    const auto task = AtLength(plugin, settings.task, length);
    if (!task.ok()) {
      score->set_unsupported(std::string(task.status().message()));
      continue;
    }
    const int64_t fit = settings.train.Int("length_tokens") / length;
    options.examples = std::max(
        kFewestExamples, std::min(settings.train.Int("test_examples"), fit));
    const auto test = TestAtLength(model, **task, seed, options, pool);
    if (!test.ok()) {
      score->set_unsupported(std::string(test.status().message()));
      continue;
    }
    StoreScore(test->score, **task, score);
    score->set_streamed(test->streamed);
    score->set_state_bytes(test->state_bytes);
    if (test->reference.has_value()) {
      StoreReference(*test->reference, score->mutable_reference());
    }
    LengthTiming* timing = record->mutable_timing()->add_lengths();
    timing->set_length(length);
    timing->set_seconds(test->seconds);
    timing->set_peak_memory_bytes(test->peak_memory_bytes);
  }
}

void StoreReferences(const Task& task, const Settings& settings, uint64_t seed,
                     ResultRecord* record) {
  const ReferenceSheet sheet =
      ReferencesOf(task, seed, settings.train.Int("test_examples"),
                   CacheBytesPerToken(settings));
  if (sheet.empty()) return;
  for (const ReferenceScore& score : sheet.Curve()) {
    StoreReference(score, record->mutable_metrics()->add_references());
  }
  if (!record->has_state_bytes()) return;
  StoreReference(
      sheet.At(record->state_bytes()),
      record->mutable_metrics()->mutable_lengths(0)->mutable_reference());
}

struct MeasuredState {
  int64_t bytes = 0;
  int64_t tokens = 0;  // absorbed by then
};

// Absorbs a test example into a fresh decoding state, up to where the state is
// largest, and measures it by serialising it. That need not be the end: what
// merges its memories, or empties a window, may be at its smallest there.
absl::StatusOr<MeasuredState> MeasureState(const Model& model, const Task& task,
                                           uint64_t seed) {
  Example example;
  task.Generate(Split::kTest, seed, 0, &example);
  Arena arena;
  Tape tape(&arena, model.parameters().dtype(), nullptr);
  std::unique_ptr<ModelState> state = model.NewState(1);
  if (state == nullptr) {
    return absl::InternalError(
        "the variant calls itself streaming and has no state");
  }
  int64_t tokens = task.length();
  for (int64_t t = tokens - 1; t > 0; --t) {
    if (state->BytesAfter(t) > state->BytesAfter(tokens)) tokens = t;
  }
  model.Hidden(&tape, absl::MakeConstSpan(example.tokens).subspan(0, tokens), 1,
               tokens, Form::kChunked, state.get());
  if (!tape.status().ok()) return tape.status();
  return MeasuredState{state->SerializedBytes(), tokens};
}

// A request with its names looked up and its settings checked.
struct Cell {
  const Variant* variant;
  const TaskPlugin* plugin;
  Settings settings;
  std::unique_ptr<Task> task;
};

absl::StatusOr<Cell> Resolve(const CellRequest& request) {
  absl::StatusOr<const Variant*> variant = Variants().Find(request.variant);
  if (!variant.ok()) return variant.status();
  absl::StatusOr<const TaskPlugin*> plugin = Tasks().Find(request.task);
  if (!plugin.ok()) return plugin.status();
  absl::StatusOr<Settings> settings =
      ResolveSettings((*variant)->descriptor, (*plugin)->descriptor,
                      request.profile, request.set);
  if (!settings.ok()) return settings.status();
  if (absl::Status s = CheckTrainOptions(settings->train); !s.ok()) return s;
  auto task = (*plugin)->make(settings->task);
  if (!task.ok()) return task.status();
  return Cell{*variant, *plugin, *std::move(settings), *std::move(task)};
}

// Fills the record's results, or returns why the cell could not be computed.
absl::Status Compute(const CellRequest& request, const Cell& cell,
                     const std::function<void(const ProgressPoint&)>& progress,
                     ResultRecord* record) {
  const Variant& variant = *cell.variant;
  const Task& task = *cell.task;
  const Settings& settings = cell.settings;
  if (cell.plugin->descriptor.requires_causal && !variant.descriptor.causal) {
    return absl::UnimplementedError(
        absl::StrCat(variant.descriptor.name,
                     " looks ahead, and this task's later tokens give answers "
                     "away"));
  }
  const auto make_model = [&] {
    return Model::Create(variant, settings.variant, settings.model,
                         task.vocabulary(), task.length(), DType::kFloat32,
                         request.seed,
                         task.AnswersFromLastToken() ? Readout::kLastPosition
                                                     : Readout::kEachPosition);
  };
  auto model = make_model();
  if (!model.ok()) return model.status();
  record->set_parameters((*model)->parameters().elements());
  if (variant.descriptor.streaming) {
    auto state = MeasureState(**model, task, request.seed);
    if (!state.ok()) return state.status();
    record->set_state_bytes(state->bytes);
    record->set_state_tokens(state->tokens);
  }
  absl::StatusOr<RateSearch> search =
      TrainAtRates(make_model, task, settings.train, request.seed,
                   request.threads, progress);
  if (!search.ok()) return search.status();
  const TrainResult& trained = search->attempts[search->best].result;
  StoreTraining(trained, task, record);
  StoreAttempts(*search, task, record);
  if (trained.diverged) {
    const size_t rates = search->attempts.size();
    record->set_status(STATUS_DIVERGED);
    record->set_status_step(trained.steps);
    record->set_status_message(absl::StrCat(
        "the loss became non-finite at step ", trained.steps,
        rates == 1 ? "" : absl::StrCat(", and so at all ", rates, " rates")));
    return absl::OkStatus();
  }
  Trainer tester(search->model.get(), &task, settings.train, request.seed,
                 request.threads);
  absl::StatusOr<Score> score =
      tester.Evaluate(Split::kTest, settings.train.Int("test_examples"));
  if (!score.ok()) return score.status();
  if (!std::isfinite(score->loss)) {
    record->set_status(STATUS_DIVERGED);
    record->set_status_step(trained.steps);
    record->set_status_message(absl::StrCat(
        "the test loss is not finite after ", trained.steps, " steps"));
    return absl::OkStatus();
  }
  Metrics* metrics = record->mutable_metrics();
  metrics->set_accuracy(score->accuracy);
  metrics->set_accuracy_stderr(score->accuracy_stderr);
  metrics->set_loss(score->loss);
  metrics->set_test_examples(score->examples);
  StoreScore(*score, task, metrics->add_lengths());
  TestLonger(*search->model, *cell.plugin, settings, request.seed,
             tester.pool(), record);
  StoreReferences(task, settings, request.seed, record);
  record->set_status(STATUS_OK);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCell(const CellRequest& request) {
  return Resolve(request).status();
}

absl::StatusOr<ResultRecord> RunCell(
    const CellRequest& request,
    const std::function<void(const ProgressPoint&)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<Cell> cell = Resolve(request);
  if (!cell.ok()) return cell.status();
  const VariantDescriptor& described = cell->variant->descriptor;

  ResultRecord record;
  record.set_schema(kRecordSchema);
  record.set_variant(described.name);
  record.set_family(described.family);
  record.set_variant_version(described.version);
  record.set_task(cell->plugin->descriptor.name);
  record.set_task_version(cell->plugin->descriptor.version);
  record.set_profile(request.profile);
  record.set_seed(request.seed);
  record.set_data(cell->task->DataIdentity());
  for (const std::string& text : request.set) record.add_set(text);
  Store(cell->settings.variant, record.mutable_variant_options());
  Store(cell->settings.task, record.mutable_task_options());
  Store(cell->settings.model, record.mutable_model_options());
  Store(cell->settings.train, record.mutable_train_options());
  *record.mutable_environment() = DescribeEnvironment(request.workspace_status);

  // A path that is no UTF-8 is found now, not after the training.
  if (auto head = FormatRecord(record); !head.ok()) return head.status();

  const absl::Status status = Compute(request, *cell, progress, &record);
  if (absl::IsUnimplemented(status)) {
    record.set_status(STATUS_UNSUPPORTED);
    record.set_status_message(std::string(status.message()));
  } else if (!status.ok()) {
    return status;
  }
  record.mutable_timing()->set_threads(request.threads);
  record.mutable_timing()->set_total_seconds(
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count());
  return record;
}

}  // namespace mneme
