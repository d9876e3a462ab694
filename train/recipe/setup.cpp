// The recipe's words become options of the data, the model and the optimiser.
#include "train/recipe/setup.h"

#include <algorithm>
#include <cmath>

#include "models/family/parameter_depth.h"
#include "optim/optimizer_table.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

TrainTransform::Crop crop_from_name(const std::string& name) {
  if (name == "padded") return TrainTransform::Crop::padded;
  return name == "resized" ? TrainTransform::Crop::resized : TrainTransform::Crop::center;
}

Normalization normalization_of(const PretrainedConfig& stated) {
  const PretrainedConfig preprocessing = with_equal_colors(stated);
  Normalization n;
  for (std::size_t c = 0; c < 3; ++c) {
    n.mean[c] = static_cast<float>(preprocessing.mean[c]);
    n.std[c] = static_cast<float>(preprocessing.std[c]);
  }
  return n;
}

/// Names of parameters outside the blocks (embeddings, stem, head), and of those like them that are
/// exempt from decay wherever they are, such as tables of positions.
std::vector<std::string> outside_blocks(const std::vector<std::string>& names, const Model::Info& info) {
  const std::vector<int> depths = parameter_depths(names, info.layers);
  std::vector<std::string> outside;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string last = names[i].substr(names[i].rfind('.') + 1);
    const bool is_exempt =
        std::ranges::any_of(info.no_decay, [&](const auto& n) { return n == names[i] || n == last; });
    if (depths[i] == 0 || is_head_parameter(names[i], info.layers) || is_exempt) outside.push_back(names[i]);
  }
  return outside;
}

Range range_of(const std::vector<double>& pair) { return {pair[0], pair[1]}; }

}  // namespace

DatasetPtr open_split(const Recipe& recipe, const std::string& split) {
  return open_dataset(
      {.kind = recipe.dataset,
       .root = recipe.data_dir,
       .split = split,
       .class_order = recipe.class_order.empty() ? ClassOrder::sorted : class_order_from_name(recipe.class_order),
       .train_size = recipe.train_num_samples,
       .test_size = recipe.val_num_samples,
       .seed = recipe.seed,
       .threads = static_cast<int>(recipe.threads)});
}

TrainingData open_data(const Recipe& recipe) {
  TrainingData data{open_split(recipe, recipe.train_split), open_split(recipe, recipe.val_split)};
  const auto &names = data.train->class_names(), &val_names = data.val->class_names();
  if (names != val_names) {
    const auto [a, b] = std::ranges::mismatch(names, val_names);
    throw Error(fmt::format("{}: the classes of {} and {} differ: {} and {}, first at {} and {}", recipe.data_dir,
                            recipe.train_split, recipe.val_split, names.size(), val_names.size(),
                            a == names.end() ? "the end" : *a, b == val_names.end() ? "the end" : *b));
  }
  VT_CHECK(recipe.num_classes == 0 || recipe.num_classes >= data.train->num_classes(),
           "--num-classes: is {}, expected at least {}, the classes of the data", recipe.num_classes,
           data.train->num_classes());
  return data;
}

ModelOptions model_options(const Recipe& recipe, std::int64_t classes) {
  ModelOptions options{.num_classes = recipe.num_classes > 0 ? recipe.num_classes : classes,
                       .drop_rate = recipe.drop,
                       .drop_path_rate = recipe.drop_path,
                       .seed = recipe.seed};
  if (recipe.img_size > 0) options.img_size = recipe.img_size;
  if (recipe.in_chans > 0) options.in_chans = recipe.in_chans;
  for (const auto& [name, text] : recipe.model_kwargs) set_model_option(options, name, text, "--model-kwargs");
  return options;
}

PretrainedConfig stated_preprocessing(const Recipe& recipe, PretrainedConfig p) {
  const bool random = recipe.interpolation == "random";  // in training alone
  if (!recipe.interpolation.empty() && !random) p.interpolation = recipe.interpolation;
  if (!recipe.mean.empty()) std::ranges::copy(recipe.mean, p.mean.begin());
  if (!recipe.std.empty()) std::ranges::copy(recipe.std, p.std.begin());
  if (recipe.crop_pct) p.crop_pct = *recipe.crop_pct;
  return with_equal_colors(p);
}

PretrainedConfig preprocessing(const Recipe& recipe, const Model& model) {
  PretrainedConfig p = stated_preprocessing(recipe, model.pretrained_config());
  if (!recipe.crop_pct && recipe.train_crop != "resized") p.crop_pct = 1;
  return p;
}

