// SPDX-License-Identifier: Apache-2.0

#include "tasks/group_word/finite_group.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

using Permutation = std::vector<int>;  // x goes to [x]

bool IsEven(const Permutation& p) {
  int inversions = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    for (size_t j = i + 1; j < p.size(); ++j) inversions += p[i] > p[j];
  }
  return inversions % 2 == 0;
}

// In lexicographic order, the identity first.
std::vector<Permutation> Permutations(int degree, bool even_only) {
  Permutation p(degree);
  std::iota(p.begin(), p.end(), 0);
  std::vector<Permutation> all;
  do {
    if (!even_only || IsEven(p)) all.push_back(p);
  } while (std::next_permutation(p.begin(), p.end()));
  return all;
}

// Permutations of `degree` things times remainders modulo `modulus`; either
// factor may have one element. Element (p, z) is number p * modulus + z.
FiniteGroup Make(int degree, bool even_only, int modulus) {
  const std::vector<Permutation> elements = Permutations(degree, even_only);
  std::map<Permutation, int> number;
  for (const Permutation& p : elements) {
    const int next = static_cast<int>(number.size());
    number[p] = next;
  }
  FiniteGroup group;
  group.order = static_cast<int32_t>(elements.size()) * modulus;
  for (int32_t a = 0; a < group.order; ++a) {
    const Permutation& p = elements[a / modulus];
    std::string name;
    if (degree > 1) {
      for (const int x : p) absl::StrAppend(&name, x + 1);
      if (modulus > 1) absl::StrAppend(&name, ",", a % modulus);
    } else {
      name = absl::StrCat("z", a % modulus);
    }
    group.names.push_back(name);
    for (int32_t b = 0; b < group.order; ++b) {
      const Permutation& q = elements[b / modulus];
      Permutation product(degree);
      for (int x = 0; x < degree; ++x) product[x] = q[p[x]];
      group.products.push_back(number[product] * modulus +
                               (a % modulus + b % modulus) % modulus);
    }
  }
  return group;
}

}  // namespace

std::vector<std::string> FiniteGroupNames() {
  return {"A5", "S5", "Z60", "A4xZ5"};
}

FiniteGroup MakeFiniteGroup(absl::string_view name) {
  if (name == "A5") return Make(5, /*even_only=*/true, 1);
  if (name == "S5") return Make(5, /*even_only=*/false, 1);
  if (name == "A4xZ5") return Make(4, /*even_only=*/true, 5);
  return Make(1, /*even_only=*/false, 60);
}

int32_t CommutatorSubgroupOrder(const FiniteGroup& group) {
  // a b = b a [a, b]: the commutator is what b a lacks.
  std::vector<int32_t> inverse(group.order);
  for (int32_t a = 0; a < group.order; ++a) {
    for (int32_t b = 0; b < group.order; ++b) {
      if (group.Product(a, b) == 0) inverse[a] = b;
    }
  }
  std::vector<bool> is_commutator(group.order);
  for (int32_t a = 0; a < group.order; ++a) {
    for (int32_t b = 0; b < group.order; ++b) {
      is_commutator[group.Product(inverse[group.Product(b, a)],
                                  group.Product(a, b))] = true;
    }
  }
  std::vector<bool> member(group.order);
  std::vector<int32_t> reached = {0};
  member[0] = true;
  for (size_t i = 0; i < reached.size(); ++i) {
    for (int32_t c = 0; c < group.order; ++c) {
      const int32_t next = group.Product(reached[i], c);
      if (!is_commutator[c] || member[next]) continue;
      member[next] = true;
      reached.push_back(next);
    }
  }
  return static_cast<int32_t>(reached.size());
}

}  // namespace mneme
