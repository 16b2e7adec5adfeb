// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/amx_emulation.h"

#include "gtest/gtest.h"

#if MNEME_AMX

#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cstring>
#include <iterator>

#include "attention/kernels/amx_assume.h"
#include "attention/kernels/amx_tiles.h"

namespace mneme::kernels {
namespace {

constexpr const char* kNames[] = {"ldtilecfg", "tilerelease", "tilezero",
                                  "tileloadd", "tilestored",  "tdpbf16ps"};
constexpr int kOperations = std::size(kNames);

// --- What an instruction says ---

struct Instruction {
  AmxOperation operation;
  // The register field, that of the address or second register, and vvvv.
  int reg, rm, vvvv;
  // Of memory: where rows begin, and how far apart they are. ldtilecfg reads
  // at the sum.
  uint64_t base = 0, index = 0;
  int length;
};

// Reads the bytes of an instruction one by one: those behind it need not be
// memory.
class Decoder {
 public:
  explicit Decoder(const greg_t* registers)
      : registers_(registers),
        start_(reinterpret_cast<const uint8_t*>(registers[REG_RIP])),
        at_(start_) {}

  // False if it is not one of AmxOperation.
  bool Decode(Instruction* out) {
    // A three-byte VEX prefix, 128 bits, W0, map 0F38. R, X, B and vvvv are
    // inverted.
    if (*at_++ != 0xC4) return false;
    const uint8_t map = *at_++ ^ 0xE0;
    if ((map & 0x1F) != 2) return false;
    const uint8_t rest = *at_++ ^ 0x78;
    if ((rest & 0x84) != 0) return false;
    const int prefix = rest & 3;  // none, 66, F3, F2
    out->vvvv = rest >> 3 & 15;
    r_ = map >> 7 & 1, x_ = map >> 6 & 1, b_ = map >> 5 & 1;
    const uint8_t opcode = *at_++;
    modrm_ = *at_++;
    out->reg = (modrm_ >> 3 & 7) | r_ << 3;
    out->rm = (modrm_ & 7) | b_ << 3;
    if (!FindOperation(opcode, prefix, &out->operation)) return false;
    if (out->operation != AmxOperation::kDot && out->vvvv != 0) return false;
    if (HasMemory()) ReadAddress(&out->base, &out->index);
    out->length = static_cast<int>(at_ - start_);
    return true;
  }

 private:
  enum Prefix { kNone, k66, kF3, kF2 };

  bool HasMemory() const { return modrm_ >> 6 != 3; }
  bool HasSib() const { return HasMemory() && (modrm_ & 7) == 4; }

  bool FindOperation(uint8_t opcode, int prefix, AmxOperation* operation) {
    if (opcode == 0x49 && prefix == kNone && HasMemory()) {
      *operation = AmxOperation::kConfigure;
      return (modrm_ >> 3 & 7) == 0;
    }
    if (opcode == 0x49 && prefix == kNone) {
      *operation = AmxOperation::kRelease;
      return modrm_ == 0xC0;
    }
    if (opcode == 0x49 && prefix == kF2) {
      *operation = AmxOperation::kZero;
      return !HasMemory() && (modrm_ & 7) == 0;
    }
    if (opcode == 0x4B && (prefix == kF2 || prefix == k66)) {
      *operation = AmxOperation::kLoad;
      return HasSib();
    }
    if (opcode == 0x4B && prefix == kF3) {
      *operation = AmxOperation::kStore;
      return HasSib();
    }
    *operation = AmxOperation::kDot;
    return opcode == 0x5C && prefix == kF3 && !HasMemory();
  }

  uint64_t Register(int number) const {
    constexpr int kOrder[] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return static_cast<uint64_t>(registers_[kOrder[number]]);
  }

  void ReadAddress(uint64_t* base, uint64_t* index) {
    const int mod = modrm_ >> 6, rm = modrm_ & 7;
    bool wide = mod == 2;
    if (rm == 4) {
      const uint8_t sib = *at_++;
      const int number = (sib >> 3 & 7) | x_ << 3;
      if (number != 4) *index = Register(number) << (sib >> 6);
      wide |= mod == 0 && (sib & 7) == 5;
      if (mod != 0 || (sib & 7) != 5) *base = Register((sib & 7) | b_ << 3);
    } else if (mod == 0 && rm == 5) {
      // Relative to the next instruction.
      wide = true;
      *base = reinterpret_cast<uint64_t>(at_ + sizeof(int32_t));
    } else {
      *base = Register(rm | b_ << 3);
    }
    if (wide) {
      int32_t displacement;
      std::memcpy(&displacement, at_, sizeof(displacement));
      at_ += sizeof(displacement);
      *base += static_cast<int64_t>(displacement);
    } else if (mod == 1) {
      *base += static_cast<int64_t>(static_cast<int8_t>(*at_++));
    }
  }

