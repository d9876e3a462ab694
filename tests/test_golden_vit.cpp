// A small ViT with timm's weights gives timm's logits, loss and gradients (tests/golden/README.md tells how they were made).
#include <gtest/gtest.h>

#include <cmath>

#include "models/vit.h"
#include "ops/ops.h"
#include "tests/expectations.h"
#include "tests/source_dir.h"
#include "train/safetensors.h"

namespace vitrine {
namespace {

void compare_with_timm(const std::string& file_name, const ViTConfig& config, DType dtype, double bound) {
  const auto file = read_safetensors(source_dir() + "/tests/golden/" + file_name);
  StateDict weights;
  for (const auto& [name, tensor] : file) {
    if (name.starts_with("param.")) weights.emplace_back(name.substr(6), tensor);
  }
  VisionTransformer model = VisionTransformer::make(config, Initializer(1, dtype));
  load_state_dict(model, weights);

  Tape tape;
  const Tensor logits = model(cast_data(file.at("images"), dtype));
  const Tensor loss = cross_entropy(logits, file.at("labels"));
  const Gradients gradients = tape.backward(loss);
  EXPECT_TRUE(relative_error(logits, file.at("logits")) <= bound) << relative_error(logits, file.at("logits"));
  EXPECT_TRUE(relative_error(loss, file.at("loss")) <= bound) << relative_error(loss, file.at("loss"));
  std::size_t compared = 0;
  for_each_parameter(model, [&](const std::string& name, const Parameter& p) {
    const double error = relative_error(gradients[p], file.at("grad." + name));
    EXPECT_TRUE(error <= bound) << name << ": " << error;
    ++compared;
  });
  EXPECT_EQ(compared, weights.size());
}

const ViTConfig with_token{.image = 16, .patch = 4, .classes = 5, .dim = 24, .depth = 2, .heads = 3, .mlp_ratio = 2};
const ViTConfig averaged{.image = 16,
                         .patch = 4,
                         .classes = 5,
                         .dim = 24,
                         .depth = 2,
                         .heads = 3,
                         .mlp_ratio = 2,
                         .class_token = false,
                         .global_pool = "avg"};

TEST(GoldenViT, WithClassTokenInDouble) { compare_with_timm("vit_small.safetensors", with_token, DType::f64, 1e-10); }
TEST(GoldenViT, WithClassTokenInFloat) { compare_with_timm("vit_small.safetensors", with_token, DType::f32, 1e-5); }
TEST(GoldenViT, WithAveragePoolInDouble) {
  compare_with_timm("vit_small_avg.safetensors", averaged, DType::f64, 1e-10);
}
TEST(GoldenViT, WithAveragePoolInFloat) { compare_with_timm("vit_small_avg.safetensors", averaged, DType::f32, 1e-5); }

}  // namespace
}  // namespace vitrine
