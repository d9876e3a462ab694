// The image folder of torchvision and timm: folder/<class>/<file>.
#include <algorithm>
#include <cctype>
#include <map>

#include "data/datasets/dataset.h"
#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

bool is_image_file(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

class ImageFolder : public Dataset {
 public:
  explicit ImageFolder(const fs::path& folder) {
    VT_CHECK(fs::is_directory(folder), "{}: no such folder", folder.string());
    std::map<std::string, fs::path> classes;  // sorted by name
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && !name.starts_with('.')) classes[name] = entry.path();
    }
    VT_CHECK(!classes.empty(), "{}: no class: expected one subfolder of images for each", folder.string());
    for (const auto& [name, path] : classes) add_class(name, path);
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
  std::string name(std::int64_t index) const override { return file(index).path.string(); }
  Sample get(std::int64_t index) const override {
    const File& wanted = file(index);
    return {read_image(wanted.path), wanted.label};
  }

 private:
  struct File {
    fs::path path;
    std::int64_t label;
  };

  void add_class(const std::string& name, const fs::path& path) {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (is_image_file(entry.path())) paths.push_back(entry.path());
    }
    VT_CHECK(!paths.empty(), "{}: this class has no image (.jpg, .jpeg or .png)", path.string());
    std::ranges::sort(paths);
    for (fs::path& image : paths) files_.push_back({std::move(image), num_classes()});
    class_names_.push_back(name);
  }

  const File& file(std::int64_t index) const {
    VT_CHECK(index >= 0 && index < size(), "dataset: no sample {}, there are {}", index, size());
    return files_[static_cast<std::size_t>(index)];
  }

  std::vector<File> files_;
};

/// root/split; for an evaluation split any of its usual names.
fs::path split_folder(const fs::path& root, const std::string& split) {
  if (fs::is_directory(root / split)) return root / split;
  const bool evaluation = is_evaluation_split(split);
  if (evaluation) {
    for (const char* other : evaluation_splits) {
      if (fs::is_directory(root / other)) return root / other;
    }
  }
  throw Error(fmt::format("{}: no such folder; an image folder is {}/{}/<class>/<file>", (root / split).string(),
                          root.string(), evaluation ? "{test, val or validation}" : split));
}

}  // namespace

DatasetPtr open_image_folder(const fs::path& folder) { return std::make_shared<ImageFolder>(folder); }

DatasetPtr open_image_folder(const fs::path& root, const std::string& split) {
  return open_image_folder(split_folder(root, split));
}

}  // namespace vitrine
