// A Vision Transformer from its parts: patches, tokens, pre-norm blocks, and a head, trained on drawn shapes.
#include <fmt/core.h>

#include "data/loader.h"
#include "nn/layers.h"
#include "optim/adamw.h"
#include "optim/schedule.h"

using namespace vitrine;

/// x += attention(norm1 x); x += mlp(norm2 x)
struct Block {
  LayerNorm norm1;
  MultiHeadAttention attn;
  LayerNorm norm2;
  Mlp mlp;
  static void fields(auto& self, auto&& field) {
    field("norm1", self.norm1);
    field("attn", self.attn);
    field("norm2", self.norm2);
    field("mlp", self.mlp);
  }
  Tensor operator()(Tensor x, const Pass& pass) const {
    x = x + attn(norm1(x), pass);
    return x + mlp(norm2(x), pass);
  }
};

struct TinyViT {
  PatchEmbed patch_embed;  // 8 x 8 pixels -> D numbers
  Parameter cls_token;     // (1, 1, D): collects what the head reads
  Parameter pos_embed;     // (1, N + 1, D): tells patches apart, attention itself does not see their order
  std::vector<Block> blocks;
  LayerNorm norm;
  Linear head;
  static void fields(auto& self, auto&& field) {
    field("patch_embed", self.patch_embed);
    field("cls_token", self.cls_token);
    field("pos_embed", self.pos_embed);
    field("blocks", self.blocks);
    field("norm", self.norm);
    field("head", self.head);
  }
  Tensor operator()(const Tensor& images, const Pass& pass) const {  // (B, 3, 32, 32) -> (B, 10)
    Tensor x = patch_embed(images);                                  // (B, 16, D)
    Tensor token = expand(cls_token, {x.size(0), 1, x.size(2)});
    x = concat({token, x}, 1) + pos_embed;  // (B, 17, D)
    for (const Block& block : blocks) x = block(x, pass);
    return head(norm(select(x, 1, 0)));
  }
};

TinyViT make_model(std::int64_t D, int depth, Initializer& init) {
  TinyViT model{
      PatchEmbed::make(3, 8, D, init), init.normal({1, 1, D}, 1e-6), init.truncated_normal({1, 17, D}, 0.02), {},
      LayerNorm::make(D, init),        Linear::make(D, 10, init)};
  for (int i = 0; i < depth; ++i) {
    model.blocks.push_back({LayerNorm::make(D, init), MultiHeadAttention::make(D, 4, init), LayerNorm::make(D, init),
                            Mlp::make(D, 2 * D, init)});
  }
  return model;
}

int main() {
  Generator generator{.seed = 1};
  Initializer init(1);
  TinyViT model = make_model(64, 3, init);
  fmt::print("{} parameters\n", parameter_count(model));

  Loader loader(make_shapes(6000, "train"), TrainTransform{.image_size = 32}, {.batch_size = 100, .seed = 1});
  AdamW optimizer(weight_decay_groups(parameters(model), 0.05, {"pos_embed", "cls_token"}), {});
  const int epochs = 4;
  for (int epoch = 0, step = 0; epoch < epochs; ++epoch) {
    double total = 0;
    for (Batch& batch : loader.epoch(epoch)) {
      optimizer.set_learning_rate(2e-3 * (1 - static_cast<double>(step++) / (epochs * 60)));
      Tape tape;
      Tensor loss = cross_entropy(model(batch.images, {.training = true, .generator = &generator}), batch.labels);
      optimizer.step(tape.backward(loss));
      total += loss.item();
    }
    fmt::print("epoch {}: loss {:.3f}\n", epoch, total / static_cast<double>(loader.batches_per_epoch()));
  }

  Loader test(make_shapes(1000, "test"), EvalTransform{.image_size = 32}, {.batch_size = 100, .shuffle = false});
  double correct = 0;
  for (Batch& batch : test.epoch(0)) {
    correct += sum(cast(equal(argmax(model(batch.images, {})), batch.labels), DType::f32)).item();
  }
  fmt::print("{:.1f}% of 1000 new drawings (chance: 10%)\n", correct / 10);
  return correct > 300 ? 0 : 1;
}
