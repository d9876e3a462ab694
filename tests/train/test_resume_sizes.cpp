// A run that goes on with batches of another size keeps its place in the epoch and in the schedule.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/folder_test.h"
#include "train/trainer.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

struct RateListener : TrainObserver {
  std::vector<double> rates;  // of each update
  std::vector<std::string> notes;

  void note(const std::string& line) override { notes.push_back(line); }
  void batch_done(const Progress& progress) override { rates.push_back(progress.learning_rate); }
  void epoch_done(const EpochSummary&, bool) override {}
  bool should_stop() override { return false; }
  bool noted(const std::string& part) const {
    return std::ranges::any_of(notes, [&](const std::string& line) { return line.find(part) != line.npos; });
  }
};

class ResumeWithOtherBatches : public FolderTest {
 protected:
  /// Two epochs of 80 images.
  Recipe recipe(const std::string& experiment, std::int64_t batch_size, std::int64_t accumulated = 1) const {
    Recipe made = parse_recipe(
        fmt::format("dataset: shapes\ntrain-num-samples: 80\nval-num-samples: 10\nmodel: vit_tiny_patch4_32\n"
                    "model-kwargs: {{patch_size: 16, embed_dim: 12, depth: 1, num_heads: 3}}\nepochs: 2\nlr: 1e-3\n"
                    "workers: 0\noutput: {}\nexperiment: {}\n",
                    folder_.string(), experiment),
        "test recipe");
    made.batch_size = batch_size;
    made.grad_accum_steps = accumulated;
    return made;
  }
  RateListener run(const Recipe& recipe) const {
    RateListener listener;
    Trainer(recipe, listener).run();
    return listener;
  }
  /// Stops after 40 images in batches of 8, and goes on with others.
  RateListener go_on(std::int64_t batch_size, std::int64_t accumulated = 1) const {
    const std::string name = fmt::format("parts-{}-{}", batch_size, accumulated);
    Recipe first = recipe(name, 8);
    first.max_steps = 5;
    run(first);
    Recipe second = recipe(name, batch_size, accumulated);
    second.resume = (folder_ / name).string();
    return run(second);
  }
  /// The rates of a whole run without those of its first updates.
  std::vector<double> rates_after(std::int64_t updates, std::int64_t batch_size, std::int64_t accumulated = 1) const {
    auto rates = run(recipe("whole", batch_size, accumulated)).rates;
    rates.erase(rates.begin(), rates.begin() + updates);
    return rates;
  }
};

TEST_F(ResumeWithOtherBatches, SmallerOnes) {
  const RateListener listener = go_on(4);
  EXPECT_EQ(listener.rates, rates_after(10, 4));
  EXPECT_TRUE(listener.noted("5 updates were done, as many images as 10 of 4 images; the schedule goes on there"));
  EXPECT_FALSE(listener.noted("left out"));
}

TEST_F(ResumeWithOtherBatches, LargerOnesThatDoNotBeginAtTheImage) {
  const RateListener listener = go_on(16);
  EXPECT_EQ(listener.rates, rates_after(3, 16));
  EXPECT_TRUE(listener.noted("8 images that fill no batch are left out of this epoch"));
}

TEST_F(ResumeWithOtherBatches, TheSameTotalInTwoParts) {
  const RateListener listener = go_on(4, 2);
  EXPECT_EQ(listener.rates, rates_after(5, 4, 2));
  EXPECT_FALSE(listener.noted("updates were done"));
}

TEST_F(ResumeWithOtherBatches, TheLastBatchOfAnEpoch) {
  Recipe first = recipe("end", 8);
  first.max_steps = 9;  // 72 of 80 images: 8 are left, too few for a batch of 32
  run(first);
  Recipe second = recipe("end", 32);
  second.resume = (folder_ / "end").string();
  EXPECT_EQ(run(second).rates, rates_after(2, 32));
}

TEST(WarmUp, IsFiveEpochsUnlessTheRunIsShort) {
  const auto epochs = [](const std::string& text) { return warmup_epochs_of(parse_recipe(text, "test")); };
  EXPECT_EQ(epochs("epochs: 300\n"), 5);
  EXPECT_EQ(epochs("epochs: 10\n"), 5);
  EXPECT_EQ(epochs("epochs: 5\n"), 2);
  EXPECT_EQ(epochs("epochs: 1\n"), 0);
  EXPECT_EQ(epochs("epochs: 1\nwarmup-epochs: 3\n"), 3);
  EXPECT_EQ(epochs("epochs: 300\nwarmup-epochs: 0\n"), 0);
}

}  // namespace
}  // namespace vitrine
