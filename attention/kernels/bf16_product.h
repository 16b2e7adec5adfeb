// SPDX-License-Identifier: Apache-2.0
//
// The one matrix product that bfloat16 kernels are made of:
//
//   C (+)= A B,   C [rows, 32] float, A [rows, depth] and B [depth, 32] Bf16,
//
// whose operands lie as the matrix units of x86 want them: depth in steps of
// 32, rows in groups of 16, and B in pairs, element (2p, n) and (2p + 1, n) in
// one 32-bit number. Three implementations, chosen at run time:
//
//   amx         8 tile registers of 16 rows x 64 bytes (tdpbf16ps)
//   avx512bf16  vectors of 16 pairs (vdpbf16ps)
//   portable    tile registers in memory, on any SIMD target: what amx
//               computes, bit for bit, by the same code. For tests: kernels
//               are faster in float where there is nothing better
//
// Sums are float and have a fixed order, but each implementation has its own.
// All read denormal numbers as zero and flush denormal results.

#ifndef MNEME_ATTENTION_KERNELS_BF16_PRODUCT_H_
#define MNEME_ATTENTION_KERNELS_BF16_PRODUCT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "attention/kernels/bf16.h"

namespace mneme::kernels {

// Columns of B and C, elements of a step along depth, rows of a group.
inline constexpr size_t kBf16Columns = 32;
inline constexpr size_t kBf16Step = 32;
inline constexpr size_t kBf16Rows = 16;

// A: element (r, k) is data[k / 32 * step_stride + r * row_stride + k % 32].
struct Bf16Rows {
  const Bf16* data;
  size_t row_stride;
  size_t step_stride;
};

// B: pair p of column n is data[p * stride + n].
struct Bf16Pairs {
  const uint32_t* data;
  size_t stride;
};

// A whole product. rows is a multiple of 16, depth of 32; c has stride
// c_stride. With `add` it is added to what c holds.
struct Bf16Multiplication {
  size_t rows, depth;
  Bf16Rows a;
  Bf16Pairs b;
  float* c;
  size_t c_stride;
  bool add;
};

struct Bf16Unit {
  const char* name;
  // Around a series of products on one thread.
  void (*begin)();
  void (*end)();
  void (*multiply)(const Bf16Multiplication& m);
};

// Null where the CPU (or the kernel, for amx) does not have it.
const Bf16Unit* Bf16AmxUnit();
const Bf16Unit* Bf16Avx512Unit();
const Bf16Unit* Bf16PortableUnit();

// The best unit of hardware; null if there is none, or if SIMD is restricted
// (simd.h) to less than AVX3. Or what UseBf16Unit chose, whatever the target.
const Bf16Unit* ActiveBf16Unit();

// Those that this machine has, best first, and portable.
std::vector<std::string> SupportedBf16Units();

// For tests and measurements: restricts the whole process to one of them;
// "best" lifts the restriction. False, and nothing changes, if it is not there.
bool UseBf16Unit(const std::string& name);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_BF16_PRODUCT_H_
