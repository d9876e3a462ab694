// A training step on its own: its result is that of the tape and the loss, a bad step is skipped,
// and its figures come back from the device in their own places.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "train/recipe/batches.h"
#include "train/train_step.h"

namespace vitrine {
namespace {

Recipe small_recipe() {
  return parse_recipe(
      "dataset: shapes\ntrain-num-samples: 32\nval-num-samples: 8\nmodel: vit_tiny_patch4_32\n"
      "model-kwargs: {patch_size: 8, embed_dim: 12, depth: 1, num_heads: 3}\nbatch-size: 8\nworkers: 0\n",
      "test recipe");
}

std::vector<float> weights_of(const Model& model) {
  std::vector<float> all;
  for (const auto& [name, value] : model.state_dict()) {
    const auto values = value.to_vector<float>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

/// What a step needs.
struct SmallRun {
  explicit SmallRun(Recipe given)
      : recipe(std::move(given)),
        data(open_data(recipe)),
        model(create_model(recipe.model, model_options(recipe, data.train->num_classes()))),
        optimizer(make_optimizer(recipe, model)),
        batches(training_batches(recipe, data, preprocessing(recipe, model), model.classes(), {})),
        generator{.seed = recipe.seed} {
    batches.source->start(0);
  }

  StepResult step(std::int64_t micro_batches, double learning_rate) {
    TrainStep train_step(recipe, model, *optimizer, nullptr, nullptr, {});
    return train_step(*batches.source, micro_batches, learning_rate, generator).get();
  }

  Recipe recipe;
  TrainingData data;
  Model model;
  std::unique_ptr<Optimizer> optimizer;
  Batches batches;
  Generator generator;
};

TEST(TrainStep, GivesTheLossAndTheGradientNormOfItsMicroBatches) {
  double loss_sum = 0, squares = 0;
  {
    SmallRun reference(small_recipe());
    std::vector<std::vector<float>> gradients;  // the mean over both micro-batches
    for (int i = 0; i < 2; ++i) {
      const Batch batch = *reference.batches.source->next();
      Tape tape;
      const Pass pass{.training = true, .generator = &reference.generator};
      const Tensor loss = cross_entropy(reference.model(batch.images, pass), batch.labels, reference.recipe.smoothing);
      const Gradients all = tape.backward(loss);
      loss_sum += loss.item() * 8;
      std::size_t next = 0;
      for (const auto& [name, parameter] : reference.model.parameters()) {
        const auto gradient = all[*parameter].to_vector<float>();
        if (i == 0) gradients.emplace_back(gradient.size());
        for (std::size_t k = 0; k < gradient.size(); ++k) gradients[next][k] += gradient[k] / 2;
        ++next;
      }
    }
    for (const auto& gradient : gradients) {
      for (const float g : gradient) squares += static_cast<double>(g) * g;
    }
  }
  for (const double clip : {0.0, 0.1}) {  // the norm is that before clipping
    SmallRun run(small_recipe());
    run.recipe.clip_grad = clip;
    const StepResult result = run.step(2, 1e-3);
    EXPECT_EQ(result.images, 16);
    EXPECT_TRUE(std::abs(result.loss_sum - loss_sum) <= 1e-5 * loss_sum) << result.loss_sum << " and " << loss_sum;
    EXPECT_TRUE(std::abs(result.gradient_norm - std::sqrt(squares)) <= 1e-5 * std::sqrt(squares));
    EXPECT_TRUE(result.gradient_norm > 0.1);
    EXPECT_FALSE(result.skipped);
    EXPECT_EQ(result.agreement.teacher_right, 0);
  }
}

TEST(TrainStep, TakesTheLearningRateThatItIsGiven) {
  SmallRun run(small_recipe());
  const auto before = weights_of(run.model);
  run.step(1, 0);
  EXPECT_EQ(weights_of(run.model), before);
  run.step(1, 1e-3);
  EXPECT_NE(weights_of(run.model), before);
}

TEST(TrainStep, SkipsAStepWithANonFiniteGradient) {
  SmallRun run(small_recipe());
  for (const auto& [name, parameter] : run.model.parameters()) {
    if (name == "head.bias") fill(parameter->value(), std::numeric_limits<double>::quiet_NaN());
  }
  const auto before = run.model.state_dict()[0].second.to_vector<float>();
  const StepResult result = run.step(1, 1e-3);
  EXPECT_TRUE(result.skipped);
  EXPECT_TRUE(std::isnan(result.loss_sum));
  EXPECT_EQ(run.model.state_dict()[0].second.to_vector<float>(), before);
}

TEST(StepResult, ComesBackAsItWasPacked) {
  const Tensor statistics = from_values<double>({25, 0.5, 0}, {3});  // squared norm, factor of clipping, steps skipped
  StepSums sums;
  sums.add(from_values<float>({2}, {}), from_values<double>({1, 2, 3}, {3}), 4);
  sums.add(from_values<float>({3}, {}), from_values<double>({10, 20, 30}, {3}), 2);
  const StepResult result = PendingStepResult(sums.pack(statistics), 6).get();
  EXPECT_EQ(result.images, 6);
  EXPECT_EQ(result.loss_sum, 2 * 4 + 3 * 2);
  EXPECT_EQ(result.gradient_norm, 5);
  EXPECT_FALSE(result.skipped);
  EXPECT_EQ(result.agreement.teacher_right, 11);
  EXPECT_EQ(result.agreement.with_teacher, 22);
  EXPECT_EQ(result.agreement.between_heads, 33);

  StepSums alone;
  alone.add(from_values<float>({2}, {}), {}, 4);
  EXPECT_TRUE(PendingStepResult(alone.pack(from_values<double>({1, 1, 1}, {3})), 4).get().skipped);
}

}  // namespace
}  // namespace vitrine
