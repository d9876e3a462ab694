// The Convolutional vision Transformer of Wu et al. 2021, "CvT: Introducing Convolutions to Vision
// Transformers", with the names and the initialisation of its authors' code
// (github.com/microsoft/CvT, lib/models/cls_cvt.py).
//
// A ViT in three stages, each on a coarser map than the one before it. Overlapping convolutions
// make the tokens of a stage, and depthwise convolutions the queries, keys and values of a block.
// Both see where tokens lie: there are no position embeddings, and images of any size will do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/family/family.h"
#include "nn/image_layers.h"

namespace vitrine {

/// Sizes and rates. The default is CvT-13 at 224 pixels (table 2 of the paper).
struct CvTConfig {
  std::int64_t image = 224;  // pixels on a side of the images that it is meant for; any other size works too
  std::int64_t channels = 3;
  std::int64_t classes = 1000;        // 0: no head, the normalised class token is the result
  std::vector<int> depths{1, 2, 10};  // blocks of each stage
  std::vector<int> heads{1, 3, 6};    // of each stage
  std::int64_t dim = 64;              // D of the first stage; the heads of the others have as many channels
  std::int64_t stem_kernel = 7, stem_stride = 4, stem_padding = 2;  // first token embedding; the others have 3, 2, 1
  std::int64_t key_value_stride = 2;  // of the convolutions that give keys and values: 2 halves the sides of their maps
  double mlp_ratio = 4;
  double drop_rate = 0;         // after the token embeddings and every dense layer but those of q, k and v
  double drop_path_rate = 0.1;  // of the last block; grows linearly from 0 over the last stage, the others have none

  std::int64_t dim_of(std::size_t stage) const { return dim / heads[0] * heads[stage]; }

  static void options(auto& self, auto&& option) {
    classifier_options(self, option);
    option(&ModelOptions::embed_dim, self.dim, "channels of the first stage; the heads of the others have as many");
    option(&ModelOptions::depths, self.depths, "blocks of every stage, such as \"1,2,10\"");
    option(&ModelOptions::num_heads, self.heads, "heads of every stage, such as \"1,3,6\": they make its width");
    option(&ModelOptions::mlp_ratio, self.mlp_ratio, "hidden features of the MLP / channels");
    option(&ModelOptions::drop_path_rate, self.drop_path_rate, "rate of drop path of the last block");
  }
};

/// The tokens of a map of H x W positions, row by row, in the last stage behind a class token.
struct TokenMap {
  Tensor tokens;  // (B, H W, D), or (B, 1 + H W, D)
  std::int64_t height, width;
};

/// Convolutional token embedding: a convolution with overlapping windows, then LayerNorm. Section
/// 3.1, equation 1.
struct ConvEmbed {
  Conv2d proj;
  LayerNorm norm;

  static void fields(auto& self, auto&& field) {
    field("proj", self.proj);
    field("norm", self.norm);
  }
  static ConvEmbed make(std::int64_t in, std::int64_t dim, const Conv2d::Options& options, std::int64_t kernel,
                        Initializer& init);
  TokenMap operator()(const Tensor& map) const;  // (B, C, H, W) -> (B, H/stride W/stride, D)
};

/// The depthwise half of a convolutional projection: 3 x 3 with one filter for each channel, then
/// batch norm. Its pointwise half is a linear layer. Section 3.2.
struct ConvProjection {
  Conv2d conv;
  BatchNorm2d bn;

  static void fields(auto& self, auto&& field) {
    field("conv", self.conv);
    field("bn", self.bn);
  }
  static ConvProjection make(std::int64_t dim, std::int64_t stride, Initializer& init);
  Tensor operator()(const Tensor& map, const Pass& pass) const;  // (B, D, H, W) -> (B, H/stride W/stride, D)
};

/// Attention whose queries, keys and values are convolutional projections of the map. Section 3.2,
/// equation 2.
struct ConvAttention {
  ConvProjection conv_proj_q, conv_proj_k, conv_proj_v;
  Linear proj_q, proj_k, proj_v, proj;  // D -> D each
  int heads = 1;
  Dropout proj_drop;

