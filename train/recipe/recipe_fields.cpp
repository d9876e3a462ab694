// The table of a recipe's fields: name, member, accepted values, help. Flags, YAML keys, --help,
// the checks and args.yaml come from it; a test fails where a member of Recipe has no row.
#include <fmt/ranges.h>

#include <cmath>

#include "data/augment/policy.h"
#include "data/datasets/dataset_kinds.h"
#include "models/registry.h"
#include "optim/optimizer_table.h"
#include "train/recipe/recipe.h"

namespace vitrine {
namespace {

using Fields = std::vector<RecipeField>;

// ---- What is accepted ----

Accepts number(std::string text, std::function<bool(double)> test) {
  return {.text = std::move(text), .number = std::move(test)};
}

Accepts at_least(double low) {
  return number(fmt::format("a number of at least {}", low), [low](double x) { return x >= low; });
}
Accepts whole(double low) {
  return number(fmt::format("an integer of at least {}", low), [low](double x) { return x >= low; });
}
Accepts above_zero() {
  return number("a number above 0", [](double x) { return x > 0; });
}
Accepts probability() {
  return number("a number from 0 to 1", [](double x) { return x >= 0 && x <= 1; });
}
Accepts below_one() {
  return number("a number from 0 to below 1", [](double x) { return x >= 0 && x < 1; });
}
Accepts list_of(std::vector<std::size_t> counts, std::string text, std::function<bool(double)> test) {
  return {.text = std::move(text), .number = std::move(test), .counts = std::move(counts)};
}
/// The first word may be empty: "not given".
Accepts one_of(std::vector<std::string> words) {
  const std::size_t first = words[0].empty() ? 1 : 0;
  return {.text = fmt::format("one of {}",
                              fmt::join(words.begin() + static_cast<std::ptrdiff_t>(first), words.end(), ", ")),
          .words = std::move(words)};
}
std::vector<std::string> or_not_given(std::vector<std::string> words) {
  words.insert(words.begin(), "");
  return words;
}
Accepts any(std::string text) { return {.text = std::move(text)}; }
Accepts yes_or_no() { return any("true or false"); }

// ---- The fields ----

Fields data_fields() {
  const auto positive = [](double x) { return x > 0; };
  return {
      {"data-dir", &Recipe::data_dir, any("a folder"), "folder with the images"},
      {"dataset", &Recipe::dataset, one_of(or_not_given(dataset_kind_names())),
       fmt::format("kind of data; found out from data-dir if not given; {}", dataset_kinds_help())},
      {"class-order", &Recipe::class_order, one_of({"", "sorted", "natural"}),
       "which class folder is class 0, 1, ...: sorted by bytes as torchvision does it (0, 1, 10, 2), or natural as "
       "timm "
       "does it (0, 1, 2, 10); if not given, as the weights to evaluate have it, else sorted"},
      {"train-split", &Recipe::train_split, any("a name"), "folder or file of data-dir to train on"},
      {"val-split", &Recipe::val_split, any("a name"),
       "folder or file to evaluate on (test, val and validation are synonyms)"},
      {"train-num-samples", &Recipe::train_num_samples, whole(1), "drawings to train on (shapes)"},
      {"val-num-samples", &Recipe::val_num_samples, whole(1), "drawings to evaluate on (shapes)"},
      {"num-classes", &Recipe::num_classes, whole(0),
       "outputs of the model; 0 = one for each class of the data, or, where there is no data, as its name has them"},
      {"img-size", &Recipe::img_size, whole(0), "side of the images in pixels; 0 = the model's"},
      {"in-chans", &Recipe::in_chans, number("0, 1 or 3", [](double x) { return x == 0 || x == 1 || x == 3; }),
       "channels of the images that the model sees: 1 is their brightness, 3 colours; 0 = the model's"},
      {"crop-pct", &Recipe::crop_pct, number("a number above 0 and up to 1", [](double x) { return x > 0 && x <= 1; }),
       "share of the shorter side that evaluation looks at; the model's if not given, but 1 after training without "
       "resized crops"},
      {"mean", &Recipe::mean, list_of({0, 3}, "three numbers", [](double x) { return std::isfinite(x); }),
       "of each channel, for pixels in 0..1; the model's if not given"},
      {"std", &Recipe::std, list_of({0, 3}, "three numbers above 0", positive), "of each channel, likewise"},
      {"interpolation", &Recipe::interpolation, one_of({"", "bilinear", "bicubic", "random"}),
       "of resizing; the model's if not given; random: one of the two for each training image"},
      {"batch-size", &Recipe::batch_size, whole(1), "images per forward pass", "", "b"},
      {"grad-accum-steps", &Recipe::grad_accum_steps, whole(1), "batches per update of the weights"},
      {"grad-checkpointing", &Recipe::grad_checkpointing, yes_or_no(),
       "keep only what enters each transformer block, and compute its inside again in backward: less memory, more "
       "time"},
      {"workers", &Recipe::workers, number("an integer from 0 to 1024", [](double x) { return x >= 0 && x <= 1024; }),
       "threads that prepare batches; 0 = none, the main one does it", "", "j"},
      {"bad-samples", &Recipe::bad_samples, whole(0), "unreadable images to replace and list before giving up"},
      {"device-data", &Recipe::device_data, one_of({"auto", "off"}),
       "on a GPU, keep the images of a small set there as bytes and prepare batches there; auto = where that is "
       "possible"},
  };
}

Fields augmentation_fields() {
  const auto share = [](double x) { return x > 0 && x <= 1; };
  const auto positive = [](double x) { return x > 0; };
  return {
      {"train-crop", &Recipe::train_crop, one_of({"padded", "resized", "center"}),
       "random square of the padded image, random box resized (scale, ratio), or none"},
      {"crop-padding", &Recipe::crop_padding, whole(0), "pixels around the image (train-crop padded)"},
      {"crop-padding-mode", &Recipe::crop_padding_mode, one_of({"zero", "reflect"}), "what the padding holds"},
      {"scale", &Recipe::scale, list_of({2}, "two numbers above 0 and up to 1", share),
       "share of the area (train-crop resized)"},
      {"ratio", &Recipe::ratio, list_of({2}, "two numbers above 0", positive), "width / height (train-crop resized)"},
      {"hflip", &Recipe::hflip, probability(), "probability of mirroring left to right"},
      {"aa", &Recipe::aa, any("a policy"),
       fmt::format("augmentation policy, such as rand-m9-mstd0.5-inc1: {}; empty = none", AugmentPolicy::accepted())},
      {"aug-repeats", &Recipe::aug_repeats, whole(0),
       "repeated augmentation: each drawn image this many times in a row; the epoch keeps its length; 0 or 1 = off"},
      {"color-jitter", &Recipe::color_jitter,
       list_of({1, 3}, "one number or three of at least 0", [](double x) { return x >= 0; }),
       "strength of brightness, contrast and saturation changes; off beside a policy other than 3a"},
      {"reprob", &Recipe::reprob, probability(), "probability of random erasing"},
      {"remode", &Recipe::remode, one_of({"const", "rand", "pixel"}),
       "what is put where an image is erased: 0, one normal number per channel, one per value"},
      {"recount", &Recipe::recount, whole(1), "boxes erased at most, which share the area"},
      {"mixup", &Recipe::mixup, at_least(0), "alpha of mixup; 0 = off"},
      {"cutmix", &Recipe::cutmix, at_least(0), "alpha of CutMix; 0 = off"},
      {"mixup-prob", &Recipe::mixup_prob, probability(), "probability that a batch is mixed at all"},
      {"mixup-switch-prob", &Recipe::mixup_switch_prob, probability(), "probability of CutMix where both are on"},
      {"mixup-mode", &Recipe::mixup_mode, one_of({"batch", "pair", "elem"}), "what shares one draw"},
      {"mixup-off-epoch", &Recipe::mixup_off_epoch, whole(0), "no mixing from this epoch on; 0 = never off"},
      {"smoothing", &Recipe::smoothing, below_one(), "label smoothing"},
  };
}

Fields model_fields() {
  return {
      {"model", &Recipe::model, any("a name of `vitrine list-models`"), "architecture", "", "", true},
      {"model-kwargs", &Recipe::model_kwargs, any("name=value pairs"),
       fmt::format("sizes that depart from the name, added to those of the recipe\n{}",
                   fmt::join(explain_options(), "\n"))},
      {"drop", &Recipe::drop, below_one(), "dropout rate"},
      {"drop-path", &Recipe::drop_path, below_one(), "stochastic depth rate of the last block"},
      {"pretrained-path", &Recipe::pretrained_path, any("a file or folder"),
       "weights to start from, of timm, torchvision or Hugging Face; for another image size positions are resized, and "
       "what does not fit, such as another head, stays random",
       "", "", true},
      {"pos-embed-interpolation", &Recipe::pos_embed_interpolation, one_of({"bicubic", "bilinear"}),
       "how --pretrained-path resizes positions: bicubic as timm does, bilinear as the ViT paper's own code does", "",
       "", true},
      {"initial-checkpoint", &Recipe::initial_checkpoint, any("a file or folder"),
       "weights to start from, of timm, torchvision or Hugging Face; all must fit", "", "", true},
      {"resume", &Recipe::resume, any("a checkpoint"), "goes on with a run, bit for bit, in its own folder"},
  };
}

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const OptimizerRow& row : optimizer_table()) names.push_back(row.name);
  return names;
}

