// The loop of a training run: epochs, steps, evaluation, saving.
#include "train/trainer.h"

#include <algorithm>
#include <cmath>

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
    if (must_stop()) return collect_result(), false;
    const auto start = Clock::now();
    update_weights();
    training_seconds_ += seconds_since(start);
    report_progress();
    if (recipe_.recovery_interval > 0 && state_.step % recipe_.recovery_interval == 0) {
      collect_result();
      folder_->save(snapshot());
    }
  }
  collect_result();
  return true;
}

/// One training step on `grad-accum-steps` batches, or on those that are left of the epoch. A GPU
/// is only handed the work: its result is looked at when the next step is under way, so that
/// neither host nor GPU waits for the other.
void Trainer::update_weights() {
  const std::int64_t batches = train_batches_.source->batches_per_epoch();
  const std::int64_t micro_batches = std::min(recipe_.grad_accum_steps, batches - state_.batch);
  const Generator before = state_.generator;
  StepInFlight step{
      (*train_step_)(*train_batches_.source, micro_batches, learning_rate_at(state_.step), state_.generator),
      state_.batch, micro_batches, before};
  const std::int64_t images = step.result.images();
  collect_result();  // of the step before
  in_flight_ = std::move(step);
  if (placement_.device.is_cpu() || state_.loss_images == 0) collect_result();

  state_.batch += micro_batches;
  state_.step += 1;
  images_trained_ += images;
}

/// Adds the result of the step in flight to the sums of the epoch; an Error if its loss or gradient
/// was not finite.
void Trainer::collect_result() {
  if (!in_flight_) return;
  const StepInFlight step = std::move(*in_flight_);
  in_flight_.reset();
  const StepResult result = step.result.get();
  if (result.skipped) throw_non_finite(step, result);
  state_.loss_sum += result.loss_sum;
  state_.loss_images += result.images;
  state_.agreement += result.agreement;
}

/// Does the step once more, from the same batches and random numbers, to find the op where inf or
/// NaN began.
void Trainer::throw_non_finite(const StepInFlight& step, const StepResult& result) {
  std::string message = fmt::format("training: epoch {}, batch {}, loss {}: ", state_.epoch, step.first_batch,
                                    result.loss_sum / static_cast<double>(result.images));
  try {
    optimizer_->throw_non_finite();
  } catch (const NonFiniteGradient& error) {
    message += error.what();
  }
  try {
    train_batches_.source->start(state_.epoch, step.first_batch);
    const std::string first = train_step_->first_non_finite(*train_batches_.source, step.micro_batches, step.generator);
    if (!first.empty()) message += fmt::format("; the first inf or NaN is in {}", first);
  } catch (const Error& error) {  // beside a recorded graph, memory may not suffice
    message += fmt::format("; where it began could not be found: {}", error.what());
  }
  throw Error(message);
}

/// The learning rate of a step of this epoch, counted from the beginning of the run.
double Trainer::learning_rate_at(std::int64_t step) const {
  return schedule_.at(recipe_.sched_on_updates ? step : state_.epoch);
}

double Trainer::seconds_of_run() const { return seconds_before_ + seconds_since(began_); }

bool Trainer::must_stop() const {
  const bool out_of_steps = recipe_.max_steps > 0 && state_.step >= recipe_.max_steps;
  const bool out_of_time = recipe_.time_limit > 0 && seconds_since(began_) >= 60 * recipe_.time_limit;
  return out_of_steps || out_of_time || observer_.should_stop();
}

/// Evaluates, saves and moves on to the next epoch; false if it was asked to stop in the middle of
/// the evaluation.
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
      .lr = learning_rate_at(state_.step - 1),
      .images_per_second = training_seconds_ > 0 ? static_cast<double>(images_trained_) / training_seconds_ : 0,
      .seconds = seconds_of_run(),
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

}  // namespace vitrine
