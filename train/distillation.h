// Distillation: the student learns from the logits that a trained model, the teacher, gives for the
// same images. Hinton et al. 2015, "Distilling the knowledge in a neural network"; Touvron et al.
// 2021, section 4, for hard labels and the distillation token.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/registry.h"
#include "train/recipe/placement.h"
#include "train/recipe/recipe.h"
#include "weights/model_folder.h"

namespace vitrine {

/// How a student learns from the logits of a teacher. loss = (1 - weight) task + weight
/// distillation, where
///   soft:  temperature^2 KL(softmax(teacher / temperature) || softmax(student / temperature)), the mean over the images;
///   hard:  cross entropy with the class that the teacher finds most likely.
struct DistillationLoss {
  bool hard = true;
  /// With the head of the distillation token, the last of the heads; the first one does the task.
  /// Else one head does both.
  bool on_token = false;
  double temperature = 1;
  double weight = 0.5;  // 0 to 1
  /// 0, 1, ..., K - 1 as i64 on the device of the logits. It comes from the host, so a recorded
  /// graph cannot make it; may be left undefined elsewhere.
  Tensor classes = {};

  /// heads: the student's logits, (B, K) each; teacher (B, K); task: loss of logits against the
  /// labels.
  Tensor operator()(const std::vector<Tensor>& heads, const Tensor& teacher,
                    const std::function<Tensor(const Tensor&)>& task) const;
};

/// For people: "hard labels with weight 0.5", "soft labels at temperature 3 with weight 0.1".
std::string to_string(const DistillationLoss& loss);

/// A teacher and the loss. It sees the same augmented batch as the student, in evaluation mode, and
/// is never trained.
class Distillation {
 public:
  /// Loads recipe.kd_model_name, a folder with weights. Throws Error where teacher and student do
  /// not fit together. A teacher whose grid of patches or windows is fixed needs the student's
  /// image size; a convolutional one sees any, as Touvron et al. use theirs for students at 224 and
  /// at 384 pixels.
  Distillation(const Recipe& recipe, const Model& student, const PretrainedConfig& preprocessing,
               const std::vector<std::string>& class_names, Placement placement);

  /// The teacher's logits (B, K) f32 for images as the student gets them.
  Tensor teacher_logits(const Tensor& images) const;

  const DistillationLoss& loss() const { return loss_; }
  const Model& teacher() const { return teacher_; }

  /// Sums over the batch, f64 (3), in the order of AgreementCounts: images that the teacher gets
  /// right (of mixed ones, the class of the larger part); on which the student's first head agrees
  /// with the teacher; on which the student's first and last head agree. `classes` (B) i64: the
  /// labels.
  static Tensor agreement(const std::vector<Tensor>& heads, const Tensor& teacher, const Tensor& classes);

 private:
  Distillation(LoadedModel teacher, DistillationLoss loss, const PretrainedConfig& preprocessing, Placement placement);

  Model teacher_;
  std::vector<std::string> label_names_;
  DistillationLoss loss_;
  Placement placement_;
  /// (3, 1, 1): from the student's normalisation to the teacher's; undefined where they are equal.
  Tensor scale_, shift_;
};

}  // namespace vitrine
