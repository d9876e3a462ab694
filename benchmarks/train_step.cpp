// Times the full training step of a model: our side of benchmarks/compare_pytorch (CPU) and
// benchmarks/compare_on_gpu, of which the first documents the files and the JSON.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "autograd/tape.h"
#include "benchmarks/support/stopwatch.h"
#include "models/registry.h"
#include "op_table/op_table.h"
#include "ops/ops.h"
#include "ops/product/gemm_cuda.h"
#include "optim/adamw.h"
#include "tensor/device/allocator.h"
#include "tensor/device/graph.h"
#include "tensor/parallel.h"
#include "train/recipe/setup.h"
#include "weights/files/safetensors.h"

using namespace vitrine;

namespace {

struct Options {
  std::string model = "vit_tiny_patch4_32", device = "cpu", weights, batch;
  std::int64_t image_size = 0, batch_size = 128;
  int steps = 10, warmup = 3, threads = 0;
  double learning_rate = 1e-3;
  bool amp = false, graph = true, autotune = false, rounds = false, json = false;
};

void add_options(CLI::App& app, Options& options) {
  app.add_option("--model", options.model, "a name of `vitrine list-models`")->capture_default_str();
  app.add_option("--img-size", options.image_size, "side of the images in pixels; 0 = the model's");
  app.add_option("--device", options.device, "cpu or cuda")->capture_default_str();
  app.add_flag("--amp", options.amp, "activations in bf16");
  app.add_flag("--graph,!--no-graph", options.graph,
               "on a GPU, record a step once and replay it; on unless --no-graph");
  app.add_flag("--autotune", options.autotune, "on a GPU, time cuBLASLt's algorithms and keep the fastest");
  app.add_option("--weights", options.weights, "safetensors with the weights to start from; else random ones");
  app.add_option("--batch", options.batch, "safetensors with images (B, 3, S, S) and labels (B); else random ones");
  app.add_option("--batch-size", options.batch_size, "B of random images")->capture_default_str();
  app.add_option("--learning-rate", options.learning_rate, "constant")->capture_default_str();
  app.add_option("--steps", options.steps, "steps that are timed")->capture_default_str();
  app.add_option("--warmup", options.warmup, "steps before that")->capture_default_str();
  app.add_option("--threads", options.threads, "threads to use; 0 = one per core");
  app.add_flag("--json", options.json, "end with one JSON object instead of a line for people");
  app.add_flag("--rounds", options.rounds,
               "one round, with a JSON object, for each line `WARMUP STEPS` of standard input");
}

struct ImageBatch {
  Tensor images;   // (B, 3, S, S) in the dtype of the activations
  Tensor labels;   // (B) i64, on the CPU
  Tensor targets;  // (B, K) one-hot, on a GPU: labels are checked on the host, which a recorded step cannot wait for
};

class Trial {
 public:
  explicit Trial(const Options& options)
      : options_(options),
        placement_{open_device(options.device), options.amp ? DType::bf16 : DType::f32},
        model_(make_model(options)) {
    if (!options.weights.empty()) model_.load_state_dict(SafetensorsReader(options.weights).read_all());
    model_.move_to(placement_.device);  // before the optimiser puts the weights into its arena
    optimizer_.emplace(weight_decay_groups(model_.parameters(), 0.05, model_.info().no_decay),
                       AdamWOptions{.learning_rate = options.learning_rate});
    if (options.amp) optimizer_->keep_bf16_copy();
    batch_ = make_batch();
  }

  /// Warm-up, then timed steps; no step waits for the device.
  nlohmann::ordered_json round(int warmup, int steps) {
    Stopwatch watch(placement_.device);
    // One tensor for all losses: keeping those of the steps would make each step ask for new
    // memory.
    const Tensor losses = empty({warmup + steps}, DType::f32, placement_.device);
    const auto run_step = [&](std::int64_t i) {
      Tensor place = losses.view_as({}, {}, i);
      copy_into(place, step());
    };
    for (int i = 0; i < warmup; ++i) run_step(i);
    reset_peak_memory(placement_.device);
    const MemoryStatistics before = memory_statistics(placement_.device);
    watch.mark();
    for (int i = 0; i < steps; ++i) {
      run_step(warmup + i);
      watch.mark();
    }
    const auto milliseconds = watch.milliseconds();
    const MemoryStatistics after = memory_statistics(placement_.device);
    return {{"name", "vitrine"},
            {"version", fmt::format("vitrine {}, {} for matrix products", VITRINE_VERSION,
                                    placement_.device.is_cpu() ? "oneDNN" : "cuBLASLt")},
            {"model", model_.name()},
            {"device", to_string(placement_.device)},
            {"activations", name_of(placement_.dtype)},
            {"batch", batch_.images.size(0)},
            {"threads", num_threads()},
            {"warmup", warmup},
            {"milliseconds", milliseconds},
            {"losses", losses.to_vector<float>()},
            // A recorded step works in a pool of its own, which counts as cached; what was cached
            // before was given back.
            {"peak_bytes", graph_ ? after.in_use + after.cached : after.peak},
            {"allocations", after.requests - before.requests},
            {"system_allocations", after.system_requests - before.system_requests}};
  }

