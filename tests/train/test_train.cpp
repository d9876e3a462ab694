// Training runs: what they write, that they resume bit for bit, that they stop where they should,
// and that NaN goes nowhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/folder_test.h"
#include "train/trainer.h"
#include "weights/files/safetensors.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of every tensor of a file by name.
std::map<std::string, std::string> bytes_of(const fs::path& path) {
  std::map<std::string, std::string> all;
  for (const auto& [name, tensor] : read_safetensors(path)) {
    const auto size = static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
    all[name] = std::string(static_cast<const char*>(tensor.raw_data()), size);
  }
  return all;
}

class Train : public FolderTest {
 protected:
  /// A small run with every source of randomness and every kind of state switched on: 10 batches, 4
  /// updates per epoch.
  Recipe recipe(const std::string& experiment) const {
    return parse_recipe(
        fmt::format("dataset: shapes\ntrain-num-samples: 80\nval-num-samples: 30\n"
                    "model: vit_tiny_patch4_32\nmodel-kwargs: {{embed_dim: 12, depth: 2, num_heads: 3}}\n"
                    "batch-size: 8\ngrad-accum-steps: 3\nepochs: 2\nwarmup-epochs: 1\nlr: 1e-3\n"
                    "mixup: 0.8\ncutmix: 1\ndrop: 0.1\ndrop-path: 0.1\nclip-grad: 1\ncolor-jitter: 0.3\n"
                    "reprob: 0.3\nmodel-ema: true\nmodel-ema-decay: 0.9\nworkers: 2\noutput: {}\n"
                    "experiment: {}\n",
                    folder_.string(), experiment),
        "test recipe");
  }
};

/// Keeps what it hears; stops when told to.
struct Listener : TrainObserver {
  std::vector<std::string> notes;
  std::vector<EpochSummary> epochs;
  std::vector<Progress> batches;
  std::function<void()> after_batch = [] {};
  std::function<bool()> stop = [] { return false; };

  void note(const std::string& line) override { notes.push_back(line); }
  void batch_done(const Progress& progress) override {
    batches.push_back(progress);
    after_batch();
  }
  void epoch_done(const EpochSummary& summary, bool) override { epochs.push_back(summary); }
  bool should_stop() override { return stop(); }
};

TEST_F(Train, WritesTheRunFolder) {
  Listener listener;
  Trainer trainer(recipe("run"), listener);
  EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);

  const fs::path run = folder_ / "run";
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(run)) names.insert(entry.path().filename().string());
  EXPECT_EQ(names,
            (std::set<std::string>{"args.yaml", "checkpoint-0.safetensors", "checkpoint-1.safetensors", "config.json",
                                   "last.safetensors", "model.safetensors", "model_best.safetensors", "summary.csv"}));
  EXPECT_EQ(to_yaml(read_recipe(run / "args.yaml")), to_yaml(recipe("run")));

  std::ifstream summary(run / "summary.csv");
  std::string line;
  std::getline(summary, line);
  EXPECT_EQ(line.rfind("epoch,train_loss,eval_loss,eval_top1,eval_top5,lr", 0), 0u) << line;
  for (int epoch = 0; epoch < 2; ++epoch) {
    ASSERT_TRUE(std::getline(summary, line));
    EXPECT_EQ(line.rfind(fmt::format("{},", epoch), 0), 0u) << line;
  }
  EXPECT_FALSE(std::getline(summary, line));

  ASSERT_EQ(listener.epochs.size(), 2u);
  for (const EpochSummary& e : listener.epochs) {
    EXPECT_TRUE(e.train_loss > 0 && e.eval_loss > 0 && e.eval_top1 >= 0 && e.eval_top5 >= e.eval_top1 &&
                e.eval_top5 <= 100);
  }
  ASSERT_EQ(listener.batches.size(), 8u);  // 10 batches in updates of 3, 3, 3 and 1
  EXPECT_EQ(listener.batches[3].batch, 10);
  EXPECT_EQ(listener.batches[0].learning_rate, 1e-6);  // the warm-up begins at warmup-lr
  EXPECT_EQ(trainer.state().step, 8);

  const auto last = bytes_of(run / "last.safetensors");
  EXPECT_TRUE(last.contains("head.weight") && last.contains("ema/head.weight"));
  EXPECT_TRUE(last.contains("optimizer/first_moment.head.weight"));
}

TEST_F(Train, ANameThatIsTakenGetsANumber) {
  Recipe one = recipe("run");
  one.max_steps = 1;
  for (const char* name : {"run", "run-2", "run-3"}) {
    Listener listener;
    Trainer trainer(one, listener);
    EXPECT_EQ(trainer.folder().path(), folder_ / name);
  }
}

