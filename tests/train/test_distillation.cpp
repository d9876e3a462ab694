// Distillation: the losses by their formulas, and training runs with a teacher.
#include <gtest/gtest.h>

#include <cmath>

#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tests/support/cuda_test.h"
#include "tests/support/expectations.h"
#include "tests/train/distillation_run.h"
#include "weights/files/file.h"

namespace vitrine {
namespace {

constexpr std::int64_t B = 3, K = 4;

/// ln sum e^x of row b, for x = logits / temperature.
double log_sum(const Tensor& logits, std::int64_t b, double temperature) {
  double sum = 0;
  for (std::int64_t k = 0; k < K; ++k) sum += std::exp(value_at(logits, {b, k}) / temperature);
  return std::log(sum);
}

std::int64_t likeliest(const Tensor& logits, std::int64_t b) {
  std::int64_t best = 0;
  for (std::int64_t k = 1; k < K; ++k) {
    if (value_at(logits, {b, k}) > value_at(logits, {b, best})) best = k;
  }
  return best;
}

struct DistillationLosses : testing::Test {
  const Tensor student = test_values({B, K}, 1), token = test_values({B, K}, 2), teacher = test_values({B, K}, 3);
  static Tensor task(const Tensor& logits) { return sum(square(logits)); }
};

TEST_F(DistillationLosses, SoftIsTheDivergenceTimesTheTemperatureSquared) {
  const double temperature = 3, weight = 0.1;
  double divergence = 0;
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t k = 0; k < K; ++k) {
      const double log_p = value_at(teacher, {b, k}) / temperature - log_sum(teacher, b, temperature);
      const double log_q = value_at(student, {b, k}) / temperature - log_sum(student, b, temperature);
      divergence += std::exp(log_p) * (log_p - log_q) / static_cast<double>(B);
    }
  }
  const DistillationLoss loss{.hard = false, .temperature = temperature, .weight = weight};
  const double expected = (1 - weight) * task(student).item() + weight * temperature * temperature * divergence;
  EXPECT_NEAR(loss({student}, teacher, task).item(), expected, 1e-12);
  EXPECT_NEAR(DistillationLoss({.hard = false, .temperature = 2, .weight = 1})({teacher}, teacher, task).item(), 0,
              1e-12);
}

TEST_F(DistillationLosses, HardIsTheCrossEntropyWithTheTeachersChoice) {
  double entropy = 0;
  for (std::int64_t b = 0; b < B; ++b) {
    entropy += (log_sum(student, b, 1) - value_at(student, {b, likeliest(teacher, b)})) / static_cast<double>(B);
  }
  EXPECT_NEAR(DistillationLoss()({student}, teacher, task).item(), 0.5 * task(student).item() + 0.5 * entropy, 1e-12);
}

TEST_F(DistillationLosses, TheTokenLearnsFromTheTeacherAndTheClassHeadFromTheLabels) {
  const DistillationLoss loss{.on_token = true};
  double entropy = 0;
  for (std::int64_t b = 0; b < B; ++b) {
    entropy += (log_sum(token, b, 1) - value_at(token, {b, likeliest(teacher, b)})) / static_cast<double>(B);
  }
  EXPECT_NEAR(loss({student, token}, teacher, task).item(), 0.5 * task(student).item() + 0.5 * entropy, 1e-12);
  EXPECT_THROW(loss({student}, teacher, task), Error);
}

TEST(Distillation, AgreementCounts) {
  const Tensor first = from_values<float>({3, 1, 1, 3, 3, 1}, {3, 2}),
               last = from_values<float>({3, 1, 3, 1, 1, 3}, {3, 2});
  const Tensor teacher =
      from_values<float>({3, 1, 1, 3, 1, 3}, {3, 2});  // answers 0, 1, 1; the student 0, 1, 0 and 0, 0, 1
  const Tensor classes = from_values<std::int64_t>({0, 0, 0}, {3});
  EXPECT_EQ(Distillation::agreement({first, last}, teacher, classes).to_vector<double>(),
            (std::vector<double>{1, 2, 1}));
}

// ---- Runs ----

TEST_F(DistillationRun, EveryTypeTrainsAndTells) {
  const std::string teacher = train_teacher();
  const auto weights = read_weights(teacher).front().second.to_vector<float>();
  for (const std::string type : {"soft", "hard", "token"}) {
    Notes notes;
    const std::string model = type == "token" ? "deit_tiny_distilled_patch4_32" : "deit_tiny_patch4_32";
    Trainer trainer(recipe(type, model, fmt::format("kd-model-name: {}\nkd-distill-type: {}\n", teacher, type)), notes);
    EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
    EXPECT_TRUE(notes.has("teacher: vit_tiny_patch4_32")) << type;
    EXPECT_TRUE(notes.has("distillation: the teacher was right on")) << type;
    EXPECT_EQ(notes.has("its heads with each other"), type == "token") << type;
    EXPECT_TRUE(
        notes.has(type == "soft" ? "soft labels at temperature 1 with weight 0.5" : "hard labels with weight 0.5"));
    const EpochSummary epoch = trainer.state().history.at(0);
    EXPECT_TRUE(std::isfinite(epoch.train_loss));
    EXPECT_TRUE(epoch.distillation.teacher_right >= 0 && epoch.distillation.student_agrees >= 0);
    EXPECT_EQ(std::isnan(epoch.distillation.between_heads), type != "token");
    EXPECT_TRUE(contains(read_text(trainer.folder().path() / "summary.csv", 1 << 16),
                         ",seconds,teacher_top1,student_teacher_agreement,heads_agreement\n0,"));
  }
  EXPECT_EQ(read_weights(teacher).front().second.to_vector<float>(), weights);
}

