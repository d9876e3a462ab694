// From a recipe to the objects of a run: datasets, loaders, model options, preprocessing, optimiser, schedule.
#pragma once

#include <memory>

#include "data/loader.h"
#include "models/registry.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "train/evaluate.h"
#include "train/recipe.h"

namespace vitrine {

struct TrainingData {
  DatasetPtr train, val;
};

/// Opens both splits; an Error where their classes differ or the model would have fewer outputs than there are classes.
TrainingData open_data(const Recipe& recipe);
DatasetPtr open_split(const Recipe& recipe, const std::string& split);

ModelOptions model_options(const Recipe& recipe, std::int64_t classes);

/// `base` with what the recipe says of mean, std, crop-pct and interpolation.
PretrainedConfig stated_preprocessing(const Recipe& recipe, PretrainedConfig base);

/// How the images of a training run are prepared: the recipe's values, else the model's. After training without resized crops,
/// where objects are not seen enlarged, crop_pct is 1 unless the recipe gives it.
PretrainedConfig preprocessing(const Recipe& recipe, const Model& model);

TrainTransform train_transform(const Recipe& recipe, const PretrainedConfig& preprocessing);
EvalTransform eval_transform(const PretrainedConfig& preprocessing);

/// With targets of so many classes, unless the loss takes the labels: with mixing, for binary cross-entropy, and on a GPU, where a
/// recorded update cannot look at labels on the host.
LoaderOptions train_loader_options(const Recipe& recipe, std::int64_t classes, Device device);
LoaderOptions eval_loader_options(const Recipe& recipe);

/// By how much a recipe makes the learning rate of each parameter differ: layer_decay^(blocks behind it), and head-lr for the head.
std::vector<double> learning_rate_scales(const Recipe& recipe, const std::vector<std::string>& names,
                                         const LayerNames& layers);

std::unique_ptr<Optimizer> make_optimizer(const Recipe& recipe, const Model& model);

/// Learning rate by number of the update (sched-on-updates), else by epoch.
Schedule make_schedule(const Recipe& recipe, std::int64_t updates_per_epoch);

/// "cpu", "cuda"; an Error where this build or this machine cannot.
Device open_device(const std::string& name);

/// The device, and bf16 with --amp.
Placement open_placement(const Recipe& recipe);

}  // namespace vitrine
