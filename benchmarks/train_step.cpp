// Times the full training step of ViT-Ti/4 at 32 pixels: our side of benchmarks/compare_pytorch, which documents the interface.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "autograd/tape.h"
#include "models/registry.h"
#include "ops/ops.h"
#include "optim/adamw.h"
#include "tensor/parallel.h"
#include "train/safetensors.h"

using namespace vitrine;

int main(int argc, char** argv) {
  CLI::App app("Trains ViT-Ti/4 on one batch over and over, and prints the time and the loss of each step.");
  std::string weights_file, batch_file;
  int steps = 10, warmup = 3, threads = 2;
  bool json = false;
  app.add_option("--weights", weights_file, "safetensors with the weights to start from")->required();
  app.add_option("--batch", batch_file, "safetensors with images (B, 3, 32, 32) and labels (B)")->required();
  app.add_option("--steps", steps, "steps that are timed")->capture_default_str();
  app.add_option("--warmup", warmup, "steps before that")->capture_default_str();
  app.add_option("--threads", threads, "threads to use")->capture_default_str();
  app.add_flag("--json", json, "end with one JSON object");
  CLI11_PARSE(app, argc, argv);

  try {
    set_num_threads(threads);
    Model model = create_model("vit_tiny_patch4_32", {.num_classes = 10});
    model.load_state_dict(SafetensorsReader(weights_file).read_all());
    AdamW optimizer(weight_decay_groups(model.parameters(), 0.05, model.info().no_decay), {.learning_rate = 1e-3});
    const SafetensorsReader batch(batch_file);
    const Tensor images = batch.read("images"), labels = batch.read("labels");

    std::vector<double> losses, milliseconds;
    Generator generator;
    for (int step = 0; step < warmup + steps; ++step) {
      const auto start = std::chrono::steady_clock::now();
      Tensor loss;
      {
        Tape tape;
        loss = cross_entropy(model(images, {.training = true, .generator = &generator}), labels);
        optimizer.step(tape.backward(loss));
      }  // the tape's memory goes back within the step
      const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
      losses.push_back(loss.item());
      if (step >= warmup) milliseconds.push_back(elapsed.count());
      if (!json) fmt::print("step {}: {:.1f} ms, loss {:.6f}\n", step, elapsed.count(), losses.back());
    }
    if (json) {
      const nlohmann::ordered_json result = {
          {"name", "vitrine"},
          {"version", fmt::format("vitrine {}, oneDNN for matrix products", VITRINE_VERSION)},
          {"batch", images.size(0)},
          {"threads", num_threads()},
          {"warmup", warmup},
          {"milliseconds", milliseconds},
          {"losses", losses}};
      fmt::print("{}\n", result.dump());
    }
  } catch (const Error& error) {
    fmt::print(stderr, "train_step: {}\n", error.what());
    return 1;
  }
  return 0;
}