 private:
  static Model make_model(const Options& options) {
    ModelOptions changes{.drop_path_rate = 0};  // so that losses can be compared
    if (options.image_size > 0) changes.img_size = options.image_size;
    return create_model(options.model, changes);
  }

  ImageBatch make_batch() const {
    Tensor images, labels;
    if (options_.batch.empty()) {
      const auto [channels, height, width] = model_.pretrained_config().input_size;
      images = cast_data(test_values({options_.batch_size, channels, height, width}, 1), DType::f32);
      labels = test_indices({options_.batch_size}, model_.classes(), 2);
    } else {
      const SafetensorsReader file(options_.batch);
      images = file.read("images");
      labels = file.read("labels");
    }
    ImageBatch batch{placement_.place(images), labels, {}};
    if (placement_.device.is_cuda()) {
      batch.targets = to_device(cast_data(one_hot(labels, model_.classes()), DType::f32), placement_.device);
    }
    return batch;
  }

  /// One step, or its recording replayed, once two steps in the ordinary way have set everything
  /// up.
  Tensor step() {
    if (!options_.graph || placement_.device.is_cpu() || steps_++ < 2) {
      const Tensor loss = gather_gradients();
      optimizer_->prepare_step();
      optimizer_->run_step();
      return loss;
    }
    optimizer_->prepare_step();
    if (!graph_) {
      release_cached_memory(placement_.device);  // the graph needs about as much for itself
      graph_.emplace(placement_.device, [&] {
        graph_loss_ = gather_gradients();
        optimizer_->run_step();
      });
    }
    graph_->replay();
    return graph_loss_;
  }

  Tensor gather_gradients() {
    Tape tape;
    const Tensor logits = cast(model_(batch_.images, {.training = true, .generator = &generator_}), DType::f32);
    const Tensor loss =
        batch_.targets.defined() ? soft_cross_entropy(logits, batch_.targets) : cross_entropy(logits, batch_.labels);
    optimizer_->set_gradients(tape.backward(loss));
    return loss;
  }

  Options options_;
  Placement placement_;
  Model model_;
  std::optional<AdamW> optimizer_;
  ImageBatch batch_;
  Generator generator_;
  std::optional<Graph> graph_;
  Tensor graph_loss_;
  int steps_ = 0;
};

void run(const Options& options) {
  if (options.threads > 0) set_num_threads(options.threads);
  set_gemm_autotune(options.autotune);
  Trial trial(options);
  if (options.rounds) {
    for (std::string line; std::getline(std::cin, line);) {
      int warmup = 0, steps = 0;
      VT_CHECK(std::istringstream(line) >> warmup >> steps && warmup >= 0 && steps > 0,
               "--rounds: read '{}', expected two numbers: WARMUP STEPS", line);
      fmt::print("{}\n", trial.round(warmup, steps).dump());
      std::fflush(stdout);
    }
    return;
  }
  const auto result = trial.round(options.warmup, options.steps);
  if (options.json) {
    fmt::print("{}\n", result.dump());
    return;
  }
  auto times = result["milliseconds"].get<std::vector<double>>();
  std::ranges::sort(times);
  fmt::print("{}, batch {}: {:.2f} ms a step in the median ({:.2f} .. {:.2f}), last loss {:.6f}\n", options.model,
             result["batch"].get<std::int64_t>(), times[times.size() / 2], times.front(), times.back(),
             result["losses"].back().get<double>());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a model on one batch over and over, and prints the time and the loss of the steps.",
               "train_step");
  Options options;
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const Error& error) {
    fmt::print(stderr, "train_step: {}\n", error.what());
    return 1;
  }
  return 0;
}
