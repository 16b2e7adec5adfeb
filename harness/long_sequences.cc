// SPDX-License-Identifier: Apache-2.0

#include "harness/long_sequences.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "attention/kernels/denormals.h"
#include "attention/tensor/ops.h"
#include "harness/peak_memory.h"

namespace mneme {
namespace {

// An example with what the model said.
struct Answers {
  // Of a task that generates ranges it holds scored positions alone.
  Example example;
  std::vector<int64_t> positions;  // of the scored ones, in the sequence
  std::vector<double> losses;
  std::vector<int32_t> predictions;
  int64_t state_bytes = 0;
  absl::Status status;
};

class Reader {
 public:
  Reader(const Model& model, const Task& task, uint64_t seed, int64_t piece)
      : model_(model), task_(task), seed_(seed), piece_(piece) {}

  // At once.
  absl::Status ReadWhole(uint64_t index, Answers* answers) {
    Example& example = answers->example;
    task_.Generate(Split::kTest, seed_, index, &example);
    return Read(example.tokens, Wanted(example, 0, answers), Form::kChunked,
                nullptr, answers);
  }

  // Piece by piece.
  absl::Status Stream(uint64_t index, Answers* answers) {
    const std::unique_ptr<ModelState> state = model_.NewState(1);
    const bool ranges = task_.GeneratesRanges();
    if (!ranges) {
      task_.Generate(Split::kTest, seed_, index, &answers->example);
    }
    const int64_t length = task_.length();
    const Form form = piece_ == 1 ? Form::kRecurrent : Form::kChunked;
    for (int64_t first = 0; first < length; first += piece_) {
      const int64_t count = std::min(piece_, length - first);
      if (ranges) {
        task_.GenerateRange(Split::kTest, seed_, index, first, count, &part_);
        KeepScored(part_, &answers->example);
      } else {
        Cut(answers->example, first, count, &part_);
      }
      absl::Status status = Read(part_.tokens, Wanted(part_, first, answers),
                                 form, state.get(), answers);
      if (!status.ok()) return status;
    }
    answers->state_bytes = state->SerializedBytes();
    return absl::OkStatus();
  }

 private:
  struct Rows {
    std::vector<int64_t> rows;  // scored ones of a piece
    std::vector<int32_t> labels;
  };

  static void KeepScored(const Example& part, Example* scored) {
    for (size_t t = 0; t < part.targets.size(); ++t) {
      if (part.targets[t] == kUnscored) continue;
      scored->targets.push_back(part.targets[t]);
      if (!part.origins.empty()) scored->origins.push_back(part.origins[t]);
    }
  }

  static void Cut(const Example& whole, int64_t first, int64_t count,
                  Example* part) {
    part->tokens.assign(whole.tokens.begin() + first,
                        whole.tokens.begin() + first + count);
    part->targets.assign(whole.targets.begin() + first,
                         whole.targets.begin() + first + count);
  }

  static Rows Wanted(const Example& part, int64_t first, Answers* answers) {
    Rows wanted;
    for (size_t t = 0; t < part.targets.size(); ++t) {
      if (part.targets[t] == kUnscored) continue;
      wanted.rows.push_back(static_cast<int64_t>(t));
      wanted.labels.push_back(part.targets[t]);
      answers->positions.push_back(first + static_cast<int64_t>(t));
    }
    return wanted;
  }

  absl::Status Read(const std::vector<int32_t>& tokens, const Rows& wanted,
                    Form form, ModelState* state, Answers* answers) {
    Tape tape(&arena_, model_.parameters().dtype(), nullptr);
    Variable hidden = model_.Hidden(
        &tape, tokens, 1, static_cast<int64_t>(tokens.size()), form, state);
    if (tape.status().ok() && !wanted.rows.empty()) {
      std::vector<double> losses;
      std::vector<int32_t> predictions;
      CrossEntropy(model_.Logits(hidden, wanted.rows), wanted.labels, 1.0,
                   &losses, &predictions);
      answers->losses.insert(answers->losses.end(), losses.begin(),
                             losses.end());
      answers->predictions.insert(answers->predictions.end(),
                                  predictions.begin(), predictions.end());
    }
    absl::Status status = tape.status();
    tape.Reset();
    return status;
  }

  const Model& model_;
  const Task& task_;
  const uint64_t seed_;
  const int64_t piece_;
  Arena arena_;
  Example part_;  // reused
};

// Whether the model reads piece by piece, or why it cannot read at all.
absl::StatusOr<bool> MayStream(const Model& model, const Task& task,
                               const LengthTestOptions& options) {
  const std::unique_ptr<ModelState> state = model.NewState(1);
  // The last token's answers speak of positions before it.
  if (state == nullptr || task.AnswersFromLastToken()) {
    if (task.length() <= options.longest_at_once) return false;
    return absl::UnimplementedError(
        absl::StrCat("must be read at once; at most ", options.longest_at_once,
                     " tokens are tried"));
  }
  const int64_t bytes = state->BytesAfter(task.length());
  if (bytes > options.largest_state_bytes) {
    return absl::UnimplementedError(absl::StrCat(
        "its state would be ", bytes >> 20, " MiB after ", task.length(),
        " tokens; at most ", options.largest_state_bytes >> 20, " are tried"));
  }
  return true;
}

}  // namespace

absl::StatusOr<LengthTest> TestAtLength(const Model& model, const Task& task,
                                        uint64_t seed,
                                        const LengthTestOptions& options,
                                        kernels::ThreadPool* pool) {
  const bool counting = ResetPeakMemory();
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<bool> streamed = MayStream(model, task, options);
  if (!streamed.ok()) return streamed.status();
  LengthTest test;
  test.streamed = *streamed;
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < pool->threads(); ++i) {
    readers.push_back(
        std::make_unique<Reader>(model, task, seed, options.piece));
  }
  ScoreSheet sheet(&task, options.average);
  ReferenceSheet references(&task, options.bytes_per_token);
  // Bounds memory: examples are answered, scored in order, and forgotten.
  const int64_t at_once = pool->threads();
  for (int64_t first = 0; first < options.examples; first += at_once) {
    const int64_t now = std::min(at_once, options.examples - first);
    std::vector<Answers> all(now);
    kernels::ParallelFor(pool, now, [&](size_t i, int worker) {
      const kernels::ScopedFlushDenormals flush;
      all[i].status = *streamed
                          ? readers[worker]->Stream(first + i, &all[i])
                          : readers[worker]->ReadWhole(first + i, &all[i]);
    });
    for (const Answers& answers : all) {
      if (!answers.status.ok()) {
        return absl::UnimplementedError(answers.status.message());
      }
      sheet.Add(answers.example, answers.positions, answers.losses,
                answers.predictions);
      references.Add(answers.example, answers.positions);
      test.state_bytes = answers.state_bytes;
    }
  }
  test.score = sheet.Total();
  if (test.state_bytes > 0 && !references.empty()) {
    test.reference = references.At(test.state_bytes);
  }
  // What training took is not what this takes.
  if (counting) test.peak_memory_bytes = PeakMemoryBytes();
  test.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return test;
}

}  // namespace mneme
