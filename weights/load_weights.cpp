// Loading: translate, adapt, compare, and only then copy.
#include "weights/load_weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "ops/ops.h"
#include "weights/adapt_channels.h"
#include "weights/names/square_side.h"
#include "weights/resize_patches.h"
#include "weights/weight_files.h"

namespace vitrine {
namespace {

using TensorsByName = std::map<std::string, Tensor>;

// ---- Adapting sizes ----

/// Makes what fits a model for other images or classes fit this one, in place; tells what it did.
class Adapter {
 public:
  Adapter(const TensorsByName& target, TensorsByName& weights, PositionFilter filter)
      : target_(target), weights_(weights), filter_(filter) {}

  std::vector<std::string> adapt() {
    for (auto& [name, tensor] : weights_) {
      const auto wanted = target_.find(name);
      if (wanted == target_.end() || wanted->second.shape() == tensor.shape()) continue;
      const Shape& shape = wanted->second.shape();
      adapt_channels(name, tensor, shape);
      if (tensor.shape() == shape) continue;
      if (name == "patch_embed.proj.weight") adapt_patches(tensor, shape);
      if (name == "pos_embed") adapt_embedding(tensor, shape);
      if (name == "absolute_pos_embed") adapt_map(tensor, shape);
      if (name.ends_with(".relative_position_bias_table")) adapt_table(tensor, shape);
    }
    for (const auto& [sizes, count] : tables_) {
      notes_.push_back(
          fmt::format("resized {} tables of relative position biases from windows of {} to {} places a side", count,
                      sizes.first, sizes.second));
    }
    leave_out_distillation();
    for (const char* head : {"head", "head_dist", "head.fc", "fc"}) leave_out_head(head);
    return notes_;
  }

  /// Names that were left out, and so are not missing.
  const std::set<std::string>& left_out() const { return left_out_; }

 private:
  const char* filter_name() const { return filter_ == PositionFilter::bicubic ? "bicubic" : "bilinear"; }

  /// The first convolution is the one that sees red, green and blue, in whatever family.
  void adapt_channels(const std::string& name, Tensor& tensor, const Shape& wanted) {
    if (tensor.dim() != 4 || wanted.size() != 4 || tensor.size(1) != 3 || wanted[1] == 3) return;
    if (tensor.size(0) != wanted[0]) return;
    tensor = adapt_input_channels(tensor, wanted[1]);
    notes_.push_back(fmt::format("adapted {} from 3 channels to {} ({})", name, wanted[1],
                                 wanted[1] == 1 ? "their sum" : "in turn, rescaled"));
  }

  /// From as many channels to as many features, for patches of another size (of a hybrid: in places
  /// of the map).
  void adapt_patches(Tensor& tensor, const Shape& wanted) {
    if (tensor.dim() != 4 || tensor.size(0) != wanted[0] || tensor.size(1) != wanted[1]) return;
    notes_.push_back(
        fmt::format("resized patch_embed.proj.weight from patches of {} x {} to {} x {} (bicubic, pseudo-inverse)",
                    tensor.size(2), tensor.size(3), wanted[2], wanted[3]));
    tensor = resize_patch_kernel(tensor, wanted[2], wanted[3]);
  }

  /// How many tokens stand before the patches in weights of these names.
  static std::int64_t prefix_tokens(const TensorsByName& tensors) {
    return static_cast<std::int64_t>(tensors.contains("cls_token")) +
           static_cast<std::int64_t>(tensors.contains("dist_token"));
  }

