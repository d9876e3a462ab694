// Names in the run folder, and what is kept there.
#include "train/run/run_folder.h"

#include <charconv>
#include <cmath>
#include <ctime>
#include <map>

#include "weights/files/file.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

std::string time_stamp() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return fmt::format("{:04}{:02}{:02}-{:02}{:02}{:02}", local.tm_year + 1900, local.tm_mon + 1, local.tm_mday,
                     local.tm_hour, local.tm_min, local.tm_sec);
}

/// Makes `target` the same file as `source`, atomically. A hard link costs nothing, and is safe
/// because no file here is ever changed in place; where the disk has none, a copy.
void link_atomically(const fs::path& source, const fs::path& target) {
  const fs::path temporary = target.parent_path() / fmt::format(".{}.partial", target.filename().string());
  std::error_code failure;
  fs::remove(temporary, failure);
  fs::create_hard_link(source, temporary, failure);
  if (failure) fs::copy_file(source, temporary, fs::copy_options::overwrite_existing, failure);
  // Renaming a file onto another link of itself does nothing: remove the leftover name then.
  if (!failure) fs::rename(temporary, target, failure);
  VT_CHECK(!failure, "{}: cannot be written: {}", target.string(), failure.message());
  fs::remove(temporary, failure);
}

/// The checkpoint-N files of a folder by N.
std::map<std::int64_t, fs::path> numbered_checkpoints(const fs::path& folder) {
  std::map<std::int64_t, fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string(), start = "checkpoint-", stop = ".safetensors";
    if (!name.starts_with(start) || !name.ends_with(stop)) continue;
    const std::string_view digits(name.data() + start.size(), name.size() - start.size() - stop.size());
    std::int64_t number = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (failure == std::errc() && end == digits.data() + digits.size()) found[number] = entry.path();
  }
  return found;
}

}  // namespace

RunFolder RunFolder::create(const Recipe& recipe, std::int64_t image_size) {
  const std::string name =
      recipe.experiment.empty() ? fmt::format("{}-{}-{}", time_stamp(), recipe.model, image_size) : recipe.experiment;
  make_folder(recipe.output);
  for (int attempt = 1;; ++attempt) {
    const fs::path path = fs::path(recipe.output) / (attempt == 1 ? name : fmt::format("{}-{}", name, attempt));
    std::error_code failure;
    if (fs::create_directory(path, failure)) return RunFolder(path);
    VT_CHECK(!failure && attempt < 10'000, "{}: the run folder cannot be made: {}", path.string(),
             failure ? failure.message() : "all names are taken");
  }
}

RunFolder RunFolder::open(const fs::path& checkpoint) {
  RunFolder folder(checkpoint.has_parent_path() ? checkpoint.parent_path() : fs::path("."));
  for (const auto& entry : fs::directory_iterator(folder.path_)) {  // half-written files of a process that was killed
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".") && name.ends_with(".partial")) fs::remove(entry.path());
  }
  return folder;
}

void RunFolder::write_recipe(const Recipe& recipe) const {
  write_file_atomically(path_ / "args.yaml", to_yaml(recipe));
}

void RunFolder::write_summary(const std::vector<EpochSummary>& history) const {
  const bool taught = !history.empty() && !std::isnan(history.back().distillation.teacher_right);
  std::string text = "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr,images_per_second,seconds";
  text += taught ? ",teacher_top1,student_teacher_agreement,heads_agreement\n" : "\n";
  for (const EpochSummary& e : history) {
    text += fmt::format("{},{:.6f},{:.6f},{:.2f},{:.2f},{:.6g},{:.1f},{:.1f}", e.epoch, e.train_loss, e.eval_loss,
                        e.eval_top1, e.eval_top5, e.lr, e.images_per_second, e.seconds);
    const DistillationSummary& d = e.distillation;
    if (taught) text += fmt::format(",{:.2f},{:.2f},{:.2f}", d.teacher_right, d.student_agrees, d.between_heads);
    text += "\n";
  }
  write_file_atomically(path_ / "summary.csv", text);
}

void RunFolder::save(const Checkpoint& checkpoint) const { save_checkpoint(last(), checkpoint); }

void RunFolder::save_epoch(const Checkpoint& checkpoint, std::int64_t epoch, bool is_best, std::int64_t keep) const {
  save(checkpoint);
  write_summary(checkpoint.run.history);
  if (is_best) link_atomically(last(), best());
  if (keep > 0) link_atomically(last(), path_ / fmt::format("checkpoint-{}.safetensors", epoch));
  auto numbered = numbered_checkpoints(path_);
  // Checkpoints of later epochs are left from before the run was resumed at an earlier one: it
  // takes another course now.
  while (!numbered.empty() && numbered.rbegin()->first > epoch) {
    std::error_code ignored;
    fs::remove(numbered.rbegin()->second, ignored);
    numbered.erase(std::prev(numbered.end()));
  }
  while (static_cast<std::int64_t>(numbered.size()) > keep) {
    std::error_code ignored;  // a checkpoint too many is no reason to end a run
    fs::remove(numbered.begin()->second, ignored);
    numbered.erase(numbered.begin());
  }
}

}  // namespace vitrine
