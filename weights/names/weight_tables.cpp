// The tables of names: timm's on the left, the other library's on the right. From the state dicts
// of timm 1.0, torchvision 0.29, transformers 4 and 5, the files of microsoft/Swin-Transformer and
// the code of microsoft/CvT.
#include "weights/names/weight_tables.h"

#include <utility>

namespace vitrine {
namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;
using Replacements = std::vector<std::pair<std::string, std::string>>;

// ---- ViT and DeiT ----

Rows torchvision_vit() {
  const std::string block = "blocks.{i}.", theirs = "encoder.layers.encoder_layer_{i}.";
  return {{"cls_token", "class_token"},
          {"pos_embed", "encoder.pos_embedding"},
          {"patch_embed.proj.*", "conv_proj.*"},
          {block + "norm1.*", theirs + "ln_1.*"},
          {block + "attn.qkv.*", theirs + "self_attention.in_proj_*"},
          {block + "attn.proj.*", theirs + "self_attention.out_proj.*"},
          {block + "norm2.*", theirs + "ln_2.*"},
          {block + "mlp.fc1.*", theirs + "mlp.0.*"},
          {block + "mlp.fc2.*", theirs + "mlp.3.*"},
          {"norm.*", "encoder.ln.*"},
          {"pre_logits.fc.*", "heads.pre_logits.*"},
          {"head.*", "heads.head.*"}};
}

Rows huggingface_vit() {
  const std::string block = "blocks.{i}.", theirs = "vit.encoder.layer.{i}.";
  return {{"cls_token", "vit.embeddings.cls_token"},
          {"pos_embed", "vit.embeddings.position_embeddings"},
          {"patch_embed.proj.*", "vit.embeddings.patch_embeddings.projection.*"},
          {block + "norm1.*", theirs + "layernorm_before.*"},
          {block + "attn.qkv.*", theirs + "attention.attention.[query|key|value].*"},
          {block + "attn.proj.*", theirs + "attention.output.dense.*"},
          {block + "norm2.*", theirs + "layernorm_after.*"},
          {block + "mlp.fc1.*", theirs + "intermediate.dense.*"},
          {block + "mlp.fc2.*", theirs + "output.dense.*"},
          {"norm.*", "vit.layernorm.*"},
          {"head.*", "classifier.*"}};
}

/// What transformers 5 calls the layers of ViT, DeiT and Swin in memory. (Its files keep the names
/// of version 4.)
const Replacements& transformers_5() {
  static const Replacements all = {{".encoder.layer.", ".layers."},
                                   {"attention.attention.[query|key|value]", "attention.[q_proj|k_proj|v_proj]"},
                                   {"attention.self.[query|key|value]", "attention.[q_proj|k_proj|v_proj]"},
                                   {"attention.self.relative", "attention.relative_position_bias.relative"},
                                   {"attention.output.dense", "attention.o_proj"},
                                   {"intermediate.dense", "mlp.fc1"},
                                   {"output.dense", "mlp.fc2"}};
  return all;
}

// ---- Swin ----

Rows microsoft_swin() {
  Rows rows = {{"patch_embed.proj.*", "patch_embed.proj.*"},
               {"patch_embed.norm.*", "patch_embed.norm.*"},
               {"absolute_pos_embed", "absolute_pos_embed"},
               {"layers.{s+1}.downsample.norm.*", "layers.{s}.downsample.norm.*"},
               {"layers.{s+1}.downsample.reduction.*", "layers.{s}.downsample.reduction.*"},
               {"norm.*", "norm.*"},
               {"head.fc.*", "head.*"}};
  for (const char* layer : {"norm1.*", "attn.relative_position_bias_table", "attn.qkv.*", "attn.proj.*", "norm2.*",
                            "mlp.fc1.*", "mlp.fc2.*"}) {
    const std::string name = std::string("layers.{s}.blocks.{j}.") + layer;
    rows.emplace_back(name, name);
  }
  return rows;
}

Rows torchvision_swin() {
  const std::string block = "layers.{s}.blocks.{j}.", theirs = "features.{2s+1}.{j}.";
  return {{"patch_embed.proj.*", "features.0.0.*"},
          {"patch_embed.norm.*", "features.0.2.*"},
          {"layers.{s+1}.downsample.norm.*", "features.{2s+2}.norm.*"},
          {"layers.{s+1}.downsample.reduction.*", "features.{2s+2}.reduction.*"},
          {block + "norm1.*", theirs + "norm1.*"},
          {block + "attn.relative_position_bias_table", theirs + "attn.relative_position_bias_table"},
          {block + "attn.qkv.*", theirs + "attn.qkv.*"},
          {block + "attn.proj.*", theirs + "attn.proj.*"},
          {block + "norm2.*", theirs + "norm2.*"},
          {block + "mlp.fc1.*", theirs + "mlp.0.*"},
          {block + "mlp.fc2.*", theirs + "mlp.3.*"},
          {"norm.*", "norm.*"},
          {"head.fc.*", "head.*"}};
}

Rows huggingface_swin() {
  const std::string block = "layers.{s}.blocks.{j}.", theirs = "swin.encoder.layers.{s}.blocks.{j}.";
  return {{"patch_embed.proj.*", "swin.embeddings.patch_embeddings.projection.*"},
          {"patch_embed.norm.*", "swin.embeddings.norm.*"},
          {"absolute_pos_embed", "swin.embeddings.position_embeddings"},
          {"layers.{s+1}.downsample.norm.*", "swin.encoder.layers.{s}.downsample.norm.*"},
          {"layers.{s+1}.downsample.reduction.*", "swin.encoder.layers.{s}.downsample.reduction.*"},
          {block + "norm1.*", theirs + "layernorm_before.*"},
          {block + "attn.relative_position_bias_table", theirs + "attention.self.relative_position_bias_table"},
          {block + "attn.qkv.*", theirs + "attention.self.[query|key|value].*"},
          {block + "attn.proj.*", theirs + "attention.output.dense.*"},
          {block + "norm2.*", theirs + "layernorm_after.*"},
          {block + "mlp.fc1.*", theirs + "intermediate.dense.*"},
          {block + "mlp.fc2.*", theirs + "output.dense.*"},
          {"norm.*", "swin.layernorm.*"},
          {"head.fc.*", "classifier.*"}};
}

// ---- CvT: ours are the names of its authors ----

Rows huggingface_cvt() {
  const std::string stage = "stage{s}.", theirs = "cvt.encoder.stages.{s}.";
  const std::string block = stage + "blocks.{j}.", layer = theirs + "layers.{j}.";
  Rows rows = {{stage + "cls_token", theirs + "cls_token"},
               {stage + "patch_embed.proj.*", theirs + "embedding.convolution_embeddings.projection.*"},
               {stage + "patch_embed.norm.*", theirs + "embedding.convolution_embeddings.normalization.*"},
               {block + "norm1.*", layer + "layernorm_before.*"},
               {block + "attn.proj.*", layer + "attention.output.dense.*"},
               {block + "norm2.*", layer + "layernorm_after.*"},
               {block + "mlp.fc1.*", layer + "intermediate.dense.*"},
               {block + "mlp.fc2.*", layer + "output.dense.*"},
               {"norm.*", "layernorm.*"},
               {"head.*", "classifier.*"}};
  for (const auto& [letter, word] : Rows{{"q", "query"}, {"k", "key"}, {"v", "value"}}) {
    const std::string attention = layer + "attention.attention.";
    const std::string depthwise = attention + "convolution_projection_" + word + ".convolution_projection.";
    rows.emplace_back(block + "attn.conv_proj_" + letter + ".conv.weight", depthwise + "convolution.weight");
    rows.emplace_back(block + "attn.conv_proj_" + letter + ".bn.*", depthwise + "normalization.*");
    rows.emplace_back(block + "attn.proj_" + letter + ".*", attention + "projection_" + word + ".*");
  }
  return rows;
}

// ---- ResNet: torchvision's names are timm's ----

Rows huggingface_resnet() {
  const std::string block = "layer{s+1}.{j}.", theirs = "resnet.encoder.stages.{s}.layers.{j}.";
  return {{"conv1.weight", "resnet.embedder.embedder.convolution.weight"},
          {"bn1.*", "resnet.embedder.embedder.normalization.*"},
          {block + "conv{k+1}.weight", theirs + "layer.{k}.convolution.weight"},
          {block + "bn{k+1}.*", theirs + "layer.{k}.normalization.*"},
          {block + "downsample.0.weight", theirs + "shortcut.convolution.weight"},
          {block + "downsample.1.*", theirs + "shortcut.normalization.*"},
          {"fc.*", "classifier.1.*"}};
}

// ---- RegNet ----

Rows torchvision_regnet() {
  Rows rows = {{"stem.conv.weight", "stem.0.weight"}, {"stem.bn.*", "stem.1.*"}, {"head.fc.*", "fc.*"}};
  const Rows layers = {{"downsample.conv", "proj.0"}, {"downsample.bn", "proj.1"}, {"conv1.conv", "f.a.0"},
                       {"conv1.bn", "f.a.1"},         {"conv2.conv", "f.b.0"},     {"conv2.bn", "f.b.1"},
                       {"se.fc1", "f.se.fc1"},        {"se.fc2", "f.se.fc2"},      {"conv3.conv", "f.c.0"},
                       {"conv3.bn", "f.c.1"}};
  for (const auto& [ours, theirs] : layers) {
    rows.emplace_back("s{i}.b{j+1}." + ours + ".*", "trunk_output.block{i}.block{i}-{j}." + theirs + ".*");
  }
  return rows;
}

Rows huggingface_regnet() {
  Rows rows = {{"stem.conv.weight", "regnet.embedder.embedder.convolution.weight"},
               {"stem.bn.*", "regnet.embedder.embedder.normalization.*"},
               {"head.fc.*", "classifier.1.*"}};
  const Rows layers = {{"downsample.conv", "shortcut.convolution"}, {"downsample.bn", "shortcut.normalization"},
                       {"conv1.conv", "layer.0.convolution"},       {"conv1.bn", "layer.0.normalization"},
                       {"conv2.conv", "layer.1.convolution"},       {"conv2.bn", "layer.1.normalization"},
                       {"se.fc1", "layer.2.attention.0"},           {"se.fc2", "layer.2.attention.2"},
                       {"conv3.conv", "layer.3.convolution"},       {"conv3.bn", "layer.3.normalization"}};
  for (const auto& [ours, theirs] : layers) {
    rows.emplace_back("s{s+1}.b{j+1}." + ours + ".*", "regnet.encoder.stages.{s}.layers.{j}." + theirs + ".*");
  }
  return rows;
}

// ---- Tables from other tables ----

Rows joined(Rows rows, const Rows& more) {
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

/// The rows with text on their right sides replaced; in each row every replacement acts once, in
/// order.
Rows replaced(Rows rows, const Replacements& replacements) {
  for (auto& [ours, theirs] : rows) {
    for (const auto& [from, to] : replacements) {
      if (const std::size_t at = theirs.find(from); at != std::string::npos) theirs.replace(at, from.size(), to);
    }
  }
  return rows;
}

/// Our own names for what a table names.
Rows ours_of(Rows rows) {
  for (auto& [ours, theirs] : rows) theirs = ours;
  return rows;
}

std::vector<NameRow> compiled(const Rows& rows, TableRole role) {
  std::vector<NameRow> all;
  for (const auto& [ours, theirs] : rows) {
    const bool is_flat = ours == "absolute_pos_embed" && role != TableRole::ours;
    all.push_back({.ours = ours, .theirs = theirs, .form = is_flat ? TensorForm::flat_grid : TensorForm::same});
  }
  return all;
}

NameTable table(const char* description, const char* architecture, TableRole role, const Rows& rows,
                const std::string& base = "") {
  return {.description = description,
          .architecture = architecture,
          .role = role,
          .rows = compiled(rows, role),
          .base = base};
}

void add_vits(std::vector<NameTable>& all) {
  all.push_back(
      table("timm's ViT", "ViT", TableRole::ours, joined(ours_of(torchvision_vit()), {{"fc_norm.*", "fc_norm.*"}})));
  all.push_back(table("torchvision's ViT", "ViT", TableRole::torchvision, torchvision_vit()));
  all.push_back(table("torchvision's ViT before 0.13", "ViT", TableRole::only_read,
                      replaced(torchvision_vit(), {{"mlp.0.", "mlp.linear_1."}, {"mlp.3.", "mlp.linear_2."}})));
  const auto add_huggingface = [&](const char* description, const char* architecture, TableRole role, const Rows& rows,
                                   const std::string& base) {
    all.push_back(table(description, architecture, role, rows, base));
    all.back().unused = {base + "pooler.dense.*"};  // a tanh layer on the class token, in models without a classifier
  };
  const Rows vit = huggingface_vit();
  add_huggingface("Hugging Face's ViT", "ViT", TableRole::huggingface, vit, "vit.");
  add_huggingface("Hugging Face's ViT in memory", "ViT", TableRole::only_read, replaced(vit, transformers_5()), "vit.");
  const char* distilled = "distilled DeiT";
  const Rows deit =
      joined(replaced(vit, {{"vit.", "deit."}, {"classifier.", "cls_classifier."}}),
             {{"head_dist.*", "distillation_classifier.*"}, {"dist_token", "deit.embeddings.distillation_token"}});
  all.push_back(table("timm's distilled DeiT", distilled, TableRole::ours, ours_of(deit)));
  add_huggingface("Hugging Face's distilled DeiT", distilled, TableRole::huggingface, deit, "deit.");
  add_huggingface("Hugging Face's distilled DeiT in memory", distilled, TableRole::only_read,
                  replaced(deit, transformers_5()), "deit.");
}

void add_swins(std::vector<NameTable>& all) {
  const auto add = [&](const char* description, TableRole role, const Rows& rows, std::vector<NamePattern> derived,
                       const char* base = "") {
    all.push_back(table(description, "Swin", role, rows, base));
    all.back().derived = std::move(derived);
  };
  const std::string block = "layers.{s}.blocks.{j}.";
  const std::vector<NamePattern> buffers = {block + "attn.relative_position_index", block + "attn_mask"};
  add("timm's Swin", TableRole::ours, ours_of(microsoft_swin()), buffers);
  add("Microsoft's Swin", TableRole::only_read, microsoft_swin(), buffers);
  add("torchvision's Swin", TableRole::torchvision, torchvision_swin(),
      {"features.{2s+1}.{j}.attn.relative_position_index"});
  add("Hugging Face's Swin", TableRole::huggingface, huggingface_swin(),
      {"swin.encoder." + block + "attention.self.relative_position_index", "swin.encoder." + block + "attn_mask"},
      "swin.");
  add("Hugging Face's Swin in memory", TableRole::only_read, replaced(huggingface_swin(), transformers_5()),
      {"swin.encoder." + block + "attention.relative_position_bias.relative_position_index"}, "swin.");
}

void add_convnets(std::vector<NameTable>& all) {
  const Rows cvt = huggingface_cvt(), resnet = huggingface_resnet(), regnet = torchvision_regnet();
  all.push_back(table("Microsoft's CvT", "CvT", TableRole::ours, ours_of(cvt)));
  all.push_back(table("Hugging Face's CvT", "CvT", TableRole::huggingface, cvt, "cvt."));
  all.push_back(table("timm's ResNet", "ResNet", TableRole::ours, ours_of(resnet)));
  all.push_back(table("torchvision's ResNet", "ResNet", TableRole::torchvision, ours_of(resnet)));
  all.push_back(table("Hugging Face's ResNet", "ResNet", TableRole::huggingface, resnet, "resnet."));
  all.push_back(table("timm's RegNet", "RegNet", TableRole::ours, ours_of(regnet)));
  all.push_back(table("torchvision's RegNet", "RegNet", TableRole::torchvision, regnet));
  all.push_back(table("Hugging Face's RegNet", "RegNet", TableRole::huggingface, huggingface_regnet(), "regnet."));
}

}  // namespace

const std::vector<NameTable>& name_tables() {
  static const std::vector<NameTable> tables = [] {
    std::vector<NameTable> all;
    add_vits(all);
    add_swins(all);
    add_convnets(all);
    for (NameTable& table : google_tables()) all.push_back(std::move(table));
    return all;
  }();
  return tables;
}

}  // namespace vitrine
