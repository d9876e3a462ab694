// vitrine predict: the most probable classes of images.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/commands.h"
#include "data/formats/formats.h"
#include "ops/ops.h"
#include "train/recipe/match_classes.h"
#include "train/recipe/setup.h"
#include "weights/model_folder.h"

namespace vitrine {
namespace {

struct PredictOptions {
  std::string checkpoint, device = "cpu";
  std::vector<std::string> images;
  int top = 5;
  bool json = false;
};

struct Guess {
  std::string label;
  double probability = 0;
};

/// The `top` most probable classes of one image, best first.
std::vector<Guess> classify(const LoadedModel& loaded, const std::string& path, int top, Device device) {
  const EvalTransform transform = eval_transform(loaded.preprocessing);
  const std::int64_t side = transform.image_size;
  Tensor image = empty({1, 3, side, side});
  transform(read_image(path), image.data<float>());
  const Tensor logits = loaded.model(to_device(image, device));  // (1, K)
  const std::vector<float> probabilities = to_device(softmax(logits), cpu).to_vector<float>();
  std::vector<std::size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater{}, [&](std::size_t k) { return probabilities[k]; });
  std::vector<Guess> guesses;
  for (const std::size_t k : order) {
    if (static_cast<int>(guesses.size()) == top) break;
    const bool named = k < loaded.label_names.size();
    guesses.push_back({named ? loaded.label_names[k] : fmt::format("class {}", k), probabilities[k]});
  }
  return guesses;
}

/// Prints the guesses, or adds them to the JSON list.
void report(const std::string& path, const std::vector<Guess>& guesses, bool as_json, nlohmann::ordered_json& json) {
  auto list = nlohmann::ordered_json::array();
  for (const Guess& guess : guesses) {
    if (!as_json) fmt::print("  {:6.2f}%  {}\n", 100 * guess.probability, guess.label);
    list.push_back({{"label", guess.label}, {"probability", guess.probability}});
  }
  json.push_back({{"image", path}, {"predictions", list}});
}

/// Exit code 1 where an image could not be read; the others are classified all the same.
int run_predict(const PredictOptions& options) {
  const Device device = from_flags([&] { return open_device(options.device); });
  LoadedModel loaded = load_model(options.checkpoint);
  check_has_head(loaded.model, options.checkpoint);
  for (const std::string& note : loaded.notes) fmt::print(stderr, "{}\n", note);
  loaded.model.move_to(device);
  auto json = nlohmann::ordered_json::array();
  int exit_code = exit_success;
  for (const std::string& path : options.images) {
    try {
      const std::vector<Guess> guesses = classify(loaded, path, options.top, device);
      if (!options.json) fmt::print("{}\n", path);
      report(path, guesses, options.json, json);
    } catch (const Error& error) {
      fmt::print(stderr, "vitrine predict: {}\n", error.what());
      json.push_back({{"image", path}, {"error", error.what()}});
      exit_code = exit_failure;
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  return exit_code;
}

}  // namespace

void add_predict(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand("predict", "classify images: vitrine predict --checkpoint RUN IMAGE...");
  const auto options = std::make_shared<PredictOptions>();
  command->add_option("images", options->images, "image files: " + image_extensions())->required()->type_name("IMAGE");
  command->add_option("--checkpoint", options->checkpoint, "run folder, weights folder or file of weights")->required();
  command->add_option("--top", options->top, "classes to show")->check(CLI::PositiveNumber)->capture_default_str();
  command->add_option("--device", options->device, "cpu or cuda")->capture_default_str();
  command->add_flag("--json", options->json, "print a JSON list");
  command->callback([options, &exit_code] { exit_code = run_predict(*options); });
}

}  // namespace vitrine
