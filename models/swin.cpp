// The Swin Transformer: how it is put together, and its forward pass.
#include "models/swin.h"

#include <algorithm>
#include <numeric>

#include "models/family/check_images.h"
#include "models/family/summary_rows.h"
#include "nn/run_block.h"
#include "ops/index.h"

namespace vitrine {
namespace {

void check_config(const SwinConfig& c) {
  VT_CHECK(c.patch > 0 && c.image > 0 && c.image % c.patch == 0,
           "swin: image size {} is not a multiple of patch size {}", c.image, c.patch);
  VT_CHECK(!c.depths.empty() && c.depths.size() == c.heads.size(),
           "swin: {} depths and {} numbers of heads, expected one of each for every stage", c.depths.size(),
           c.heads.size());
  VT_CHECK(c.channels > 0 && c.dim > 0 && c.classes >= 0 && c.window > 0 && c.mlp_ratio > 0,
           "swin: channels {}, dim {}, classes {}, window {}, mlp_ratio {}: expected classes >= 0 and the others > 0",
           c.channels, c.dim, c.classes, c.window, c.mlp_ratio);
  for (std::size_t stage = 0; stage < c.depths.size(); ++stage) {
    const std::int64_t dim = c.dim << stage;
    VT_CHECK(c.depths[stage] > 0 && c.heads[stage] > 0 && dim % c.heads[stage] == 0,
             "swin: stage {} has depth {} and {} heads of {} numbers together, expected a multiple", stage,
             c.depths[stage], c.heads[stage], dim);
  }
  VT_CHECK(c.drop_rate >= 0 && c.drop_rate < 1 && c.drop_path_rate >= 0 && c.drop_path_rate < 1,
           "swin: drop_rate {} and drop_path_rate {}, expected 0 <= rate < 1", c.drop_rate, c.drop_path_rate);
}

std::int64_t rounded_up(std::int64_t length, std::int64_t window) { return (length + window - 1) / window * window; }

}  // namespace

// ---- Attention in windows ----

Tensor relative_position_index(std::int64_t window) {
  const std::int64_t tokens = window * window;
  Tensor index = empty({tokens * tokens}, DType::i64);
  std::int64_t* next = index.data<std::int64_t>();
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t j = 0; j < tokens; ++j) {
      const std::int64_t down = i / window - j / window, right = i % window - j % window;
      *next++ = (down + window - 1) * (2 * window - 1) + right + window - 1;
    }
  }
  return index;
}

Tensor shifted_window_mask(std::int64_t side, std::int64_t window, std::int64_t shift) {
  // On the shifted map: the positions before the last window, those of the last window that belong
  // there, and those that came round from the other side.
  const auto region = [&](std::int64_t y) { return y < side - window ? 0 : (y < side - shift ? 1 : 2); };
  Tensor regions = empty({1, side, side, 1});
  for (std::int64_t y = 0; y < side; ++y) {
    for (std::int64_t x = 0; x < side; ++x) {
      regions.data<float>()[y * side + x] = static_cast<float>(3 * region(y) + region(x));
    }
  }
  const std::vector<float> of_token = window_partition(regions, window).to_vector<float>();
  const std::int64_t tokens = window * window, windows = side * side / tokens;
  Tensor mask = empty({windows, tokens, tokens});
  float* next = mask.data<float>();
  for (std::int64_t first = 0; first < side * side; first += tokens) {
    for (std::int64_t i = 0; i < tokens; ++i) {
      for (std::int64_t j = 0; j < tokens; ++j) {
        const bool together =
            of_token[static_cast<std::size_t>(first + i)] == of_token[static_cast<std::size_t>(first + j)];
        *next++ = together ? 0.0f : -100.0f;
      }
    }
  }
  return mask;
}

WindowAttention WindowAttention::make(const SwinConfig& config, std::int64_t dim, int heads, std::int64_t window,
                                      Initializer& init) {
  WindowAttention attention{.relative_position_bias_table = std::nullopt,
                            .qkv = Linear::make(dim, 3 * dim, init),
                            .proj = Linear::make(dim, dim, init),
                            .heads = heads,
                            .window = window,
                            .proj_drop = {config.drop_rate},
                            .index = relative_position_index(window)};
  if (config.position == SwinPosition::relative || config.position == SwinPosition::both) {
    const std::int64_t offsets = (2 * window - 1) * (2 * window - 1);
    attention.relative_position_bias_table = init.truncated_normal({offsets, heads}, 0.02);
  }
  return attention;
}

