// The recipes in recipes/: each one is accepted, its model exists, and those of the papers have the
// papers' figures.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <numbers>
#include <set>

#include "models/registry.h"
#include "optim/schedule.h"
#include "tests/support/source_dir.h"
#include "train/recipe/setup.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> recipe_files() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(source_dir() + "/recipes")) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  return files;
}

Recipe imagenet(const std::string& name) { return read_recipe(source_dir() + "/recipes/imagenet/" + name + ".yaml"); }

TEST(RecipeFiles, EachIsAcceptedAndHasAModel) {
  const std::vector<fs::path> files = recipe_files();
  EXPECT_TRUE(files.size() >= 30);
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.string());
    Recipe recipe = read_recipe(file);
    recipe.data_dir = "data";
    if (recipe.kd_distill_type == "token") {
      EXPECT_THROW(check_recipe(recipe), Error);  // for want of a teacher
      recipe.kd_model_name = "teacher";
    }
    EXPECT_NO_THROW(check_recipe(recipe));
    const std::int64_t classes = file.parent_path().filename() == "imagenet" ? 1000 : 10;
    const ModelSummary summary = summarize_model(recipe.model, model_options(recipe, classes));
    EXPECT_TRUE(summary.parameters() > 0);
    if (file.parent_path().filename() == "imagenet") {
      EXPECT_EQ(recipe.model, file.stem().string());
    }
  }
}

/// The rate of an update or an epoch at the paper's batch, with 1,281,167 images.
double rate(const Recipe& recipe, std::int64_t when) {
  return make_schedule(recipe, peak_learning_rate(recipe).value, 1'281'167 / recipe.total_batch()).at(when);
}

// Touvron et al. 2021: table 9; epochs 4, 5 and 150 of the schedule as the released code runs it,
// which counts one later.
TEST(RecipeFiles, DeitsLearnAtThePublishedRates) {
  const Recipe recipe = imagenet("deit_base_patch16_224");
  EXPECT_NEAR(rate(recipe, 0), 1e-6, 1e-12);
  EXPECT_NEAR(rate(recipe, 1), 2.008e-4, 1e-9);
  EXPECT_NEAR(rate(recipe, 4), 8.002e-4, 1e-9);
  EXPECT_NEAR(rate(recipe, 5), 9.9932e-4, 5e-9);
  EXPECT_NEAR(rate(recipe, 150), 5.05e-4, 1e-9);
  EXPECT_NEAR(rate(recipe, 299), 1.003e-5, 5e-9);
}

