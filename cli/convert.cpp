// vitrine convert: weights under the names of another library.
#include <fmt/core.h>

#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "models/weight_layouts.h"
#include "train/file.h"
#include "train/safetensors.h"
#include "train/weights.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string source, destination, to;
};

/// A file by that name, or model.safetensors in a folder.
fs::path weights_file(const fs::path& path) {
  return path.extension() == ".safetensors" ? path : path / "model.safetensors";
}

/// The weights under our names; Error where the layout of the file has no place for one of its names.
TranslatedWeights read_translated(const std::string& source) {
  TranslatedWeights weights = to_our_layout(read_weights(source));
  VT_CHECK(weights.unknown.empty(), "{}: {} is not a name of {}, and {} others: nothing was written", source,
           weights.unknown[0], weights.description(), weights.unknown.size() - 1);
  return weights;
}

int run_convert(const ConvertOptions& options) {
  VT_CHECK(fs::exists(options.source), "{}: no such file or folder", options.source);
  const WeightLayout layout = weight_layout_from_name(options.to);
  const fs::path target = weights_file(options.destination);
  VT_CHECK(!fs::exists(target), "{}: exists already, expected a new file", target.string());
  const TranslatedWeights weights = read_translated(options.source);
  const StateDict converted = to_layout(weights.state, layout);
  const fs::path folder =
      fs::is_directory(options.source) ? fs::path(options.source) : fs::path(options.source).parent_path();
  const bool with_config =
      layout == WeightLayout::timm && target != options.destination && fs::exists(folder / "config.json");
  if (with_config) {
    const LoadedModel loaded = load_model(options.source);
    save_weights(options.destination, loaded.model, loaded.preprocessing, loaded.label_names);
  } else {
    if (target.has_parent_path()) make_folder(target.parent_path());
    write_safetensors(target, converted, {{"format", "pt"}});
  }
  for (const std::string& name : weights.unused) fmt::print("{}: left out, no classifier uses it\n", name);
  fmt::print("{}: {} tensors from the names of {} to those of {}{}\n", target.string(), converted.size(),
             weights.description(), options.to, with_config ? ", with config.json" : "");
  return exit_success;
}

}  // namespace

void add_convert(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand(
      "convert", "rename weights for another library: vitrine convert SOURCE DEST --to huggingface");
  const auto options = std::make_shared<ConvertOptions>();
  command->add_option("source", options->source, "folder with weights, or a .safetensors file, of any of the layouts")
      ->required()
      ->type_name("SOURCE");
  command->add_option("destination", options->destination, "new folder, or a file whose name ends in .safetensors")
      ->required()
      ->type_name("DEST");
  command->add_option("--to", options->to, "layout of the names")
      ->required()
      ->check(CLI::IsMember({"timm", "torchvision", "huggingface"}));
  command->callback([options, &exit_code] { exit_code = run_convert(*options); });
}

}  // namespace vitrine
