// SPDX-License-Identifier: Apache-2.0
//
// write_test_record VARIANT ACCURACY SEED FILE: a record for shell tests. An
// accuracy below 0 is a run that diverged.

#include <cstdlib>
#include <iostream>

#include "harness/record.h"
#include "reports/testing.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: write_test_record VARIANT ACCURACY SEED FILE\n";
    return 2;
  }
  const double accuracy = std::atof(argv[2]);
  const auto seed = static_cast<uint64_t>(std::atoll(argv[3]));
  const mneme::ResultRecord record =
      accuracy < 0 ? mneme::DivergedCell(argv[1], seed)
                   : mneme::OkCell(argv[1], accuracy, seed);
  const absl::Status status = mneme::WriteRecord(argv[4], record);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
