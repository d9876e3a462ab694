// What a run tells its observer, beside the figures of each epoch.
#include <cmath>

#include "train/trainer.h"

namespace vitrine {

void Trainer::describe() const {
  observer_.note(fmt::format("data: {} images to train on, {} to evaluate on, {} classes", data_.train->size(),
                             data_.val->size(), data_.train->num_classes()));
  for (const DatasetPtr& data : {data_.train, data_.val}) {
    for (const std::string& note : data->notes()) observer_.note("data: " + note);
  }
  if (!recipe_.initial_checkpoint.empty() && recipe_.class_order.empty() && orders_differ(data_.train->class_names())) {
    observer_.note(
        "warning: class folders are sorted as torchvision does it; if timm trained the weights of "
        "--initial-checkpoint, "
        "give --class-order natural");
  }
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
  describe_learning_rate();
  observer_.note(fmt::format("run folder: {}", folder_->path().string()));
}

void Trainer::describe_learning_rate() const {
  const bool in_steps = recipe_.warmup_steps > 0;
  observer_.note(fmt::format("learning rate: {}; warm-up of {} {} from {}, then {} to {}, new for each {}",
                             peak_rate_.explanation, in_steps ? recipe_.warmup_steps : warmup_epochs_of(recipe_),
                             in_steps ? "updates" : "epochs", recipe_.warmup_lr, recipe_.sched, recipe_.min_lr,
                             recipe_.sched_on_updates ? "update" : "epoch"));
  if (recipe_.layer_decay || recipe_.head_lr) {
    observer_.note(fmt::format("learning rate by depth: x {} for each block in front of the head, head {}",
                               recipe_.layer_decay.value_or(1), recipe_.head_lr.value_or(peak_rate_.value)));
  }
  if (recipe_.min_lr > peak_rate_.value) {
    observer_.note(
        fmt::format("warning: the learning rate grows from {} to min-lr {}", peak_rate_.value, recipe_.min_lr));
  }
  for (const std::string& sentence : departures_from_file(recipe_, peak_rate_.value)) {
    observer_.note("warning: " + sentence);
  }
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
                        .learning_rate = learning_rate_at(state_.step - 1),
                        .images_per_second = speed,
                        .seconds_left = batches_left * static_cast<double>(recipe_.batch_size) / speed +
                                        static_cast<double>(epochs_left) * evaluation_seconds_});
}

DistillationSummary Trainer::summarize_distillation() const {
  if (!distillation_ || state_.loss_images == 0) return {};
  const auto percent = [&](double count) { return 100 * count / static_cast<double>(state_.loss_images); };
  const AgreementCounts& counts = state_.agreement;
  return {.teacher_right = percent(counts.teacher_right),
          .student_agrees = percent(counts.with_teacher),
          .between_heads = model_->has_distillation_token() ? percent(counts.between_heads) : unknown_figure};
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
