// The teacher of a training run: what it sees and answers, that nothing moves it, and that the
// losses and figures of the run are those that the formulas give for the very same batches.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <set>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "tests/support/expectations.h"
#include "tests/train/distillation_run.h"

namespace vitrine {
namespace {

Values values_of(const Tensor& tensor) { return cast_data(tensor, DType::f64).to_vector<double>(); }

std::map<std::string, Values> values_of(const Model& model) {
  std::map<std::string, Values> all;
  for (const auto& [name, tensor] : model.state_dict()) all[name] = values_of(tensor);
  return all;
}

/// The parts of a run as the trainer makes them, before its first update.
struct Parts {
  explicit Parts(const Recipe& recipe)
      : data(open_data(recipe)),
        student(create_model(recipe.model, model_options(recipe, data.train->num_classes()))),
        prepared(preprocessing(recipe, student)),
        batches(training_batches(recipe, data, prepared, student.classes(), {})),
        distillation(recipe, student, prepared, data.train->class_names(), {}) {}

  Batch first_batch() {
    batches.source->start(0);
    return *batches.source->next();
  }

  TrainingData data;
  Model student;
  PretrainedConfig prepared;
  Batches batches;
  Distillation distillation;
};

/// A teacher with running statistics, which one pass in training mode would change.
struct BatchNormTeacher : DistillationRun {
  void SetUp() override {
    DistillationRun::SetUp();
    teacher_ = train_convolutional_teacher();
  }
  /// The student has a distillation token where `more` asks for one.
  Recipe taught(const std::string& experiment, const std::string& more = "") const {
    const bool token = contains(more, "kd-distill-type: token");
    return recipe(experiment, token ? "deit_tiny_distilled_patch4_32" : "deit_tiny_patch4_32",
                  fmt::format("kd-model-name: {}\n{}", teacher_, more));
  }
  /// Makes it surer: its logits become 30 times as large. Between small logits temperature^2 KL
  /// hardly depends on the temperature.
  void sharpen() const {
    LoadedModel loaded = load_model(teacher_);
    for (auto& [name, tensor] : loaded.model.state_dict()) {
      if (name.starts_with("fc.")) copy_into(tensor, tensor * 30);
    }
    save_weights(teacher_, loaded.model, loaded.preprocessing, loaded.label_names);
  }
  std::string teacher_;
};

TEST_F(BatchNormTeacher, AnswersAsAnEvaluationOfItsWeights) {
  Parts parts(taught("student"));
  const Tensor images = parts.first_batch().images;
  const Model loaded = load_model(teacher_).model;
  const Tensor expected = loaded(images);
  EXPECT_EQ(values_of(parts.distillation.teacher_logits(images)), values_of(expected));
  const Tensor with_statistics_of_the_batch = loaded.deep_copy()(images, {.training = true});
  EXPECT_TRUE(relative_error(with_statistics_of_the_batch, expected) >= 1e-2);
}

TEST_F(BatchNormTeacher, StaysAsItWasWhileTheStudentLearns) {
  const Recipe recipe = taught("student", "kd-distill-type: token\n");
  Parts parts(recipe);
  const auto optimizer = make_optimizer(recipe, parts.student);
  TrainStep train_step(recipe, parts.student, *optimizer, nullptr, &parts.distillation, {});
  const auto teacher = values_of(parts.distillation.teacher()), student = values_of(parts.student);
  EXPECT_EQ(teacher.at("bn1.num_batches_tracked"), Values{4});  // of its own training
  ASSERT_TRUE(teacher.contains("bn1.running_mean"));
  Generator generator{.seed = recipe.seed};
  parts.batches.source->start(0);
  for (int step = 0; step < 2; ++step) train_step(*parts.batches.source, 1, 1e-2, generator);
  EXPECT_EQ(values_of(parts.distillation.teacher()), teacher);
  EXPECT_NE(values_of(parts.student), student);
}

TEST_F(BatchNormTeacher, IsNotRecorded) {
  Parts parts(taught("student", "kd-distill-type: token\nkd-token-distill-type: soft\n"));
  const Batch batch = parts.first_batch();
  const Model& teacher = parts.distillation.teacher();
  {
    Tape tape;
    const Tensor answers = parts.distillation.teacher_logits(batch.images);
    EXPECT_EQ(tape.size(), 0);
    EXPECT_FALSE(tape.tracks(answers));
    const Tensor loss =
        parts.distillation.loss()(parts.student.forward_heads(batch.images), answers,
                                  [&](const Tensor& logits) { return soft_cross_entropy(logits, batch.targets); });
    const Gradients gradients = tape.backward(loss);
    for (const auto& [name, parameter] : teacher.parameters()) EXPECT_FALSE(gradients[*parameter].defined()) << name;
    for (const auto& [name, parameter] : parts.student.parameters()) {
      EXPECT_TRUE(gradients[*parameter].defined()) << name;
    }
  }
  Tape tape;
  EXPECT_TRUE(tape.tracks(teacher(batch.images)));  // so that the check above could have failed
}

TEST_F(BatchNormTeacher, SeesImagesOfTheStudentsSize) {
  const Recipe recipe = taught("student", "img-size: 16\n");
  Parts parts(recipe);
  const Tensor images = parts.first_batch().images;
  EXPECT_EQ(images.size(3), 16);
  EXPECT_EQ(values_of(parts.distillation.teacher_logits(images)), values_of(load_model(teacher_).model(images)));
  Notes notes;
  Trainer trainer(recipe, notes);
  EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
  EXPECT_TRUE(notes.has("teacher: resnet20_cifar"));
  EXPECT_TRUE(std::isfinite(trainer.state().history.at(0).train_loss));
}

TEST(Teacher, OnlyModelsWithConvolutionsTakeAnySize) {
  for (const char* name : {"resnet20_cifar", "regnety_002", "cvt_13_32"}) {
    EXPECT_TRUE(create_model(name).info().takes_any_size) << name;
  }
  for (const char* name : {"vit_tiny_patch4_32", "deit_tiny_patch4_32", "deit_tiny_distilled_patch4_32",
                           "swin_tiny_patch2_window4_32", "vit_tiny_r_s16_p8_224"}) {
    EXPECT_FALSE(create_model(name).info().takes_any_size) << name;
  }
}

// ---- The loss and the figures of a run, by loops over the same batches ----

/// Logits (B, K) as plain numbers.
struct Rows {
  explicit Rows(const Tensor& logits) : values(values_of(logits)), rows(logits.size(0)), classes(logits.size(1)) {}