std::string optimizer_help() {
  std::vector<std::string> lines;
  for (const OptimizerRow& row : optimizer_table()) lines.push_back(row.name + ", " + row.help);
  return fmt::format("{}", fmt::join(lines, "; "));
}

std::string optimizer_kwargs() {
  std::vector<std::string> lines;
  for (const OptimizerRow& row : optimizer_table()) {
    if (!row.kwargs.empty()) lines.push_back(fmt::format("of {} {}", row.name, fmt::join(row.kwargs, ", ")));
  }
  return fmt::format("{}", fmt::join(lines, "; "));
}

Fields optimizer_fields() {
  return {
      {"opt", &Recipe::opt, one_of(optimizer_names()), "optimiser: " + optimizer_help()},
      {"opt-eps", &Recipe::opt_eps, above_zero(), "epsilon of AdamW, that of muon included"},
      {"opt-betas", &Recipe::opt_betas,
       list_of({0, 2}, "two numbers from 0 to below 1", [](double x) { return x >= 0 && x < 1; }),
       "decay of the moving averages; the optimiser's own if not given: 0.9 0.999, of lion 0.9 0.99, of "
       "muon's AdamW 0.9 0.95"},
      {"momentum", &Recipe::momentum, below_one(), "of sgd and momentum, 0.9 if not given, and of muon, 0.95"},
      {"opt-kwargs", &Recipe::opt_kwargs, any("name=value pairs"), "options of one optimiser: " + optimizer_kwargs()},
      {"weight-decay", &Recipe::weight_decay, at_least(0), "for parameters of two dimensions and more"},
      {"clip-grad", &Recipe::clip_grad, at_least(0), "largest norm of the gradient; 0 = no limit"},
      {"bce-loss", &Recipe::bce_loss, yes_or_no(), "binary cross-entropy for each class instead of softmax"},
      {"model-ema", &Recipe::model_ema, yes_or_no(),
       "keeps and evaluates a moving average of the weights; running statistics are those of the model"},
      {"model-ema-decay", &Recipe::model_ema_decay, probability(), "of the average, per update"},
  };
}

