// Distillation in one screen: a DeiT has a head that learns the labels, and one that learns what a
// convolutional teacher answers (Touvron et al. 2021, section 4: "hard-label distillation", through
// a token).
//   08_distillation [FOLDER with digits-images-idx3-ubyte.gz and digits-labels-idx1-ubyte.gz]
#include <fmt/core.h>

#include <string>

#include "data/loader/loader.h"
#include "models/registry.h"
#include "ops/ops.h"
#include "optim/adamw.h"

using namespace vitrine;

/// Teacher and student see the same images in the same order, under noise: there the teacher is not
/// always of the label's opinion. `loss_of` says what is learned from them.
void train(const Model& model, const Batch& digits, auto&& loss_of) {
  AdamW optimizer(weight_decay_groups(model.parameters(), 0.05, model.info().no_decay), {.learning_rate = 3e-3});
  Generator generator{.seed = 1};
  for (std::int64_t epoch = 0; epoch < 12; ++epoch) {
    const Tensor order = from_vector(epoch_order(digits.size(), 1, epoch), {digits.size()});
    for (const Tensor& rows : split(order, 25, 0)) {
      Tensor images = index_select(digits.images, 0, rows), noise = empty_like(images);
      fill_normal(noise, 0, 0.5, generator.next(Purpose::augmentation));
      Tape tape;
      optimizer.step(tape.backward(loss_of(images + noise, index_select(digits.labels, 0, rows))));
    }
  }
}

/// The most likely class of each image. Nothing is recorded, since no gradient is needed; and no
/// Pass says training, so batch norms use their running statistics and do not update them. The
/// logits of a DeiT are the mean of those of its two heads.
Tensor answers(const Model& model, const Tensor& images) {
  const PauseRecording pause;
  return argmax(model(images));
}

double percent_equal(const Tensor& a, const Tensor& b) { return 100 * mean(cast(equal(a, b), DType::f32)).item(); }

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "examples/data";
  const auto dataset = open_idx(folder + "/digits-images-idx3-ubyte.gz", folder + "/digits-labels-idx1-ubyte.gz");
  Loader loader(dataset, EvalTransform{.image_size = 8}, {.batch_size = 900, .shuffle = false, .drop_last = false});
  loader.start(0);
  const Batch seen = *loader.next(), unseen = *loader.next();  // 900 digits and the other 897

  const Model teacher =
      create_model("resnet20_cifar", {.num_classes = 10, .img_size = 8, .depths = PerStage({1, 1, 1}), .seed = 1});
  train(teacher, seen, [&](const Tensor& images, const Tensor& labels) {
    return cross_entropy(teacher(images, {.training = true}), labels);
  });

  const Model student = create_model("deit_tiny_distilled_patch4_32", {.num_classes = 10,
                                                                       .img_size = 8,
                                                                       .patch_size = 2,
                                                                       .embed_dim = 32,
                                                                       .depth = 2,
                                                                       .num_heads = 4,
                                                                       .drop_path_rate = 0,
                                                                       .seed = 1});
  train(student, seen, [&](const Tensor& images, const Tensor& labels) {
    const std::vector<Tensor> heads = student.forward_heads(images, {.training = true});
    return 0.5 * cross_entropy(heads[0], labels) + 0.5 * cross_entropy(heads[1], answers(teacher, images));
  });

  const Tensor taught = answers(teacher, unseen.images), learned = answers(student, unseen.images);
  const double teacher_right = percent_equal(taught, unseen.labels), right = percent_equal(learned, unseen.labels);
  fmt::print("of {} digits that no model has seen, the teacher is right on {:.1f}%, the student on {:.1f}%;\n",
             unseen.size(), teacher_right, right);
  fmt::print("the student agrees with the teacher on {:.1f}%\n", percent_equal(learned, taught));
  return teacher_right > 60 && right > 40 ? 0 : 1;  // chance: 10
}
