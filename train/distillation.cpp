// The losses in ops, and the teacher's view of the student's images.
#include "train/distillation.h"

#include "ops/ops.h"

namespace vitrine {
namespace {

Tensor soft_loss(const Tensor& student, const Tensor& teacher, double temperature) {
  const Tensor expected = softmax(teacher / temperature);
  const Tensor entropy = sum(expected * log_softmax(teacher / temperature)) / static_cast<double>(teacher.size(0));
  const Tensor divergence = soft_cross_entropy(student / temperature, expected) + entropy;
  return divergence * (temperature * temperature);
}

/// One row for each image, 1 at the class that the teacher finds most likely. Labels on a GPU would
/// have to be checked on the host, for which the GPU would wait.
Tensor hard_targets(const Tensor& teacher, const Tensor& classes) {
  return cast(equal(argmax(teacher, 1, true), classes), teacher.dtype());
}

LoadedModel load_teacher(const Recipe& recipe) {
  try {
    return load_model(recipe.kd_model_name);
  } catch (const Error& error) {
    throw Error(fmt::format("--kd-model-name: {}", error.what()));
  }
}

DistillationLoss loss_of(const Recipe& recipe) {
  const std::string& type = recipe.kd_distill_type;
  return {.hard = (type == "token" ? recipe.kd_token_distill_type : type) == "hard",
          .on_token = type == "token",
          .temperature = recipe.kd_temperature,
          .weight = recipe.distill_loss_weight};
}

}  // namespace

Tensor DistillationLoss::operator()(const std::vector<Tensor>& heads, const Tensor& teacher,
                                    const std::function<Tensor(const Tensor&)>& task) const {
  VT_CHECK(!on_token || heads.size() == 2, "distillation: the student has {} heads, expected 2", heads.size());
  const Tensor& student = on_token ? heads.back() : heads.front();
  const Tensor all = classes.defined() ? classes : arange(teacher.size(1), DType::i64, teacher.device());
  const Tensor learned =
      hard ? soft_cross_entropy(student, hard_targets(teacher, all)) : soft_loss(student, teacher, temperature);
  return task(heads.front()) * (1 - weight) + learned * weight;
}

std::string to_string(const DistillationLoss& loss) {
  const std::string kind = loss.hard ? "hard labels" : fmt::format("soft labels at temperature {}", loss.temperature);
  return fmt::format("{} with weight {}", kind, loss.weight);
}

Distillation::Distillation(const Recipe& recipe, const Model& student, const PretrainedConfig& preprocessing,
                           const std::vector<std::string>& class_names, Placement placement)
    : Distillation(load_teacher(recipe), loss_of(recipe), preprocessing, placement) {
  VT_CHECK(teacher_.classes() == student.classes(), "--kd-model-name: the teacher knows {} classes, expected {}",
           teacher_.classes(), student.classes());
  VT_CHECK(label_names_.empty() || label_names_ == class_names,
           "--kd-model-name: the teacher's classes have other names or another order than those of the data");
  VT_CHECK(!loss_.on_token || student.has_distillation_token(),
           "--kd-distill-type token: {} has no distillation token, expected a model such as "
           "deit_tiny_distilled_patch16_224",
           student.name());
  VT_CHECK(loss_.on_token || !student.has_distillation_token(),
           "--kd-distill-type {}: the head of {}'s distillation token would learn nothing, expected token with "
           "--kd-token-distill-type {}",
           recipe.kd_distill_type, student.name(), recipe.kd_distill_type);
}

Distillation::Distillation(LoadedModel teacher, DistillationLoss loss, const PretrainedConfig& preprocessing,
                           Placement placement)
    : teacher_(std::move(teacher.model)),
      label_names_(std::move(teacher.label_names)),
      loss_(loss),
      placement_(placement) {
  const PretrainedConfig& wanted = teacher.preprocessing;
  VT_CHECK(
      teacher_.info().takes_any_size || wanted.input_size[1] == preprocessing.input_size[1],
      "--kd-model-name: the teacher, {}, takes images of {} pixels alone, expected {} as the student has them, or a "
      "convolutional teacher, which takes any",
      teacher_.name(), wanted.input_size[1], preprocessing.input_size[1]);
  teacher_.move_to(placement.device);
  if (placement.dtype == DType::bf16) {  // once and for all: its weights never change
    for (const auto& [name, p] : teacher_.parameters()) p->set_bf16_copy(cast_data(p->value(), DType::bf16));
  }
  loss_.classes = arange(teacher_.classes(), DType::i64, placement.device);
  if (wanted.mean == preprocessing.mean && wanted.std == preprocessing.std) return;
  Tensor scale = empty({3, 1, 1}), shift = empty({3, 1, 1});
  for (std::size_t c = 0; c < 3; ++c) {  // x std + mean is the pixel, which the teacher wants as (pixel - mean') / std'
    scale.data<float>()[c] = static_cast<float>(preprocessing.std[c] / wanted.std[c]);
    shift.data<float>()[c] = static_cast<float>((preprocessing.mean[c] - wanted.mean[c]) / wanted.std[c]);
  }
  scale_ = to_device(scale, placement.device);
  shift_ = to_device(shift, placement.device);
}

Tensor Distillation::teacher_logits(const Tensor& images) const {
  const PauseRecording pause;
  const Tensor seen = scale_.defined() ? cast_data(images, DType::f32) * scale_ + shift_ : images;
  return cast(teacher_(placement_.place(seen)), DType::f32);
}

Tensor Distillation::agreement(const std::vector<Tensor>& heads, const Tensor& teacher, const Tensor& classes) {
  const PauseRecording pause;
  const auto count = [](const Tensor& a, const Tensor& b) { return reshape(sum(cast(equal(a, b), DType::f64)), {1}); };
  const Tensor taught = argmax(teacher, 1), first = argmax(heads.front().detach(), 1);
  return concat({count(taught, classes), count(first, taught), count(first, argmax(heads.back().detach(), 1))}, 0);
}

}  // namespace vitrine