/// What is added to the scores: (1 or windows, 1 or heads, w^2, w^2).
OptionalTensor WindowAttention::bias(const Tensor& mask, const Tensor& x) const {
  const std::int64_t tokens = window * window;
  OptionalTensor sum;
  if (relative_position_bias_table) {
    const Tensor table = for_input(*relative_position_bias_table, x);
    const Tensor rows = index_select_unchecked(table, 0, index);  // (w^4, heads)
    sum = reshape(transpose(rows, 0, 1), {1, heads, tokens, tokens});
  }
  if (mask.defined()) {
    const Tensor hidden = unsqueeze(cast_data(mask, x.dtype()), 1);
    sum = sum ? *sum + hidden : hidden;
  }
  return sum;
}

Tensor WindowAttention::operator()(const Tensor& x, const Tensor& mask, const Pass& pass) const {
  return proj_drop(proj(self_attention(qkv(x), heads, bias(mask, x))), pass);
}

// ---- Blocks and stages ----

SwinBlock SwinBlock::make(const SwinConfig& config, std::int64_t side, std::int64_t dim, int heads, bool shifted,
                          double drop_path_rate, Initializer& init) {
  const std::int64_t window = std::min(side, config.window);  // a map no larger than a window is one, without a shift
  const std::int64_t shift = shifted && side > config.window ? config.window / 2 : 0;
  const auto hidden = static_cast<std::int64_t>(static_cast<double>(dim) * config.mlp_ratio);
  return {.norm1 = LayerNorm::make(dim, init, config.norm_epsilon),
          .attn = WindowAttention::make(config, dim, heads, window, init),
          .norm2 = LayerNorm::make(dim, init, config.norm_epsilon),
          .mlp = Mlp::make(dim, hidden, init, config.drop_rate),
          .drop_path = {drop_path_rate},
          .shift = shift,
          .mask = shift > 0 ? shifted_window_mask(rounded_up(side, window), window, shift) : Tensor()};
}

/// Shift, cut into windows, attend, and all of it back. x (B, H, W, C). A map that needs padding is
/// shifted before.
Tensor SwinBlock::attend(const Tensor& x, const Pass& pass) const {
  const std::int64_t H = x.size(1), W = x.size(2), w = attn.window;
  const std::int64_t height = rounded_up(H, w), width = rounded_up(W, w);
  if (height == H && width == W) {
    return window_reverse(attn(window_partition(x, w, shift), mask, pass), w, H, W, shift);
  }
  const Tensor rolled = shift > 0 ? roll(x, {-shift, -shift}, {1, 2}) : x;
  const Tensor padded = pad(rolled, {0, 0, 0, 0}, {0, height - H, width - W, 0});
  const Tensor map = window_reverse(attn(window_partition(padded, w), mask, pass), w, height, width);
  const Tensor inside = slice(slice(map, 1, 0, H), 2, 0, W);
  return shift > 0 ? roll(inside, {shift, shift}, {1, 2}) : inside;
}

Tensor SwinBlock::operator()(const Tensor& x, const Pass& pass) const {
  const auto [y, norm] = norm2.add_then_norm(x, drop_path(attend(norm1(x), pass), pass));  // y = x + ..., norm2(y)
  return y + drop_path(mlp(norm, pass), pass);
}

PatchMerging PatchMerging::make(const SwinConfig& config, std::int64_t dim, Initializer& init) {
  return {.norm = LayerNorm::make(4 * dim, init, config.norm_epsilon),
          .reduction = Linear::make(4 * dim, 2 * dim, init, false)};
}