TEST(RecipeFiles, VitsAndSwinsWarmUpAsPublished) {
  const Recipe vit = imagenet("vit_base_patch16_224");
  const std::int64_t per_epoch = 1'281'167 / 4096;
  EXPECT_NEAR(static_cast<double>(32 * per_epoch), 10'000, 20);
  EXPECT_NEAR(rate(vit, 16 * per_epoch), 1.5e-3, 1e-9);
  EXPECT_EQ(rate(vit, 300 * per_epoch), 0);
  const Recipe swin = imagenet("swin_tiny_patch4_window7_224");
  EXPECT_NEAR(peak_learning_rate(swin).value, 1e-3, 1e-12);
  EXPECT_NEAR(rate(swin, 0), 1e-6, 1e-12);
  EXPECT_NEAR(peak_learning_rate(imagenet("swin_base_patch4_window12_384")).value, 4e-5, 1e-12);
}

// ---- Every figure of every recipe in imagenet/ ----

/// What a paper or its released code says; the defaults are what DeiT and Swin share when they
/// start from scratch.
struct Published {
  double rate = 1e-3, warmup_rate = 1e-6, least_rate = 1e-5;
  std::int64_t warmup_epochs = 5, warmup_steps = 0;
  bool per_update = true;
  std::int64_t batch = 1024, epochs = 300, repeats = 0;
  std::string optimizer = "adamw";
  double weight_decay = 0.05, clip = 0, dropout = 0, drop_path = 0;
  std::string policy = "rand-m9-mstd0.5-inc1";
  double erasing = 0.25, mixup = 0.8, cutmix = 1, smoothing = 0.1;
  double crop = 0.875, least_area = 0.08;
  bool distilled = false;
};

/// What DeiT and Swin share when they go on from trained weights.
Published fine_tuned(Published p) {
  p.epochs = 30;
  p.weight_decay = 1e-8;
  return p;
}

using PublishedByName = std::map<std::string, Published>;

// Dosovitskiy et al. 2021, table 3, from scratch, and table 4 with the released code's
// configuration, fine-tuning: decoupled decay of 0.3, 10,000 updates of warm-up, no augmentation
// but the crop. crop-pct is timm's.
PublishedByName vits() {
  const Published scratch{.rate = 3e-3,
                          .warmup_rate = 0,
                          .least_rate = 0,
                          .warmup_epochs = 32,
                          .batch = 4096,
                          .weight_decay = 0.3,
                          .clip = 1,
                          .dropout = 0.1,
                          .policy = "",
                          .erasing = 0,
                          .mixup = 0,
                          .cutmix = 0,
                          .smoothing = 0,
                          .crop = 0.9,
                          .least_area = 0.05};
  Published tuned = scratch;
  tuned.optimizer = "momentum";
  tuned.rate = 0.01;
  tuned.warmup_steps = 500;
  tuned.batch = 512;
  tuned.epochs = 8;  // 20,000 updates
  tuned.weight_decay = 0;
  tuned.dropout = 0;
  tuned.crop = 1;
  PublishedByName all;
  for (const std::string size : {"base", "large"}) {
    for (const std::string patch : {"16", "32"}) {
      all["vit_" + size + "_patch" + patch + "_224"] = scratch;
      all["vit_" + size + "_patch" + patch + "_384"] = tuned;
    }
  }
  return all;
}

// Touvron et al. 2021, table 9, and for 384 pixels section 5.1 with the released code's figures.
PublishedByName deits() {
  PublishedByName all;
  for (const bool distilled : {false, true}) {
    const std::string kind = distilled ? "_distilled_patch16_" : "_patch16_";
    const Published scratch{.per_update = false, .repeats = 3, .drop_path = 0.1, .distilled = distilled};
    for (const std::string size : {"tiny", "small", "base"}) all["deit_" + size + kind + "224"] = scratch;
    Published tuned = fine_tuned(scratch);
    tuned.rate = tuned.least_rate = 5e-6;
    tuned.batch = 512;
    tuned.drop_path = 0;
    tuned.crop = 1;
    all["deit_base" + kind + "384"] = tuned;
  }
  return all;
}

// Liu et al. 2021, section A2.1, with the released code's clipping and rates.
PublishedByName swins() {
  const Published scratch{.warmup_epochs = 20, .clip = 5};
  PublishedByName all;
  for (const auto& [size, drop_path] : std::map<std::string, double>{{"tiny", 0.2}, {"small", 0.3}, {"base", 0.5}}) {
    Published& p = all["swin_" + size + "_patch4_window7_224"] = scratch;
    p.drop_path = drop_path;
  }
  Published tuned = fine_tuned(scratch);
  tuned.rate = 4e-5;
  tuned.warmup_rate = 4e-8;
  tuned.least_rate = 4e-7;
  tuned.warmup_epochs = 5;
  tuned.drop_path = 0.2;
  all["swin_large_patch4_window7_224"] = tuned;  // from ImageNet-22k
  tuned.crop = 1;
  all["swin_large_patch4_window12_384"] = tuned;
  tuned.drop_path = 0.5;
  all["swin_base_patch4_window12_384"] = tuned;
  return all;
}

void expect_near(double value, double expected) { EXPECT_NEAR(value, expected, 1e-12 * expected); }

void expect_published(const std::string& name, const Published& p) {
  SCOPED_TRACE(name);
  const Recipe recipe = imagenet(name);
  expect_near(peak_learning_rate(recipe).value, p.rate);
  expect_near(recipe.warmup_lr, p.warmup_rate);
  expect_near(recipe.min_lr, p.least_rate);
  if (p.warmup_steps == 0) {
    EXPECT_EQ(warmup_epochs_of(recipe), p.warmup_epochs);
  }
  EXPECT_EQ(recipe.warmup_steps, p.warmup_steps);
  EXPECT_EQ(recipe.sched, "cosine");
  EXPECT_EQ(recipe.sched_on_updates, p.per_update);
  EXPECT_FALSE(recipe.warmup_prefix || recipe.head_lr || recipe.layer_decay);
  EXPECT_EQ(recipe.total_batch(), p.batch);
  EXPECT_EQ(recipe.epochs, p.epochs);
  EXPECT_EQ(recipe.opt, p.optimizer);
  EXPECT_EQ(recipe.momentum.value_or(0.9), 0.9);
  EXPECT_TRUE(recipe.opt_betas.empty() || recipe.opt_betas == (std::vector<double>{0.9, 0.999}));
  EXPECT_EQ(recipe.weight_decay, p.weight_decay);
  EXPECT_EQ(recipe.clip_grad, p.clip);
  EXPECT_EQ(recipe.drop, p.dropout);
  EXPECT_EQ(recipe.drop_path, p.drop_path);
  EXPECT_EQ(recipe.train_crop, "resized");
  EXPECT_EQ(recipe.scale, (std::vector<double>{p.least_area, 1}));
  EXPECT_EQ(recipe.hflip, 0.5);
  EXPECT_EQ(recipe.interpolation, "bicubic");
  EXPECT_EQ(recipe.aa, p.policy);
  EXPECT_EQ(recipe.color_jitter, std::vector<double>{0});  // off beside a policy
  EXPECT_EQ(recipe.aug_repeats, p.repeats);
  EXPECT_EQ(recipe.reprob, p.erasing);
  EXPECT_EQ(recipe.remode, "pixel");
  EXPECT_EQ(recipe.mixup, p.mixup);
  EXPECT_EQ(recipe.cutmix, p.cutmix);
  EXPECT_TRUE(recipe.mixup_prob == 1 && recipe.mixup_switch_prob == 0.5 && recipe.mixup_mode == "batch");
  EXPECT_EQ(recipe.mixup_off_epoch, 0);
  EXPECT_EQ(recipe.smoothing, p.smoothing);
  EXPECT_EQ(recipe.crop_pct, p.crop);
  EXPECT_FALSE(recipe.bce_loss || recipe.model_ema);  // of DeiT's average only the weights themselves are reported
  if (p.distilled) {
    EXPECT_EQ(recipe.kd_distill_type, "token");
    EXPECT_EQ(recipe.kd_token_distill_type, "hard");
    EXPECT_EQ(recipe.distill_loss_weight, 0.5);
  }
  // Of DeiT and Swin the model's own, which are ImageNet's.
  const auto normalisation = name.starts_with("vit_") ? std::vector<double>(3, 0.5) : std::vector<double>();
  EXPECT_EQ(recipe.mean, normalisation);
  EXPECT_EQ(recipe.std, normalisation);
}

TEST(RecipeFiles, VitsHaveThePublishedFigures) {
  for (const auto& [name, figures] : vits()) expect_published(name, figures);
  // SGD warms up for 500 updates of 20,000.
  const Recipe tuned = imagenet("vit_base_patch16_384");
  EXPECT_EQ(rate(tuned, 0), 0);
  EXPECT_NEAR(rate(tuned, 250), 0.005, 1e-12);
  EXPECT_NEAR(rate(tuned, 500), 0.01 * 0.5 * (1 + std::cos(std::numbers::pi * 500 / (8 * 2502))), 1e-12);
  EXPECT_NEAR(static_cast<double>(tuned.epochs * (1'281'167 / 512)), 20'000, 20);
}

TEST(RecipeFiles, DeitsHaveThePublishedFigures) {
  for (const auto& [name, figures] : deits()) expect_published(name, figures);
}

TEST(RecipeFiles, SwinsHaveThePublishedFigures) {
  for (const auto& [name, figures] : swins()) expect_published(name, figures);
}

TEST(RecipeFiles, NoneOfImagenetGoesUnchecked) {
  std::set<std::string> checked, found;
  for (const PublishedByName& family : {vits(), deits(), swins()}) {
    for (const auto& [name, figures] : family) checked.insert(name);
  }
  for (const fs::path& file : recipe_files()) {
    if (file.parent_path().filename() == "imagenet") found.insert(file.stem().string());
  }
  EXPECT_EQ(found, checked);
}

TEST(MakeSchedule, WarmsUpForAGivenNumberOfUpdates) {
  Recipe recipe = parse_recipe(
      "lr: 1\nepochs: 10\nwarmup-steps: 5\nwarmup-epochs: 3\nwarmup-lr: 0\nmin-lr: 0\nsched: linear\n", "test");
  Schedule schedule = make_schedule(recipe, peak_learning_rate(recipe).value, 10);
  EXPECT_NEAR(schedule.at(4), 0.8, 1e-12);
  EXPECT_NEAR(schedule.at(5), 0.95, 1e-12);
  EXPECT_EQ(schedule.at(100), 0);
  recipe.warmup_prefix = true;
  schedule = make_schedule(recipe, peak_learning_rate(recipe).value, 10);
  EXPECT_EQ(schedule.at(5), 1);
  EXPECT_NEAR(schedule.at(24), 0.8, 1e-12);
  EXPECT_EQ(schedule.at(100), 0);
}

}  // namespace
}  // namespace vitrine
