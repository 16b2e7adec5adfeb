// SPDX-License-Identifier: Apache-2.0

#include "reports/csv_fields.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace mneme {
namespace {

std::string Quoted(absl::string_view text) {
  if (text.find_first_of(",\"\r\n") == absl::string_view::npos) {
    return std::string(text);
  }
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

}  // namespace

std::string CsvReal(double value) { return absl::StrFormat("%.17g", value); }

std::string CsvNames(const std::vector<CsvField>& fields) {
  return absl::StrCat(
      absl::StrJoin(fields, ",",
                    [](std::string* out, const CsvField& field) {
                      absl::StrAppend(out, field.first);
                    }),
      "\n");
}

std::string CsvLine(const std::vector<CsvField>& fields) {
  return absl::StrCat(
      absl::StrJoin(fields, ",",
                    [](std::string* out, const CsvField& field) {
                      absl::StrAppend(out, Quoted(field.second));
                    }),
      "\n");
}

}  // namespace mneme
