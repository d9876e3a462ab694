// What the tests of distillation share: small training runs in a folder of their own, and what
// these tell.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace vitrine {

struct Notes : TrainObserver {
  std::vector<std::string> lines;
  void note(const std::string& line) override { lines.push_back(line); }
  bool has(const std::string& text) const {
    return std::ranges::any_of(lines, [&](const std::string& line) { return line.find(text) != std::string::npos; });
  }
};

class DistillationRun : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("vitrine-distillation-{}-{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Four batches of 16 drawings.
  Recipe recipe(const std::string& experiment, const std::string& model, const std::string& more = "") const {
    return parse_recipe(
        fmt::format(
            "dataset: shapes\ntrain-num-samples: 64\nval-num-samples: 20\nmodel: {}\n"
            "model-kwargs: {{embed_dim: 12, depth: 1, num_heads: 3}}\nbatch-size: 16\nepochs: 1\nwarmup-epochs: 0\n"
            "lr: 1e-3\nmixup: 0.8\nworkers: 0\noutput: {}\nexperiment: {}\n{}",
            model, folder_.string(), experiment, more),
        "test recipe");
  }

  /// A ViT for images of 32 pixels; its folder.
  std::string train_teacher() const {
    Notes notes;
    Trainer(recipe("teacher", "vit_tiny_patch4_32"), notes).run();
    return (folder_ / "teacher").string();
  }

  /// A residual network with running statistics.
  std::string train_convolutional_teacher(const std::string& more = "") const {
    Recipe convolutional = recipe("teacher", "resnet20_cifar", more);
    convolutional.model_kwargs = {{"depths", "1,1"}};
    Notes notes;
    Trainer(convolutional, notes).run();
    return (folder_ / "teacher").string();
  }

  std::filesystem::path folder_;
};

}  // namespace vitrine
