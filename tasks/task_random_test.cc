// SPDX-License-Identifier: Apache-2.0

#include "tasks/task_random.h"

#include <set>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(TaskRandomTest, StreamsAreNamedAfterTaskAndSplit) {
  Random random = TaskRandom("mqar").ForExample(Split::kValidation, 5, 6);
  Random expected(5, StreamId("mqar/validation"), 6);
  EXPECT_EQ(random.Next(), expected.Next());
}

TEST(TaskRandomTest, TasksSplitsSeedsAndIndicesDiffer) {
  std::set<uint64_t> words;
  for (const char* task : {"mqar", "copy"}) {
    const TaskRandom random(task);
    for (const Split split :
         {Split::kTrain, Split::kValidation, Split::kTest}) {
      for (uint64_t seed = 0; seed < 3; ++seed) {
        for (uint64_t index = 0; index < 3; ++index) {
          words.insert(random.ForExample(split, seed, index).Next());
        }
      }
    }
  }
  EXPECT_EQ(words.size(), 2 * 3 * 3 * 3);
}

TEST(TaskRandomTest, PlacesHaveNumbersOfTheirOwn) {
  const TaskRandom random("mqar");
  std::set<uint64_t> words;
  for (const uint64_t index : {0, 1}) {
    for (uint64_t place = 0; place < 10; ++place) {
      for (const uint64_t word :
           random.AtPlace(Split::kTrain, 3, index, place)) {
        words.insert(word);
      }
    }
    Random example = random.ForExample(Split::kTrain, 3, index);
    for (int i = 0; i < 40; ++i) words.insert(example.Next());
  }
  EXPECT_EQ(words.size(), 2 * (10 * 4 + 40));
  EXPECT_EQ(random.AtPlace(Split::kTrain, 3, 1, 1'000'000),
            random.AtPlace(Split::kTrain, 3, 1, 1'000'000));
}

}  // namespace
}  // namespace mneme
