// SPDX-License-Identifier: Apache-2.0

#include "reports/json_writer.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "harness/settings_json.h"
#include "harness/throughput/throughput_json.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json OrNull(const absl::optional<T>& value) {
  return value.has_value() ? Json(*value) : Json(nullptr);
}

Json FromCurve(const Metrics& metrics) {
  Json curve = Json::array();
  for (const CurvePoint& point : metrics.curve()) {
    curve.push_back({{"step", point.step()},
                     {"train_loss", point.train_loss()},
                     {"validation_loss", point.validation_loss()},
                     {"validation_accuracy", point.validation_accuracy()},
                     {"learning_rate", point.learning_rate()}});
  }
  return curve;
}

Json FromLength(const LengthScore& score) {
  if (!score.unsupported().empty()) {
    return {{"length", score.length()}, {"unsupported", score.unsupported()}};
  }
  Json depths = Json::array(), positions = Json::array(),
       details = Json::object();
  for (const DepthScore& part : score.depths()) {
    depths.push_back({{"depth", part.depth()},
                      {"answers", part.answers()},
                      {"accuracy", part.accuracy()}});
  }
  for (const PositionLoss& part : score.loss_by_position()) {
    positions.push_back({{"first", part.first()},
                         {"last", part.last()},
                         {"answers", part.answers()},
                         {"loss", part.loss()}});
  }
  for (const NamedScore& detail : score.details()) {
    details[detail.name()] = detail.value();
  }
  return {{"length", score.length()},
          {"unsupported", nullptr},
          {"examples", score.examples()},
          {"accuracy", score.accuracy()},
          {"accuracy_stderr", score.accuracy_stderr()},
          {"loss", score.has_loss() ? Json(score.loss()) : Json(nullptr)},
          {"streamed", score.streamed()},
          {"state_bytes",
           score.streamed() ? Json(score.state_bytes()) : Json(nullptr)},
          {"details", std::move(details)},
          {"depths", std::move(depths)},
          {"loss_by_position", std::move(positions)}};
}

Json FromLengths(const Metrics& metrics) {
  Json lengths = Json::array();
  for (const LengthScore& score : metrics.lengths()) {
    lengths.push_back(FromLength(score));
  }
  return lengths;
}

Json FromReferences(const Metrics& metrics) {
  Json references = Json::array();
  for (const ReferencePoint& point : metrics.references()) {
    references.push_back({{"bytes", point.bytes()},
                          {"window", point.window()},
                          {"table", point.table()}});
  }
  return references;
}

// All keys are always there, so that a program need not ask for each.
Json FromMetrics(const ResultRecord& cell) {
  const Metrics& metrics = cell.metrics();
  Json json = {
      {"accuracy", metrics.accuracy()},
      {"accuracy_stderr", metrics.accuracy_stderr()},
      {"loss", metrics.loss()},
      {"validation_accuracy", metrics.validation_accuracy()},
      {"test_examples", metrics.test_examples()},
      {"steps", metrics.steps()},
      {"steps_to_90", nullptr},
      {"seconds_to_90", nullptr},
      {"chance_accuracy", metrics.chance_accuracy()},
      {"context_guess_accuracy", metrics.context_guess_accuracy()},
      {"curve", FromCurve(metrics)},
      {"lengths", FromLengths(metrics)},
      {"references", FromReferences(metrics)},
  };
  if (metrics.has_steps_to_90()) json["steps_to_90"] = metrics.steps_to_90();
  if (cell.timing().has_seconds_to_90()) {
    json["seconds_to_90"] = cell.timing().seconds_to_90();
  }
  // How far a run came is worth knowing whatever became of it.
  if (cell.status() != STATUS_OK) {
    for (auto& [name, value] : json.items()) {
      const bool kept = name == "curve" || name == "steps" ||
                        name == "steps_to_90" || name == "seconds_to_90";
      if (!kept || !cell.has_metrics()) value = nullptr;
    }
  }
  return json;
}

Json FromEnvironment(const Environment& environment) {
  return {{"date", environment.date()},
          {"commit", environment.commit()},
          {"machine", environment.machine()},
          {"cores", environment.cores()},
          {"simd_target", environment.simd_target()},
          {"compiler", environment.compiler()},
          {"build_mode", environment.build_mode()}};
}

Json FromCell(const ResultRecord& cell) {
  const bool ok = cell.status() == STATUS_OK;
  const Timing& timing = cell.timing();
  // Not measured, rather than 0.
  const auto measured = [ok](auto value) {
    return ok || value > 0 ? Json(value) : Json(nullptr);
  };
  return {
      {"variant", cell.variant()},
      {"family", cell.family()},
      {"variant_version", cell.variant_version()},
      {"task", cell.task()},
      {"task_version", cell.task_version()},
      {"profile", cell.profile()},
      {"seed", cell.seed()},
      {"data", cell.data()},
      {"status", StatusName(cell.status())},
      {"status_message", cell.status_message()},
      {"status_step", ok ? Json(nullptr) : Json(cell.status_step())},
      {"metrics", FromMetrics(cell)},
      {"state_bytes",
       cell.has_state_bytes() ? measured(cell.state_bytes()) : Json(nullptr)},
      {"state_tokens",
       cell.has_state_bytes() ? measured(cell.state_tokens()) : Json(nullptr)},
      {"parameters", measured(cell.parameters())},
      {"train_tokens_per_second", measured(timing.train_tokens_per_second())},
      {"train_seconds", measured(timing.train_seconds())},
      {"total_seconds", measured(timing.total_seconds())},
      {"threads", measured(timing.threads())},
      {"options",
       {{"variant", JsonFromSettings(cell.variant_options())},
        {"task", JsonFromSettings(cell.task_options())},
        {"model", JsonFromSettings(cell.model_options())},
        {"train", JsonFromSettings(cell.train_options())}}},
      {"environment", FromEnvironment(cell.environment())},
  };
}

