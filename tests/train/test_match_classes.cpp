// Which output is which class: by name, by number, or an error.
#include "train/recipe/match_classes.h"

#include <gtest/gtest.h>

#include "tests/support/expectations.h"

namespace vitrine {
namespace {

/// One sample of each class, in order.
class Named : public Dataset {
 public:
  explicit Named(std::vector<std::string> names) { class_names_ = std::move(names); }
  std::int64_t size() const override { return num_classes(); }
  Sample get(std::int64_t index) const override { return {.image = {}, .label = index}; }
  std::string name(std::int64_t index) const override { return fmt::format("sample {}", index); }
};

LoadedModel model_of(std::int64_t classes, std::vector<std::string> names) {
  return {create_model("vit_tiny_patch4_32",
                       {.num_classes = classes, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)}),
          {},
          std::move(names),
          {}};
}

MatchedClasses match(const std::vector<std::string>& data, std::int64_t outputs, std::vector<std::string> names) {
  return match_classes(std::make_shared<Named>(data), model_of(outputs, std::move(names)), "w");
}

std::vector<std::int64_t> labels_of(const MatchedClasses& matched) {
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < matched.data->size(); ++i) labels.push_back(matched.data->get(i).label);
  return labels;
}

using Labels = std::vector<std::int64_t>;

TEST(MatchClasses, ClassesAreMatchedByName) {
  const MatchedClasses same = match({"a", "b", "c"}, 3, {"a", "b", "c"});
  EXPECT_EQ(labels_of(same), (Labels{0, 1, 2}));
  EXPECT_TRUE(same.notes.empty());
  const MatchedClasses lacking = match({"a", "c"}, 3, {"a", "b", "c"});
  EXPECT_EQ(labels_of(lacking), (Labels{0, 2}));
  EXPECT_EQ(lacking.notes,
            (std::vector<std::string>{"the data have 2 of the 3 classes of the weights, matched by name: "
                                      "c is number 1 of the data and output 2"}));
  EXPECT_EQ(labels_of(match({"a", "b", "c"}, 3, {"c", "a", "b"})), (Labels{1, 2, 0}));
  EXPECT_EQ(labels_of(match({"a"}, 3, {"a", "b", "c"})), (Labels{0}));
}

TEST(MatchClasses, WithoutCommonNamesByNumber) {
  const MatchedClasses other = match({"n01", "n02"}, 2, {"tench", "goldfish"});
  EXPECT_EQ(labels_of(other), (Labels{0, 1}));
  EXPECT_TRUE(contains(other.notes.at(0), "warning: class 0 is n01 in the data, but tench for the weights"));
  EXPECT_TRUE(match({"a", "b"}, 2, {}).notes.empty());
}

TEST(MatchClasses, WhatCannotBeMeantIsAnError) {
  const auto refusal = [](const std::vector<std::string>& data, std::int64_t outputs, std::vector<std::string> names) {
    return error_of([&] { match(data, outputs, std::move(names)); });
  };
  EXPECT_TRUE(contains(refusal({"a", "b"}, 0, {}), "w: the model has no head (num_classes is 0) and gives features"));
  EXPECT_TRUE(contains(refusal({"a", "b"}, 21841, {}), "has 21841 outputs without names and the data 2 classes"));
  EXPECT_TRUE(contains(refusal({"a", "b", "c"}, 2, {}), "has 2 outputs, expected at least 3"));
  EXPECT_TRUE(contains(refusal({"a", "x"}, 2, {"a", "b"}), "have the class x, which the weights do not have"));
  EXPECT_TRUE(contains(refusal({"x", "y"}, 3, {"a", "b", "c"}), "nothing tells which is which"));
  EXPECT_TRUE(contains(refusal({"a", "b"}, 3, {"a", "b", "b"}), "has 2 classes named b"));
}

}  // namespace
}  // namespace vitrine
