// Distillation through a token: a small DeiT learns from a convolutional teacher, too (Touvron et al. 2021, section 4).
//   08_distillation [FOLDER with digits-images-idx3-ubyte.gz and digits-labels-idx1-ubyte.gz]
#include <fmt/core.h>

#include <string>

#include "data/loader.h"
#include "models/registry.h"
#include "nn/image_layers.h"
#include "optim/adamw.h"

using namespace vitrine;

/// What a convolution knows in one place it knows in every place. A transformer has to learn that: it has much to ask.
struct Teacher {
  Conv2d conv1, conv2;
  BatchNorm2d norm1, norm2;
  Linear head;
  static void fields(auto& self, auto&& field) {
    field("conv1", self.conv1);
    field("conv2", self.conv2);
    field("norm1", self.norm1);
    field("norm2", self.norm2);
    field("head", self.head);
  }
  static Teacher make(Initializer& init) {
    return {Conv2d::make(3, 16, 3, init, {.padding = 1}), Conv2d::make(16, 32, 3, init, {.stride = 2, .padding = 1}),
            BatchNorm2d::make(16, init), BatchNorm2d::make(32, init), Linear::make(32, 10, init)};
  }
  Tensor operator()(const Tensor& images, const Pass& pass = {}) const {
    const Tensor x = relu(norm1(conv1(images), pass));       // (B, 16, 8, 8)
    return head(mean(relu(norm2(conv2(x), pass)), {2, 3}));  // (B, 32, 4, 4) -> (B, 32) -> (B, 10)
  }
};

/// The student: besides the tokens of its patches it has one for the class and one for distillation, each with a head.
Model make_student() {
  return create_model("deit_tiny_distilled_patch4_32", {.num_classes = 10,
                                                        .img_size = 8,
                                                        .patch_size = 2,
                                                        .embed_dim = 32,
                                                        .depth = 2,
                                                        .num_heads = 4,
                                                        .drop_path_rate = 0,
                                                        .seed = 1});
}

/// The loop that all three share; what they learn from a batch is their own. All see the same images in the same order,
/// under noise: there the teacher is not always of the label's opinion.
template <class Loss>
void train(const Batch& digits, const std::vector<NamedParameter>& parameters, const Loss& loss_of) {
  constexpr std::int64_t batch_size = 25, epochs = 12;
  AdamW optimizer(weight_decay_groups(parameters, 0.05, {"pos_embed", "cls_token", "dist_token"}),
                  {.learning_rate = 3e-3});
  Generator generator{.seed = 1};
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    const Tensor order = from_vector(epoch_order(digits.size(), 1, epoch), {digits.size()});
    double total = 0;
    for (const Tensor& rows : split(order, batch_size, 0)) {
      Tensor images = index_select(digits.images, 0, rows), noise = empty_like(images);
      fill_normal(noise, 0, 0.5, generator.next(Purpose::augmentation));
      Tape tape;
      const Tensor loss = loss_of(images + noise, index_select(digits.labels, 0, rows));
      optimizer.step(tape.backward(loss));
      total += loss.item() * static_cast<double>(rows.numel());
    }
    if (epoch % 4 == 3) fmt::print("  epoch {:2}: loss {:.3f}\n", epoch, total / static_cast<double>(digits.size()));
  }
}

/// The class that a model finds most likely. Nothing is recorded, for nobody asks how the model would have to change;
/// and no Pass says training, so batch norms use the statistics that they have, and learn nothing. A student's two
/// heads answer together, by the mean of their logits.
Tensor answers(const auto& model, const Tensor& images) {
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

  Initializer init(1);
  Teacher teacher = Teacher::make(init);
  fmt::print("the teacher\n");
  train(seen, parameters(teacher), [&](const Tensor& images, const Tensor& labels) {
    return cross_entropy(teacher(images, {.training = true}), labels);
  });
  const Tensor taught = answers(teacher, unseen.images);

  const Model alone = make_student(), pupil = make_student();
  fmt::print("a student alone: both of its heads learn the labels\n");
  train(seen, alone.parameters(), [&](const Tensor& images, const Tensor& labels) {
    const std::vector<Tensor> heads = alone.forward_heads(images, {.training = true});
    return 0.5 * cross_entropy(heads[0], labels) + 0.5 * cross_entropy(heads[1], labels);
  });

  fmt::print("the same student with the teacher: the second head learns what the teacher sees\n");
  train(seen, pupil.parameters(), [&](const Tensor& images, const Tensor& labels) {
    const std::vector<Tensor> heads = pupil.forward_heads(images, {.training = true});
    return 0.5 * cross_entropy(heads[0], labels) + 0.5 * cross_entropy(heads[1], answers(teacher, images));
  });

  // A run with another seed may well rank the students otherwise. What must be: the teacher is as it was, and all have
  // learned.
  fmt::print("of {} digits that nobody has seen, the teacher is right on {:.1f}%\n", unseen.size(),
             percent_equal(taught, unseen.labels));
  bool as_expected = percent_equal(answers(teacher, unseen.images), taught) == 100;
  for (const Model* student : {&alone, &pupil}) {
    const Tensor answer = answers(*student, unseen.images);
    const double right = percent_equal(answer, unseen.labels);
    fmt::print("the student {}: right on {:.1f}%, of the teacher's opinion on {:.1f}%\n",
               student == &alone ? "alone" : "with the teacher", right, percent_equal(answer, taught));
    as_expected = as_expected && right > 40;  // chance: 10
  }
  return as_expected && percent_equal(taught, unseen.labels) > 40 ? 0 : 1;
}
