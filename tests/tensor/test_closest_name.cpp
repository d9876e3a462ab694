// Tests of the distance between words and of the hint that messages give.
#include <gtest/gtest.h>

#include "tensor/closest_name.h"

namespace vitrine {
namespace {

TEST(ClosestName, CountsInsertionsDeletionsAndReplacements) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("sitting", "kitten"), 3u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("swin", "swin"), 0u);
  EXPECT_EQ(edit_distance("ab", "ba"), 2u);  // a swap is two changes
}

TEST(ClosestName, SortsByDistanceAndKeepsTheOrderOfEquals) {
  EXPECT_EQ(by_distance("lr", {"batch", "ls", "lr", "br"}), (std::vector<std::string>{"lr", "ls", "br", "batch"}));
}

TEST(ClosestName, HintsOnlyAtWhatIsClose) {
  EXPECT_EQ(nearest_hint("batch-sise", {"lr", "batch-size"}), "; did you mean 'batch-size'?");
  EXPECT_EQ(nearest_hint("l", {"lr", "ls"}), "; did you mean 'lr'?");  // the first of equally near ones
  EXPECT_EQ(nearest_hint("abc", {"", "xyz"}), "");
  EXPECT_EQ(nearest_hint("abc", {"a"}), "");  // two changes are too many for three characters
}

}  // namespace
}  // namespace vitrine
