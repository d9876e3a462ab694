// Model: a model of any architecture behind one interface, and what is known about it besides its
// weights.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/family/model_options.h"
#include "models/family/parameter_depth.h"
#include "models/family/pretrained_config.h"
#include "models/family/summary.h"
#include "nn/module.h"

namespace vitrine {

/// A model of any architecture. Moves, but copies only through deep_copy: optimisers point into it.
class Model {
 public:
  /// What an architecture provides; made by build_model (models/catalog.cpp).
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
    std::string name;    // as registered, without a tag
    std::string family;  // "vit", "swin", ...
    std::int64_t classes = 0;
    PretrainedConfig pretrained;
    ModelOptions options;                 // as given to create_model
    std::vector<std::string> no_decay;    // parameters exempt from weight decay, besides those of one dim
    LayerNames layers;                    // which parameters are whose block's, and which the head's
    bool has_distillation_token = false;  // forward_heads gives two
    bool takes_any_size = false;  // of images: no grid of patches or windows fixes it, as in convolutional networks
  };

  Model(std::unique_ptr<Interface> interface, Info info) : interface_(std::move(interface)), info_(std::move(info)) {}

  /// images (B, C, H, W), normalised -> logits (B, classes). A model of one channel (in_chans = 1)
  /// may also be given colours, (B, 3, H, W): it sees their brightness, 0.299 red + 0.587 green +
  /// 0.114 blue, as Pillow's convert("L"), and so of grey images exactly the grey.
  Tensor forward(const Tensor& images, const Pass& pass = {}) const { return interface_->forward(seen(images), pass); }
  Tensor operator()(const Tensor& images, const Pass& pass = {}) const { return forward(images, pass); }

  /// The logits of every head on its own: one, or for a distilled model those of the class and the
  /// distillation token.
  std::vector<Tensor> forward_heads(const Tensor& images, const Pass& pass = {}) const {
    return interface_->forward_heads(seen(images), pass);
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
  /// The images, or the brightness of their colours where the model has one channel.
  Tensor seen(const Tensor& images) const;

  std::unique_ptr<Interface> interface_;
  Info info_;
};

}  // namespace vitrine
