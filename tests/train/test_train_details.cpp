// What a training run owes those who start another from it: args.yaml, prepared images, warnings,
// no leftovers.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/data/data_fixtures.h"
#include "tests/train/distillation_run.h"
#include "train/recipe/recipe.h"
#include "train/recipe/setup.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

Recipe small_recipe(const fs::path& folder, const std::string& experiment) {
  return parse_recipe(
      fmt::format("dataset: shapes\ntrain-num-samples: 32\nval-num-samples: 8\nmodel: vit_tiny_patch4_32\n"
                  "model-kwargs: {{patch_size: 8, embed_dim: 12, depth: 1, num_heads: 3}}\nbatch-size: 8\nepochs: 2\n"
                  "warmup-epochs: 0\nworkers: 0\ncheckpoint-hist: 2\noutput: {}\nexperiment: {}\n",
                  folder.string(), experiment),
      "test recipe");
}

/// A run that was stopped after its first update; the recipe that resumes it.
Recipe stopped_run(const fs::path& folder, TrainObserver& observer) {
  Recipe recipe = small_recipe(folder, "run");
  recipe.max_steps = 1;
  Trainer(recipe, observer).run();
  recipe.max_steps = 0;
  recipe.resume = folder / "run";
  return recipe;
}

TEST(TrainDetails, AResumedRunsRecipeStartsARunOfItsOwn) {
  const TemporaryFolder folder;
  Notes notes;
  Recipe recipe = stopped_run(folder.path(), notes);
  Trainer(recipe, notes).run();
  EXPECT_TRUE(read_recipe(folder / "run" / "args.yaml").resume.empty());
}

TEST(TrainDetails, AHalfWrittenFileOfAKilledRunIsRemoved) {
  const TemporaryFolder folder;
  Notes notes;
  Recipe recipe = stopped_run(folder.path(), notes);
  const fs::path left = folder / "run" / ".last.safetensors.123.partial";
  std::ofstream(left) << "half";
  Trainer trainer(recipe, notes);
  EXPECT_FALSE(fs::exists(left));
}

TEST(TrainDetails, CheckpointsOfAnotherCourseMakeRoom) {
  const TemporaryFolder folder;
  Notes notes;
  Recipe recipe = small_recipe(folder.path(), "run");
  recipe.epochs = 1;
  Trainer(recipe, notes).run();
  for (const int epoch : {7, 8}) {
    fs::copy_file(folder / "run" / "last.safetensors",
                  folder / "run" / fmt::format("checkpoint-{}.safetensors", epoch));
  }
  recipe.epochs = 2;
  recipe.resume = folder / "run";
  Trainer(recipe, notes).run();
  EXPECT_TRUE(fs::exists(folder / "run" / "checkpoint-0.safetensors"));
  EXPECT_TRUE(fs::exists(folder / "run" / "checkpoint-1.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "run" / "checkpoint-7.safetensors"));
}

TEST(TrainDetails, ImagesArePreparedAsForTheWeightsThatTrainingStartsFrom) {
  const TemporaryFolder folder;
  Notes notes;
  const Recipe plain = small_recipe(folder.path(), "fine-tuned");
  const Model model = create_model(plain.model, model_options(plain, 10));
  PretrainedConfig preprocessing = model.pretrained_config();
  preprocessing.mean = {0.25, 0.25, 0.25};
  preprocessing.interpolation = "bilinear";
  fs::create_directories(folder / "weights");
  save_weights(folder / "weights", model, preprocessing, make_shapes(1, "train")->class_names());

  const auto prepared = [&](Recipe recipe) {
    recipe.max_steps = 1;
    recipe.pretrained_path = folder / "weights";
    Trainer trainer(recipe, notes);
    trainer.run();
    return read_recipe(trainer.folder().path() / "args.yaml");  // also what a resumed run goes by
  };
  EXPECT_EQ(prepared(plain).mean, std::vector<double>(3, 0.25));
  EXPECT_EQ(prepared(plain).interpolation, "bilinear");
  EXPECT_TRUE(prepared(plain).std.empty()) << "it is the model's own";
  Recipe stated = plain;
  stated.mean = {0.1, 0.2, 0.3};
  EXPECT_EQ(prepared(stated).mean, stated.mean);
}

TEST(TrainDetails, ReplacedImagesAreNamedWhetherForTrainingOrEvaluation) {
  const TemporaryFolder folder;
  for (const std::string split : {"train", "val"}) {
    for (const std::string name : {"cat", "dog"}) {
      for (int i = 0; i < 4; ++i) {
        testing::write_file(folder.path() / split / name / fmt::format("{}.jpg", i), testing::rgb_jpeg);
      }
    }
    testing::write_file(folder.path() / split / "dog" / "broken.jpg", {1, 2, 3});
  }
  Recipe recipe = small_recipe(folder.path(), "run");
  recipe.dataset = "";
  recipe.data_dir = folder.path();
  recipe.val_split = "val";
  recipe.batch_size = 3;
  recipe.bad_samples = 2;
  Notes notes;
  Trainer(recipe, notes).run();
  EXPECT_TRUE(notes.has("warning: replaced an unreadable image: ") && notes.has("train/dog/broken.jpg"));
  EXPECT_TRUE(notes.has("val/dog/broken.jpg"));
}

}  // namespace
}  // namespace vitrine
