// SPDX-License-Identifier: Apache-2.0
//
// What the throughput suite times: an implementation of a mechanism on a
// problem. Mneme's own are contenders like others; peers, such as compositions
// of a vendor's matrix products, register themselves by being linked in:
//
//   const bool registered = RegisterContender(
//       {"naive", "softmax", Phase::kPrefill, 1e-4, MakeNaivePrefill});

#ifndef MNEME_HARNESS_THROUGHPUT_CONTENDER_H_
#define MNEME_HARNESS_THROUGHPUT_CONTENDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attention/kernels/parallel.h"
#include "attention/variant.h"
#include "harness/throughput/phase.h"

namespace mneme {

// What is to be computed. Arrays are float32, [batch, length, heads, dim] and
// their like, in the order and the shapes of the operator's Inputs().
struct Problem {
  Phase phase = Phase::kPrefill;
  const Variant* variant = nullptr;
  Options options;               // the variant's
  const Operator* op = nullptr;  // null in kTrain
  Form form = Form::kChunked;
  // length counts the context in kDecode, where key_dim is also that of the
  // model's heads in kTrain.
  Dims dims;
  std::vector<Tensor> inputs;  // of all tokens; of kDecode, the context
  std::vector<Tensor> step;    // of kDecode: the token after it
  Tensor d_output;             // of kBackward
  kernels::ThreadPool* pool = nullptr;  // null: one thread
};

// An implementation with everything prepared that is not to be timed.
class Workload {
 public:
  virtual ~Workload() = default;

  // Computes the problem, or Times() times what its phase is about.
  virtual absl::Status Run() = 0;
  virtual int64_t Times() const { return 1; }

  // How often Run may be called before Rewind must be: decoding makes the
  // context longer. 0: any number of times.
  virtual int64_t RunsBeforeRewind() const { return 0; }
  virtual absl::Status Rewind() { return absl::OkStatus(); }

  // The threads it runs on, if they are not the problem's, but its own.
  virtual kernels::ThreadPool* pool() const { return nullptr; }

  // Seconds of the last Run, for one that does other things besides; negative:
  // all of it counts.
  virtual double Seconds() const { return -1; }

  // What the last Run computed, held against the oracle. kPrefill and kDecode:
  // the output. kBackward: the gradient of each input. kTrain: nothing.
  virtual std::vector<Tensor> Outputs() const = 0;
};

inline constexpr char kOwnContender[] = "mneme";

struct Contender {
  std::string name;     // "mneme", "onednn"
  std::string variant;  // that it implements; "" for all
  Phase phase = Phase::kPrefill;
  // In parts of the largest value of a block of tokens; 0: the variant's own.
  // See MakeChecked, which says what that allows, and what of gradients.
  double tolerance = 0;
  // The problem, and what it points to, outlives the workload. Unimplemented
  // for what the contender cannot do: it is left out, and the reason shown.
  std::function<absl::StatusOr<std::unique_ptr<Workload>>(const Problem&)> make;
};

// Use at namespace scope of a library with alwayslink.
bool RegisterContender(Contender contender);

// Those of a variant and phase, Mneme's own first, others by name.
std::vector<const Contender*> ContendersOf(absl::string_view variant,
                                           Phase phase);
// The names of all, each once, "mneme" first.
std::vector<std::string> ContenderNames();

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_CONTENDER_H_
