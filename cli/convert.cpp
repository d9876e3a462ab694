// vitrine convert: weights under the names of another library.
#include <fmt/ranges.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "weights/files/file.h"
#include "weights/files/safetensors.h"
#include "weights/load_weights.h"
#include "weights/model_folder.h"
#include "weights/names/weight_layouts.h"
#include "weights/weight_files.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string source, destination, to;
};

/// A file by that name, or model.safetensors in a folder.
fs::path destination_file(const fs::path& path) {
  return path.extension() == ".safetensors" ? path : path / "model.safetensors";
}

/// The weights under our names. Throws if the file's layout does not know one of its names, and for
/// NaN and inf.
TranslatedWeights read_translated(const std::string& source) {
  const FileTensors file = read_weight_file(source);
  for (const std::string& note : file.notes) fmt::print(stderr, "{}: {}\n", source, note);
  for (const auto& [name, tensor] : file.tensors) check_finite(tensor, fmt::format("{}: {}", source, name));
  TranslatedWeights weights = to_our_layout(file.tensors);
  for (const std::string& note : weights.notes()) fmt::print(stderr, "{}: {}\n", source, note);
  VT_CHECK(weights.unknown.empty(), "{}: {} is not a name of {}, and {} others: nothing was written", source,
           weights.unknown[0], weights.description(), weights.unknown.size() - 1);
  return weights;
}

/// Whether config.json lies with the source.
bool is_described(const std::string& source) {
  const fs::path folder = fs::is_directory(source) ? weights_folder(source) : fs::path(source).parent_path();
  return fs::exists(folder / "config.json");
}

/// The flags by which `vitrine eval` does without config.json.
std::string flags_for_eval(const LoadedModel& loaded) {
  const auto config = nlohmann::ordered_json::parse(to_config_json(loaded.model, loaded.preprocessing, {}));
  std::string flags = fmt::format("--model {} --num-classes {}", loaded.model.name(), loaded.model.classes());
  std::string kwargs;
  for (const auto& [name, value] : config.at("model_args").items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::erase_if(text, [](char c) { return c == '[' || c == ']'; });
    kwargs += fmt::format(" {}={}", name, text);
  }
  if (!kwargs.empty()) flags += " --model-kwargs" + kwargs;
  const PretrainedConfig& p = loaded.preprocessing;
  return fmt::format("{} --crop-pct {} --interpolation {} --mean {} --std {}", flags, p.crop_pct, p.interpolation,
                     fmt::join(p.mean, " "), fmt::join(p.std, " "));
}

/// Writes the weights; into a folder also the files by which the layout describes a model. Returns
/// the end of the report's line, which names those files.
std::string write_converted(const ConvertOptions& options, WeightLayout layout, const fs::path& target,
                            const StateDict& converted) {
  const bool described = is_described(options.source), into_folder = target != options.destination;
  if (described && into_folder && layout != WeightLayout::torchvision) {
    const LoadedModel loaded = load_model(options.source);
    save_weights(options.destination, loaded.model, loaded.preprocessing, loaded.label_names, layout);
    return layout == WeightLayout::timm ? ", with config.json" : ", with config.json and preprocessor_config.json";
  }
  std::string remark;
  if (layout == WeightLayout::torchvision) {
    const std::string flags = described ? flags_for_eval(load_model(options.source)) : "--model NAME";
    remark = "\nno config.json was written, torchvision has none: say to vitrine eval " + flags;
  } else if (into_folder) {
    remark = fmt::format("\nno config.json was written, since none lies beside {}", options.source);
  }
  if (target.has_parent_path()) make_folder(target.parent_path());
  write_safetensors(target, converted, {{"format", "pt"}});
  return remark;
}

int run_convert(const ConvertOptions& options) {
  VT_CHECK(fs::exists(options.source), "{}: no such file or folder", options.source);
  const WeightLayout layout = weight_layout_from_name(options.to);
  const fs::path target = destination_file(options.destination);
  VT_CHECK(!fs::exists(target), "{}: exists already, expected a new file", target.string());
  const TranslatedWeights weights = read_translated(options.source);
  const StateDict converted = to_layout(weights.state, layout);
  const std::string ending = write_converted(options, layout, target, converted);
  fmt::print("{}: {} tensors from the names of {} to those of {}{}\n", target.string(), converted.size(),
             weights.description(), options.to, ending);
  return exit_success;
}

}  // namespace

void add_convert(CLI::App& program, int& exit_code) {
  CLI::App* command = program.add_subcommand(
      "convert", "rename weights for another library: vitrine convert SOURCE DEST --to huggingface");
  const auto options = std::make_shared<ConvertOptions>();
  command
      ->add_option("source", options->source, "folder with weights, or a file of them (.safetensors, .pth, .bin, .npz)")
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
