// SPDX-License-Identifier: Apache-2.0
//
// Small groups as multiplication tables, computed from what the groups are:
//
//   S5      all permutations of five things, order 120, not solvable
//   A5      the even ones, order 60, the smallest group that is not solvable
//   A4xZ5   pairs of an even permutation of four things and a remainder modulo
//           five, order 60, solvable and not abelian
//   Z60     remainders modulo 60, order 60, abelian
//
// A product is read from left to right: a b is a, and then b.

#ifndef MNEME_TASKS_GROUP_WORD_FINITE_GROUP_H_
#define MNEME_TASKS_GROUP_WORD_FINITE_GROUP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace mneme {

struct FiniteGroup {
  int32_t order = 0;
  std::vector<int32_t> products;   // a b, at a * order + b; element 0 is 1
  std::vector<std::string> names;  // of elements: "21345", "z17", "2143,3"

  int32_t Product(int32_t a, int32_t b) const {
    return products[a * order + b];
  }
};

// The names that MakeFiniteGroup knows: "A5", "S5", "Z60", "A4xZ5".
std::vector<std::string> FiniteGroupNames();

// Precondition: name is one of them.
FiniteGroup MakeFiniteGroup(absl::string_view name);

// The order of [G, G], the subgroup that all commutators a^-1 b^-1 a b
// generate. Whoever knows the factors of a product but not their order knows it
// up to an element of [G, G].
int32_t CommutatorSubgroupOrder(const FiniteGroup& group);

}  // namespace mneme

#endif  // MNEME_TASKS_GROUP_WORD_FINITE_GROUP_H_