Tensor PatchMerging::operator()(const Tensor& x) const {
  const std::int64_t B = x.size(0), H = x.size(1), W = x.size(2), C = x.size(3);
  const std::int64_t rows = (H + 1) / 2, columns = (W + 1) / 2;
  const bool is_odd = H % 2 == 1 || W % 2 == 1;
  const Tensor even = is_odd ? pad(x, {0, 0, 0, 0}, {0, 2 * rows - H, 2 * columns - W, 0}) : x;
  // Of the four neighbours the row changes first: (0, 0), (1, 0), (0, 1), (1, 1), as in the
  // released code.
  const Tensor neighbours = permute(reshape(even, {B, rows, 2, columns, 2, C}), {0, 1, 3, 4, 2, 5});
  return reduction(norm(reshape(neighbours, {B, rows, columns, 4 * C})));
}

Tensor SwinStage::operator()(const Tensor& x, const Pass& pass) const {
  Tensor y = downsample ? (*downsample)(x) : x;
  for (const SwinBlock& block : blocks) y = run_block(block, y, pass);
  return y;
}

// ---- The model ----

SwinTransformer SwinTransformer::make(const SwinConfig& config, Initializer init) {
  check_config(config);
  init.linear_scheme = LinearScheme::truncated_normal;  // the patch embedding keeps its own
  SwinTransformer model;
  model.config = config;
  model.pos_drop = {config.drop_rate};
  const std::int64_t grid = config.grid();
  model.patch_embed = {.proj = PatchConvolution::make(config.channels, config.patch, config.dim, init),
                       .norm = LayerNorm::make(config.dim, init, config.norm_epsilon)};
  if (config.position == SwinPosition::absolute || config.position == SwinPosition::both) {
    model.absolute_pos_embed = init.truncated_normal({1, grid, grid, config.dim}, 0.02);
  }
  const int blocks = std::accumulate(config.depths.begin(), config.depths.end(), 0);
  std::int64_t side = grid, dim = config.dim;
  int number = 0;  // of the block, over all stages
  for (std::size_t stage = 0; stage < config.depths.size(); ++stage) {
    SwinStage& layer = model.layers.emplace_back();
    if (stage > 0) {
      layer.downsample = PatchMerging::make(config, dim, init);
      side = (side + 1) / 2;
      dim *= 2;
    }
    for (int i = 0; i < config.depths[stage]; ++i, ++number) {
      const double rate = blocks > 1 ? config.drop_path_rate * number / (blocks - 1) : 0;
      const bool shifted = config.shift && i % 2 == 1;
      layer.blocks.push_back(SwinBlock::make(config, side, dim, config.heads[stage], shifted, rate, init));
    }
  }
  model.norm = LayerNorm::make(dim, init, config.norm_epsilon);
  if (config.classes > 0) model.head = SwinHead{Linear::make(dim, config.classes, init)};
  return model;
}

Tensor SwinTransformer::forward_features(const Tensor& images, const Pass& pass) const {
  check_images("swin", images, config.channels, config.image);
  const std::int64_t grid = config.grid();
  Tensor x = patch_embed(images);  // (B, N, C)
  x = reshape(x, {images.size(0), grid, grid, config.dim});
  if (absolute_pos_embed) x = x + for_input(*absolute_pos_embed, x);
  x = pos_drop(x, pass);
  for (const SwinStage& stage : layers) x = stage(x, pass);
  return norm(x);
}

Tensor SwinTransformer::forward_head(const Tensor& x) const {
  const Tensor pooled = mean(x, {1, 2});  // (B, 8 C)
  return head ? head->fc(pooled) : pooled;
}

Tensor SwinTransformer::operator()(const Tensor& images, const Pass& pass) const {
  return forward_head(forward_features(images, pass));
}

void from_text(const std::string& text, SwinPosition& position) {
  VT_CHECK(text == "none" || text == "absolute" || text == "relative" || text == "both",
           "create_model: position is \"{}\", expected none, absolute, relative or both", text);
  position = text == "none"       ? SwinPosition::none
             : text == "absolute" ? SwinPosition::absolute
             : text == "relative" ? SwinPosition::relative
                                  : SwinPosition::both;
}

// ---- What the registry asks ----

std::vector<std::string> SwinFamily::no_decay() { return {"absolute_pos_embed", "relative_position_bias_table"}; }

