// SPDX-License-Identifier: Apache-2.0
//
// How many pairs a bare mechanism holds, without training: N random pairs are
// written, and read back with their own keys.
//
// Keys are uniform on the sphere of radius sqrt(key_dim), which is what a
// normalised layer hands over (entries of variance 1): the scores q . k /
// sqrt(key_dim) are then sqrt(key_dim) for the right key and standard normal
// for others. Operators that want unit keys get them (PairInputs). Values are
// unit vectors, value_dim = key_dim, one head. A read has failed when what
// comes back is nearer, by cosine, to another of the N values than to its own.
//
// Expected: an additive memory answers with its value and N - 1 others in
// random directions, each about key_dim^-1/2 as long, so the cosine is near
// (1 + (N - 1) / key_dim)^-1/2; with orthogonal keys it is exact up to key_dim
// pairs. The delta rule is exact for those, too, and nears it for key_dim
// independent keys of any kind as they are written over and over; but written
// once, each key erases a share of about 1 / key_dim of every pair before it,
// so that random keys fade where an additive memory keeps them. Softmax
// multiplies the right value by e^sqrt(key_dim) and the others by e^z with
// scores z near standard normal: the cosine is near
// (1 + (N - 1) e^(-2 sqrt(key_dim)) E e^(2 z))^-1/2, and the number of pairs
// grows as e^(2 sqrt(key_dim)).

#ifndef MNEME_HARNESS_PROBES_CAPACITY_H_
#define MNEME_HARNESS_PROBES_CAPACITY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "harness/probe.pb.h"
#include "harness/probes/operators.h"

namespace mneme {

enum class KeySet {
  kRandom,      // independent
  kCorrelated,  // independent but for a common part: cosines of 1/2
  kOrthogonal,  // to one another; no more than key_dim
};
absl::string_view KeySetName(KeySet keys);
absl::StatusOr<KeySet> ParseKeySet(absl::string_view name);

struct CapacitySettings {
  int64_t trials = 16;  // sets of pairs
  uint64_t seed = 0;
  KeySet keys = KeySet::kRandom;
  int64_t passes = 1;  // times that all pairs are written, one after another
  int64_t max_pairs = 4096;
  // Pairs of a trial that are read back, drawn at random from the N; all of
  // them while they are fewer. Less, down to a quarter, where the state is so
  // large that moving it would take most of the time.
  int64_t reads = 32;
};

// The curve at one key_dim: N from 2 in steps of 2 while next to nothing is
// lost, then of sqrt(2) until most reads fail, or to the smaller of max_pairs
// and 64 key_dim; where recall falls steeply through 90%, nearer.
// Unimplemented, with a phrase that says why, for an operator that holds no
// pairs; Internal if it answers with what is no number.
absl::StatusOr<CapacityCurve> MeasureCapacity(const Operators& operators,
                                              int64_t key_dim,
                                              const CapacitySettings& settings);

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_CAPACITY_H_
