// A checkpoint's tensors get prefixes, its numbers become JSON in the metadata.
#include "train/run/checkpoint.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "weights/files/safetensors.h"
#include "weights/weight_files.h"

namespace vitrine {
namespace {

using Json = nlohmann::ordered_json;

constexpr int format_version = 1;

/// JSON has no NaN: null stands for it. All other doubles survive exactly.
Json number(double value) { return std::isnan(value) ? Json() : Json(value); }
double number(const Json& json) {
  return json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
}

/// The figures of an epoch in the order in which they are written, its number aside.
constexpr auto figures = [](auto& e) {
  auto& d = e.distillation;
  return std::array{&e.train_loss,        &e.eval_loss, &e.eval_top1,     &e.eval_top5,      &e.lr,
                    &e.images_per_second, &e.seconds,   &d.teacher_right, &d.student_agrees, &d.between_heads};
};

Json to_json(const EpochSummary& e) {
  Json json = {e.epoch};
  for (const double* figure : figures(e)) json.push_back(number(*figure));
  return json;
}

EpochSummary epoch_from_json(const Json& json) {
  EpochSummary e{.epoch = json.at(0).get<std::int64_t>()};
  std::size_t column = 1;
  for (double* figure : figures(e)) {
    if (column < json.size()) *figure = number(json.at(column++));  // earlier versions wrote fewer
  }
  return e;
}

Json to_json(const Checkpoint& checkpoint) {
  const RunState& run = checkpoint.run;
  Json json = {{"format", format_version},
               {"epoch", run.epoch},
               {"batch", run.batch},
               {"step", run.step},
               {"generator_seed", run.generator.seed},
               {"generator_count", run.generator.count},
               {"loss_sum", number(run.loss_sum)},
               {"loss_images", run.loss_images},
               {"agreement", Json::array()},
               {"best", run.best ? number(*run.best) : Json()},
               {"best_epoch", run.best_epoch},
               {"seconds", number(run.seconds)},
               {"history", Json::array()},
               {"optimizer", Json::object()}};
  for (const double* count : AgreementCounts::all(run.agreement)) json["agreement"].push_back(*count);
  for (const EpochSummary& epoch : run.history) json["history"].push_back(to_json(epoch));
  for (const auto& [name, count] : checkpoint.optimizer.counters) json["optimizer"][name] = count;
  return json;
}

void from_json(const Json& json, Checkpoint& checkpoint) {
  RunState& run = checkpoint.run;
  run.epoch = json.at("epoch").get<std::int64_t>();
  run.batch = json.at("batch").get<std::int64_t>();
  run.step = json.at("step").get<std::int64_t>();
  run.generator = {json.at("generator_seed").get<std::uint64_t>(), json.at("generator_count").get<std::uint64_t>()};
  run.loss_sum = number(json.at("loss_sum"));
  run.loss_images = json.at("loss_images").get<std::int64_t>();
  if (const auto counts = json.find("agreement"); counts != json.end()) {
    std::size_t next = 0;
    for (double* count : AgreementCounts::all(run.agreement)) *count = counts->at(next++).get<double>();
  }
  if (!json.at("best").is_null()) run.best = number(json.at("best"));
  run.best_epoch = json.at("best_epoch").get<std::int64_t>();
  run.seconds = number(json.at("seconds"));
  for (const Json& epoch : json.at("history")) run.history.push_back(epoch_from_json(epoch));
  for (const auto& [name, count] : json.at("optimizer").items()) {
    checkpoint.optimizer.counters.emplace_back(name, count.get<std::int64_t>());
  }
}

const std::string& metadata_of(const SafetensorsReader& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  VT_CHECK(found != file.metadata().end(), "{}: has weights but no '{}': it is not a checkpoint of a training run",
           file.path().string(), key);
  return found->second;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  NamedTensors tensors = checkpoint.weights;
  const auto append = [&](std::string_view prefix, const StateDict& state) {
    for (const auto& [name, tensor] : state) tensors.emplace_back(std::string(prefix) + name, tensor);
  };
  append(average_prefix, checkpoint.average);
  append(optimizer_prefix, checkpoint.optimizer.tensors);
  write_safetensors(path, tensors, {{"recipe", checkpoint.recipe}, {"state", to_json(checkpoint).dump()}});
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  check_is_safetensors(path);
  const SafetensorsReader file(path);
  Checkpoint checkpoint;
  checkpoint.recipe = metadata_of(file, "recipe");
  try {
    const Json state = Json::parse(metadata_of(file, "state"));
    const int version = state.at("format").get<int>();
    VT_CHECK(version == format_version, "{}: is a checkpoint of format {}, expected {}", path.string(), version,
             format_version);
    from_json(state, checkpoint);
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("{}: state of the run is damaged: {}", path.string(), error.what()));
  }
  for (auto& [name, tensor] : file.read_all()) {
    if (name.starts_with(average_prefix)) {
      checkpoint.average.emplace_back(name.substr(average_prefix.size()), tensor);
    } else if (name.starts_with(optimizer_prefix)) {
      checkpoint.optimizer.tensors.emplace_back(name.substr(optimizer_prefix.size()), tensor);
    } else {
      checkpoint.weights.emplace_back(name, tensor);
    }
  }
  return checkpoint;
}

std::string read_checkpoint_recipe(const std::filesystem::path& path) {
  check_is_safetensors(path);
  return metadata_of(SafetensorsReader(path), "recipe");
}

std::filesystem::path checkpoint_file(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? path / "last.safetensors" : path;
}

}  // namespace vitrine
