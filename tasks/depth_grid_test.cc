// SPDX-License-Identifier: Apache-2.0

#include "tasks/depth_grid.h"

#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

DepthGrid Make(int64_t depths, int64_t places) {
  auto grid =
      DepthGrid::Create("needle", depths, places, /*length=*/2 * places);
  EXPECT_TRUE(grid.ok()) << grid.status();
  return *grid;
}

TEST(DepthGridTest, IsAsDrawn) {
  const DepthGrid grid = Make(4, 10);
  std::vector<int64_t> depths;
  for (int64_t place = 0; place < 10; ++place) {
    depths.push_back(grid.DepthOf(place));
  }
  EXPECT_EQ(depths, (std::vector<int64_t>{0, 0, 0, 1, 1, 2, 2, 2, 3, 3}));
  std::vector<int64_t> places;
  for (int64_t depth = 0; depth < 4; ++depth) {
    places.push_back(grid.PlaceOf(depth));
  }
  EXPECT_EQ(places, (std::vector<int64_t>{1, 3, 6, 8}));
}

// Each depth's place is of that depth, with as many of its places before it as
// after it, or one less.
TEST(DepthGridTest, PlacesAreTheMiddlesOfTheirDepths) {
  for (int64_t depths = 1; depths <= 45; ++depths) {
    for (int64_t places = depths; places <= 130; ++places) {
      const DepthGrid grid = Make(depths, places);
      for (int64_t depth = 0; depth < depths; ++depth) {
        const int64_t middle = grid.PlaceOf(depth);
        int64_t before = 0, after = 0;
        for (int64_t place = 0; place < places; ++place) {
          if (place * depths / places != depth) continue;
          before += place < middle;
          after += place > middle;
        }
        ASSERT_EQ(grid.DepthOf(middle), depth)
            << depths << " depths of " << places << " places";
        ASSERT_TRUE(before == after || before + 1 == after)
            << before << " before, " << after << " after";
      }
    }
  }
}

TEST(DepthGridTest, MillionsOfPlacesDoNotOverflow) {
  const DepthGrid grid = Make(1 << 20, (int64_t{1} << 31) - 1);
  EXPECT_EQ(grid.DepthOf(grid.PlaceOf((1 << 20) - 1)), (1 << 20) - 1);
}

TEST(DepthGridTest, NoFinerThanTheLength) {
  EXPECT_TRUE(DepthGrid::Create("needle", 40, 40, 80).ok());
  EXPECT_EQ(DepthGrid::Create("needle", 40, 39, 78).status(),
            absl::InvalidArgumentError(
                "needle: depths=40 is a grid finer than the length; length=78 "
                "has room for 39 needles"));
  EXPECT_EQ(DepthGrid::Create("needle", 1, -3, 2).status(),
            absl::InvalidArgumentError(
                "needle: depths=1 is a grid finer than the length; length=2 "
                "has room for 0 needles"));
}

}  // namespace
}  // namespace mneme
