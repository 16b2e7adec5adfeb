// SPDX-License-Identifier: Apache-2.0

#include "harness/command_describe.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/plugin/suggest.h"
#include "attention/variant.h"
#include "harness/command_apply.h"
#include "harness/descriptor_json.h"
#include "harness/example_picture.h"
#include "harness/settings.h"
#include "harness/terminal.h"
#include "tasks/task.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::string name;
  std::string profile;           // of a task; its first when empty
  std::vector<std::string> set;  // NAME=VALUE of a task
  std::string example = "0";
  bool json = false;
  bool no_color = false;
};

void PrintOptions(const char* scope, const std::vector<OptionSpec>& specs) {
  if (specs.empty()) return;
  absl::PrintF("\noptions (--set %s.NAME=VALUE)\n", scope);
  for (const OptionSpec& spec : specs) {
    absl::PrintF("  %-20s %s  [default %s; %s]\n", spec.name, spec.help,
                 spec.default_value, spec.RangeText());
  }
}

// One sequence in 2 heads of 32. The operator's own axes are as large as its
// options have them where PairInputs says so.
Dims UsualDims(const Operator& op) {
  Dims dims;
  dims.heads = dims.kv_heads = 2;
  dims.key_dim = dims.value_dim = 32;
  const Tensor token(DType::kFloat32, {1, 1, 2, 32});
  const auto inputs = op.PairInputs(token, token, token);
  if (inputs.ok()) {
    const absl::StatusOr<Dims> inferred = InferDims(op.Inputs(), *inputs);
    if (inferred.ok()) return *inferred;
  }
  for (const InputSpec& spec : op.Inputs()) {
    for (char letter : spec.axes) dims.own[letter] = op.OwnAxis(letter, dims);
  }
  return dims;
}

void PrintOperator(const Operator& op, bool streaming) {
  absl::PrintF("operator inputs, the NAME.npy that mneme apply reads\n");
  for (const InputSpec& spec : op.Inputs()) {
    absl::PrintF("  %-10s %s\n", spec.name, FileDoc(spec));
  }
  if (!streaming) return;
  absl::PrintF("\ndecoding state, batch 1, 2 heads of 32, float32\n");
  Dims dims = UsualDims(op);
  // No powers of two, where block-wise memories are at their smallest.
  for (int64_t length : {100, 1000, 100000}) {
    dims.length = length;
    absl::PrintF("  after %6d tokens %12d bytes\n", length,
                 op.StateBytes(dims));
  }
}

absl::Status DescribeVariant(const Variant& variant, bool json) {
  const VariantDescriptor& d = variant.descriptor;
  absl::StatusOr<Options> defaults = Options::Parse(d.options);
  if (!defaults.ok()) return defaults.status();
  std::unique_ptr<Operator> op;  // stays null where there is none
  if (variant.make_operator != nullptr) {
    absl::StatusOr<std::unique_ptr<Operator>> made =
        variant.make_operator(*defaults);
    if (!made.ok()) return made.status();
    op = *std::move(made);
  }
  if (json) {
    Json out = VariantJson(d);
    out["inputs"] = Json::array();
    if (op != nullptr) {
      for (const InputSpec& spec : op->Inputs()) {
        out["inputs"].push_back({{"name", spec.name}, {"doc", FileDoc(spec)}});
      }
    }
    std::puts(out.dump(2).c_str());
    return absl::OkStatus();
  }
  absl::PrintF("%s: %s\n%s (%s)\n", d.name, d.title, d.summary, d.paper);
  absl::PrintF("family %s, version %d; %s, %s, %s\n", d.family, d.version,
               d.causal ? "causal" : "bidirectional",
               d.streaming ? "streaming" : "not streaming",
               d.exact ? "exact" : "approximate");
  absl::PrintF("float32 stays within %g of the float64 oracle", d.tolerance);
  for (const VariantDescriptor::OtherTolerance& other : d.other_tolerances) {
    absl::PrintF(", with %s=%s within %g", other.option, other.value,
                 other.tolerance);
  }
  absl::PrintF("\n\n");
  if (op != nullptr) PrintOperator(*op, d.streaming);
  PrintOptions("variant", d.options);
  absl::PrintF("\nnext: mneme evaluate --variant=%s --task=%s --out=FILE\n",
               d.name, Tasks().Names().front());
  return absl::OkStatus();
}