TEST_F(Train, ResumesBitForBitFromAnyStep) {
  Listener listener;
  EXPECT_EQ(Trainer(recipe("whole"), listener).run(), Trainer::Outcome::finished);
  const auto whole = bytes_of(folder_ / "whole" / "last.safetensors");
  const auto best = bytes_of(folder_ / "whole" / "model_best.safetensors");

  for (const int stop_after : {1, 3, 4, 6}) {  // within an epoch, before its last update, between epochs, in the second
    const std::string name = fmt::format("parts-{}", stop_after);
    Recipe first = recipe(name);
    first.max_steps = stop_after;
    EXPECT_EQ(Trainer(first, listener).run(), Trainer::Outcome::stopped);
    Recipe second = recipe(name);
    second.resume = (folder_ / name).string();
    second.workers = 1;
    second.threads = 1;
    Trainer trainer(second, listener);
    EXPECT_EQ(trainer.state().step, stop_after);
    EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
    EXPECT_TRUE(bytes_of(folder_ / name / "last.safetensors") == whole) << "stopped after " << stop_after;
    EXPECT_TRUE(bytes_of(folder_ / name / "model_best.safetensors") == best) << "stopped after " << stop_after;
    const EpochSummary &a = listener.epochs[1], &b = listener.epochs.back();
    EXPECT_EQ(a.train_loss, b.train_loss);
    EXPECT_EQ(a.eval_loss, b.eval_loss);
  }
}

TEST_F(Train, RunningStatisticsResumeBitForBit) {
  const auto resnet = [&](const std::string& experiment) {
    Recipe r = recipe(experiment);
    r.model = "resnet20_cifar";
    r.model_kwargs = {{"depths", "1,1"}};
    r.drop_path = 0;
    return r;
  };
  Listener listener;
  EXPECT_EQ(Trainer(resnet("whole"), listener).run(), Trainer::Outcome::finished);
  Recipe first = resnet("parts");
  first.max_steps = 3;
  EXPECT_EQ(Trainer(first, listener).run(), Trainer::Outcome::stopped);
  Recipe second = resnet("parts");
  second.resume = (folder_ / "parts").string();
  second.threads = 1;
  EXPECT_EQ(Trainer(second, listener).run(), Trainer::Outcome::finished);
  const auto whole = bytes_of(folder_ / "whole" / "last.safetensors");
  EXPECT_TRUE(whole.contains("bn1.running_mean") && whole.contains("ema/bn1.running_mean"));
  EXPECT_TRUE(bytes_of(folder_ / "parts" / "last.safetensors") == whole);
}

TEST_F(Train, MixesForAModelWithMoreOutputsThanTheDataHasClasses) {
  Recipe more = recipe("more");
  more.num_classes = 12;
  more.max_steps = 1;
  Listener listener;
  Trainer trainer(more, listener);
  EXPECT_EQ(trainer.run(), Trainer::Outcome::stopped);
  EXPECT_TRUE(trainer.state().loss_sum / static_cast<double>(trainer.state().loss_images) > 1);
}

TEST_F(Train, ADifferentSeedGivesDifferentWeights) {
  Listener listener;
  Recipe other = recipe("other");
  other.seed = 43;
  EXPECT_EQ(Trainer(recipe("one"), listener).run(), Trainer::Outcome::finished);
  EXPECT_EQ(Trainer(other, listener).run(), Trainer::Outcome::finished);
  EXPECT_NE(bytes_of(folder_ / "one" / "last.safetensors"), bytes_of(folder_ / "other" / "last.safetensors"));
}

TEST_F(Train, AStopInTheEvaluationIsNotLost) {
  Listener listener;
  EXPECT_EQ(Trainer(recipe("whole"), listener).run(), Trainer::Outcome::finished);
  Listener stopping;
  stopping.stop = [&] { return stopping.batches.size() == 4; };  // asked next when the first epoch is being evaluated
  EXPECT_EQ(Trainer(recipe("parts"), stopping).run(), Trainer::Outcome::stopped);
  EXPECT_TRUE(stopping.epochs.empty());
  Recipe rest = recipe("parts");
  rest.resume = (folder_ / "parts" / "last.safetensors").string();
  EXPECT_EQ(Trainer(rest, listener).run(), Trainer::Outcome::finished);
  EXPECT_TRUE(bytes_of(folder_ / "parts" / "last.safetensors") == bytes_of(folder_ / "whole" / "last.safetensors"));
}

