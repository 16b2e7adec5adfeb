// SPDX-License-Identifier: Apache-2.0
//
// Lines of comma-separated values, quoted by RFC 4180 with \n ends.

#ifndef MNEME_REPORTS_CSV_FIELDS_H_
#define MNEME_REPORTS_CSV_FIELDS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace mneme {

// A column's name and its value in one line.
using CsvField = std::pair<absl::string_view, std::string>;

// As many digits as it takes to read the same number back.
std::string CsvReal(double value);

std::string CsvNames(const std::vector<CsvField>& fields);
std::string CsvLine(const std::vector<CsvField>& fields);

}  // namespace mneme

#endif  // MNEME_REPORTS_CSV_FIELDS_H_
