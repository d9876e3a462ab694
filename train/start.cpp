// How a run starts: from first weights or a checkpoint; and the checkpoint that it leaves.
#include "ops/product/gemm_cuda.h"
#include "tensor/parallel.h"
#include "train/trainer.h"
#include "weights/files/file.h"
#include "weights/load_weights.h"
#include "weights/model_folder.h"

namespace vitrine {

Trainer::Trainer(Recipe recipe, TrainObserver& observer) : recipe_(std::move(recipe)), observer_(observer) {
  check_recipe(recipe_);
  placement_ = open_placement(recipe_);
  if (recipe_.threads > 0) set_num_threads(static_cast<int>(recipe_.threads));
  set_gemm_autotune(recipe_.cuda_autotune);
  data_ = open_data(recipe_);
  build_model();
  preprocessing_ = preprocessing(recipe_, *model_);
  train_batches_ = training_batches(recipe_, data_, preprocessing_, model_->classes(), placement_);
  val_batches_ = evaluation_batches(recipe_, data_, preprocessing_, placement_);
  peak_rate_ = peak_learning_rate(recipe_);
  schedule_ = make_schedule(recipe_, peak_rate_.value, steps_per_epoch());
  start_or_resume();
  if (recipe_.amp) optimizer_->keep_bf16_copy();
  describe();
}

void Trainer::build_model() {
  model_.emplace(create_model(recipe_.model, model_options(recipe_, data_.train->num_classes())));
  if (recipe_.resume.empty()) load_first_weights();  // else restore() takes those of the checkpoint
  model_->move_to(placement_.device);
  VT_CHECK(
      !recipe_.grad_checkpointing || model_->state_dict().size() == model_->parameters().size(),
      "--grad-checkpointing: the running statistics of {} would move twice in each update, expected a model without "
      "batch norm",
      model_->name());
  if (recipe_.model_ema) average_model_.emplace(model_->deep_copy());
  optimizer_ = make_optimizer(recipe_, *model_);
  if (average_model_) average_.emplace(model_->parameters(), average_model_->parameters(), recipe_.model_ema_decay);
  if (!recipe_.kd_model_name.empty()) {
    distillation_.emplace(recipe_, *model_, vitrine::preprocessing(recipe_, *model_), data_.train->class_names(),
                          placement_);
  }
  train_step_.emplace(recipe_, *model_, *optimizer_, average_ ? &*average_ : nullptr,
                      distillation_ ? &*distillation_ : nullptr, placement_);
}

void Trainer::load_first_weights() {
  const bool strict = !recipe_.initial_checkpoint.empty();
  const std::string& path = strict ? recipe_.initial_checkpoint : recipe_.pretrained_path;
  if (path.empty()) return;
  try {
    const PositionFilter filter =
        recipe_.pos_embed_interpolation == "bilinear" ? PositionFilter::bilinear : PositionFilter::bicubic;
    const WeightLoad load = load_weight_file(*model_, path, {.strict = strict, .position_filter = filter});
    for (const std::string& note : load.notes) observer_.note(fmt::format("{}: {}", path, note));
    prepare_images_as_for(path);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", strict ? "--initial-checkpoint" : "--pretrained-path", error.what()));
  }
}

/// Where the recipe does not say how images are prepared, they are prepared as for the weights that
/// training starts from. It becomes part of the recipe, for the folder of the weights may be gone
/// when the run is resumed.
void Trainer::prepare_images_as_for(const std::string& weights) {
  const PretrainedConfig own = model_->pretrained_config(), theirs = preprocessing_of_weights(weights, own);
  if (recipe_.mean.empty() && theirs.mean != own.mean) recipe_.mean.assign(theirs.mean.begin(), theirs.mean.end());
  if (recipe_.std.empty() && theirs.std != own.std) recipe_.std.assign(theirs.std.begin(), theirs.std.end());
  if (recipe_.interpolation.empty() && theirs.interpolation != own.interpolation) {
    recipe_.interpolation = theirs.interpolation;
  }
}

void Trainer::start_or_resume() {
  if (recipe_.resume.empty()) {
    state_.generator.seed = recipe_.seed;
    folder_ = RunFolder::create(recipe_, preprocessing_.input_size[1]);
    write_file_atomically(folder_->path() / "config.json",
                          to_config_json(*model_, preprocessing_, data_.train->class_names()));
  } else {
    const auto file = checkpoint_file(recipe_.resume);
    restore(load_checkpoint(file));
    folder_ = RunFolder::open(file);
    observer_.note(fmt::format("resumed: epoch {}, batch {}, update {} of {}", state_.epoch, state_.batch, state_.step,
                               file.string()));
    recipe_.resume.clear();  // `vitrine train -c args.yaml` starts a new run, of the same recipe
  }
  folder_->write_recipe(recipe_);
  folder_->write_summary(state_.history);
}

void Trainer::restore(const Checkpoint& checkpoint) {
  const auto load = [&](Model& model, const StateDict& state, const char* what) {
    try {
      model.load_state_dict(state);
    } catch (const Error& error) {
      throw Error(fmt::format("--resume: {}: {} do not fit: {}", recipe_.resume, what, error.what()));
    }
  };
  load(*model_, checkpoint.weights, "the weights");
  if (average_model_) load(*average_model_, checkpoint.average, "the averaged weights");
  optimizer_->load_state(checkpoint.optimizer);
  state_ = checkpoint.run;
  seconds_before_ = state_.seconds;
  find_position(parse_recipe(checkpoint.recipe, recipe_.resume).batch_size);
}

/// Counts again where the run is, in batches and updates of the sizes that it goes on with: what it
/// keeps is its place in the epoch, in images, and so in the schedule. Nothing changes where the
/// sizes are the same.
void Trainer::find_position(std::int64_t batch_size) {
  const std::int64_t images = state_.batch * batch_size, batches = train_batches_.source->batches_per_epoch();
  VT_CHECK(images < (batches + 1) * recipe_.batch_size,
           "--resume: {}: stopped after {} images of an epoch, which now has {} batches of {}", recipe_.resume, images,
           batches, recipe_.batch_size);
  state_.batch = std::min(batches, (images + recipe_.batch_size - 1) / recipe_.batch_size);
  const std::int64_t updates = (state_.batch + recipe_.grad_accum_steps - 1) / recipe_.grad_accum_steps;
  const std::int64_t step = state_.epoch * steps_per_epoch() + updates;
  if (step != state_.step) {
    const std::int64_t left_out = state_.batch * recipe_.batch_size - images;
    observer_.note(fmt::format(
        "{} updates were done, as many images as {} of {} images; the schedule goes on there{}", state_.step, step,
        recipe_.total_batch(),
        left_out <= 0 ? "" : fmt::format("; {} images that fill no batch are left out of this epoch", left_out)));
  }
  state_.step = step;
}

Checkpoint Trainer::snapshot() {
  Checkpoint checkpoint;
  checkpoint.weights = model_->state_dict();
  if (average_model_) {
    average_model_->copy_buffers_from(*model_);
    checkpoint.average = average_model_->state_dict();
  }
  checkpoint.optimizer = optimizer_->state();
  checkpoint.run = state_;
  checkpoint.run.seconds = seconds_of_run();
  checkpoint.recipe = to_yaml(recipe_);
  return checkpoint;
}

std::int64_t Trainer::steps_per_epoch() const {
  const std::int64_t batches = train_batches_.source->batches_per_epoch();
  return (batches + recipe_.grad_accum_steps - 1) / recipe_.grad_accum_steps;
}

}  // namespace vitrine
