// A DeiT recipe in miniature, with all that Touvron et al. 2021 train by (tables 8 and 9), through
// the training API.
//   09_a_deit_recipe [FOLDER with digits-images-idx3-ubyte.gz and digits-labels-idx1-ubyte.gz]
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "data/formats/formats.h"
#include "ops/ops.h"
#include "train/recipe/setup.h"
#include "train/trainer.h"
#include "weights/model_folder.h"

using namespace vitrine;

// As in a file for `vitrine train -c`; the keys are timm's flags. Values are the paper's, but for
// the sizes and where a comment says why.
constexpr const char* recipe_text = R"(
# A DeiT of two blocks for images of 8 x 8.
model: deit_tiny_patch4_32
img-size: 8
model-kwargs: {patch_size: 2, embed_dim: 32, depth: 2, num_heads: 4}
batch-size: 24                # even, for mixing takes images by twos
drop-path: 0.1                # stochastic depth: in each step, some images skip a branch of a block

# No two epochs show the same image twice.
train-crop: center            # the whole image: of 8 x 8 pixels, none is there to be cut off
hflip: 0                      # the mirror image of a digit is none
aa: rand-m4-n1-mstd0.5-inc1   # RandAugment: a small random change of each image; with the paper's m9, two large ones
reprob: 0.25                  # random erasing of a box ...
remode: pixel                 # ... by noise
aug-repeats: 3                # repeated augmentation: an epoch is about a third of the images, three ways each
mixup: 0.8                    # two images blended, and their labels too
cutmix: 1.0                   # or a box of one pasted into the other
mixup-switch-prob: 0.5        # which of the two
mixup-prob: 0.5               # every other batch; in the paper every one, and 300 epochs to get used to it
smoothing: 0.1                # the target of the right class is some 0.9, not 1

# AdamW. Of the decay, the position embedding, the class token and all that has one dim (biases, norms) are exempt.
opt: adamw
weight-decay: 0.05
lr: 4e-3                      # the paper's is 5e-4 batch / 512, for 280 times as many steps
epochs: 25
warmup-epochs: 2              # of small steps, while the weights still mean nothing; the paper has 5 of 300
warmup-lr: 1e-6
sched: cosine
min-lr: 1e-5
model-ema: true               # a moving average of the weights, which then is what gets evaluated and kept
model-ema-decay: 0.99         # over some 100 steps; with 0.99996 it would be over 25,000, and here are only 1,325

workers: 1
checkpoint-hist: 0            # no more files than the last state and the best weights
)";

/// The library prints nothing. A program that wants to report progress derives from TrainObserver.
struct OneLineAnEpoch : TrainObserver {
  void note(const std::string& line) override { fmt::print("{}\n", line); }
  void epoch_done(const EpochSummary& epoch, bool is_best) override {
    fmt::print("epoch {}: learning rate {:.1e}, training loss {:.3f}, test loss {:.3f}, {:.1f}% right{}\n", epoch.epoch,
               epoch.lr, epoch.train_loss, epoch.eval_loss, epoch.eval_top1, is_best ? ", best so far" : "");
  }
};

/// A folder for the run, gone with the object.
struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "vitrine-XXXXXX").string();
    VT_CHECK(::mkdtemp(name.data()), "no folder {} could be made", name);
    path = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

/// Writes the digits as images, FOLDER/train/7/0123.png: so your own may lie.
void write_images(const std::string& source, const std::filesystem::path& folder) {
  const auto digits = open_idx(source + "/digits-images-idx3-ubyte.gz", source + "/digits-labels-idx1-ubyte.gz");
  for (std::int64_t i = 0; i < digits->size(); ++i) {
    const Sample sample = digits->get(i);
    const auto directory = folder / (i < 1397 ? "train" : "test") / fmt::format("{}", sample.label);
    std::filesystem::create_directories(directory);
    write_png(sample.image, directory / fmt::format("{:04}.png", i));
  }
}

int main(int argc, char** argv) {
  const TemporaryFolder folder;
  Recipe recipe = parse_recipe(recipe_text, "the recipe");
  recipe.data_dir = folder.path / "digits";
  recipe.output = folder.path / "runs";
  write_images(argc > 1 ? argv[1] : "examples/data", recipe.data_dir);
  OneLineAnEpoch observer;
  Trainer trainer(recipe, observer);
  if (trainer.run() != Trainer::Outcome::finished) return 1;

  // The run folder is also a weights folder: the program needs to know nothing of the recipe to use
  // what came of it.
  const LoadedModel loaded = load_model(trainer.folder().path());
  const EvalTransform transform = eval_transform(loaded.preprocessing);
  const DatasetPtr test = open_image_folder(recipe.data_dir + "/test");
  std::int64_t right = 0;
  for (std::int64_t i = 0; i < test->size(); ++i) {
    const Sample sample = test->get(i);
    Tensor image = empty({1, 3, transform.image_size, transform.image_size});
    transform(sample.image, image.data<float>());
    const Tensor probabilities = softmax(loaded.model(image));
    const auto guess = static_cast<std::int64_t>(argmax(probabilities).item());
    if (guess == sample.label) ++right;
    if (i % 80 == 0) {
      fmt::print("a {}: says {}, with a probability of {:.0f}%\n",
                 loaded.label_names[static_cast<std::size_t>(sample.label)],
                 loaded.label_names[static_cast<std::size_t>(guess)], 100 * amax(probabilities).item());
    }
  }

  // What was loaded must be what was best. To learn the digits well takes longer, but to learn none
  // would be a mistake.
  const double percent = 100 * static_cast<double>(right) / static_cast<double>(test->size());
  fmt::print("{:.1f}% of {} digits that it has not seen\n", percent, test->size());
  return std::abs(percent - trainer.state().best.value()) < 1 && percent > 40 ? 0 : 1;
}