Fields distillation_fields() {
  return {
      {"kd-model-name", &Recipe::kd_model_name, any("a folder with weights"),
       "the teacher: a run folder, or one with config.json and model.safetensors; none = no distillation"},
      {"kd-distill-type", &Recipe::kd_distill_type, one_of({"soft", "hard", "token"}),
       "the student learns the teacher's probabilities, its choice, or either by a distillation token of its own"},
      {"kd-token-distill-type", &Recipe::kd_token_distill_type, one_of({"soft", "hard"}), "what the token learns"},
      {"kd-temperature", &Recipe::kd_temperature, above_zero(), "of soft distillation; DeiT: 3"},
      {"distill-loss-weight", &Recipe::distill_loss_weight, probability(),
       "share of distillation in the loss, the labels have the rest; DeiT: 0.5 hard, 0.1 soft"},
  };
}

Fields rate_fields() {
  return {
      {"lr", &Recipe::lr, above_zero(), "peak learning rate; wins over lr-base"},
      {"lr-base", &Recipe::lr_base, above_zero(), "learning rate at a total batch of lr-base-size"},
      {"lr-base-size", &Recipe::lr_base_size, whole(1), "see lr-base"},
      {"lr-base-scale", &Recipe::lr_base_scale, one_of({"linear", "sqrt"}), "how lr-base grows with the batch"},
      {"head-lr", &Recipe::head_lr, above_zero(),
       "peak learning rate of the classifier, for fine-tuning; lr if not given"},
      {"layer-decay", &Recipe::layer_decay,
       number("a number above 0 and up to 1", [](double x) { return x > 0 && x <= 1; }),
       "learning rate of each block relative to the next deeper one (0.65 to 0.75 in fine-tuning)"},
      {"sched", &Recipe::sched, one_of({"cosine", "linear", "constant"}), "decay of the learning rate"},
      {"sched-on-updates", &Recipe::sched_on_updates, yes_or_no(), "a new rate for every update, not every epoch"},
      {"warmup-prefix", &Recipe::warmup_prefix, yes_or_no(),
       "the decay takes the epochs after the warm-up (timm would add them)"},
      {"warmup-lr", &Recipe::warmup_lr, at_least(0), "rate at the start of the warm-up"},
      {"min-lr", &Recipe::min_lr, at_least(0), "rate at the end"},
      {"epochs", &Recipe::epochs, whole(1), "passes over the data"},
      {"warmup-epochs", &Recipe::warmup_epochs,
       number("an integer of at least 0", [](double x) { return x >= 0 && x == std::floor(x); }),
       "of them, for the warm-up; 5 if not given, of short runs at most half"},
      {"warmup-steps", &Recipe::warmup_steps, whole(0),
       "updates for the warm-up, in place of warmup-epochs, with sched-on-updates; 0 = warmup-epochs"},
      {"max-steps", &Recipe::max_steps, whole(0), "updates after which to stop and save; 0 = no limit"},
      {"time-limit", &Recipe::time_limit, at_least(0), "minutes after which to stop and save; 0 = no limit"},
  };
}