namespace {

/// A block on a map of `side` x `side` positions. Attention works on whole windows, the MLP on the
/// map.
void add_block(std::vector<LayerSummary>& rows, const std::string& name, const SwinBlock& block, std::int64_t side) {
  const std::int64_t dim = block.norm1.weight.shape()[0], w = block.attn.window;
  const std::int64_t padded = (side + w - 1) / w * w, tokens = padded * padded;
  const Shape map{side, side, dim};
  rows.push_back({name + ".norm1", map, parameter_count(block.norm1), 0});
  if (const auto& table = block.attn.relative_position_bias_table) {
    rows.push_back({name + ".attn.relative_position_bias_table", table->shape(), parameters_of(*table), 0});
  }
  rows.push_back(linear_row(name + ".attn.qkv", block.attn.qkv, {tokens}));
  rows.push_back({name + ".attn", {tokens, dim}, 0, 2 * tokens * w * w * dim});
  rows.push_back(linear_row(name + ".attn.proj", block.attn.proj, {tokens}));
  rows.push_back({name + ".norm2", map, parameter_count(block.norm2), 0});
  rows.push_back(linear_row(name + ".mlp.fc1", block.mlp.fc1, {side, side}));
  rows.push_back(linear_row(name + ".mlp.fc2", block.mlp.fc2, {side, side}));
}

}  // namespace

std::vector<LayerSummary> SwinFamily::summarize(const SwinTransformer& model) {
  std::int64_t side = model.config.grid();
  std::vector<LayerSummary> rows;
  rows.push_back(patches_row(model.patch_embed.proj, side * side));
  rows.push_back({"patch_embed.norm", {side * side, model.config.dim}, parameter_count(model.patch_embed.norm), 0});
  if (model.absolute_pos_embed) {
    rows.push_back({"absolute_pos_embed", {side, side, model.config.dim}, parameters_of(*model.absolute_pos_embed), 0});
  }
  for (std::size_t s = 0; s < model.layers.size(); ++s) {
    const std::string name = "layers." + std::to_string(s);
    if (const auto& merging = model.layers[s].downsample) {
      side = (side + 1) / 2;
      rows.push_back({name + ".downsample.norm",
                      {side, side, merging->norm.weight.shape()[0]},
                      parameter_count(merging->norm),
                      0});
      rows.push_back(linear_row(name + ".downsample.reduction", merging->reduction, {side, side}));
    }
    for (std::size_t i = 0; i < model.layers[s].blocks.size(); ++i) {
      add_block(rows, name + ".blocks." + std::to_string(i), model.layers[s].blocks[i], side);
    }
  }
  rows.push_back({"norm", {side, side, model.norm.weight.shape()[0]}, parameter_count(model.norm), 0});
  if (model.head) rows.push_back(linear_row("head.fc", model.head->fc, {}));
  return rows;
}

/// swin_<size>_patch<P>_window<W>_<image>.
std::vector<CatalogRow<SwinConfig>> SwinFamily::catalog() {
  std::vector<CatalogRow<SwinConfig>> rows;
  const auto add = [&](const char* size, const SwinConfig& config) {
    PretrainedConfig pretrained = imagenet_config(config.image);
    pretrained.classifier = {"head.fc"};
    rows.push_back({fmt::format("swin_{}_patch{}_window{}_{}", size, config.patch, config.window, config.image), config,
                    pretrained});
  };
  const SwinConfig tiny{.drop_path_rate = 0.2};
  const SwinConfig small{.depths = {2, 2, 18, 2}, .drop_path_rate = 0.3};
  const SwinConfig base{.dim = 128, .depths = {2, 2, 18, 2}, .heads = {4, 8, 16, 32}, .drop_path_rate = 0.5};
  const SwinConfig large{.dim = 192, .depths = {2, 2, 18, 2}, .heads = {6, 12, 24, 48}, .drop_path_rate = 0.2};
  add("tiny", tiny);
  add("small", small);
  add("base", base);
  add("large", large);
  for (SwinConfig config : {base, large}) {
    config.image = 384;
    config.window = 12;
    add(config.dim == 128 ? "base" : "large", config);
  }
  SwinConfig cifar = tiny;
  cifar.image = 32;
  cifar.patch = 2;
  cifar.window = 4;
  cifar.classes = 10;
  add("tiny", cifar);
  return rows;
}

}  // namespace vitrine
