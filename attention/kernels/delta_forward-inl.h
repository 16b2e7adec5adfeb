// SPDX-License-Identifier: Apache-2.0
//
// How the delta rules (gated_delta.h, generalized_delta.h) go through their
// tokens: a whole sequence in blocks, or one token of each head. Tokens says
// what the rule makes of a token (delta_step-inl.h), by static members:
//
//   size_t Scratch(size_t key_dim);  // entries for each token
//   Token<T> Of(a, t, state, o, scratch);
//   void Step(a, tokens, heads);

#if defined(MNEME_ATTENTION_KERNELS_DELTA_FORWARD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_DELTA_FORWARD_INL_H_
#undef MNEME_ATTENTION_KERNELS_DELTA_FORWARD_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_DELTA_FORWARD_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/block_decay-inl.h"
#include "attention/kernels/delta_step-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {

// Row i of the inputs with states[i].
template <class Tokens, class Inputs, typename T>
void RunStep(const Inputs& a, T* states, MatrixView<T> o) {
  const size_t size = a.q.cols * a.v.cols;
  StepAllHeads<T>(
      a.q.rows, Tokens::Scratch(a.q.cols),
      [&](size_t i, T* scratch) HWY_ATTR {
        return Tokens::Of(a, i, states + i * size, o.row(i), scratch);
      },
      [&](const Token<T>* tokens, size_t heads)
          HWY_ATTR { Tokens::Step(a, tokens, heads); });
}

// Saves the state before each chunk; a block that is one token is stepped.
template <class Tokens, class Block, class Inputs, typename T>
void RunForward(const Inputs& a, T* state_data, MatrixView<T> o, T* saved) {
  const size_t length = a.q.rows;
  const MatrixView<T> state(state_data, a.q.cols, a.v.cols);
  Block block(a);
  T* scratch = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    block.LayOut(take);
    scratch = take(Tokens::Scratch(state.rows));
  });
  for (size_t chunk = 0; chunk < length;) {
    const size_t end = std::min(length, chunk + std::min(a.chunk, length));
    if (saved != nullptr) {
      saved = std::copy_n(state_data, state.rows * state.cols, saved);
    }
    for (size_t begin = chunk; begin < end; begin += kBlock) {
      const size_t rows = std::min(kBlock, end - begin);
      if (rows == 1) {
        const Token<T> token =
            Tokens::Of(a, begin, state_data, o.row(begin), scratch);
        Tokens::Step(a, &token, 1);
      } else {
        block.Start(begin, rows, state);
        block.Substitute(o);
        block.Advance(state);
      }
    }
    chunk = end;
  }
}

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_DELTA_FORWARD_INL_H_
