// SPDX-License-Identifier: Apache-2.0
//
// What a model is asked. A task is a pure function of (options, split, seed,
// index): example number `index` of a split is generated on demand, is never
// stored, and is the same on every machine, in every order and from every
// thread. Training, validation and test are different random streams, so no
// split can see another's examples.
//
// Tasks know nothing of models; the harness embeds `tokens`, asks for a
// prediction at every scored position, and hands predictions back to Score.

#ifndef MNEME_TASKS_TASK_H_
#define MNEME_TASKS_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attention/plugin/options.h"
#include "attention/plugin/registry.h"

namespace mneme {

enum class Split { kTrain, kValidation, kTest };

absl::string_view SplitName(Split split);  // "train", "validation", "test"

// Marks a position that is not scored.
inline constexpr int32_t kUnscored = -1;

// Marks a scored position whose answer does not stand at any one place.
inline constexpr int32_t kNowhere = -1;

// What part a token plays, for pictures of an example.
enum class TokenRole : uint8_t { kContext, kFiller, kQuery };

// One sequence. All vectors but `notes` have the task's length(); `origins` may
// be empty instead.
struct Example {
  std::vector<int32_t> tokens;   // each in [0, vocabulary())
  std::vector<int32_t> targets;  // kUnscored, or the token wanted there
  std::vector<TokenRole> roles;
  // For a scored position where the sequence gives its answer away: the earlier
  // position of the value that is asked for (of its latest, if it was said
  // again), so that accuracy can be told by depth and by distance. kNowhere for
  // all others. Empty if the task has no such places: a count has none.
  std::vector<int32_t> origins = {};
  // What the task's own Score wants to know besides the targets; the harness
  // hands it on unread. Usually empty.
  std::vector<int32_t> notes = {};
};

// The most that models without a memory may score, by the task's own score, as
// it is checked by the task contract (leak_probes.h): what they can do without
// looking back must be known, or the task measures something else than it says.
struct LeakFloors {
  double position = 0;  // knows the position of the question, not its text
  double bag = 0;       // knows which tokens there are, not where
  double ngram = 0;     // knows the last three tokens
};

// A task with its options fixed. Immutable and thread-safe.
class Task {
 public:
  virtual ~Task() = default;

  virtual int64_t vocabulary() const = 0;
  virtual int64_t length() const = 0;

  // Overwrites *example (reusing its memory) with example number index.
  virtual void Generate(Split split, uint64_t seed, uint64_t index,
                        Example* example) const = 0;

  // Whether GenerateRange takes time and memory for the range alone. Then
  // examples of millions of tokens can be read piece by piece, and Score must
  // depend on targets, in their order, alone.
  virtual bool GeneratesRanges() const { return false; }

  // Overwrites *example with positions first ... first + count - 1 of an
  // example: exactly that part of what Generate gives, where origins still
  // count from the start of the sequence. By default a cut from Generate.
  // Precondition: the range lies within 0 ... length().
  virtual void GenerateRange(Split split, uint64_t seed, uint64_t index,
                             int64_t first, int64_t count,
                             Example* example) const;

  // The example's score in [0, 1], given one predicted token for each scored
  // position, in order. The task's accuracy is the mean over examples. By
  // default the fraction of scored positions predicted exactly.
  virtual double Score(const Example& example,
                       absl::Span<const int32_t> predictions) const;

  // Further scores of interest, such as precision and recall apart. Each
  // example's Details are one number in [0, 1] for each name; recorded is
  // their mean over examples.
  virtual std::vector<std::string> DetailNames() const { return {}; }
  virtual std::vector<double> Details(
      const Example& example, absl::Span<const int32_t> predictions) const;

  // Expected score of guessing uniformly among the plausible answers, and of
  // guessing uniformly among the answers present in the context (1 / K).
  virtual double ChanceScore() const = 0;
  virtual double ContextGuessScore() const = 0;

  // By default no more than chance from positions, and 1 / K for the others.
  virtual LeakFloors Floors() const;

  // Whether all answers must be given from the hidden state of the last token:
  // the model then predicts each scored position from that state and the
  // position's number, and what it saw at the position itself is not used.
  virtual bool AnswersFromLastToken() const { return false; }

  // Which data the examples are made of, where options, split, seed and index
  // do not say it all: the size and a hash of a user's file. For records.
  virtual std::string DataIdentity() const { return ""; }

  // How a token is shown to people: by default its number. At most 8 printable
  // characters.
  virtual std::string TokenText(int32_t token) const;
};

// A named set of option values: "quick", "published/zoology", ... A published
// setting fixes more than the task: what the paper's model and training were,
// in the harness's names, which the task hands on without knowing them.
struct TaskProfile {
  std::string name;
  OptionValues values;
  OptionValues model = {};
  OptionValues train = {};
};

struct TaskDescriptor {
  std::string name;
  std::string group;    // "associative recall", "needle retrieval", ...
  std::string summary;  // one line
  std::string paper;    // "arXiv 2312.04927"
  int version = 1;      // raised whenever generated data change
  // Whether a model that sees later tokens could read answers off them.
  bool requires_causal = false;
  std::vector<OptionSpec> options;
  std::vector<TaskProfile> profiles;  // the first is "quick"
};

struct TaskPlugin {
  TaskDescriptor descriptor;
  // InvalidArgument names the constraint that the options break.
  std::function<absl::StatusOr<std::unique_ptr<Task>>(const Options&)> make;
};

// The process-wide table of tasks.
Registry<TaskPlugin>& Tasks();

// Use at namespace scope in the task's source:
//   const bool registered = RegisterTask({...});
bool RegisterTask(TaskPlugin plugin);

}  // namespace mneme

#endif  // MNEME_TASKS_TASK_H_