Json FromMeasurement(const Measurement& measurement) {
  return {{"mean", measurement.mean()},
          {"low", measurement.low()},
          {"high", measurement.high()}};
}

Json FromCapacity(const CapacityCurve& curve) {
  Json points = Json::array();
  for (const CapacityPoint& point : curve.points()) {
    points.push_back({{"pairs", point.pairs()},
                      {"recall", FromMeasurement(point.recall())},
                      {"cosine", FromMeasurement(point.cosine())}});
  }
  const CapacitySetup setup = SetupOf(curve);
  return {{"key_dim", setup.key_dim},
          {"keys", setup.keys},
          {"passes", setup.passes},
          {"pairs_at_90", curve.has_pairs_at_90()
                              ? FromMeasurement(curve.pairs_at_90())
                              : Json(nullptr)},
          {"state_bytes", curve.state_bytes()},
          {"pairs_at_90_per_kib", OrNull(PairsPerKib(curve))},
          {"points", std::move(points)}};
}

Json FromApproximation(const ApproximationCurve& curve) {
  Json points = Json::array();
  for (const ApproximationPoint& point : curve.points()) {
    points.push_back(
        {{"size", point.size()}, {"error", FromMeasurement(point.error())}});
  }
  return {{"knob", curve.knob()},
          {"exact", curve.exact()},
          {"setting", curve.setting()},
          {"points", std::move(points)}};
}

Json FromProbe(const ProbeRecord& record) {
  Json capacity = Json::array(), approximation = Json::array();
  for (const CapacityCurve& curve : record.capacity()) {
    capacity.push_back(FromCapacity(curve));
  }
  for (const ApproximationCurve& curve : record.approximation()) {
    approximation.push_back(FromApproximation(curve));
  }
  const auto or_null = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  return {{"variant", record.variant()},
          {"family", record.family()},
          {"variant_version", record.variant_version()},
          {"options", JsonFromSettings(record.variant_options())},
          {"seed", record.seed()},
          {"trials", record.trials()},
          {"unsupported", or_null(record.unsupported())},
          {"failure", or_null(record.failure())},
          {"capacity", std::move(capacity)},
          {"approximation", std::move(approximation)},
          {"seconds",
           record.failure().empty() ? Json(record.seconds()) : Json(nullptr)},
          {"environment", FromEnvironment(record.environment())}};
}

Json FromContext(const Context& context) {
  Json json = {{"date", context.date}, {"oldest_date", context.oldest_date}};
  for (const ContextField& field : context.fields) {
    Json values = Json::array();
    for (const ContextValue& value : field.values) {
      values.push_back(field.numeric ? JsonFromText(value.value)
                                     : Json(value.value));
    }
    json[field.name] = values.empty()       ? Json(nullptr)
                       : values.size() == 1 ? values[0]
                                            : values;
  }
  return json;
}

Json FromRow(const Row& row) {
  Json json = {{"variant", row.variant},
               {"rank", nullptr},
               {"accuracy", nullptr},
               {"interval", nullptr},
               {"steps_to_90", OrNull(row.steps_to_90)},
               {"state_bytes", OrNull(row.state_bytes)},
               {"parameters", OrNull(row.parameters)},
               {"train_tokens_per_second", OrNull(row.train_tokens_per_second)},
               {"finished", row.finished},
               {"wanted", row.wanted},
               {"reasons", row.reasons}};
  if (row.complete()) {
    json["rank"] = {row.rank->first, row.rank->last};
    json["accuracy"] = row.accuracy->mean;
    json["interval"] = {row.accuracy->low, row.accuracy->high};
  }
  return json;
}

Json FromBoard(const Board& board) {
  Json rows = Json::array();
  for (const Row& row : board.rows) rows.push_back(FromRow(row));
  Json distinction = Json::object();
  for (const Setting& setting : board.distinction) {
    distinction[setting.name()] = JsonFromText(setting.value());
  }
  return {{"task", board.task},
          {"profile", board.profile},
          {"distinction", std::move(distinction)},
          {"seeds", board.seeds},
          {"rows", std::move(rows)}};
}

}  // namespace

std::string RenderJson(const Leaderboard& leaderboard) {
  Json cells = Json::array();
  for (const ResultRecord& cell : leaderboard.cells) {
    cells.push_back(FromCell(cell));
  }
  Json rankings = Json::array();
  for (const Board& board : leaderboard.boards) {
    rankings.push_back(FromBoard(board));
  }
  Json probes = Json::array();
  for (const Probe& probe : leaderboard.probes) {
    probes.push_back(FromProbe(probe.record));
  }
  std::vector<ThroughputRecord> throughput;
  for (const Speed& speed : leaderboard.speeds) {
    throughput.insert(throughput.end(), speed.records.begin(),
                      speed.records.end());
  }
  const Json document = {{"schema", 1},
                         {"context", FromContext(leaderboard.context)},
                         {"cells", std::move(cells)},
                         {"rankings", std::move(rankings)},
                         {"probes", std::move(probes)},
                         {"throughput", JsonFromMeasurements(throughput)},
                         {"ceilings", JsonFromCeilings(throughput)}};
  return document.dump(/*indent=*/1, ' ', /*ensure_ascii=*/false,
                       Json::error_handler_t::replace) +
         "\n";
}

}  // namespace mneme
