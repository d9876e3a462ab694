// Patch embeddings for patches of another size: timm's numbers, the property that they are made
// for, and loading.
#include "weights/resize_patches.h"

#include <gtest/gtest.h>

#include <array>

#include "nn/layers.h"
#include "tests/support/golden_model.h"
#include "weights/load_weights.h"

namespace vitrine {
namespace {

struct Case {
  const char* from;
  std::int64_t height, width;
};

// The file is timm's computation in double; timm itself goes through float, so that is the accuracy
// for float.
TEST(ResizePatches, AsTimm) {
  const auto file = read_safetensors(source_dir() + "/tests/golden/patch_resizes.safetensors");
  std::size_t compared = 0;
  for (const auto& [from, height, width] : std::initializer_list<Case>{{"kernel.3.8x8", 12, 12},
                                                                       {"kernel.3.8x8", 4, 4},
                                                                       {"kernel.3.16x16", 8, 8},
                                                                       {"kernel.3.16x16", 14, 14},
                                                                       {"kernel.1.8x8", 12, 12},
                                                                       {"kernel.1.6x9", 12, 5},
                                                                       {"kernel.1.6x9", 6, 4}}) {
    const std::string to = fmt::format("{}.{}x{}", from, height, width);
    const double error = relative_error(resize_patch_kernel(file.at(from), height, width), file.at(to));
    EXPECT_TRUE(error <= 1e-12) << to << ": " << error;
    const Tensor single = resize_patch_kernel(cast_data(file.at(from), DType::f32), height, width);
    EXPECT_EQ(single.dtype(), DType::f32);
    EXPECT_TRUE(relative_error(single, file.at(to)) <= 1e-6) << to << ": " << relative_error(single, file.at(to));
    ++compared;
  }
  EXPECT_EQ(compared + 4, file.size());  // four kernels, and what became of them
}

Tensor random_tensor(const Shape& shape, std::uint64_t stream) {
  Tensor x = empty(shape, DType::f64);
  fill_normal(x, 0, 1, {5, Purpose::test, stream});
  return x;
}

TEST(ResizePatches, AnEnlargedPatchGivesTheSameToken) {
  for (const auto& [channels, from, to] : std::initializer_list<std::array<std::int64_t, 3>>{
           {3, 8, 12}, {3, 16, 32}, {1, 4, 5}, {1, 1, 4}, {3, 14, 16}, {2, 15, 16}}) {
    Initializer init(1, DType::f64);
    const PatchConvolution small = PatchConvolution::make(channels, from, 6, init);
    PatchConvolution large = small;
    large.weight = Parameter(resize_patch_kernel(small.weight, to, to));
    const Tensor patches = random_tensor({5, channels, from, from}, 1);  // every image is one patch
    const Tensor enlarged = interpolate(patches, to, to, InterpolationMode::bicubic, true);
    const double error = relative_error(large(enlarged), small(patches));
    EXPECT_TRUE(error <= 1e-10) << from << " to " << to << ": " << error;
  }
}

// For smaller patches B^T w' is the nearest to w that any w' gives: what is left is orthogonal to
// all that B^T gives, B (B^T w' - w) = 0, where B w is a resize of w.
TEST(ResizePatches, AShrunkKernelIsTheNearest) {
  const Tensor kernel = random_tensor({4, 3, 16, 16}, 2);
  const auto resize = [](const Tensor& x) { return interpolate(x, 8, 8, InterpolationMode::bicubic, true); };
  Parameter image(zeros({4, 3, 16, 16}, DType::f64));
  Tape tape;
  const Tensor product = sum(resize(image) * resize_patch_kernel(kernel, 8, 8));
  const Tensor spread = tape.backward(product)[image];  // B^T w'
  EXPECT_TRUE(relative_error(resize(spread), resize(kernel)) <= 1e-12);
  EXPECT_TRUE(relative_error(spread, kernel) >= 0.1);  // although most of the kernel is lost
}

TEST(ResizePatches, MistakesAreErrors) {
  EXPECT_EQ(error_of([] {
              resize_patch_kernel(ones({4, 4}), 2, 2);
            }),
            "resize_patch_kernel: the kernel has shape (4, 4) and goes to 2 x 2, expected (D, C, h, w) and sizes above "
            "0");
  EXPECT_THROW(resize_patch_kernel(ones({4, 3, 2, 2}), 0, 2), Error);
}

// ---- Loading ----

Tensor named(const StateDict& state, const std::string& name) {
  for (const auto& [candidate, tensor] : state) {
    if (candidate == name) return tensor;
  }
  return {};
}

TEST(ResizePatches, LoadingAdaptsEveryFamilyWithPatches) {
  const ModelOptions vit{.embed_dim = 12, .depth = 1, .num_heads = PerStage(3)};
  const ModelOptions swin{.embed_dim = 12, .depths = PerStage({1, 2}), .num_heads = PerStage({1, 2})};
  for (const auto& [name, options] :
       std::initializer_list<std::pair<const char*, ModelOptions>>{{"vit_tiny_patch4_32", vit},
                                                                   {"deit_tiny_distilled_patch4_32", vit},
                                                                   {"swin_tiny_patch2_window4_32", swin}}) {
    const StateDict weights = create_model(name, options).state_dict();
    const std::int64_t patch = named(weights, "patch_embed.proj.weight").size(2);
    ModelOptions other = options;
    other.patch_size = 2 * patch;
    other.img_size = 64;  // so that there are as many patches as before
    other.seed = 1;
    Model model = create_model(name, other);
    const WeightLoad load = load_weights(model, weights, {.strict = false});
    EXPECT_TRUE(load.report.clean()) << to_string(load.report);
    ASSERT_EQ(load.notes.size(), 1u) << name;
    EXPECT_EQ(
        load.notes[0],
        fmt::format("resized patch_embed.proj.weight from patches of {0} x {0} to {1} x {1} (bicubic, pseudo-inverse)",
                    patch, 2 * patch));
    const Tensor expected = resize_patch_kernel(named(weights, "patch_embed.proj.weight"), 2 * patch, 2 * patch);
    EXPECT_EQ(relative_error(named(model.state_dict(), "patch_embed.proj.weight"), expected), 0) << name;
    EXPECT_TRUE(contains(error_of([&] { load_weights(model, weights); }), "patch_embed.proj.weight has shape")) << name;
  }
}

TEST(ResizePatches, OtherPatchesOfTheSameImageAreFewerPositions) {
  const ModelOptions options{.embed_dim = 12, .depth = 1, .num_heads = PerStage(3)};
  const StateDict weights = create_model("vit_tiny_patch4_32", options).state_dict();
  ModelOptions other = options;
  other.patch_size = 8;
  Model model = create_model("vit_tiny_patch4_32", other);
  const WeightLoad load = load_weights(model, weights, {.strict = false});
  EXPECT_TRUE(load.report.clean()) << to_string(load.report);
  ASSERT_EQ(load.notes.size(), 2u);
  EXPECT_EQ(load.notes[1], "resized pos_embed from 8 x 8 to 4 x 4 patches (bicubic)");
  // Other channels are another matter.
  StateDict grey = weights;
  for (auto& [name, tensor] : grey) {
    if (name == "patch_embed.proj.weight") tensor = ones({12, 1, 4, 4});
  }
  EXPECT_TRUE(contains(to_string(load_weights(model, grey, {.strict = false}).report),
                       "patch_embed.proj.weight has shape (12, 1, 4, 4), expected (12, 3, 8, 8)"));
}

}  // namespace
}  // namespace vitrine