  double at(std::int64_t b, std::int64_t k) const { return values[static_cast<std::size_t>(b * classes + k)]; }
  std::int64_t best(std::int64_t b) const {
    std::int64_t best = 0;
    for (std::int64_t k = 1; k < classes; ++k) best = at(b, k) > at(b, best) ? k : best;
    return best;
  }
  /// ln softmax(logits / temperature).
  double log_probability(std::int64_t b, std::int64_t k, double temperature = 1) const {
    double sum = 0;
    for (std::int64_t j = 0; j < classes; ++j) sum += std::exp(at(b, j) / temperature);
    return at(b, k) / temperature - std::log(sum);
  }

  Values values;
  std::int64_t rows, classes;
};

struct Setting {
  std::string type, token_type;
  double temperature, weight;

  bool on_token() const { return type == "token"; }
  bool hard() const { return (on_token() ? token_type : type) == "hard"; }

  /// (1 - weight) CE(first head, targets) + weight D, where D is the cross entropy with the
  /// teacher's choice, or temperature^2 KL(teacher || student), of the head that learns from the
  /// teacher.
  double loss(const std::vector<Rows>& heads, const Rows& teacher, const Rows& targets) const {
    const Rows& student = on_token() ? heads.back() : heads.front();
    double task = 0, learned = 0;
    for (std::int64_t b = 0; b < teacher.rows; ++b) {
      if (hard()) learned -= student.log_probability(b, teacher.best(b));
      for (std::int64_t k = 0; k < teacher.classes; ++k) {
        task -= targets.at(b, k) * heads.front().log_probability(b, k);
        if (hard()) continue;
        const double log_p = teacher.log_probability(b, k, temperature);
        learned += temperature * temperature * std::exp(log_p) * (log_p - student.log_probability(b, k, temperature));
      }
    }
    return ((1 - weight) * task + weight * learned) / static_cast<double>(teacher.rows);
  }
};

std::vector<Rows> heads_of(const Model& student, const Tensor& images) {
  std::vector<Rows> heads;
  for (const Tensor& logits : student.forward_heads(images)) heads.emplace_back(logits);
  return heads;
}

TEST_F(BatchNormTeacher, TheFirstLossIsThatOfTheFormula) {
  sharpen();
  const Model teacher = load_model(teacher_).model;
  int run = 0;
  for (const Setting& setting :
       {Setting{"hard", "hard", 1, 0.5}, Setting{"hard", "soft", 1, 0.2}, Setting{"soft", "hard", 1, 0.5},
        Setting{"soft", "hard", 3, 0.5}, Setting{"token", "hard", 3, 0.3}, Setting{"token", "soft", 2, 0.6}}) {
    const std::string name = fmt::format("run-{}", run++);
    SCOPED_TRACE(fmt::format("{} {} {} {}", setting.type, setting.token_type, setting.temperature, setting.weight));
    const Recipe recipe =
        taught(name, fmt::format("kd-distill-type: {}\nkd-token-distill-type: {}\nkd-temperature: {}\n"
                                 "distill-loss-weight: {}\nmax-steps: 1\n",
                                 setting.type, setting.token_type, setting.temperature, setting.weight));
    Notes notes;
    Trainer trainer(recipe, notes);
    ASSERT_EQ(trainer.run(), Trainer::Outcome::stopped);
    ASSERT_EQ(trainer.state().loss_images, 16);
    const double loss = trainer.state().loss_sum / 16;

    Parts parts(recipe);
    const Batch batch = parts.first_batch();
    const std::vector<Rows> heads = heads_of(parts.student, batch.images);
    const Rows taught_logits(teacher(batch.images)), targets(batch.targets);
    const double expected = setting.loss(heads, taught_logits, targets);
    EXPECT_NEAR(loss, expected, 1e-5 * expected);

    // The comparison would notice another temperature and another weight.
    Setting other = setting;
    other.temperature = setting.temperature == 1 ? 2 : 1;
    if (!setting.hard()) {
      EXPECT_GT(std::abs(other.loss(heads, taught_logits, targets) - expected), 3e-5 * expected);
    }
    other = setting;
    other.weight += 0.1;
    EXPECT_GT(std::abs(other.loss(heads, taught_logits, targets) - expected), 1e-4 * expected);
    // And mixup was on: some target has two classes.
    bool mixed = false;
    for (std::int64_t b = 0; b < targets.rows; ++b) {
      int likely = 0;
      for (std::int64_t k = 0; k < targets.classes; ++k) likely += targets.at(b, k) > 0.05;
      mixed |= likely == 2;
    }
    EXPECT_TRUE(mixed);
  }
}

TEST_F(BatchNormTeacher, TheFiguresAreSharesOfTheImagesOfTheEpoch) {
  Recipe recipe = taught("student", "kd-distill-type: token\ngrad-accum-steps: 3\n");  // updates of 3 batches and of 1
  recipe.epochs = 2;
  recipe.lr = 1e-30;  // the student stays as it is
  recipe.sched = "constant";
  Notes notes;
  Trainer trainer(recipe, notes);
  ASSERT_EQ(trainer.run(), Trainer::Outcome::finished);
  std::vector<std::string> told;
  for (const std::string& line : notes.lines) {
    if (line.starts_with("distillation: ")) told.push_back(line);
  }

  Parts parts(recipe);
  const Model teacher = load_model(teacher_).model;
  std::vector<std::string> expected;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    std::array<int, 3> counts{};
    for (const Batch& batch : parts.batches.source->epoch(epoch)) {
      const std::vector<Rows> heads = heads_of(parts.student, batch.images);
      const Rows taught_logits(teacher(batch.images)), targets(batch.targets);
      for (std::int64_t b = 0; b < targets.rows; ++b) {
        counts[0] += taught_logits.best(b) == targets.best(b);
        counts[1] += heads.front().best(b) == taught_logits.best(b);
        counts[2] += heads.front().best(b) == heads.back().best(b);
      }
    }
    EXPECT_EQ((std::set<int>(counts.begin(), counts.end()).size()), 3u);  // else their order would not be seen
    expected.push_back(
        fmt::format("distillation: the teacher was right on {:.1f}% of the training images, the student agreed with it "
                    "on {:.1f}%, its heads with each other on {:.1f}%",
                    100 * counts[0] / 64.0, 100 * counts[1] / 64.0, 100 * counts[2] / 64.0));
  }
  EXPECT_EQ(told, expected);
}

}  // namespace
}  // namespace vitrine
