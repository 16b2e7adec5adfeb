// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_HARNESS_THROUGHPUT_THROUGHPUT_TABLE_H_
#define MNEME_HARNESS_THROUGHPUT_THROUGHPUT_TABLE_H_

#include <string>

#include "harness/terminal.h"
#include "harness/throughput.pb.h"

namespace mneme {

// The suite's table, a line at a time as measurements arrive: times, tokens per
// second, and how much of the limit that is. What a narrow terminal has no room
// for is left out from the right.
std::string TableHeader(const TerminalStyle& style);
std::string TableRow(const std::string& variant, const ThroughputMeasurement& m,
                     const TerminalStyle& style);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_THROUGHPUT_TABLE_H_