  const greg_t* const registers_;
  const uint8_t* const start_;
  const uint8_t* at_;
  uint8_t modrm_ = 0;
  int r_ = 0, x_ = 0, b_ = 0;
};

// --- What it does ---

struct ThreadTiles {
  uint64_t scope = 0;
  AmxTiles tiles;
};
thread_local ThreadTiles thread_tiles;

// Of the ScopedAmx that lives, or lived last.
std::atomic<bool> alive{false};
std::atomic<uint64_t> scope{0};
std::atomic<int64_t> executed[kOperations];
std::atomic<bool> failed{false};
// The instruction that did, and why: said once, then told.
AmxOperation failed_operation;
const char* failed_because;
std::atomic<bool> told{false};
struct sigaction previous;

const char* Do(const Instruction& i, AmxTiles* tiles) {
  switch (i.operation) {
    case AmxOperation::kConfigure: {
      AmxConfig config;
      std::memcpy(&config, reinterpret_cast<const void*>(i.base + i.index),
                  sizeof(config));
      return tiles->Configure(config);
    }
    case AmxOperation::kRelease:
      return tiles->Release();
    case AmxOperation::kZero:
      return tiles->Zero(i.reg);
    case AmxOperation::kLoad:
      return tiles->Load(i.reg, reinterpret_cast<const char*>(i.base),
                         static_cast<ptrdiff_t>(i.index));
    case AmxOperation::kStore:
      return tiles->Store(i.reg, reinterpret_cast<char*>(i.base),
                          static_cast<ptrdiff_t>(i.index));
    case AmxOperation::kDot:
      return tiles->Dot(i.reg, i.rm, i.vvvv);
  }
  return "no such operation";
}

void Execute(const Instruction& i) {
  if (failed) return;
  // Tiles of an earlier scope may still be configured, after a failure.
  if (thread_tiles.scope != scope) {
    thread_tiles.tiles.Release();
    thread_tiles.scope = scope;
  }
  ++executed[static_cast<int>(i.operation)];
  const char* const why = Do(i, &thread_tiles.tiles);
  if (why == nullptr || failed.exchange(true)) return;
  failed_operation = i.operation;
  failed_because = why;
  told = true;
}

void OnIllegalInstruction(int signal, siginfo_t* info, void* context) {
  greg_t* const registers =
      static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction instruction;
  if (Decoder(registers).Decode(&instruction)) {
    Execute(instruction);
    registers[REG_RIP] += instruction.length;
  } else if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // Happens again when this returns, and ends the process.
    sigaction(SIGILL, &previous, nullptr);
  }
}

}  // namespace

ScopedAmx::ScopedAmx() : emulated_(!HasAmxBf16()) {
  // A second one would take the first for hardware, and look at nothing.
  EXPECT_FALSE(alive.exchange(true)) << "another ScopedAmx is alive";
  if (!emulated_) return;
  ++scope;
  for (std::atomic<int64_t>& count : executed) count = 0;
  failed = told = false;
  struct sigaction action = {};
  action.sa_sigaction = OnIllegalInstruction;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGILL, &action, &previous);
  AssumeAmxBf16(true);
}

ScopedAmx::~ScopedAmx() {
  alive = false;
  if (!emulated_) return;
  EXPECT_EQ(TakeError(), "");
  AssumeAmxBf16(false);
  sigaction(SIGILL, &previous, nullptr);
}

int64_t ScopedAmx::Executed(AmxOperation operation) const {
  return emulated_ ? executed[static_cast<int>(operation)].load() : 0;
}

std::string ScopedAmx::TakeError() {
  if (!emulated_ || !told.exchange(false)) return "";
  return std::string(kNames[static_cast<int>(failed_operation)]) + ": " +
         failed_because;
}

}  // namespace mneme::kernels

#else

namespace mneme::kernels {

ScopedAmx::ScopedAmx() : emulated_(false) {}
ScopedAmx::~ScopedAmx() = default;
int64_t ScopedAmx::Executed(AmxOperation) const { return 0; }
std::string ScopedAmx::TakeError() { return ""; }

}  // namespace mneme::kernels

#endif  // MNEME_AMX
