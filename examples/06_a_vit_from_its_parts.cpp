// A Vision Transformer from its parts: patches, tokens, pre-norm blocks, and a head, trained on
// real digits.
//   06_a_vit_from_its_parts [FOLDER with digits-images-idx3-ubyte.gz and digits-labels-idx1-ubyte.gz]
#include <fmt/core.h>

#include <string>

#include "data/datasets/dataset.h"
#include "data/loader/loader.h"
#include "nn/layers.h"
#include "optim/adamw.h"

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
  PatchEmbed patch_embed;  // 2 x 2 pixels -> a token of D features
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
  Tensor operator()(const Tensor& images, const Pass& pass) const {  // (B, 3, 8, 8) -> (B, 10)
    Tensor x = patch_embed(images);                                  // (B, 16, D)
    Tensor token = expand(cls_token, {x.size(0), 1, x.size(2)});
    x = concat({token, x}, 1) + pos_embed;  // (B, 17, D)
    for (const Block& block : blocks) x = block(x, pass);
    return head(norm(select(x, 1, 0)));
  }
};

TinyViT make_model(std::int64_t D, int depth, Initializer& init) {
  TinyViT model{
      PatchEmbed::make(3, 2, D, init), init.normal({1, 1, D}, 1e-6), init.truncated_normal({1, 17, D}, 0.02), {},
      LayerNorm::make(D, init),        Linear::make(D, 10, init)};
  for (int i = 0; i < depth; ++i) {
    model.blocks.push_back({LayerNorm::make(D, init), MultiHeadAttention::make(D, 4, init), LayerNorm::make(D, init),
                            Mlp::make(D, 2 * D, init)});
  }
  return model;
}

/// All digits as images (count, 3, 8, 8) f32 in [0, 1] and labels (count) i64.
std::pair<Tensor, Tensor> load(const Dataset& dataset) {
  Tensor images = empty({dataset.size(), 3, 8, 8}), labels = empty({dataset.size()}, DType::i64);
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample sample = dataset.get(i);
    for (std::int64_t p = 0; p < 3 * 64; ++p) {
      const auto pixel = static_cast<std::size_t>(p % 64 * 3 + p / 64);  // from (H, W, C) to (C, H, W)
      images.data<float>()[i * 3 * 64 + p] = static_cast<float>(sample.image.pixels[pixel]) / 255;
    }
    labels.data<std::int64_t>()[i] = sample.label;
  }
  return {images, labels};
}

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "examples/data";
  const auto [images, labels] =
      load(*open_idx(folder + "/digits-images-idx3-ubyte.gz", folder + "/digits-labels-idx1-ubyte.gz"));
  const std::int64_t train_count = 1397, batch_size = 50;

  Initializer init(1);
  TinyViT model = make_model(64, 3, init);
  fmt::print("{} parameters\n", parameter_count(model));
  AdamW optimizer(weight_decay_groups(parameters(model), 0.05, {"pos_embed", "cls_token"}), {.learning_rate = 1e-3});

  for (std::int64_t epoch = 0; epoch < 12; ++epoch) {
    const Tensor order = from_vector(epoch_order(train_count, 1, epoch), {train_count});
    double total = 0;
    for (std::int64_t start = 0; start + batch_size <= train_count; start += batch_size) {
      const Tensor rows = slice(order, 0, start, start + batch_size);
      Tape tape;
      Tensor logits = model(index_select(images, 0, rows), {.training = true});
      Tensor loss = cross_entropy(logits, index_select(labels, 0, rows));
      optimizer.step(tape.backward(loss));
      total += loss.item();
    }
    fmt::print("epoch {:2}: loss {:.3f}\n", epoch, total / static_cast<double>(train_count / batch_size));
  }

  Tensor predicted = argmax(model(slice(images, 0, train_count, images.size(0)), {}));
  Tensor correct = equal(predicted, slice(labels, 0, train_count, labels.size(0)));
  const double accuracy = mean(cast(correct, DType::f32)).item();
  fmt::print("{:.1f}% of {} digits that it has not seen\n", 100 * accuracy, correct.numel());
  return accuracy > 0.85 ? 0 : 1;
}
