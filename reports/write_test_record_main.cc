// SPDX-License-Identifier: Apache-2.0
//
// write_test_record VARIANT ACCURACY SEED FILE: a record for shell tests. An
// accuracy below 0 is a run that diverged. A file named *.probe becomes a probe
// that holds ACCURACY pairs for each key dimension, one named *.throughput a
// variant that prefills ACCURACY tokens per second.

#include <cstdlib>
#include <iostream>

#include "absl/strings/match.h"
#include "harness/probe_record.h"
#include "harness/record.h"
#include "harness/throughput_record.h"
#include "reports/testing.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: write_test_record VARIANT ACCURACY SEED FILE\n";
    return 2;
  }
  const double accuracy = std::atof(argv[2]);
  const auto seed = static_cast<uint64_t>(std::atoll(argv[3]));
  const auto write = [&] {
    if (absl::EndsWith(argv[4], ".probe")) {
      return mneme::WriteProbe(argv[4],
                               mneme::CapacityProbe(argv[1], accuracy));
    }
    if (absl::EndsWith(argv[4], ".throughput")) {
      return mneme::WriteThroughput(argv[4],
                                    mneme::SpeedRecord(argv[1], accuracy));
    }
    return mneme::WriteRecord(
        argv[4], accuracy < 0 ? mneme::DivergedCell(argv[1], seed)
                              : mneme::OkCell(argv[1], accuracy, seed));
  };
  const absl::Status status = write();
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
