// Small ViTs and a distilled DeiT with timm's weights give timm's logits, loss and gradients.
#include "models/deit.h"
#include "models/vit.h"
#include "tests/support/golden_model.h"

namespace vitrine {
namespace {

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

void compare(const std::string& file, const ViTConfig& config, DType dtype, double bound) {
  compare_with_timm(file, VisionTransformer::make(config, Initializer(1, dtype)), dtype, bound);
}

TEST(GoldenViT, WithClassTokenInDouble) { compare("vit_small.safetensors", with_token, DType::f64, 1e-10); }
TEST(GoldenViT, WithClassTokenInFloat) { compare("vit_small.safetensors", with_token, DType::f32, 1e-5); }
TEST(GoldenViT, WithAveragePoolInDouble) { compare("vit_small_avg.safetensors", averaged, DType::f64, 1e-10); }
TEST(GoldenViT, WithAveragePoolInFloat) { compare("vit_small_avg.safetensors", averaged, DType::f32, 1e-5); }

/// The loss is that of both heads together; at inference their logits are averaged, unless one head
/// is asked for.
void compare_distilled(DType dtype, double bound) {
  const auto model = DistilledVisionTransformer::make({.vit = with_token}, Initializer(1, dtype));
  compare_gradients("deit_distilled.safetensors", model, bound,
                    [&](DistilledVisionTransformer& loaded, const auto& file) {
                      const auto expect_near = [&](const Tensor& actual, const char* expected) {
                        EXPECT_TRUE(relative_error(actual, file.at(expected)) <= bound) << expected;
                      };
                      const Tensor images = cast_data(file.at("images"), dtype);
                      expect_near(loaded(images), "mean_logits");
                      loaded.inference_head = DistilledHead::classes;
                      expect_near(loaded(images), "logits");
                      loaded.inference_head = DistilledHead::distillation;
                      expect_near(loaded(images), "dist_logits");
                      const auto [classes, distillation] = loaded.both_heads(images);
                      expect_near(classes, "logits");
                      expect_near(distillation, "dist_logits");
                      return cross_entropy(classes, file.at("labels")) + cross_entropy(distillation, file.at("labels"));
                    });
}

TEST(GoldenDeiT, DistilledInDouble) { compare_distilled(DType::f64, 1e-10); }
TEST(GoldenDeiT, DistilledInFloat) { compare_distilled(DType::f32, 1e-5); }

}  // namespace
}  // namespace vitrine
