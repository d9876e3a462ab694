// Recipes: YAML and flags set the same fields, args.yaml is read back, and every mistake is one
// line that says what to write.
#include "train/recipe/recipe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/support/member_count.h"

namespace vitrine {
namespace {

std::string failure(const std::string& yaml) {
  try {
    parse_recipe(yaml, "recipe.yaml");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string check_failure(const Recipe& recipe) {
  try {
    check_recipe(recipe);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Recipe, ReadsEveryKindOfField) {
  const Recipe recipe = parse_recipe(
      "# a comment\n"
      "batch-size: 64\n"
      "weight_decay: 5e-2\n"  // timm's args.yaml has underscores
      "model-ema: true\n"
      "mean: [0.1, 0.2, 0.3]\n"
      "lr: ~\n"
      "crop-pct: 0.9\n"
      "dataset: folder\n"
      "model-kwargs: {embed_dim: 96, global_pool: avg}\n"
      "seed: 18446744073709551615\n",
      "recipe.yaml");
  EXPECT_EQ(recipe.batch_size, 64);
  EXPECT_EQ(recipe.weight_decay, 0.05);
  EXPECT_TRUE(recipe.model_ema);
  EXPECT_EQ(recipe.mean, (std::vector<double>{0.1, 0.2, 0.3}));
  EXPECT_FALSE(recipe.lr.has_value());
  EXPECT_EQ(recipe.crop_pct, 0.9);
  EXPECT_EQ(recipe.dataset, "folder");
  EXPECT_EQ(recipe.model_kwargs, (std::map<std::string, std::string>{{"embed_dim", "96"}, {"global_pool", "avg"}}));
  EXPECT_EQ(recipe.seed, 18446744073709551615u);
  EXPECT_EQ(recipe.epochs, Recipe{}.epochs);  // what is not named keeps its default
  EXPECT_EQ(parse_recipe("", "empty.yaml").batch_size, Recipe{}.batch_size);
}

TEST(Recipe, FlagsWin) {
  Recipe recipe = parse_recipe("batch-size: 64\nlr: 0.1\nmodel-kwargs: {depth: 1, embed_dim: 96}\n", "recipe.yaml");
  set_field(recipe, "lr", {"1e-3"}, "--lr");
  set_field(recipe, "opt-betas", {"0.9", "0.95"}, "--opt-betas");
  set_field(recipe, "model-kwargs", {"depth=2", "num_heads=3"}, "--model-kwargs");
  EXPECT_EQ(recipe.lr, 1e-3);
  EXPECT_EQ(recipe.batch_size, 64);
  EXPECT_EQ(recipe.opt_betas, (std::vector<double>{0.9, 0.95}));
  const std::map<std::string, std::string> merged{{"depth", "2"}, {"embed_dim", "96"}, {"num_heads", "3"}};
  EXPECT_EQ(recipe.model_kwargs, merged);
}

TEST(Recipe, WhatIsWrittenIsReadBack) {
  Recipe recipe;
  recipe.data_dir = "a folder: with # odd \"signs\"";
  recipe.experiment = "true";
  recipe.lr = 0.1 + 0.2;  // needs all 17 digits
  recipe.mean = {0.1, 0.2, 0.3};
  recipe.model_kwargs = {{"embed_dim", "96"}};
  recipe.model_ema = true;
  recipe.seed = ~0ull;
  const std::string yaml = to_yaml(recipe);
  const Recipe again = parse_recipe(yaml, "args.yaml");
  EXPECT_EQ(to_yaml(again), yaml);
  for (const RecipeField& field : recipe_fields()) {
    EXPECT_EQ(field_words(again, field), field_words(recipe, field)) << field.name;
  }
}

TEST(Recipe, EveryMemberIsAFieldOfTheTable) {
  // A member without a row would have no flag, and would be missing in args.yaml and lost when a
  // run is resumed.
  const std::vector<FieldMember> without_a_row = {&Recipe::file_total_batch, &Recipe::file_learning_rate};
  EXPECT_EQ(recipe_fields().size() + without_a_row.size(), (member_count<Recipe, 160>()))
      << "a member of Recipe has no row in recipe_fields.cpp";
  const auto rows_of = [](FieldMember member) {
    return std::ranges::count(recipe_fields(), member, &RecipeField::member);
  };
  for (const RecipeField& field : recipe_fields()) EXPECT_EQ(rows_of(field.member), 1) << field.name;
  for (const FieldMember member : without_a_row) EXPECT_EQ(rows_of(member), 0);
}

TEST(Recipe, TheTableIsSound) {
  std::set<std::string> names;
  const Recipe defaults;
  for (const RecipeField& field : recipe_fields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name << " is listed twice";
    EXPECT_FALSE(field.help.empty()) << field.name;
    Recipe recipe;
    if (field.name != "experiment") {  // every default is a value that is accepted
      EXPECT_NO_THROW(set_field(recipe, field, field_words(defaults, field), field.name)) << field.name;
    }
  }
  // Spellings that users bring along; see timm's train.py.
  for (const char* name : {"data-dir",
                           "dataset",
                           "model",
                           "pretrained-path",
                           "initial-checkpoint",
                           "resume",
                           "num-classes",
                           "img-size",
                           "crop-pct",
                           "mean",
                           "std",
                           "interpolation",
                           "batch-size",
                           "grad-accum-steps",
                           "opt",
                           "opt-eps",
                           "opt-betas",
                           "weight-decay",
                           "clip-grad",
                           "layer-decay",
                           "sched",
                           "lr",
                           "lr-base",
                           "lr-base-size",
                           "lr-base-scale",
                           "warmup-lr",
                           "min-lr",
                           "epochs",
                           "warmup-epochs",
                           "scale",
                           "ratio",
                           "hflip",
                           "color-jitter",
                           "aa",
                           "aug-repeats",
                           "reprob",
                           "remode",
                           "recount",
                           "mixup",
                           "cutmix",
                           "mixup-prob",
                           "mixup-switch-prob",
                           "mixup-mode",
                           "mixup-off-epoch",
                           "smoothing",
                           "drop",
                           "drop-path",
                           "bce-loss",
                           "model-ema",
                           "model-ema-decay",
                           "amp",
                           "amp-dtype",
                           "kd-model-name",
                           "kd-distill-type",
                           "kd-temperature",
                           "kd-token-distill-type",
                           "distill-loss-weight",
                           "seed",
                           "log-interval",
                           "checkpoint-hist",
                           "workers",
                           "output",
                           "experiment",
                           "eval-metric"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST(Recipe, MistakesInFiles) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"\nlearning-rate: 1\n", "recipe.yaml:2: 'learning-rate' is not a setting of a recipe"},
      {"batchsize: 1\n", "did you mean 'batch-size'?"},
      {"epochs: ten\n", "recipe.yaml:1: epochs: 'ten' is not accepted, expected an integer of at least 1"},
      {"epochs: 0\n", "expected an integer of at least 1"},
      {"epochs: 1.5\n", "'1.5' is not accepted"},
      {"epochs:\n", "epochs: '' is not accepted"},
      {"epochs: [1, 2]\n", "epochs: '1 2' is not accepted"},
      {"lr: -1\n", "expected a number above 0"},
      {"lr: nan\n", "expected a number above 0"},
      {"lr: 1e-3x\n", "'1e-3x' is not accepted"},
      {"smoothing: 1\n", "expected a number from 0 to below 1"},
      {"mixup-mode: batsh\n", "expected one of batch, pair, elem; did you mean 'batch'?"},
      {"model-ema: yes\n", "'yes' is not accepted, expected true or false"},
      {"model-ema:\n", "model-ema: is empty, expected true or false"},
      {"mean: [0.5, 0.5]\n", "mean: '0.5 0.5' is not accepted, expected three numbers"},
      {"model-kwargs: [depth]\n", "'depth' is not accepted, expected name=value pairs"},
      {"model-kwargs: {depth: [1]}\n", "expected a value, a list of values or name: value pairs"},
      {"lr: 1\nlr: 2\n", "recipe.yaml:2: lr: is set twice in this file"},
      {"lr: 1\n  x: [\n", "not valid YAML"},
      {"- lr\n", "recipe.yaml:1: expected lines of the form `name: value`"},
      {"? [a]\n: 1\n", "expected a line of the form `name: value`"},
  };
  for (const auto& [yaml, message] : mistakes) {
    const std::string said = failure(yaml);
    EXPECT_NE(said.find(message), std::string::npos) << yaml << "  gave: " << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
}

TEST(Recipe, ChecksThatConcernSeveralFields) {
  Recipe good;
  good.dataset = "shapes";
  EXPECT_EQ(check_failure(good), "no error");
  const auto with = [&](auto change) {
    Recipe recipe = good;
    change(recipe);
    return check_failure(recipe);
  };
  EXPECT_NE(with([](Recipe& r) { r.dataset = ""; }).find("--data-dir: is not given"), std::string::npos);
  EXPECT_NE(with([](Recipe& r) { r.warmup_epochs = 400; }).find("--warmup-epochs: is 400, expected at most"),
            std::string::npos);
  EXPECT_NE(with([](Recipe& r) { r.warmup_steps = 9, r.sched_on_updates = false; }).find("--warmup-steps: is 9"),
            std::string::npos);
  EXPECT_EQ(with([](Recipe& r) { r.warmup_steps = 9, r.epochs = 1; }), "no error");  // whatever warmup-epochs is
  EXPECT_NE(with([](Recipe& r) { r.mixup = 1, r.batch_size = 7; }).find("--batch-size: is 7, expected an even number"),
            std::string::npos);
  EXPECT_NE(with([](Recipe& r) { r.scale = {1, 0.5}; }).find("--scale: is 1 0.5"), std::string::npos);
  EXPECT_NE(with([](Recipe& r) { r.ratio = {2, 1}; }).find("--ratio: is 2 1"), std::string::npos);
  EXPECT_NE(with([](Recipe& r) { r.experiment = "a/b"; }).find("--experiment: is 'a/b'"), std::string::npos);
  EXPECT_NE(with([](Recipe& r) { r.initial_checkpoint = "a", r.pretrained_path = "b"; }).find("both are given"),
            std::string::npos);
}

TEST(Recipe, LearningRateSaysHowItCameAbout) {
  Recipe recipe;
  recipe.batch_size = 256;
  recipe.grad_accum_steps = 2;
  EXPECT_EQ(peak_learning_rate(recipe).value, 5e-4);  // DeiT: 5e-4 x batch / 512
  EXPECT_EQ(peak_learning_rate(recipe).explanation, "0.0005 = lr-base 0.0005 x total batch 512 / lr-base-size 512");
  recipe.lr_base_scale = "sqrt";
  recipe.lr_base_size = 128;
  EXPECT_TRUE(std::abs(peak_learning_rate(recipe).value - 1e-3) <= 1e-15);
  EXPECT_EQ(peak_learning_rate(recipe).explanation,
            "0.001 = lr-base 0.0005 x sqrt(total batch 512 / lr-base-size 128)");
  recipe.lr = 0.25;
  EXPECT_EQ(peak_learning_rate(recipe).explanation, "0.25 = lr");
}

TEST(Recipe, SaysWhereFlagsDepartFromItsBatchAndRate) {
  const auto departures = [](const Recipe& recipe) {
    return departures_from_file(recipe, peak_learning_rate(recipe).value);
  };
  EXPECT_TRUE(departures(Recipe()).empty());  // no file, nothing to depart from
  Recipe recipe = parse_recipe("batch-size: 32\nlr-base: 1e-3\nlr-base-size: 64\n", "x");
  EXPECT_TRUE(departures(recipe).empty());
  recipe.batch_size = 64;
  EXPECT_EQ(departures(recipe),
            (std::vector<std::string>{"the total batch is 64, the recipe was made for 32",
                                      "the learning rate is 0.001, the recipe's, with its total batch of 32, 0.0005"}));
  recipe.lr = 5e-4;
  EXPECT_EQ(departures(recipe).size(), 1u);
}

}  // namespace
}  // namespace vitrine
