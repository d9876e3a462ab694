// Recipe: every setting of a training run, and the one table of its fields that YAML files, flags,
// help, checks and args.yaml are all made from.
//
//   Recipe recipe = read_recipe("recipes/cifar10-vit.yaml");     // -c: defaults of the run
//   set_field(recipe, "lr", {"1e-3"}, "--lr");                   // a flag wins
//   check_recipe(recipe);
//
// Names are timm's: `--batch-size 128` on the command line, `batch-size: 128` (or `batch_size`) in
// YAML.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/closest_name.h"
#include "tensor/error.h"

namespace vitrine {

struct Recipe {
  // Data
  std::string data_dir, dataset, class_order, train_split = "train", val_split = "test";
  std::int64_t train_num_samples = 20'000, val_num_samples = 2'000;
  std::int64_t num_classes = 0, img_size = 0, in_chans = 0;
  std::optional<double> crop_pct;
  std::vector<double> mean, std;
  std::string interpolation;
  std::int64_t batch_size = 128, grad_accum_steps = 1, workers = 2, bad_samples = 0;
  bool grad_checkpointing = false;
  std::string device_data = "auto";

  // Augmentation
  std::string train_crop = "padded", crop_padding_mode = "zero";
  std::int64_t crop_padding = 4;
  std::vector<double> scale = {0.08, 1.0}, ratio = {0.75, 4.0 / 3.0};
  double hflip = 0.5;
  std::string aa;
  std::int64_t aug_repeats = 0;
  std::vector<double> color_jitter = {0};
  double reprob = 0;
  std::string remode = "pixel";
  std::int64_t recount = 1;
  double mixup = 0, cutmix = 0, mixup_prob = 1, mixup_switch_prob = 0.5;
  std::string mixup_mode = "batch";
  std::int64_t mixup_off_epoch = 0;
  double smoothing = 0.1;

  // Model
  std::string model = "vit_tiny_patch16_224";
  std::map<std::string, std::string> model_kwargs;
  double drop = 0, drop_path = 0;
  std::string pretrained_path, pos_embed_interpolation = "bicubic", initial_checkpoint, resume;

  // Optimisation
  std::string opt = "adamw";
  double opt_eps = 1e-8;
  std::vector<double> opt_betas;  // empty: the optimiser's own
  std::optional<double> momentum;
  std::map<std::string, std::string> opt_kwargs;
  double weight_decay = 0.05;
  double clip_grad = 0;
  bool bce_loss = false, model_ema = false;
  double model_ema_decay = 0.9998;

  // Distillation
  std::string kd_model_name, kd_distill_type = "hard", kd_token_distill_type = "hard";
  double kd_temperature = 1, distill_loss_weight = 0.5;

  // Learning rate
  std::optional<double> lr;
  double lr_base = 5e-4;
  std::int64_t lr_base_size = 512;
  std::optional<double> head_lr, layer_decay;
  std::string lr_base_scale = "linear", sched = "cosine";
  bool sched_on_updates = true, warmup_prefix = false;
  double warmup_lr = 1e-6, min_lr = 1e-5;
  std::int64_t epochs = 300, warmup_steps = 0, max_steps = 0;
  std::optional<double> warmup_epochs = {};  // a whole number; see warmup_epochs_of
  double time_limit = 0;

  // Run
  std::uint64_t seed = 42;
  std::int64_t log_interval = 50, checkpoint_hist = 3, recovery_interval = 0, val_interval = 1, threads = 0;
  std::string output = "runs", experiment, eval_metric = "top1", device = "cpu", amp_dtype = "bfloat16";
  bool amp = false, cuda_graph = true, cuda_autotune = false;

  /// The two members that are not fields: total batch and peak learning rate of the YAML file that
  /// was read; 0 = no file.
  std::int64_t file_total_batch = 0;
  double file_learning_rate = 0;

  /// Images per training step.
  std::int64_t total_batch() const { return batch_size * grad_accum_steps; }
};

/// A member of Recipe, by its type.
using FieldMember = std::variant<std::int64_t Recipe::*, std::uint64_t Recipe::*, double Recipe::*, bool Recipe::*,
                                 std::string Recipe::*, std::optional<double> Recipe::*, std::vector<double> Recipe::*,
                                 std::map<std::string, std::string> Recipe::*>;

/// Which values a field takes, for the check and for the message.
struct Accepts {
  std::string text;                         // "a number above 0"
  std::function<bool(double)> number = {};  // of each number; none: any
  std::vector<std::string> words = {};      // of a string; empty: any
  std::vector<std::size_t> counts = {};     // of a list's entries
};

struct RecipeField {
  std::string name;  // "batch-size"
  FieldMember member;
  Accepts accepts;
  std::string help;
  std::string group = {};   // heading in the help
  std::string letter = {};  // short flag, or empty
  /// Only what begins a run looks at it: it cannot change where the run is resumed.
  bool only_begins = false;

  bool is_switch() const { return std::holds_alternative<bool Recipe::*>(member); }
  bool takes_many() const;  // a list or a map
};

/// Every field, in the order of the help and of args.yaml.
const std::vector<RecipeField>& recipe_fields();

/// Sets one field from the words that a flag or a YAML value holds; no word means "unset" for what
/// may be unset, and "true" for a switch. `where` begins the message of the Error: "--lr",
/// "recipe.yaml:3: lr".
void set_field(Recipe& recipe, const RecipeField& field, const std::vector<std::string>& words,
               const std::string& where);
void set_field(Recipe& recipe, std::string_view name, const std::vector<std::string>& words, const std::string& where);

/// The inverse of set_field: the words that give this value.
std::vector<std::string> field_words(const Recipe& recipe, const RecipeField& field);

/// Reads a YAML file over `base`. Errors name file, line, key, value and what is accepted.
Recipe read_recipe(const std::filesystem::path& path, Recipe base = {});
/// The same from text; `name` stands for the file in messages.
Recipe parse_recipe(const std::string& text, const std::string& name, Recipe base = {});

/// What args.yaml holds: every field. Reading it gives the same recipe.
std::string to_yaml(const Recipe& recipe);

/// Checks the fields of augmentation, such as the name of the policy; part of check_recipe.
void check_augmentation(const Recipe& recipe);

/// Checks what concerns several fields at once, such as mixup with an odd batch.
void check_recipe(const Recipe& recipe);

/// The peak learning rate and the sentence that says how it came about.
struct PeakRate {
  double value = 0;
  std::string explanation;  // "0.00025 = lr-base 0.0005 x total batch 256 / lr-base-size 512"
};
PeakRate peak_learning_rate(const Recipe& recipe);

/// The epochs of the warm-up: those that the recipe gives, else 5, of short runs at most half.
std::int64_t warmup_epochs_of(const Recipe& recipe);

/// A sentence for each of batch and learning rate that the flags have changed from the file's,
/// which were chosen for each other. `learning_rate`: the peak of the recipe with the flags.
std::vector<std::string> departures_from_file(const Recipe& recipe, double learning_rate);

}  // namespace vitrine
