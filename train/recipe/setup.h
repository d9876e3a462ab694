// From a recipe to the objects of a run: datasets, loaders, model options, preprocessing,
// optimiser, schedule.
#pragma once

#include <memory>

#include "data/loader/loader.h"
#include "models/registry.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "train/recipe/placement.h"
#include "train/recipe/recipe.h"

namespace vitrine {

struct TrainingData {
  DatasetPtr train, val;
};

/// Opens both splits; an Error where their classes differ or the model would have fewer outputs
/// than there are classes.
TrainingData open_data(const Recipe& recipe);
DatasetPtr open_split(const Recipe& recipe, const std::string& split);

ModelOptions model_options(const Recipe& recipe, std::int64_t classes);

/// `base` with what the recipe says of mean, std, crop-pct and interpolation.
PretrainedConfig stated_preprocessing(const Recipe& recipe, PretrainedConfig base);

/// How the images of a training run are prepared: the recipe's values, else the model's. After
/// training without resized crops, where objects are not seen enlarged, crop_pct is 1 unless the
/// recipe gives it.
PretrainedConfig preprocessing(const Recipe& recipe, const Model& model);

TrainTransform train_transform(const Recipe& recipe, const PretrainedConfig& preprocessing);
EvalTransform eval_transform(const PretrainedConfig& preprocessing);

/// The batches have targets over `classes` classes where the loss does not take the labels: with
/// mixing, for binary cross-entropy, and on a GPU, where a recorded step cannot look at labels on
/// the host.
LoaderOptions train_loader_options(const Recipe& recipe, std::int64_t classes, Device device);
LoaderOptions eval_loader_options(const Recipe& recipe);

/// What each parameter's learning rate is multiplied by: layer_decay^(number of blocks behind it),
/// or for the head, where the recipe has head_lr, head_lr / peak.
std::vector<double> learning_rate_scales(const Recipe& recipe, const std::vector<std::string>& names,
                                         const LayerNames& layers);

/// The recipe's rate is not in it: the schedule has that, and TrainStep sets it for each step.
std::unique_ptr<Optimizer> make_optimizer(const Recipe& recipe, const Model& model);

/// The learning rate of every step of a run, by the number of the step (sched-on-updates), else of
/// the epoch. `peak`: see peak_learning_rate.
Schedule make_schedule(const Recipe& recipe, double peak, std::int64_t steps_per_epoch);

}  // namespace vitrine
