// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_ATTENTION_KERNELS_AMX_ASSUME_H_
#define MNEME_ATTENTION_KERNELS_AMX_ASSUME_H_

namespace mneme::kernels {

// Makes HasAmxBf16() true, or what it was: for who emulates the instructions
// (amx_emulation.h).
void AssumeAmxBf16(bool assume);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_AMX_ASSUME_H_
