// Models by timm's names: create_model("vit_tiny_patch16_224", {.num_classes = 10}), list_models("vit*").
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/summary.h"
#include "nn/init.h"
#include "nn/module.h"

namespace vitrine {

/// What images a model wants; the fields and values of timm's pretrained_cfg.
struct PretrainedConfig {
  std::array<std::int64_t, 3> input_size{3, 224, 224};  // (C, H, W)
  std::string interpolation = "bicubic";
  double crop_pct = 0.9;
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> std{0.5, 0.5, 0.5};
  std::string first_conv = "patch_embed.proj";
  std::vector<std::string> classifier{"head"};  // the linear layers that give the logits
};

/// One number, or one for each stage.
struct Numbers {
  std::vector<int> values;
  Numbers() = default;
  Numbers(int value) : values{value} {}
  Numbers(std::vector<int> several) : values(std::move(several)) {}
};

/// Departures from what the name says, under timm's names for them. A model refuses those that it cannot have.
struct ModelOptions {
  std::optional<std::int64_t> num_classes = {};
  std::optional<std::int64_t> img_size = {};
  std::optional<std::int64_t> patch_size = {};
  std::optional<std::int64_t> embed_dim = {};
  std::optional<int> depth = {};       // ViT, DeiT
  std::optional<Numbers> depths = {};  // Swin, ResNet: of every stage
  std::optional<Numbers> num_heads = {};
  std::optional<std::int64_t> window_size = {};  // Swin
  std::optional<double> mlp_ratio = {};
  std::optional<double> drop_rate = {};
  std::optional<double> drop_path_rate = {};
  std::optional<bool> class_token = {};
  std::optional<std::string> global_pool = {};  // "token" or "avg"
  std::optional<std::int64_t> representation_size = {};
  std::optional<std::string> weight_init = {};     // ViT, hybrids: "timm", or "jax": as in the code of the ViT paper
  std::optional<double> norm_eps = {};             // of LayerNorm: ViT, DeiT, Swin, hybrids
  std::optional<bool> shift = {};                  // Swin: false = the same windows in every block
  std::optional<std::string> position = {};        // Swin: "none", "absolute", "relative" or "both"
  std::optional<std::string> distilled_head = {};  // distilled DeiT, at inference: "both", "class" or "distillation"
  DType dtype = DType::f32;
  std::uint64_t seed = 0;  // of the initial weights
};

/// A name that no model has. `what()` lists the closest ones.
class UnknownModel : public Error {
 public:
  using Error::Error;
};

/// A model of any architecture. Moves, but copies only through deep_copy: optimisers point into it.
class Model {
 public:
  /// What an architecture provides; made by `Model::wrap`.
  struct Interface {
    virtual ~Interface() = default;
    virtual Tensor forward(const Tensor& images, const Pass& pass) const = 0;
    virtual std::vector<Tensor> forward_heads(const Tensor& images, const Pass& pass) const = 0;
    virtual std::vector<NamedParameter> parameters() = 0;
    virtual StateDict state_dict() const = 0;
    virtual std::unique_ptr<Interface> deep_copy() const = 0;
    virtual ModelSummary summary() const = 0;
    virtual void move_to(Device device) = 0;
    virtual void cast_to(DType dtype) = 0;
  };

  /// What is known about a model besides its weights.
  struct Info {
    std::string name;  // as registered, without a tag
    std::int64_t classes = 0;
    PretrainedConfig pretrained;
    ModelOptions options;                 // as given to create_model
    std::vector<std::string> no_decay;    // parameters exempt from weight decay, besides those of one dim
    bool has_distillation_token = false;  // forward_heads gives two
    bool takes_any_size = false;  // of images: no grid of patches or windows fixes it, as in convolutional networks
  };

  Model(std::unique_ptr<Interface> interface, Info info) : interface_(std::move(interface)), info_(std::move(info)) {}

  /// images (B, C, H, W), normalised -> logits (B, classes).
  Tensor forward(const Tensor& images, const Pass& pass = {}) const { return interface_->forward(images, pass); }
  Tensor operator()(const Tensor& images, const Pass& pass = {}) const { return forward(images, pass); }

  /// The logits of every head on its own: one, or for a distilled model those of the class and the distillation token.
  std::vector<Tensor> forward_heads(const Tensor& images, const Pass& pass = {}) const {
    return interface_->forward_heads(images, pass);
  }

  std::vector<NamedParameter> parameters() const { return interface_->parameters(); }
  std::int64_t parameter_count() const;
  /// Parameters and buffers by name: handles of their own elements.
  StateDict state_dict() const { return interface_->state_dict(); }
  LoadReport load_state_dict(const StateDict& state, bool strict = true);
  /// Takes over another's running statistics, for a moving average of weights alone.
  void copy_buffers_from(const Model& other);
  Model deep_copy() const { return {interface_->deep_copy(), info_}; }
  void move_to(Device device) { interface_->move_to(device); }
  void cast_to(DType dtype) { interface_->cast_to(dtype); }
  ModelSummary summary() const;

  const Info& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  bool has_distillation_token() const { return info_.has_distillation_token; }
  std::int64_t classes() const { return info_.classes; }
  const PretrainedConfig& pretrained_config() const { return info_.pretrained; }

 private:
  std::unique_ptr<Interface> interface_;
  Info info_;
};

/// A new model with random weights. A tag after a dot, as in "vit_base_patch16_224.augreg_in1k", is accepted and ignored.
/// Throws UnknownModel, or Error for options that the model cannot have.
Model create_model(std::string_view name, const ModelOptions& options = {});

/// The names that match a glob with * and ?, sorted.
std::vector<std::string> list_models(std::string_view glob = "*");

/// Layers, parameters and multiply-adds of create_model(name, options), without the memory for its weights.
ModelSummary summarize_model(std::string_view name, const ModelOptions& options = {});

}  // namespace vitrine
