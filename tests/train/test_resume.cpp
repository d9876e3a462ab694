// A checkpoint of an earlier version is resumed and comes to the end that that version came to:
// tests/golden/resume.
#include <gtest/gtest.h>

#include "tests/data/data_fixtures.h"
#include "tests/support/expectations.h"
#include "tests/support/source_dir.h"
#include "tests/train/distillation_run.h"
#include "weights/files/safetensors.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

const fs::path golden = fs::path(source_dir()) / "tests/golden/resume";

/// Resumes the stopped run in `folder`, as `vitrine train --resume` does, to its end.
void finish_run(const fs::path& folder) {
  const fs::path checkpoint = folder / "last.safetensors";
  fs::copy_file(golden / "stopped.safetensors", checkpoint);
  Recipe recipe = parse_recipe(read_checkpoint_recipe(checkpoint), checkpoint.string());
  recipe.max_steps = 0;
  recipe.resume = checkpoint.string();
  Notes notes;
  Trainer trainer(recipe, notes);
  EXPECT_TRUE(notes.has("resumed: epoch 1, batch 6, update 6 of "));
  EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
}

TEST(Resume, AnEarlierVersionsRunEndsAsItDidThere) {
  const testing::TemporaryFolder folder;
  finish_run(folder.path());
  const auto stopped = read_safetensors(golden / "stopped.safetensors"),
             expected = read_safetensors(golden / "finished.safetensors"),
             resumed = read_safetensors(folder.path() / "last.safetensors");
  ASSERT_EQ(resumed.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(resumed.contains(name)) << name;
    const double error = relative_error(resumed.at(name), tensor);
    EXPECT_TRUE(error <= 1e-5) << name << " is " << error << " away";
    EXPECT_GE(relative_error(stopped.at(name), tensor), 1e-4) << name << " has not moved, which would show nothing";
  }
}

TEST(Resume, AnEarlierVersionsFiguresGoOn) {
  const testing::TemporaryFolder folder;
  finish_run(folder.path());
  const RunState expected = load_checkpoint(golden / "finished.safetensors").run,
                 resumed = load_checkpoint(folder.path() / "last.safetensors").run;
  EXPECT_EQ(resumed.step, 12);
  EXPECT_EQ(resumed.step, expected.step);
  EXPECT_EQ(resumed.generator.count, expected.generator.count);
  EXPECT_EQ(resumed.best_epoch, expected.best_epoch);
  ASSERT_EQ(resumed.history.size(), expected.history.size());
  for (std::size_t i = 0; i < expected.history.size(); ++i) {
    const EpochSummary &a = resumed.history[i], &b = expected.history[i];
    EXPECT_TRUE(std::abs(a.train_loss - b.train_loss) <= 1e-5 * b.train_loss) << a.train_loss << ", " << b.train_loss;
    EXPECT_TRUE(std::abs(a.eval_loss - b.eval_loss) <= 1e-5 * b.eval_loss) << a.eval_loss << ", " << b.eval_loss;
    EXPECT_EQ(a.lr, b.lr);
  }
}

}  // namespace
}  // namespace vitrine
