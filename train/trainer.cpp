// The loop itself is train_epoch and update_weights; the rest builds, reports and saves.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "ops/product/gemm_cuda.h"
#include "optim/squared_norm.h"
#include "tensor/parallel.h"
#include "weights/files/file.h"
#include "weights/load_weights.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What `--eval-metric` names, larger = better.
double score_of(const Evaluation& evaluation, const std::string& metric) {
  if (metric == "loss") return -evaluation.loss;
  return metric == "top5" ? evaluation.top5 : evaluation.top1;
}

}  // namespace

// ---- The loop ----

Trainer::Outcome Trainer::run() {
  while (state_.epoch < recipe_.epochs) {
    if (!train_epoch() || !finish_epoch()) {
      folder_->save(snapshot());
      observer_.saved(folder_->last());
      return Outcome::stopped;
    }
  }
  return Outcome::finished;
}

/// Goes on from state_.batch to the end of the epoch; false if it was asked to stop before.
bool Trainer::train_epoch() {
  const std::int64_t batches = train_batches_.source->batches_per_epoch();
  if (state_.batch < batches) train_batches_.source->start(state_.epoch, state_.batch);
  while (state_.batch < batches) {
    if (must_stop()) return settle(), false;
    const auto start = Clock::now();
    update_weights();
    training_seconds_ += seconds_since(start);
    report_progress();
    if (recipe_.recovery_interval > 0 && state_.step % recipe_.recovery_interval == 0) {
      settle();
      folder_->save(snapshot());
    }
  }
  settle();
  return true;
}

/// One update, from `grad-accum-steps` batches or what is left of the epoch. A GPU is only handed the work: what came of it
/// is looked at when the next update is under way, so that neither has to wait for the other.
void Trainer::update_weights() {
  const std::int64_t batches = train_batches_.source->batches_per_epoch();
  const std::int64_t parts = std::min(recipe_.grad_accum_steps, batches - state_.batch);
  const double learning_rate = learning_rate_of(state_.step, state_.epoch);
  const Generator before = state_.generator;
  const WeightUpdate::Result update = (*weight_update_)(*train_batches_.source, parts, learning_rate, state_.generator);
  UpdateResult result{ReadBack(update.numbers), state_.batch, parts, update.images, before};
  settle();
  pending_ = std::move(result);
  if (placement_.device.is_cpu() || state_.loss_images == 0) settle();

  state_.batch += parts;
  state_.step += 1;
  images_trained_ += update.images;
}

/// Takes in the result of the last update; an Error if its loss or gradient was not finite.
void Trainer::settle() {
  if (!pending_) return;
  const UpdateResult result = std::move(*pending_);
  pending_.reset();
  const std::vector<double> numbers = result.numbers.get();
  if (numbers[1 + updates_left_out] != 0) report_non_finite(result, numbers[0] / static_cast<double>(result.images));
  state_.loss_sum += numbers[0];
  state_.loss_images += result.images;
  if (!distillation_) return;
  for (std::size_t i = 0; i < state_.agreement.size(); ++i) state_.agreement[i] += numbers[4 + i];
}

/// Does the update once more, from the same batches and draws, to find where inf or NaN began.
void Trainer::report_non_finite(const UpdateResult& result, double loss) {
  std::string message = fmt::format("training: epoch {}, batch {}, loss {}: ", state_.epoch, result.batch, loss);
  try {
    optimizer_->throw_non_finite();
  } catch (const NonFiniteGradient& error) {
    message += error.what();
  }
  try {
    train_batches_.source->start(state_.epoch, result.batch);
    const std::string first = weight_update_->first_non_finite(*train_batches_.source, result.parts, result.generator);
    if (!first.empty()) message += fmt::format("; the first inf or NaN is in {}", first);
  } catch (const Error& error) {  // beside a recorded graph, memory may not suffice
    message += fmt::format("; where it began could not be found: {}", error.what());
  }
  throw Error(message);
}

double Trainer::learning_rate_of(std::int64_t step, std::int64_t epoch) const {
  return schedule_.at(recipe_.sched_on_updates ? step : epoch);
}

bool Trainer::must_stop() const {
  const bool out_of_steps = recipe_.max_steps > 0 && state_.step >= recipe_.max_steps;
  const bool out_of_time = recipe_.time_limit > 0 && seconds_since(began_) >= 60 * recipe_.time_limit;
  return out_of_steps || out_of_time || observer_.should_stop();
}