TEST_F(Train, ANonFiniteLossStopsBeforeTheUpdate) {
  Recipe bad = recipe("bad");
  bad.lr = 1e30;  // the weights overflow after a few updates
  bad.warmup_epochs = 0;
  bad.clip_grad = 0;
  bad.grad_accum_steps = 1;
  Listener listener;
  Trainer trainer(bad, listener);
  std::vector<std::vector<float>> weights;  // after the last good update
  listener.after_batch = [&] {
    weights.clear();
    for (const auto& [name, value] : trainer.model().state_dict()) weights.push_back(value.to_vector<float>());
  };
  std::string message = "no error";
  try {
    trainer.run();
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_EQ(message.rfind("training: epoch 0, batch ", 0), 0u) << message;
  bool names_a_parameter = false;
  std::size_t i = 0;
  for (const auto& [name, value] : trainer.model().state_dict()) {
    names_a_parameter |= message.find(name) != std::string::npos;
    ASSERT_LT(i, weights.size());
    EXPECT_EQ(value.to_vector<float>(), weights[i++]) << name << " was changed";
  }
  EXPECT_TRUE(names_a_parameter) << message;
  EXPECT_NE(message.find("; the first inf or NaN is in "), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(folder_ / "bad" / "model_best.safetensors"));
}

TEST_F(Train, KeepsTheNewestCheckpoints) {
  Recipe many = recipe("run");
  many.epochs = 5;
  many.checkpoint_hist = 2;
  many.recovery_interval = 2;
  many.val_interval = 3;
  Listener listener;
  EXPECT_EQ(Trainer(many, listener).run(), Trainer::Outcome::finished);
  for (int epoch = 0; epoch < 5; ++epoch) {
    EXPECT_EQ(fs::exists(folder_ / "run" / fmt::format("checkpoint-{}.safetensors", epoch)), epoch >= 3) << epoch;
    EXPECT_EQ(std::isnan(listener.epochs[static_cast<std::size_t>(epoch)].eval_top1), epoch != 2 && epoch != 4);
  }
  EXPECT_EQ(load_checkpoint(folder_ / "run" / "last.safetensors").run.epoch, 5);
}

TEST_F(Train, LearnsFewImagesByHeart) {
  const Recipe longer = parse_recipe(
      fmt::format("dataset: shapes\ntrain-num-samples: 40\nval-num-samples: 20\nmodel: vit_tiny_patch4_32\n"
                  "model-kwargs: {{patch_size: 8, embed_dim: 24, depth: 2, num_heads: 3}}\nbatch-size: 20\n"
                  "epochs: 60\nval-interval: 60\nwarmup-epochs: 2\nlr: 3e-3\nhflip: 0\ntrain-crop: center\n"
                  "smoothing: 0\ncheckpoint-hist: 0\noutput: {}\nexperiment: learns\n",
                  folder_.string()),
      "test recipe");
  Listener listener;
  EXPECT_EQ(Trainer(longer, listener).run(), Trainer::Outcome::finished);
  // Guessing costs ln 10 = 2.30.
  EXPECT_TRUE(listener.epochs.front().train_loss >= 2.0) << listener.epochs.front().train_loss;
  EXPECT_TRUE(listener.epochs.back().train_loss <= 1.2) << listener.epochs.back().train_loss;
}

TEST_F(Train, WeightsFolderIsObeyed) {
  Listener listener;
  Trainer trainer(recipe("run"), listener);
  EXPECT_EQ(trainer.run(), Trainer::Outcome::finished);
  const fs::path run = folder_ / "run";
  const auto config = nlohmann::json::parse(text_of(run / "config.json"));
  EXPECT_EQ(config.at("architecture"), "vit_tiny_patch4_32");
  EXPECT_EQ(config.at("num_classes"), 10);
  EXPECT_EQ(config.at("model_args").at("embed_dim"), 12);
  EXPECT_EQ(config.at("pretrained_cfg").at("input_size"), (std::vector<int>{3, 32, 32}));
  EXPECT_EQ(config.at("label_names").size(), 10u);

  const LoadedModel loaded = load_model(run);  // the best average
  EXPECT_EQ(loaded.label_names.size(), 10u);
  const auto average = read_safetensors(run / "model_best.safetensors");
  for (const auto& [name, value] : loaded.model.state_dict()) {
    EXPECT_EQ(value.to_vector<float>(), average.at("ema/" + name).to_vector<float>()) << name;
  }
  EXPECT_EQ(load_model(run / "model_best.safetensors").model.state_dict().size(), loaded.model.state_dict().size());

  // Other preprocessing in config.json is taken over.
  auto changed = config;
  changed["pretrained_cfg"]["mean"] = {0.25, 0.25, 0.25};
  std::ofstream(run / "config.json") << changed;
  EXPECT_EQ(load_model(run).preprocessing.mean[0], 0.25);

  const std::pair<const char*, const char*> mistakes[] = {
      {"{", "config.json: is not valid JSON"},
      {"[]", "config.json: expected a JSON object"},
      {"{}", "config.json: architecture: is missing"},
      {R"({"architecture":5})", "config.json: architecture is 5, which has the wrong type"},
      {R"({"architecture":"vit_none"})", "no model is called \"vit_none\""},
      {R"({"architecture":"vit_tiny_patch4_32","model_args":{"dim":5}})", "'dim' is not an option of models"},
      {R"({"architecture":"vit_tiny_patch4_32","model_args":{"depth":"x"}})", "depth is 'x', which has the wrong type"},
      {R"({"architecture":"vit_tiny_patch4_32"})", "expected"},  // the weights have other shapes
  };
  for (const auto& [text, message] : mistakes) {
    std::ofstream(run / "config.json") << text;
    try {
      load_model(run);
      ADD_FAILURE() << text << " was accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << text << " gave: " << error.what();
    }
  }
}

TEST_F(Train, ResumeRefusesWhatDoesNotFit) {
  Listener listener;
  Recipe first = recipe("run");
  first.max_steps = 1;
  EXPECT_EQ(Trainer(first, listener).run(), Trainer::Outcome::stopped);
  const std::string file = (folder_ / "run" / "last.safetensors").string();
  const auto refusal = [&](const std::string& resume, auto change) -> std::string {
    Recipe second = recipe("run");
    second.resume = resume;
    change(second);
    try {
      Trainer trainer(second, listener);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(refusal(file, [](Recipe& r) { r.model_kwargs["depth"] = "3"; }).find("the weights do not fit"),
            std::string::npos);
  EXPECT_NE(refusal(file, [](Recipe& r) { r.train_num_samples = 16; })
                .find("stopped after 24 images of an epoch, which now has 2 batches of 8"),
            std::string::npos);
  EXPECT_NE(refusal(folder_.string(), [](Recipe&) {}).find("last.safetensors: cannot be opened"), std::string::npos);
  write_safetensors(folder_ / "weights.safetensors", {{"a", zeros({1})}});
  EXPECT_NE(refusal((folder_ / "weights.safetensors").string(), [](Recipe&) {}).find("it is not a checkpoint"),
            std::string::npos);
}

TEST_F(Train, WarnsWhereFlagsDepartFromTheRecipesBatchAndRate) {
  Recipe departed = recipe("run");
  Listener listener;
  Trainer as_written(departed, listener);
  EXPECT_FALSE(std::ranges::any_of(listener.notes, [](const auto& note) { return note.starts_with("warning"); }));
  departed.batch_size = 16;
  departed.lr = 2e-3;
  Trainer trainer(departed, listener);
  for (const std::string warning :
       {"warning: the total batch is 48, the recipe was made for 24",
        "warning: the learning rate is 0.002, the recipe's, with its total batch of 24, 0.001"}) {
    EXPECT_EQ(std::ranges::count(listener.notes, warning), 1) << warning;
  }
}

TEST(LabelRanks, TiesAndNaN) {
  const float nan = std::nanf("");
  const Tensor logits = from_values<float>({0, 2, 1,  //
                                            5, 5, 5,  //
                                            1, nan, 0},
                                           {3, 3});
  EXPECT_EQ(label_ranks(logits, from_values<std::int64_t>({0, 1, 0}, {3})), (std::vector<std::int64_t>{2, 1, 3}));
  EXPECT_EQ(label_ranks(logits, from_values<std::int64_t>({1, 0, 1}, {3})), (std::vector<std::int64_t>{0, 0, 3}));
}

TEST(Evaluate, CountsWhatTheModelSays) {
  // A head that always answers class 3, then 1, whatever the image.
  Model model = create_model("vit_tiny_patch4_32", {.num_classes = 10, .embed_dim = 12, .depth = 1, .num_heads = 3});
  StateDict state = model.state_dict();
  for (auto& [name, value] : state) {
    if (name == "head.weight") fill(value, 0);
    if (name == "head.bias") {
      fill(value, 0);
      value.data<float>()[3] = 2;
      value.data<float>()[1] = 1;
    }
  }
  const DatasetPtr shapes = make_shapes(50, "test");
  std::int64_t threes = 0, among_five = 0;  // ranks: 3, 1, then 0, 2, 4 (ties go to the lower class)
  for (std::int64_t i = 0; i < 50; ++i) {
    const std::int64_t label = shapes->get(i).label;
    threes += label == 3;
    among_five += label < 5;
  }
  Loader loader(shapes, EvalTransform{.image_size = 32}, {.batch_size = 16, .shuffle = false, .drop_last = false});
  const Evaluation result = evaluate(model, loader);
  EXPECT_EQ(result.images, 50);
  EXPECT_TRUE(std::abs(result.top1 - 2.0 * static_cast<double>(threes)) <= 1e-9);
  EXPECT_TRUE(std::abs(result.top5 - 2.0 * static_cast<double>(among_five)) <= 1e-9);
  EXPECT_TRUE(std::isfinite(result.loss));
}

}  // namespace
}  // namespace vitrine
