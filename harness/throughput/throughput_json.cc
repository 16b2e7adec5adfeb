// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/throughput_json.h"

#include "harness/settings_json.h"
#include "harness/throughput/shape.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

Json MeasurementJson(const ThroughputRecord& record,
                     const ThroughputMeasurement& m) {
  Json json = {
      {"variant", record.variant()},
      {"options", JsonFromSettings(record.variant_options())},
      {"contender", m.contender()},
      {"phase", m.phase()},
      {"form", m.form()},
      {"shape", ThroughputShape{m.batch(), m.length(), m.heads(), m.head_dim()}
                    .ToString()},
      {"threads", m.threads()},
  };
  if (!m.error().empty()) {
    json["error"] = m.error();
    return json;
  }
  json["milliseconds"] = m.milliseconds();
  json["milliseconds_min"] = m.milliseconds_min();
  json["cv"] = m.cv();
  json["repetitions"] = m.repetitions();
  json["rejected"] = m.rejected();
  json["noisy"] = m.noisy();
  json["tokens_per_second"] = m.tokens_per_second();
  const bool counted = m.limit_milliseconds() > 0;
  json["gflops"] = counted ? Json(m.gflops()) : Json();
  json["gigabytes_per_second"] =
      counted ? Json(m.gigabytes_per_second()) : Json();
  json["level"] = counted ? Json(m.level()) : Json();
  json["state_bytes"] = m.state_bytes();
  json["peak_memory_bytes"] = m.peak_memory_bytes();
  json["limit_milliseconds"] = counted ? Json(m.limit_milliseconds()) : Json();
  json["bound"] = counted ? Json(m.bound()) : Json();
  json["fraction_of_limit"] = counted ? Json(m.fraction_of_limit()) : Json();
  json["growth_exponent"] =
      m.has_growth_exponent() ? Json(m.growth_exponent()) : Json();
  json["backbone_fraction"] =
      m.has_backbone_fraction() ? Json(m.backbone_fraction()) : Json();
  return json;
}

// 0 stands for what is not there.
void AddIfThere(const char* name, double value, Json* json) {
  if (value > 0) (*json)[name] = value;
}

Json CeilingsJson(const std::string& variant, const MachineCeilings& c) {
  Json levels = Json::array();
  for (int i = 0; i < c.level_bytes_per_second_size(); ++i) {
    Json level = Json::object();
    AddIfThere("bytes_per_second", c.level_bytes_per_second(i), &level);
    if (i < c.level_read_write_bytes_per_second_size()) {
      AddIfThere("read_write_bytes_per_second",
                 c.level_read_write_bytes_per_second(i), &level);
    }
    if (c.level_capacity(i) > 0) level["capacity"] = c.level_capacity(i);
    levels.push_back(level);
  }
  Json json = {{"beside", variant}, {"threads", c.threads()}};
  AddIfThere("flops", c.flops(), &json);
  AddIfThere("exps", c.exps(), &json);
  AddIfThere("bf16_flops", c.bf16_flops(), &json);
  AddIfThere("amx_flops", c.amx_flops(), &json);
  json["levels"] = levels;
  return json;
}

}  // namespace

Json JsonFromMeasurements(absl::Span<const ThroughputRecord> records) {
  Json measurements = Json::array();
  for (const ThroughputRecord& record : records) {
    for (const ThroughputMeasurement& m : record.measurements()) {
      measurements.push_back(MeasurementJson(record, m));
    }
  }
  return measurements;
}

Json JsonFromCeilings(absl::Span<const ThroughputRecord> records) {
  Json ceilings = Json::array();
  for (const ThroughputRecord& record : records) {
    for (const MachineCeilings& c : record.ceilings()) {
      ceilings.push_back(CeilingsJson(record.variant(), c));
    }
  }
  return ceilings;
}

std::string ThroughputJson(absl::Span<const ThroughputRecord> records) {
  Json environment;
  if (!records.empty()) {
    const Environment& e = records.back().environment();
    environment = {{"machine", e.machine()},
                   {"cores", e.cores()},
                   {"simd_target", e.simd_target()},
                   {"compiler", e.compiler()},
                   {"build_mode", e.build_mode()},
                   {"commit", e.commit()},
                   {"date", e.date()}};
  }
  return Json{{"throughput", JsonFromMeasurements(records)},
              {"ceilings", JsonFromCeilings(records)},
              {"environment", environment}}
             .dump(2) +
         "\n";
}

}  // namespace mneme