Fields run_fields() {
  return {
      {"seed", &Recipe::seed, whole(0), "of weights, order and augmentation", "", "", true},
      {"log-interval", &Recipe::log_interval, whole(1), "batches between two lines of progress"},
      {"checkpoint-hist", &Recipe::checkpoint_hist, whole(0), "checkpoint-N files to keep"},
      {"recovery-interval", &Recipe::recovery_interval, whole(0),
       "updates between two saves within an epoch; 0 = none"},
      {"val-interval", &Recipe::val_interval, whole(1), "epochs between two evaluations"},
      {"threads", &Recipe::threads, number("an integer from 0 to 1024", [](double x) { return x >= 0 && x <= 1024; }),
       "threads for the mathematics; 0 = one per core"},
      {"output", &Recipe::output, any("a folder"), "where run folders are made", "", "", true},
      {"experiment", &Recipe::experiment, any("a name"), "name of the run folder; else <time>-<model>-<size>", "", "",
       true},
      {"eval-metric", &Recipe::eval_metric, one_of({"top1", "top5", "loss"}), "what makes a checkpoint the best"},
      {"device", &Recipe::device, any("cpu or cuda"), "where to compute"},
      {"amp", &Recipe::amp, yes_or_no(),
       "mixed precision: activations in bf16; weights, statistics and updates in f32; faster on GPUs and on "
       "processors that multiply bf16 (AVX512_BF16, AMX)"},
      {"cuda-graph", &Recipe::cuda_graph, yes_or_no(), "on a GPU, record an update once and replay it"},
      {"cuda-autotune", &Recipe::cuda_autotune, yes_or_no(),
       "on a GPU, time the algorithms for each product and keep the fastest; the bits may then differ from run to run"},
      // A flag of timm's that --amp makes redundant: it is read so that timm's command lines can be
      // pasted.
      {"amp-dtype", &Recipe::amp_dtype, one_of({"bfloat16"}),
       "of the activations with --amp; bfloat16 is the only one"},
  };
}

}  // namespace

const std::vector<RecipeField>& recipe_fields() {
  static const Fields all = [] {
    Fields joined;
    const auto append = [&](const char* group, Fields fields) {
      for (RecipeField& field : fields) {
        field.group = group;
        joined.push_back(std::move(field));
      }
    };
    append("Data", data_fields());
    append("Augmentation", augmentation_fields());
    append("Model", model_fields());
    append("Optimiser", optimizer_fields());
    append("Distillation", distillation_fields());
    append("Learning rate", rate_fields());
    append("Run", run_fields());
    return joined;
  }();
  return all;
}

}  // namespace vitrine