/// Evaluates, saves and moves on to the next epoch; false if it was asked to stop in the middle of the evaluation.
bool Trainer::finish_epoch() {
  const bool last_epoch = state_.epoch + 1 == recipe_.epochs;
  Evaluation evaluation{.loss = unknown_figure, .top1 = unknown_figure, .top5 = unknown_figure};
  if (last_epoch || (state_.epoch + 1) % recipe_.val_interval == 0) {
    const auto start = Clock::now();
    bool complete = true;
    if (average_model_) average_model_->copy_buffers_from(*model_);
    evaluation =
        evaluate(evaluated_model(), *val_batches_.source, placement_, [&](std::int64_t done, std::int64_t batches) {
          observer_.evaluating(done, batches);
          return complete = done == batches || !observer_.should_stop();
        });
    if (!complete) return false;
    evaluation_seconds_ = seconds_since(start);
  }

  const double score = score_of(evaluation, recipe_.eval_metric);
  const bool is_best = std::isfinite(score) && (!state_.best || score > *state_.best);
  if (is_best) state_.best = score, state_.best_epoch = state_.epoch;
  const EpochSummary summary{
      .epoch = state_.epoch,
      .train_loss = state_.loss_images > 0 ? state_.loss_sum / static_cast<double>(state_.loss_images) : unknown_figure,
      .eval_loss = evaluation.loss,
      .eval_top1 = evaluation.top1,
      .eval_top5 = evaluation.top5,
      .lr = optimizer_->learning_rate(),
      .images_per_second = training_seconds_ > 0 ? static_cast<double>(images_trained_) / training_seconds_ : 0,
      .seconds = seconds_before_ + seconds_since(began_),
      .distillation = summarize_distillation()};
  state_.history.push_back(summary);
  state_.epoch += 1;
  state_.batch = 0;
  state_.loss_sum = 0;
  state_.loss_images = 0;
  state_.agreement = {};

  if (is_best) save_weights(folder_->path(), evaluated_model(), preprocessing_, data_.train->class_names());
  folder_->save_epoch(snapshot(), summary.epoch, is_best, recipe_.checkpoint_hist);
  observer_.epoch_done(summary, is_best);
  report_bad_samples();
  report(summary.distillation);
  return true;
}

// ---- Construction ----

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
  schedule_ = make_schedule(recipe_, updates_per_epoch());
  start_or_resume();
  if (recipe_.amp) optimizer_->keep_rounded();
  describe();
}

void Trainer::build_model() {
  model_.emplace(create_model(recipe_.model, model_options(recipe_, data_.train->num_classes())));
  if (recipe_.resume.empty()) load_first_weights();  // a run that goes on brings its own
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
  weight_update_.emplace(recipe_, *model_, *optimizer_, average_ ? &*average_ : nullptr,
                         distillation_ ? &*distillation_ : nullptr, placement_);
}

void Trainer::load_first_weights() {
  const bool strict = !recipe_.initial_checkpoint.empty();
  const std::string& path = strict ? recipe_.initial_checkpoint : recipe_.pretrained_path;
  if (path.empty()) return;
  try {
    const PositionFilter filter =
        recipe_.pos_embed_interpolation == "bilinear" ? PositionFilter::bilinear : PositionFilter::bicubic;
    const WeightLoad load = load_weights(*model_, read_weights(path), {.strict = strict, .position_filter = filter});
    for (const std::string& note : load.notes) observer_.note(fmt::format("{}: {}", path, note));
    prepare_images_as_for(path);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}: {}", strict ? "--initial-checkpoint" : "--pretrained-path", path, error.what()));
  }
}

/// Unless the recipe says otherwise. It becomes part of the recipe, for the folder may be gone when the run is resumed.
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
    recipe_.resume.clear();  // whoever starts args.yaml wants a run of their own
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
  if (state_.batch > 0)
    optimizer_->set_learning_rate(learning_rate_of(state_.step - 1, state_.epoch));  // of the last update
  VT_CHECK(state_.batch <= train_batches_.source->batches_per_epoch(),
           "--resume: {}: stopped at batch {} of an epoch, which now has {}", recipe_.resume, state_.batch,
           train_batches_.source->batches_per_epoch());
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
  checkpoint.run.seconds = seconds_before_ + seconds_since(began_);
  checkpoint.recipe = to_yaml(recipe_);
  return checkpoint;
}