  static void fields(auto& self, auto&& field) {
    field("conv_proj_q", self.conv_proj_q);
    field("conv_proj_k", self.conv_proj_k);
    field("conv_proj_v", self.conv_proj_v);
    field("proj_q", self.proj_q);
    field("proj_k", self.proj_k);
    field("proj_v", self.proj_v);
    field("proj", self.proj);
    field("heads", self.heads);
    field("proj_drop", self.proj_drop);
  }
  static ConvAttention make(const CvTConfig& config, std::size_t stage, Initializer& init);
  Tensor operator()(const TokenMap& x, const Pass& pass) const;  // -> (B, tokens, D)
};

/// x += attention(norm1 x), x += mlp(norm2 x).
struct CvTBlock {
  LayerNorm norm1;
  ConvAttention attn;
  LayerNorm norm2;
  Mlp mlp;
  DropPath drop_path;  // drawn anew for each of the two branches

  static void fields(auto& self, auto&& field) {
    field("norm1", self.norm1);
    field("attn", self.attn);
    field("norm2", self.norm2);
    field("mlp", self.mlp);
    field("drop_path", self.drop_path);
  }
  static CvTBlock make(const CvTConfig& config, std::size_t stage, double drop_path_rate, Initializer& init);
  Tensor operator()(const TokenMap& x, const Pass& pass) const;  // -> (B, tokens, D)
};

/// New tokens from the map of the stage before, and blocks on them.
struct CvTStage {
  std::optional<Parameter> cls_token;  // (1, 1, D), in the last stage
  ConvEmbed patch_embed;
  std::vector<CvTBlock> blocks;
  Dropout pos_drop;

  static void fields(auto& self, auto&& field) {
    field("cls_token", self.cls_token);
    field("patch_embed", self.patch_embed);
    field("blocks", self.blocks);
    field("pos_drop", self.pos_drop);
  }
  static CvTStage make(const CvTConfig& config, std::size_t stage, Initializer& init);
  TokenMap operator()(const Tensor& map, const Pass& pass) const;
};

struct ConvolutionalVisionTransformer {
  std::vector<CvTStage> stages;
  LayerNorm norm;
  std::optional<Linear> head;
  CvTConfig config;

  static void fields(auto& self, auto&& field) {
    for (std::size_t i = 0; i < self.stages.size(); ++i) field("stage" + std::to_string(i), self.stages[i]);
    field("norm", self.norm);
    field("head", self.head);
    field("config", self.config);
  }

  /// Weights as the authors' code draws them: linear layers and the class token N(0, 0.02^2),
  /// convolutions as PyTorch's. Throws Error where the configuration contradicts itself.
  static ConvolutionalVisionTransformer make(const CvTConfig& config, Initializer init);

  Tensor operator()(const Tensor& images, const Pass& pass = {}) const;        // (B, C, H, W) -> logits (B, classes)
  Tensor forward_features(const Tensor& images, const Pass& pass = {}) const;  // -> tokens (B, 1 + H/16 W/16, D)
  Tensor forward_head(const Tensor& tokens) const;                             // -> logits (B, classes)
};

/// What the registry knows of the family; see models/family.h.
struct CvTFamily {
  using Config = CvTConfig;
  using Model = ConvolutionalVisionTransformer;
  static constexpr const char* name = "cvt";
  static constexpr bool takes_any_size = true;
  static constexpr LayerNames layers{
      .block = R"(stage\d+\.blocks\.\d+)", .head = "head", .joint = R"(stage[1-9]\d*(?!\.blocks))"};
  static std::vector<std::string> no_decay() { return {"cls_token"}; }  // the authors' no_weight_decay
  static std::vector<LayerSummary> summarize(
      const ConvolutionalVisionTransformer& model);  // for images of config.image pixels
  static std::vector<CatalogRow<CvTConfig>> catalog();
};

}  // namespace vitrine
