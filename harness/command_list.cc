// SPDX-License-Identifier: Apache-2.0

#include "harness/command_list.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "attention/plugin/suggest.h"
#include "attention/variant.h"
#include "harness/command_apply.h"
#include "harness/model.h"
#include "harness/settings.h"
#include "harness/trainer.h"
#include "nlohmann/json.hpp"
#include "tasks/task.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

Json OptionsJson(const std::vector<OptionSpec>& specs) {
  Json options = Json::array();
  for (const OptionSpec& spec : specs) {
    options.push_back({{"name", spec.name},
                       {"default", spec.default_value},
                       {"range", spec.RangeText()},
                       {"help", spec.help}});
  }
  return options;
}

Json VariantJson(const VariantDescriptor& d) {
  return {{"name", d.name},
          {"title", d.title},
          {"family", d.family},
          {"paper", d.paper},
          {"summary", d.summary},
          {"version", d.version},
          {"causal", d.causal},
          {"streaming", d.streaming},
          {"exact", d.exact},
          {"tolerance", d.tolerance},
          {"options", OptionsJson(d.options)}};
}

Json TaskJson(const TaskDescriptor& d) {
  Json profiles = Json::array();
  for (const TaskProfile& profile : d.profiles) {
    Json values = Json::object();
    for (const auto& [name, value] : profile.values) values[name] = value;
    profiles.push_back({{"name", profile.name}, {"options", values}});
  }
  return {{"name", d.name},       {"group", d.group},
          {"paper", d.paper},     {"summary", d.summary},
          {"version", d.version}, {"options", OptionsJson(d.options)},
          {"profiles", profiles}};
}

absl::Status List(bool json) {
  Json variants = Json::array(), tasks = Json::array();
  for (const std::string& name : Variants().Names()) {
    absl::StatusOr<const Variant*> variant = Variants().Find(name);
    if (!variant.ok()) return variant.status();
    variants.push_back(VariantJson((*variant)->descriptor));
  }
  for (const std::string& name : Tasks().Names()) {
    absl::StatusOr<const TaskPlugin*> task = Tasks().Find(name);
    if (!task.ok()) return task.status();
    tasks.push_back(TaskJson((*task)->descriptor));
  }
  if (json) {
    std::puts(Json{{"variants", variants}, {"tasks", tasks}}.dump(2).c_str());
    return absl::OkStatus();
  }
  const auto print = [](const char* heading, const Json& entries,
                        const char* kind) {
    absl::PrintF("%s\n", heading);
    for (const Json& e : entries) {
      absl::PrintF("  %-18s %-22s %s\n", e["name"].get<std::string>(),
                   e[kind].get<std::string>(), e["summary"].get<std::string>());
    }
  };
  print("variants", variants, "family");
  print("tasks", tasks, "group");
  absl::PrintF("\nmneme describe NAME says more.\n");
  return absl::OkStatus();
}

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
  absl::PrintF("float32 stays within %g of the float64 oracle\n\n",
               d.tolerance);
  if (op != nullptr) PrintOperator(*op, d.streaming);
  PrintOptions("variant", d.options);
  absl::PrintF("\nnext: mneme evaluate --variant=%s --task=%s --out=FILE\n",
               d.name, Tasks().Names().front());
  return absl::OkStatus();
}

absl::Status DescribeTask(const TaskPlugin& plugin, bool json) {
  const TaskDescriptor& d = plugin.descriptor;
  if (json) {
    std::puts(TaskJson(d).dump(2).c_str());
    return absl::OkStatus();
  }
  absl::PrintF("%s: %s (%s)\ngroup %s, version %d\n\nprofiles\n", d.name,
               d.summary, d.paper, d.group, d.version);
  for (const TaskProfile& profile : d.profiles) {
    std::string values;
    for (const auto& [name, value] : profile.values) {
      absl::StrAppend(&values, " ", name, "=", value);
    }
    absl::PrintF("  %-20s%s\n", profile.name, values);
  }
  PrintOptions("task", d.options);
  absl::StatusOr<Options> options =
      Options::Parse(d.options, d.profiles.front().values);
  if (!options.ok()) return options.status();
  absl::StatusOr<std::unique_ptr<Task>> task = plugin.make(*options);
  if (!task.ok()) return task.status();
  Example example;
  (*task)->Generate(Split::kTrain, /*seed=*/0, /*index=*/0, &example);
  absl::PrintF("\nexample 0 of %s: token, or token>answer where scored\n ",
               d.profiles.front().name);
  for (size_t t = 0; t < example.tokens.size(); ++t) {
    absl::PrintF(" %d", example.tokens[t]);
    if (example.targets[t] != kUnscored)
      absl::PrintF(">%d", example.targets[t]);
  }
  absl::PrintF("\n\nchance %.4g; guessing among the context's answers %.4g\n",
               (*task)->ChanceScore(), (*task)->ContextGuessScore());
  return absl::OkStatus();
}

absl::Status Describe(const std::string& name, bool json) {
  if (absl::StatusOr<const Variant*> v = Variants().Find(name); v.ok()) {
    return DescribeVariant(**v, json);
  }
  if (absl::StatusOr<const TaskPlugin*> t = Tasks().Find(name); t.ok()) {
    return DescribeTask(**t, json);
  }
  std::vector<std::string> known = Variants().Names();
  for (const std::string& task : Tasks().Names()) known.push_back(task);
  return UnknownName("variant or task", name, known);
}

}  // namespace

void AddListCommand(CLI::App* app, Action* action) {
  CLI::App* command =
      app->add_subcommand("list", "Name all variants and tasks");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print JSON");
  command->callback(
      [action, json] { *action = [json] { return List(*json); }; });
}

void AddDescribeCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "describe", "Say what a variant or task is and what can be set");
  auto json = std::make_shared<bool>(false);
  auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, "A variant or a task")->required();
  command->add_flag("--json", *json, "Print JSON");
  command->callback([action, json, name] {
    *action = [json, name] { return Describe(*name, *json); };
  });
}

}  // namespace mneme
