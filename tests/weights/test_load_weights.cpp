// Weights for other sizes: position embeddings as timm and the ViT paper resize them, bias tables
// as timm, and what loading tells.
#include "weights/load_weights.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/golden_model.h"
#include "weights/names/weight_layouts.h"

namespace vitrine {
namespace {

std::map<std::string, Tensor> golden() {
  return read_safetensors(source_dir() + "/tests/golden/position_resizes.safetensors");
}

/// In double, and in float to its precision.
template <class Resize>
void expect_resized(const Tensor& from, const Tensor& expected, const Resize& resize, const std::string& what) {
  const double error = relative_error(resize(from), expected);
  EXPECT_TRUE(error <= 1e-12) << what << ": " << error;
  const Tensor single = resize(cast_data(from, DType::f32));
  EXPECT_EQ(single.dtype(), DType::f32);
  EXPECT_TRUE(relative_error(single, expected) <= 1e-6) << what << ": " << relative_error(single, expected);
}

/// All resizes of the file by one filter.
void expect_resized_positions(PositionFilter filter, const std::string& name, const std::vector<std::int64_t>& grids) {
  const auto file = golden();
  for (const std::int64_t grid : grids) {
    for (const std::int64_t prefix : {0, 1, 2}) {
      const std::string from = fmt::format("embed.{}", prefix), to = fmt::format("{}.{}.{}", from, name, grid);
      const auto resize = [&](const Tensor& x) { return resize_position_embedding(x, grid, prefix, filter); };
      expect_resized(file.at(from), file.at(to), resize, to);
    }
  }
  for (const char* from : {"map.6x6", "map.5x3", "map.1x1"}) {
    for (const std::int64_t grid : {1, 4, 6, 9}) {
      const std::string to = fmt::format("{}.{}.{}", from, name, grid);
      const auto resize = [&](const Tensor& x) { return resize_position_map(x, grid, filter); };
      expect_resized(file.at(from), file.at(to), resize, to);
    }
  }
}

TEST(ResizePositions, BicubicAsTimm) { expect_resized_positions(PositionFilter::bicubic, "bicubic", {4, 6, 9}); }

TEST(ResizePositions, BilinearAsThePaper) {
  expect_resized_positions(PositionFilter::bilinear, "bilinear", {1, 2, 4, 6, 9, 16});
}

// From 28 to 24 places, rounding leads scipy.ndimage.zoom past the last place, and it writes 0.
TEST(ResizePositions, BilinearKeepsTheCorners) {
  for (const std::int64_t from : {2, 14, 28}) {
    const Tensor map = reshape(arange(from * from, DType::f64) + 1.0, {1, from, from, 1});
    for (const std::int64_t to : {2, 22, 24, 28}) {
      const std::vector<double> values = resize_position_map(map, to, PositionFilter::bilinear).to_vector<double>();
      const auto last = static_cast<double>(from * from), step = static_cast<double>(from - 1);
      EXPECT_EQ(values.front(), 1) << from << ' ' << to;
      EXPECT_EQ(values.at(static_cast<std::size_t>(to - 1)), 1 + step) << from << ' ' << to;
      EXPECT_EQ(values.back(), last) << from << ' ' << to;
    }
  }
}

TEST(ResizePositions, BiasTablesAsTimm) {
  const auto file = golden();
  for (const std::int64_t window : {1, 4, 7}) {
    for (const std::int64_t other : {1, 2, 4, 7, 8, 12, 24}) {
      const std::string from = fmt::format("table.{}", window), to = fmt::format("{}.{}", from, other);
      expect_resized(
          file.at(from), file.at(to), [&](const Tensor& x) { return resize_bias_table(x, other); }, to);
    }
  }
}

TEST(ResizePositions, MistakesAreErrors) {
  EXPECT_TRUE(contains(error_of([] { resize_position_embedding(ones({1, 18, 4}), 2, 1); }), "17 of the 18 tokens"));
  EXPECT_TRUE(contains(error_of([] { resize_bias_table(ones({16, 2}), 2); }), "16 offsets"));
  EXPECT_THROW(resize_position_map(ones({4, 4}), 2), Error);
}

// ---- Loading ----

const Tensor& named(const StateDict& state, const std::string& name) {
  return std::ranges::find(state, name, &StateDict::value_type::first)->second;
}

/// All notes in one line.
std::string text_of(const WeightLoad& load) {
  std::string text;
  for (const std::string& note : load.notes) text += note + "\n";
  return text;
}

StateDict clone_of(const StateDict& state) {
  StateDict copy;
  for (const auto& [name, tensor] : state) copy.emplace_back(name, clone(tensor));
  return copy;
}

const ModelOptions small_vit{.num_classes = 7, .embed_dim = 12, .depth = 1, .num_heads = PerStage(3)};

Model sized(const char* name, ModelOptions options, std::int64_t image, std::int64_t classes, std::uint64_t seed) {
  options.img_size = image;
  options.num_classes = classes;
  options.seed = seed;
  return create_model(name, options);
}

TEST(LoadWeights, AdaptsAViTToOtherImagesAndClasses) {
  for (const char* name : {"vit_tiny_patch4_32", "deit_tiny_distilled_patch4_32"}) {
    const bool distilled = std::string(name).starts_with("deit");
    const StateDict weights = sized(name, small_vit, 32, 7, 1).state_dict();
    Model model = sized(name, small_vit, 48, 3, 2);
    const Tensor head = clone(named(model.state_dict(), "head.weight"));
    for (const auto& [filter, filter_name] :
         {std::pair{PositionFilter::bicubic, "bicubic"}, {PositionFilter::bilinear, "bilinear"}}) {
      const WeightLoad load = load_weights(model, weights, {.strict = false, .position_filter = filter});
      EXPECT_TRUE(load.report.clean()) << to_string(load.report);
      EXPECT_EQ(text_of(load), fmt::format("resized pos_embed from 8 x 8 to 12 x 12 patches ({})\n"
                                           "left out head, which is for 7 classes: that for 3 starts at random\n{}",
                                           filter_name,
                                           distilled ? "left out head_dist, which is for 7 classes: that for 3 starts "
                                                       "at random\n"
                                                     : ""));
      const Tensor expected = resize_position_embedding(named(weights, "pos_embed"), 12, distilled ? 2 : 1, filter);
      EXPECT_EQ(relative_error(named(model.state_dict(), "pos_embed"), expected), 0);
    }
    EXPECT_EQ(relative_error(named(model.state_dict(), "head.weight"), head), 0) << "the head was drawn anew";
    EXPECT_EQ(relative_error(named(model.state_dict(), "norm.weight"), named(weights, "norm.weight")), 0);
  }
}

TEST(LoadWeights, AdaptsASwinToOtherImagesAndWindows) {
  const char* name = "swin_tiny_patch2_window4_32";
  const ModelOptions options{
      .embed_dim = 12, .depths = PerStage({1, 2}), .num_heads = PerStage({1, 2}), .position = "both"};
  const StateDict ours = sized(name, options, 16, 5, 1).state_dict();  // 8 x 8 places, and 4 x 4: one window
  Model model = sized(name, options, 24, 5, 2);
  const WeightLoad load = load_weights(model, to_layout(ours, WeightLayout::huggingface), {.strict = false});
  EXPECT_TRUE(load.report.clean()) << to_string(load.report);
  EXPECT_TRUE(contains(text_of(load), "under the names of Hugging Face's Swin"));
  EXPECT_TRUE(contains(text_of(load), "resized absolute_pos_embed from 8 x 8 to 12 x 12 patches"));
  ModelOptions windows = options;
  windows.window_size = 8;
  Model wider = sized(name, windows, 32, 5, 3);
  const WeightLoad with_windows = load_weights(wider, ours, {.strict = false});
  EXPECT_TRUE(with_windows.report.clean()) << to_string(with_windows.report);
  EXPECT_TRUE(contains(text_of(with_windows),
                       "resized 3 tables of relative position biases from windows of 4 to 8 places a side"));
  const std::string table = "layers.1.blocks.0.attn.relative_position_bias_table";
  EXPECT_EQ(relative_error(named(wider.state_dict(), table), resize_bias_table(named(ours, table), 8)), 0);
}

TEST(LoadWeights, StrictNeverConvertsSizes) {
  const StateDict weights = sized("vit_tiny_patch4_32", small_vit, 32, 7, 1).state_dict();
  Model larger = sized("vit_tiny_patch4_32", small_vit, 48, 7, 2);
  EXPECT_EQ(error_of([&] { load_weights(larger, weights); }),
            "load_weights: mismatched: pos_embed has shape (1, 65, 12), expected (1, 145, 12)");
  Model fewer = sized("vit_tiny_patch4_32", small_vit, 32, 3, 2);
  EXPECT_TRUE(contains(error_of([&] { load_weights(fewer, weights); }), "head.weight has shape (7, 12)"));
  Model same = sized("vit_tiny_patch4_32", small_vit, 32, 7, 2);
  EXPECT_TRUE(load_weights(same, weights).notes.empty());
  EXPECT_EQ(relative_error(named(same.state_dict(), "pos_embed"), named(weights, "pos_embed")), 0);
}

/// Rows `from` to `to` of position embeddings.
Tensor rows(const StateDict& state, std::int64_t from, std::int64_t to) {
  return slice(named(state, "pos_embed"), 1, from, to);
}

TEST(LoadWeights, ADistilledModelBecomesPlainAndBack) {
  const StateDict distilled = sized("deit_tiny_distilled_patch4_32", small_vit, 32, 7, 1).state_dict();
  const StateDict plain = sized("deit_tiny_patch4_32", small_vit, 32, 7, 1).state_dict();
  Model model = sized("deit_tiny_patch4_32", small_vit, 32, 7, 2);
  const WeightLoad to_plain = load_weights(model, distilled, {.strict = false});
  EXPECT_TRUE(to_plain.report.clean()) << to_string(to_plain.report);
  EXPECT_EQ(text_of(to_plain),
            "kept the positions of 8 x 8 patches: 2 tokens stand before them, here 1\n"
            "left out dist_token, head_dist.weight, head_dist.bias: the model here is not distilled\n");
  EXPECT_EQ(relative_error(rows(model.state_dict(), 0, 1), rows(distilled, 0, 1)), 0);
  EXPECT_EQ(relative_error(rows(model.state_dict(), 1, 65), rows(distilled, 2, 66)), 0);
  EXPECT_EQ(relative_error(named(model.state_dict(), "head.weight"), named(distilled, "head.weight")), 0);

  Model student = sized("deit_tiny_distilled_patch4_32", small_vit, 32, 7, 2);
  const StateDict start = clone_of(student.state_dict());
  const WeightLoad to_student = load_weights(student, plain, {.strict = false});
  EXPECT_TRUE(contains(text_of(to_student), "kept the positions of 8 x 8 patches: 1 tokens stand before them, here 2"));
  EXPECT_TRUE(contains(text_of(to_student), "missing dist_token, head_dist.weight, head_dist.bias"));
  EXPECT_EQ(relative_error(rows(student.state_dict(), 0, 1), rows(plain, 0, 1)), 0);
  EXPECT_EQ(relative_error(rows(student.state_dict(), 1, 2), rows(start, 1, 2)), 0) << "its own start";
  EXPECT_EQ(relative_error(rows(student.state_dict(), 2, 66), rows(plain, 1, 65)), 0);

  Model larger = sized("deit_tiny_patch4_32", small_vit, 48, 7, 2);
  EXPECT_TRUE(contains(text_of(load_weights(larger, distilled, {.strict = false})), "8 x 8 to 12 x 12 patches"));
  const Tensor resized = resize_position_embedding(rows(distilled, 2, 66), 12, 0);
  EXPECT_EQ(relative_error(rows(larger.state_dict(), 1, 145), resized), 0);
  EXPECT_TRUE(contains(error_of([&] { load_weights(student, plain); }), "missing dist_token"));
  EXPECT_TRUE(contains(error_of([&] { load_weights(model, distilled); }), "unexpected dist_token"));
}

TEST(LoadWeights, WhatIsNoFiniteNumberIsAnErrorThatNamesIt) {
  Model model = sized("vit_tiny_patch4_32", small_vit, 32, 7, 1);
  const Tensor before = clone(named(model.state_dict(), "norm.weight"));
  for (const double bad : {NAN, INFINITY, -INFINITY}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      StateDict weights = clone_of(sized("vit_tiny_patch4_32", small_vit, 32, 7, 2).state_dict());
      Tensor& bias = std::ranges::find(weights, "head.bias", &StateDict::value_type::first)->second;
      bias = cast_data(from_vector(Values{0, 0, bad, 0, 0, 0, 0}, {7}), dtype);
      for (const bool strict : {true, false}) {
        EXPECT_EQ(error_of([&] { load_weights(model, weights, {.strict = strict}); }),
                  fmt::format("load_weights: head.bias holds {} at element 2 of 7, expected finite numbers", bad));
      }
      EXPECT_EQ(relative_error(named(model.state_dict(), "norm.weight"), before), 0) << "nothing was changed";
    }
  }
  StateDict weights = sized("vit_tiny_patch4_32", small_vit, 32, 7, 2).state_dict();
  for (auto& [name, tensor] : weights) {
    if (name == "head.weight") tensor = cast_data(tensor * 10, DType::i32);
  }
  EXPECT_TRUE(contains(error_of([&] { load_weights(model, weights); }), "head.weight holds integers (i32)"));
}

TEST(LoadWeights, NothingThatFitsIsAnErrorEvenThen) {
  Model model = create_model("vit_tiny_patch4_32", small_vit);
  const StateDict other = create_model("resnet20_cifar", {.depths = PerStage({1, 1})}).state_dict();
  EXPECT_TRUE(contains(error_of([&] { load_weights(model, other, {.strict = false}); }), "nothing fits: missing"));
}

}  // namespace
}  // namespace vitrine