TEST_F(DistillationRun, TheCountsOfAnEpochSurviveAStopInItsMiddle) {
  const std::string teacher = train_teacher();
  const std::string taught = fmt::format("kd-model-name: {}\nkd-distill-type: token\n", teacher);
  Notes notes;
  Trainer whole(recipe("whole", "deit_tiny_distilled_patch4_32", taught), notes);
  whole.run();
  Recipe part = recipe("part", "deit_tiny_distilled_patch4_32", taught + "max-steps: 1\n");
  EXPECT_EQ(Trainer(part, notes).run(), Trainer::Outcome::stopped);
  part.resume = (folder_ / "part").string();
  part.max_steps = 0;
  Trainer rest(part, notes);
  rest.run();
  const DistillationSummary expected = whole.state().history.at(0).distillation;
  const DistillationSummary found = rest.state().history.at(0).distillation;
  EXPECT_EQ(found.teacher_right, expected.teacher_right);
  EXPECT_EQ(found.student_agrees, expected.student_agrees);
  EXPECT_EQ(found.between_heads, expected.between_heads);
}

TEST_F(DistillationRun, TheTeacherSeesItsOwnNormalisation) {
  const std::string teacher = train_teacher();
  const Recipe student = recipe("student", "deit_tiny_patch4_32", "kd-model-name: " + teacher + "\n");
  const Model model = create_model(student.model, model_options(student, 10));
  const PretrainedConfig deit = preprocessing(student, model);  // ImageNet's mean and std, where the teacher has 0.5
  const auto names = make_shapes(1, "train", 0)->class_names();
  const Distillation distillation(student, model, deit, names, {});
  Tensor pixels = test_values({2, 3, 32, 32}, 1, 0, 1), for_student = zeros({2, 3, 32, 32}), for_teacher = for_student;
  for_teacher = clone(for_student);
  for_each_index(pixels.shape(), [&](const Dims& index, std::int64_t i) {
    const auto c = static_cast<std::size_t>(index[1]);
    const double pixel = pixels.data<double>()[i];
    for_student.data<float>()[i] = static_cast<float>((pixel - deit.mean[c]) / deit.std[c]);
    for_teacher.data<float>()[i] = static_cast<float>((pixel - 0.5) / 0.5);
  });
  const Tensor expected = load_model(teacher).model(for_teacher);
  EXPECT_TRUE(relative_error(distillation.teacher_logits(for_student), expected) <= 1e-5);
}

#if VT_CUDA
// A convolutional teacher, with its running statistics, and a student with two heads; also as a
// recorded graph.
TEST_F(DistillationRun, CudaTeachesLikeTheCpu) {
  if (cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  const std::string teacher = train_convolutional_teacher("img-size: 16\n");
  const auto run = [&](const std::string& experiment, const std::string& more) {
    const std::string taught =
        fmt::format("img-size: 16\nkd-model-name: {}\nkd-distill-type: token\n{}", teacher, more);
    Notes heard;
    Trainer trainer(recipe(experiment, "deit_tiny_distilled_patch4_32", taught), heard);
    trainer.run();
    return trainer.state().history.at(0);
  };
  const EpochSummary exact = run("cpu", ""), replayed = run("graph", "device: cuda\n");
  const EpochSummary launched = run("launched", "device: cuda\ncuda-graph: false\n");
  EXPECT_NEAR(replayed.train_loss, exact.train_loss, 1e-4 * exact.train_loss);
  EXPECT_NEAR(replayed.eval_loss, exact.eval_loss, 1e-4 * exact.eval_loss);
  EXPECT_EQ(replayed.train_loss, launched.train_loss);
  EXPECT_EQ(replayed.eval_loss, launched.eval_loss);
}
#endif

TEST_F(DistillationRun, MistakesAreErrors) {
  const std::string teacher = train_teacher();
  Notes notes;
  const auto error = [&](const std::string& model, const std::string& more) -> std::string {
    try {
      Trainer(recipe("bad", model, more), notes);
    } catch (const Error& failure) {
      return failure.what();
    }
    return "no error";
  };
  EXPECT_NE(error("deit_tiny_patch4_32", "kd-model-name: /nowhere\n").find("--kd-model-name: /nowhere"),
            std::string::npos);
  EXPECT_NE(error("deit_tiny_patch4_32", "kd-model-name: " + teacher + "\nkd-distill-type: token\n")
                .find("no distillation token"),
            std::string::npos);
  EXPECT_TRUE(
      contains(error("deit_tiny_distilled_patch4_32", "kd-model-name: " + teacher + "\nkd-distill-type: soft\n"),
               "--kd-distill-type soft: the head of deit_tiny_distilled_patch4_32's distillation token"));
  EXPECT_TRUE(
      contains(error("deit_tiny_distilled_patch4_32", "kd-distill-type: token\n"), "--kd-model-name: is not given"));
  EXPECT_NE(error("deit_tiny_patch4_32", "kd-model-name: " + teacher + "\nnum-classes: 12\n")
                .find("the teacher knows 10 classes"),
            std::string::npos);
  const std::string smaller = error("deit_tiny_patch4_32", "kd-model-name: " + teacher + "\nimg-size: 16\n");
  EXPECT_TRUE(contains(smaller, "the teacher, vit_tiny_patch4_32, takes images of 32 pixels alone, expected 16 "))
      << smaller;
}

}  // namespace
}  // namespace vitrine