std::int64_t Trainer::updates_per_epoch() const {
  const std::int64_t batches = train_batches_.source->batches_per_epoch();
  return (batches + recipe_.grad_accum_steps - 1) / recipe_.grad_accum_steps;
}

// ---- Reports ----

void Trainer::describe() const {
  observer_.note(fmt::format("data: {} images to train on, {} to evaluate on, {} classes", data_.train->size(),
                             data_.val->size(), data_.train->num_classes()));
  if (!train_batches_.note.empty()) {
    observer_.note(fmt::format("data: of those to train on, {}; of those to evaluate on, {}", train_batches_.note,
                               val_batches_.note));
  }
  observer_.note(fmt::format("model: {}, {} parameters, images of {} pixels", model_->name(), model_->parameter_count(),
                             preprocessing_.input_size[1]));
  if (distillation_) {
    observer_.note(fmt::format("teacher: {} of {}, {} distillation, {}", distillation_->teacher().name(),
                               recipe_.kd_model_name, recipe_.kd_distill_type, to_string(distillation_->loss())));
  }
  const bool in_steps = recipe_.warmup_steps > 0;
  observer_.note(fmt::format("learning rate: {}; warm-up of {} {} from {}, then {} to {}, new for each {}",
                             peak_learning_rate(recipe_).explanation,
                             in_steps ? recipe_.warmup_steps : recipe_.warmup_epochs, in_steps ? "updates" : "epochs",
                             recipe_.warmup_lr, recipe_.sched, recipe_.min_lr,
                             recipe_.sched_on_updates ? "update" : "epoch"));
  if (recipe_.layer_decay || recipe_.head_lr) {
    observer_.note(fmt::format("learning rate by depth: x {} for each block in front of the head, head {}",
                               recipe_.layer_decay.value_or(1),
                               recipe_.head_lr.value_or(peak_learning_rate(recipe_).value)));
  }
  if (recipe_.min_lr > peak_learning_rate(recipe_).value) {
    observer_.note(fmt::format("warning: the learning rate grows from {} to min-lr {}",
                               peak_learning_rate(recipe_).value, recipe_.min_lr));
  }
  for (const std::string& sentence : departures_from_file(recipe_)) observer_.note("warning: " + sentence);
  observer_.note(fmt::format("run folder: {}", folder_->path().string()));
}

void Trainer::report_progress() const {
  const std::int64_t batches = train_batches_.source->batches_per_epoch();
  const double speed = static_cast<double>(images_trained_) / training_seconds_;
  const std::int64_t epochs_left = recipe_.epochs - state_.epoch;
  const auto batches_left = static_cast<double>(epochs_left * batches - state_.batch);
  observer_.batch_done({.epoch = state_.epoch,
                        .epochs = recipe_.epochs,
                        .batch = state_.batch,
                        .batches = batches,
                        .loss = state_.loss_sum / static_cast<double>(state_.loss_images),
                        .learning_rate = optimizer_->learning_rate(),
                        .images_per_second = speed,
                        .seconds_left = batches_left * static_cast<double>(recipe_.batch_size) / speed +
                                        static_cast<double>(epochs_left) * evaluation_seconds_});
}

DistillationSummary Trainer::summarize_distillation() const {
  if (!distillation_ || state_.loss_images == 0) return {};
  const auto percent = [&](double count) { return 100 * count / static_cast<double>(state_.loss_images); };
  const auto& [right, with_teacher, between] = state_.agreement;
  return {percent(right), percent(with_teacher), model_->has_distillation_token() ? percent(between) : unknown_figure};
}

void Trainer::report(const DistillationSummary& d) const {
  if (std::isnan(d.teacher_right)) return;
  observer_.note(fmt::format(
      "distillation: the teacher was right on {:.1f}% of the training images, the student agreed with it on {:.1f}%{}",
      d.teacher_right, d.student_agrees,
      std::isnan(d.between_heads) ? "" : fmt::format(", its heads with each other on {:.1f}%", d.between_heads)));
}

void Trainer::report_bad_samples() {
  for (const Batches* batches : {&train_batches_, &val_batches_}) {
    for (const std::string& bad : batches->source->bad_samples()) {
      if (bad_samples_reported_.insert(bad).second) {
        observer_.note(fmt::format("warning: replaced an unreadable image: {}", bad));
      }
    }
  }
}

}  // namespace vitrine