  /// The source must have a square of patches behind its tokens. Where one of the models is
  /// distilled and the other plain, the patches and the class token keep their positions, and that
  /// of the distillation token is dropped, or stays at its start.
  void adapt_embedding(Tensor& tensor, const Shape& wanted) {
    if (tensor.dim() != 3 || tensor.size(2) != wanted[2]) return;
    const std::int64_t theirs = prefix_tokens(weights_), ours = prefix_tokens(target_);
    const std::int64_t side = square_side(tensor.size(1) - theirs), grid = square_side(wanted[1] - ours);
    if (side < 0 || grid < 0) return;
    if (theirs != ours) {
      const Tensor start = to_device(cast_data(target_.at("pos_embed").detach(), tensor.dtype()), cpu);
      const std::int64_t kept = std::min(theirs, ours);
      std::vector<Tensor> parts = {slice(tensor, 1, 0, kept), slice(start, 1, kept, ours),
                                   slice(tensor, 1, theirs, tensor.size(1))};
      tensor = concat(parts, 1);
      notes_.push_back(fmt::format("kept the positions of {} x {} patches: {} tokens stand before them, here {}", side,
                                   side, theirs, ours));
    }
    if (side == grid) return;
    tensor = resize_position_embedding(tensor, grid, ours, filter_);
    notes_.push_back(
        fmt::format("resized pos_embed from {} x {} to {} x {} patches ({})", side, side, grid, grid, filter_name()));
  }

  /// The distillation token and its head, where the model here has none.
  void leave_out_distillation() {
    if (target_.contains("dist_token") || !target_.contains("cls_token")) return;
    std::vector<std::string> names;
    for (const char* name : {"dist_token", "head_dist.weight", "head_dist.bias"}) {
      if (weights_.erase(name) > 0) names.emplace_back(name);
    }
    if (names.empty()) return;
    notes_.push_back(fmt::format("left out {}: the model here is not distilled", fmt::join(names, ", ")));
  }

  void adapt_map(Tensor& tensor, const Shape& wanted) {
    if (tensor.dim() != 4 || tensor.size(3) != wanted[3]) return;
    notes_.push_back(fmt::format("resized absolute_pos_embed from {} x {} to {} x {} patches ({})", tensor.size(1),
                                 tensor.size(2), wanted[1], wanted[2], filter_name()));
    tensor = resize_position_map(tensor, wanted[1], filter_);
  }

  void adapt_table(Tensor& tensor, const Shape& wanted) {
    if (tensor.dim() != 2 || tensor.size(1) != wanted[1]) return;
    const std::int64_t side = square_side(tensor.size(0));
    if (side % 2 != 1) return;
    const std::int64_t window = (square_side(wanted[0]) + 1) / 2;
    tensor = resize_bias_table(tensor, window);
    ++tables_[{(side + 1) / 2, window}];
  }

  /// A linear layer on the same features with another number of classes keeps its random start.
  void leave_out_head(const std::string& head) {
    const auto found = weights_.find(head + ".weight");
    const auto wanted = target_.find(head + ".weight");
    if (found == weights_.end() || wanted == target_.end()) return;
    const Shape &theirs = found->second.shape(), &ours = wanted->second.shape();
    if (theirs.size() != 2 || theirs[1] != ours[1] || theirs[0] == ours[0]) return;
    notes_.push_back(
        fmt::format("left out {}, which is for {} classes: that for {} starts at random", head, theirs[0], ours[0]));
    for (const char* part : {".weight", ".bias"}) {
      if (weights_.erase(head + part) > 0) left_out_.insert(head + part);
    }
  }

