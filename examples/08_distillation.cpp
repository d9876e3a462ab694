// Distillation in one screen: a DeiT has a head that learns the labels, and one that learns what a convolutional teacher answers
// (Touvron et al. 2021, section 4, "hard-label distillation" through a token).
#include <fmt/core.h>

#include "data/loader.h"
#include "models/registry.h"
#include "ops/ops.h"
#include "optim/adamw.h"

using namespace vitrine;

/// `loss_of` says what is learned from a batch.
void train(const Model& model, Loader& loader, std::int64_t epochs, auto&& loss_of) {
  AdamW optimizer(weight_decay_groups(model.parameters(), 0.05, model.info().no_decay), {.learning_rate = 3e-3});
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (Batch& batch : loader.epoch(epoch)) {
      Tape tape;
      optimizer.step(tape.backward(loss_of(batch)));
    }
  }
}

/// The classes that a model finds most likely. Nothing is recorded, for nobody asks how the model would have to change; and no
/// Pass says training, so batch norms use the statistics that they have, and learn nothing. The two heads of a DeiT answer
/// together, by the mean of their logits.
Tensor answers(const Model& model, const Tensor& images) {
  const PauseRecording pause;
  return argmax(model(images));
}

double percent_equal(const Tensor& a, const Tensor& b) { return 100 * mean(cast(equal(a, b), DType::f32)).item(); }

int main() {
  Loader seen(make_shapes(3000, "train"), TrainTransform{.image_size = 32}, {.batch_size = 50});
  Loader unseen(make_shapes(500, "test"), EvalTransform{.image_size = 32}, {.batch_size = 500, .shuffle = false});

  const Model teacher = create_model("resnet20_cifar", {.num_classes = 10, .depths = Numbers({1, 1, 1}), .seed = 1});
  train(teacher, seen, 4,
        [&](const Batch& batch) { return cross_entropy(teacher(batch.images, {.training = true}), batch.labels); });

  const Model student = create_model("deit_tiny_distilled_patch4_32", {.num_classes = 10,
                                                                       .patch_size = 8,
                                                                       .embed_dim = 64,
                                                                       .depth = 2,
                                                                       .num_heads = 4,
                                                                       .drop_path_rate = 0,
                                                                       .seed = 2});
  train(student, seen, 6, [&](const Batch& batch) {
    const std::vector<Tensor> heads = student.forward_heads(batch.images, {.training = true});
    return 0.5 * cross_entropy(heads[0], batch.labels) + 0.5 * cross_entropy(heads[1], answers(teacher, batch.images));
  });

  unseen.start(0);
  const Batch test = *unseen.next();
  const Tensor taught = answers(teacher, test.images), learned = answers(student, test.images);
  fmt::print("of {} drawings that nobody has seen, the teacher is right on {:.1f}%,\n", test.size(),
             percent_equal(taught, test.labels));
  fmt::print("the student on {:.1f}%; it agrees with the teacher on {:.1f}%\n", percent_equal(learned, test.labels),
             percent_equal(learned, taught));
  return percent_equal(taught, test.labels) > 50 && percent_equal(learned, test.labels) > 30 ? 0 : 1;  // chance: 10%
}
