// SPDX-License-Identifier: Apache-2.0
//
// AMX on machines that have none. Its instructions are illegal there; a handler
// of SIGILL does what they would have done (amx_tiles.h), and the program goes
// on behind them. So a test executes the very machine code that runs elsewhere:
// its encoding, addresses and configuration, on each thread. A trap costs
// microseconds.

#ifndef MNEME_ATTENTION_KERNELS_AMX_EMULATION_H_
#define MNEME_ATTENTION_KERNELS_AMX_EMULATION_H_

#include <cstdint>
#include <string>

#include "attention/kernels/amx.h"

namespace mneme::kernels {

enum class AmxOperation {
  kConfigure,  // ldtilecfg
  kRelease,    // tilerelease
  kZero,       // tilezero
  kLoad,       // tileloadd, tileloaddt1
  kStore,      // tilestored
  kDot,        // tdpbf16ps
};

// While one lives, HasAmxBf16() is true: in hardware, or by emulation, which
// the whole process then shares and in which every thread begins without a
// configuration. On other than x86-64 and Linux it stays false, and nothing
// happens. One at a time.
class ScopedAmx {
 public:
  ScopedAmx();
  // With an error that was not taken the test fails.
  ~ScopedAmx();
  ScopedAmx(const ScopedAmx&) = delete;
  ScopedAmx& operator=(const ScopedAmx&) = delete;

  bool emulated() const { return emulated_; }

  // How often all threads together executed an instruction. 0 in hardware.
  int64_t Executed(AmxOperation operation) const;

  // The first instruction for which a CPU would have raised an exception, and
  // why; empty if there was none. From there on no instruction does anything,
  // so that the test comes to its end, with wrong results.
  std::string TakeError();

 private:
  const bool emulated_;
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_AMX_EMULATION_H_
