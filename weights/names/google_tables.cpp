// The names in Google's .npz files of ViT: those of google-research/vision_transformer (the ViT
// paper, AugReg) without and with a convolutional front, and of google-research/big_vision. Only
// read. From the code of google-research/vision_transformer, and from timm's loader of its files
// (timm/models/vision_transformer.py, _load_weights).
#include "weights/names/weight_tables.h"

namespace vitrine {
namespace {

struct Row {
  std::string ours, theirs;
  TensorForm form = TensorForm::same;
};
using Rows = std::vector<Row>;

void add_linear(Rows& rows, const std::string& ours, const std::string& theirs) {
  rows.push_back({ours + ".weight", theirs + "/kernel", TensorForm::kernel});
  rows.push_back({ours + ".bias", theirs + "/bias"});
}

void add_norm(Rows& rows, const std::string& ours, const std::string& theirs) {
  rows.push_back({ours + ".weight", theirs + "/scale", TensorForm::line});
  rows.push_back({ours + ".bias", theirs + "/bias", TensorForm::line});
}

Rows vit() {
  const std::string block = "blocks.{i}.", theirs = "Transformer/encoderblock_{i}/",
                    attention = theirs + "MultiHeadDotProductAttention_1/";
  Rows rows = {{"cls_token", "cls"},
               {"pos_embed", "Transformer/posembed_input/pos_embedding"},
               {block + "attn.qkv.weight", attention + "[query|key|value]/kernel", TensorForm::into_heads},
               {block + "attn.qkv.bias", attention + "[query|key|value]/bias", TensorForm::line},
               {block + "attn.proj.weight", attention + "out/kernel", TensorForm::from_heads},
               {block + "attn.proj.bias", attention + "out/bias"}};
  add_linear(rows, "patch_embed.proj", "embedding");
  add_norm(rows, block + "norm1", theirs + "LayerNorm_0");
  add_norm(rows, block + "norm2", theirs + "LayerNorm_2");
  add_linear(rows, block + "mlp.fc1", theirs + "MlpBlock_3/Dense_0");
  add_linear(rows, block + "mlp.fc2", theirs + "MlpBlock_3/Dense_1");
  add_norm(rows, "norm", "Transformer/encoder_norm");
  add_linear(rows, "pre_logits.fc", "pre_logits");
  add_linear(rows, "head", "head");
  return rows;
}

/// With the first layers of a ResNet in front, which `stem` names.
Rows hybrid(const std::string& stem) {
  Rows rows = vit();
  rows.push_back({stem + "conv.weight", "conv_root/kernel", TensorForm::kernel});
  add_norm(rows, stem + "norm", "gn_root");
  return rows;
}

/// And with its stages.
Rows staged_hybrid() {
  const std::string backbone = "patch_embed.backbone.", block = backbone + "stages.{s}.blocks.{j}.",
                    unit = "block{s+1}/unit{j+1}/";
  Rows rows = hybrid(backbone + "stem.");
  rows.push_back({block + "conv{k+1}.weight", unit + "conv{k+1}/kernel", TensorForm::kernel});
  add_norm(rows, block + "norm{k+1}", unit + "gn{k+1}");
  rows.push_back({block + "downsample.conv.weight", unit + "conv_proj/kernel", TensorForm::kernel});
  add_norm(rows, block + "downsample.norm", unit + "gn_proj");
  return rows;
}

/// big_vision numbers the layers of a block by kind.
Rows of_big_vision(Rows rows) {
  for (Row& row : rows) {
    for (const auto& [from, to] :
         {std::pair<std::string, std::string>{"MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"},
          {"LayerNorm_2", "LayerNorm_1"},
          {"MlpBlock_3", "MlpBlock_0"},
          {"Transformer/posembed_input/", ""}}) {
      if (const std::size_t at = row.theirs.find(from); at != std::string::npos)
        row.theirs.replace(at, from.size(), to);
    }
  }
  return rows;
}

NameTable table(const char* description, const Rows& rows) {
  NameTable table{.description = description, .architecture = "ViT", .rows = {}};
  for (const Row& row : rows) table.rows.push_back({.ours = row.ours, .theirs = row.theirs, .form = row.form});
  return table;
}

}  // namespace

std::vector<NameTable> google_tables() {
  return {table("Google's ViT", vit()), table("Google's hybrid with a stem", hybrid("patch_embed.backbone.")),
          table("Google's hybrid", staged_hybrid()), table("Google's big_vision ViT", of_big_vision(vit()))};
}

}  // namespace vitrine