// A task under the profile and the settings asked for.
absl::StatusOr<std::unique_ptr<Task>> MakeShown(const TaskPlugin& plugin,
                                                const Flags& flags) {
  const TaskDescriptor& d = plugin.descriptor;
  const TaskProfile* chosen = nullptr;
  std::vector<std::string> known;
  for (const TaskProfile& profile : d.profiles) {
    known.push_back(profile.name);
    if (chosen == nullptr &&
        (flags.profile.empty() || flags.profile == profile.name)) {
      chosen = &profile;
    }
  }
  for (const HarnessProfile& profile : HarnessProfiles()) {
    if (!profile.of_every_task) continue;
    known.push_back(profile.name);
    if (chosen == nullptr && flags.profile == profile.name) {
      chosen = &d.profiles.front();
    }
  }
  if (chosen == nullptr) {
    return UnknownName(absl::StrCat("profile of task ", d.name), flags.profile,
                       known);
  }
  OptionValues values = chosen->values;
  for (const std::string& text : flags.set) {
    auto assignment = ParseAssignment(text);
    if (!assignment.ok()) return assignment.status();
    // `evaluate` takes the scope as well.
    if (assignment->first.rfind("task.", 0) == 0) assignment->first.erase(0, 5);
    values.push_back(*std::move(assignment));
  }
  absl::StatusOr<Options> options = Options::Parse(d.options, values);
  if (!options.ok()) return options.status();
  return plugin.make(*options);
}

void Append(const char* scope, const OptionValues& values, std::string* text) {
  for (const auto& [name, value] : values) {
    absl::StrAppend(text, " ", scope, name, "=", value);
  }
}

absl::Status DescribeTask(const TaskPlugin& plugin, const Flags& flags) {
  const TaskDescriptor& d = plugin.descriptor;
  uint64_t index = 0;
  if (!absl::SimpleAtoi(flags.example, &index)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--example: \"", flags.example, "\" is not a whole number >= 0"));
  }
  absl::StatusOr<std::unique_ptr<Task>> task = MakeShown(plugin, flags);
  if (!task.ok()) return task.status();
  Example example;
  (*task)->Generate(Split::kTrain, /*seed=*/0, index, &example);
  if (flags.json) {
    Json out = TaskJson(d);
    out["example"] = ExampleJson(**task, example);
    std::puts(out.dump(2).c_str());
    return absl::OkStatus();
  }
  absl::PrintF("%s: %s (%s)\ngroup %s, version %d\n\nprofiles\n", d.name,
               d.summary, d.paper, d.group, d.version);
  for (const TaskProfile& profile : d.profiles) {
    std::string values;
    Append("", profile.values, &values);
    Append("model.", profile.model, &values);
    Append("train.", profile.train, &values);
    absl::PrintF("  %-20s%s\n", profile.name, values);
  }
  PrintOptions("task", d.options);
  TerminalStyle style = DetectTerminal(STDOUT_FILENO);
  if (flags.no_color) style.color = false;
  absl::PrintF("\nexample %d of %s, training, seed 0\n%s\n", index,
               flags.profile.empty() ? d.profiles.front().name : flags.profile,
               PictureOfExample(**task, example, style));
  const LeakFloors floors = (*task)->Floors();
  absl::PrintF(
      "chance %.4g; guessing among the context's answers %.4g\n"
      "without a memory at most: from the position %.4g, from a bag of the "
      "tokens %.4g, from the last three tokens %.4g\n",
      (*task)->ChanceScore(), (*task)->ContextGuessScore(), floors.position,
      floors.bag, floors.ngram);
  absl::PrintF("\nnext: mneme evaluate --variant=%s --task=%s --out=FILE\n",
               Variants().Names().front(), d.name);
  return absl::OkStatus();
}

absl::Status Describe(const Flags& flags) {
  if (absl::StatusOr<const Variant*> v = Variants().Find(flags.name); v.ok()) {
    return DescribeVariant(**v, flags.json);
  }
  if (absl::StatusOr<const TaskPlugin*> t = Tasks().Find(flags.name); t.ok()) {
    return DescribeTask(**t, flags);
  }
  std::vector<std::string> known = Variants().Names();
  for (const std::string& task : Tasks().Names()) known.push_back(task);
  return UnknownName("variant or task", flags.name, known);
}

}  // namespace

void AddDescribeCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "describe",
      "Say what a variant or task is, what can be set, and show an example");
  auto flags = std::make_shared<Flags>();
  command->add_option("NAME", flags->name, "A variant or a task")->required();
  command->add_option("--profile", flags->profile,
                      "Of a task: whose example to show");
  command->add_option("--set", flags->set,
                      "Of a task: NAME=VALUE; may be repeated");
  command
      ->add_option("--example", flags->example,
                   "Of a task: number of the example to show")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON");
  command->add_flag("--no-color", flags->no_color,
                    "No colours on the terminal");
  command->callback(
      [action, flags] { *action = [flags] { return Describe(*flags); }; });
}

}  // namespace mneme