  const TensorsByName& target_;
  TensorsByName& weights_;
  PositionFilter filter_;
  std::vector<std::string> notes_;
  std::map<std::pair<std::int64_t, std::int64_t>, int> tables_;
  std::set<std::string> left_out_;
};

// ---- Comparing, in the words of the file ----

LoadReport compare(const StateDict& target, const TensorsByName& weights, const TranslatedWeights& translated,
                   const std::set<std::string>& left_out) {
  LoadReport report;
  std::set<std::string> ours;
  for (const auto& [name, tensor] : target) {
    ours.insert(name);
    const auto found = weights.find(name);
    const std::vector<std::string> theirs = translated.names_of(name);
    if (found == weights.end()) {
      if (left_out.contains(name)) continue;
      for (const std::string& part : theirs) {
        if (!std::ranges::count(translated.names, part)) report.missing.push_back(part);
      }
    } else if (!(found->second.shape() == tensor.shape())) {
      const Shape expected = translated.shape_of(name, tensor.shape()),
                  had = translated.shape_of(name, found->second.shape());
      for (const std::string& part : theirs) report.mismatched.push_back({part, expected, had});
    }
  }
  for (const auto& [name, tensor] : weights) {
    if (ours.contains(name)) continue;
    for (const std::string& part : translated.names_of(name)) report.unexpected.push_back(part);
  }
  report.unexpected.insert(report.unexpected.end(), translated.unknown.begin(), translated.unknown.end());
  return report;
}

TensorsByName by_name(const StateDict& state) {
  TensorsByName tensors;
  for (const auto& [name, tensor] : state) {
    VT_CHECK(tensors.emplace(name, tensor).second, "load_weights: {} occurs twice", name);
  }
  return tensors;
}

/// What may be copied into a model: numbers for numbers, all of them finite.
void check_values(const Tensor& ours, const Tensor& theirs, const std::string& name) {
  VT_CHECK(!is_floating(ours.dtype()) || is_floating(theirs.dtype()),
           "load_weights: {} holds integers ({}), expected floating-point numbers (quantised weights are not read)",
           name, name_of(theirs.dtype()));
  check_finite(theirs, "load_weights: " + name);
}

}  // namespace

void check_finite(const Tensor& tensor, const std::string& name) {
  if (!is_floating(tensor.dtype())) return;
  const Tensor values = contiguous_data(to_device(tensor.detach(), cpu));
  dispatch_floating(values.dtype(), "check_finite", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const std::span<const T> all(values.numel() == 0 ? nullptr : values.data<T>(),
                                 static_cast<std::size_t>(values.numel()));
    const auto bad = std::ranges::find_if(all, [](T value) { return !std::isfinite(static_cast<double>(value)); });
    VT_CHECK(bad == all.end(), "{} holds {} at element {} of {}, expected finite numbers", name,
             static_cast<double>(*bad), bad - all.begin(), all.size());
  });
}

WeightLoad load_weights(const StateDict& target, const StateDict& weights, const WeightLoadOptions& options) {
  const TranslatedWeights translated = to_our_layout(weights);
  TensorsByName ours = by_name(target), theirs = by_name(translated.state);
  WeightLoad load{.report = {}, .notes = translated.notes(), .layout = translated.layout()};
  Adapter adapter(ours, theirs, options.position_filter);
  if (!options.strict) {
    for (std::string& note : adapter.adapt()) load.notes.push_back(std::move(note));
  }
  load.report = compare(target, theirs, translated, adapter.left_out());
  const std::string names = translated.table ? fmt::format(" (names of {})", translated.description()) : "";
  VT_CHECK(!options.strict || load.report.clean(), "load_weights: {}{}", to_string(load.report), names);
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const auto& [name, tensor] : target) {
    const auto found = theirs.find(name);
    if (found == theirs.end() || !(found->second.shape() == tensor.shape())) continue;
    check_values(tensor, found->second, translated.names_of(name)[0]);
    copies.emplace_back(tensor, found->second);
  }
  VT_CHECK(!copies.empty() || target.empty(), "load_weights: nothing fits: {}{}", to_string(load.report), names);
  for (auto& [tensor, source] : copies) copy_into(tensor, source);
  if (!load.report.clean()) load.notes.push_back(to_string(load.report) + names);
  return load;
}

WeightLoad load_weights(Model& model, const StateDict& weights, const WeightLoadOptions& options) {
  return load_weights(model.state_dict(), weights, options);
}

WeightLoad load_weight_file(Model& model, const std::filesystem::path& path, const WeightLoadOptions& options) {
  FileTensors file = read_weight_file(path);
  try {
    WeightLoad load = load_weights(model, file.tensors, options);
    load.notes.insert(load.notes.begin(), file.notes.begin(), file.notes.end());
    return load;
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace vitrine