TrainTransform train_transform(const Recipe& recipe, const PretrainedConfig& preprocessing) {
  const auto& jitter = recipe.color_jitter;
  return {.image_size = static_cast<int>(preprocessing.input_size[1]),
          .crop = crop_from_name(recipe.train_crop),
          .padding = static_cast<int>(recipe.crop_padding),
          .padding_mode =
              recipe.crop_padding_mode == "zero" ? TrainTransform::Padding::zero : TrainTransform::Padding::reflect,
          .scale = range_of(recipe.scale),
          .ratio = range_of(recipe.ratio),
          .interpolation = interpolation_from_name(preprocessing.interpolation),
          .random_interpolation = recipe.interpolation == "random",
          .horizontal_flip = recipe.hflip,
          .policy = AugmentPolicy::parse(recipe.aa),
          .color_jitter = {jitter.front(), jitter[jitter.size() / 2], jitter.back()},
          .normalization = normalization_of(preprocessing),
          .erasing = {.probability = recipe.reprob,
                      .mode = erasing_mode_from_name(recipe.remode),
                      .count = static_cast<int>(recipe.recount)}};
}

EvalTransform eval_transform(const PretrainedConfig& preprocessing) {
  return {.image_size = static_cast<int>(preprocessing.input_size[1]),
          .crop_pct = preprocessing.crop_pct,
          .interpolation = interpolation_from_name(preprocessing.interpolation),
          .normalization = normalization_of(preprocessing)};
}

LoaderOptions train_loader_options(const Recipe& recipe, std::int64_t classes, Device device) {
  LoaderOptions options{.batch_size = recipe.batch_size,
                        .seed = recipe.seed,
                        .workers = static_cast<int>(recipe.workers),
                        .repeats = static_cast<int>(std::max<std::int64_t>(1, recipe.aug_repeats)),
                        .classes = classes,
                        .bad_samples_allowed = recipe.bad_samples};
  if (recipe.mixup > 0 || recipe.cutmix > 0 || recipe.bce_loss || device.is_cuda()) {
    options.mixing = Mixing{.mixup_alpha = recipe.mixup,
                            .cutmix_alpha = recipe.cutmix,
                            .probability = recipe.mixup_prob,
                            .switch_probability = recipe.mixup_switch_prob,
                            .mode = mixing_mode_from_name(recipe.mixup_mode),
                            .off_epoch = recipe.mixup_off_epoch,
                            .smoothing = recipe.smoothing};
  }
  return options;
}

LoaderOptions eval_loader_options(const Recipe& recipe) {
  return {.batch_size = recipe.batch_size,
          .workers = static_cast<int>(recipe.workers),
          .shuffle = false,
          .drop_last = false,
          .bad_samples_allowed = recipe.bad_samples};
}

std::vector<double> learning_rate_scales(const Recipe& recipe, const std::vector<std::string>& names,
                                         const LayerNames& layers) {
  const std::vector<int> depths = parameter_depths(names, layers);
  const int deepest = depths.empty() ? 0 : *std::ranges::max_element(depths);
  std::vector<double> scales;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool is_head = recipe.head_lr && is_head_parameter(names[i], layers);
    scales.push_back(is_head ? *recipe.head_lr / peak_learning_rate(recipe).value
                             : std::pow(recipe.layer_decay.value_or(1), deepest - depths[i]));
  }
  return scales;
}

std::unique_ptr<Optimizer> make_optimizer(const Recipe& recipe, const Model& model) {
  const std::vector<NamedParameter> parameters = model.parameters();
  std::vector<std::string> names;
  for (const NamedParameter& parameter : parameters) names.push_back(parameter.name);
  auto groups =
      parameter_groups(parameters, {.weight_decay = recipe.weight_decay,
                                    .no_decay = model.info().no_decay,
                                    .learning_rate_scales = learning_rate_scales(recipe, names, model.info().layers)});
  OptimizerSettings settings{.epsilon = recipe.opt_eps,
                             .momentum = recipe.momentum,
                             .fallback_list = outside_blocks(names, model.info()),
                             .kwargs = recipe.opt_kwargs};
  if (!recipe.opt_betas.empty()) settings.beta1 = recipe.opt_betas[0], settings.beta2 = recipe.opt_betas[1];
  return make_optimizer(recipe.opt, std::move(groups), settings);
}

Schedule make_schedule(const Recipe& recipe, double peak, std::int64_t steps_per_epoch) {
  const bool in_steps = recipe.warmup_steps > 0;
  const std::int64_t warmup_epochs = in_steps ? 0 : warmup_epochs_of(recipe);
  const std::int64_t decayed = recipe.epochs - (recipe.warmup_prefix ? warmup_epochs : 0);
  const Schedule by_epoch{.decay = decay_from_name(recipe.sched),
                          .base = peak,
                          .minimum = recipe.min_lr,
                          .warmup_start = recipe.warmup_lr,
                          .warmup = warmup_epochs,
                          .total = std::max<std::int64_t>(1, decayed),
                          .decay_after_warmup = recipe.warmup_prefix};
  if (!recipe.sched_on_updates) return by_epoch;
  Schedule by_update = by_epoch.times(steps_per_epoch);
  if (!in_steps) return by_update;
  by_update.warmup = recipe.warmup_steps;
  if (recipe.warmup_prefix) by_update.total = std::max<std::int64_t>(1, by_update.total - recipe.warmup_steps);
  return by_update;
}

}  // namespace vitrine
