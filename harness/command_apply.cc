// SPDX-License-Identifier: Apache-2.0
//
// `mneme apply`: an operator's output on arrays from files, so that anybody can
// hold it against NumPy or PyTorch.

#include "harness/command_apply.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "attention/variant.h"
#include "harness/atomic_file.h"
#include "harness/npy.h"

namespace mneme {
namespace {

struct Flags {
  std::string variant, inputs, output;
  std::string form = "parallel";
  std::vector<std::string> set;
  int threads = 1;
};

// Swaps axes 1 and 2: files are [batch, heads, length, ...], operators take
// [batch, length, heads, ...]. Its own inverse.
Tensor SwapHeadsAndLength(const Tensor& x) {
  std::vector<int64_t> sizes(x.shape().dims().begin(), x.shape().dims().end());
  const int64_t batch = sizes[0], first = sizes[1], second = sizes[2];
  std::swap(sizes[1], sizes[2]);
  Tensor y(x.dtype(), Shape(sizes));
  if (y.elements() == 0) return y;
  const size_t row = x.bytes() / (batch * first * second);
  const char* from = static_cast<const char*>(x.raw());
  char* to = static_cast<char*>(y.raw());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < first; ++i) {
      for (int64_t j = 0; j < second; ++j) {
        std::copy_n(from + ((b * first + i) * second + j) * row, row,
                    to + ((b * second + j) * first + i) * row);
      }
    }
  }
  return y;
}

bool HasHeadsAfterLength(const InputSpec& spec) {
  const std::string& axes = spec.axes;
  return axes.size() > 2 && axes[1] == 'L' &&
         (axes[2] == 'H' || axes[2] == 'G');
}

absl::StatusOr<Tensor> ReadInput(const std::string& directory,
                                 const InputSpec& spec) {
  const std::string path = absl::StrCat(directory, "/", spec.name, ".npy");
  absl::StatusOr<NpyArray> array = ReadNpy(path);
  if (!array.ok()) return array.status();
  const Shape shape{absl::Span<const int64_t>(array->shape)};
  if (shape.rank() != static_cast<int>(spec.axes.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has shape ", shape.ToString(), "; it should hold ",
                     FileDoc(spec)));
  }
  const Tensor values = array->is_double()
                            ? Tensor::FromValues(shape, array->doubles())
                            : Tensor::FromValues(shape, array->floats());
  return HasHeadsAfterLength(spec) ? SwapHeadsAndLength(values) : values;
}

absl::Status Apply(const Flags& flags) {
  absl::StatusOr<const Variant*> variant = Variants().Find(flags.variant);
  if (!variant.ok()) return variant.status();
  absl::StatusOr<Form> form = ParseForm(flags.form);
  if (!form.ok()) return form.status();
  OptionValues values;
  for (const std::string& text : flags.set) {
    auto assignment = ParseAssignment(text);
    if (!assignment.ok()) return assignment.status();
    values.push_back(*assignment);
  }
  absl::StatusOr<Options> options =
      Options::Parse((*variant)->descriptor.options, values);
  if (!options.ok()) return options.status();
  if ((*variant)->make_operator == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.variant,
                     " is no function of per-head arrays: there is no "
                     "operator to apply"));
  }
  absl::StatusOr<std::unique_ptr<Operator>> op =
      (*variant)->make_operator(*options);
  if (!op.ok()) return op.status();

  const std::string path = UserPath(flags.output);
  if (absl::Status s = CheckWritableFile(path); !s.ok()) return s;
  std::vector<Tensor> inputs;
  for (const InputSpec& spec : (*op)->Inputs()) {
    absl::StatusOr<Tensor> input = ReadInput(UserPath(flags.inputs), spec);
    if (!input.ok()) return input.status();
    inputs.push_back(*std::move(input));
  }
  kernels::ThreadPool pool(flags.threads);
  OperatorCall call;
  call.inputs = inputs;
  call.form = *form;
  call.pool = &pool;
  if (absl::Status s = RunOperator(**op, &call); !s.ok()) return s;
  const Tensor output = SwapHeadsAndLength(call.output);
  const std::vector<int64_t> shape(output.shape().dims().begin(),
                                   output.shape().dims().end());
  return DispatchDType(output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return WriteNpy(path, shape,
                    absl::MakeConstSpan(output.data<T>(), output.elements()));
  });
}

}  // namespace

std::string FileDoc(const InputSpec& spec) {
  const size_t begin = spec.doc.find('['), end = spec.doc.find(']', begin);
  if (begin == std::string::npos || end == std::string::npos) return spec.doc;
  std::vector<std::string> axes =
      absl::StrSplit(spec.doc.substr(begin + 1, end - begin - 1), ", ");
  if (HasHeadsAfterLength(spec) && axes.size() == spec.axes.size()) {
    std::swap(axes[1], axes[2]);
  }
  return absl::StrCat(spec.doc.substr(0, begin), "[", absl::StrJoin(axes, ", "),
                      spec.doc.substr(end));
}

void AddApplyCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "apply", "Run a variant's operator on arrays from .npy files");
  auto flags = std::make_shared<Flags>();
  command->add_option("--variant", flags->variant, "The mechanism")->required();
  command->add_option("--form", flags->form, "parallel, chunked or recurrent")
      ->capture_default_str();
  command
      ->add_option("--inputs", flags->inputs,
                   "Directory with q.npy, k.npy, v.npy and the variant's "
                   "gates: float32 or float64 [batch, heads, length, dim]")
      ->required();
  command->add_option("--output", flags->output, "The .npy file to write")
      ->required();
  command->add_option("--set", flags->set,
                      "A variant option NAME=VALUE; may be repeated");
  command
      ->add_option("--threads", flags->threads,
                   "Threads; the result does not depend on it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->callback(
      [action, flags] { *action = [flags] { return Apply(*flags); }; });
}

}  // namespace mneme
