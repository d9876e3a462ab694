// The image folder of torchvision and timm: folder/<class>/<file>, or any depth of folders between.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "data/datasets/dataset.h"
#include "data/formats/formats.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

/// What is in the folder and yet not in the dataset, by the reason.
class LeftOut {
 public:
  enum Reason { no_extension, hidden, beside_classes, loop };

  void add(Reason reason, std::string name) { names_[reason].push_back(std::move(name)); }

  /// "left out 2 files of data/train: notes.txt (no image extension), ._x.png (hidden)"; empty if
  /// nothing was left out.
  std::string note(const fs::path& folder) const {
    constexpr std::size_t shown = 5;  // for each reason
    static constexpr std::array reasons{"no image extension", "hidden", "beside the class folders",
                                        "a link to a folder above it"};
    std::size_t count = 0;
    std::vector<std::string> phrases;
    for (std::size_t r = 0; r < reasons.size(); ++r) {
      std::vector<std::string> names = names_[r];
      if (names.empty()) continue;
      count += names.size();
      std::ranges::sort(names);
      const std::size_t rest = names.size() - std::min(names.size(), shown);
      names.resize(names.size() - rest);
      const std::string more = rest > 0 ? fmt::format(" and {} more", rest) : "";
      phrases.push_back(fmt::format("{}{} ({})", fmt::join(names, ", "), more, reasons[r]));
    }
    if (count == 0) return "";
    return fmt::format("left out {} file{} of {}: {}", count, count == 1 ? "" : "s", folder.string(),
                       fmt::join(phrases, ", "));
  }

 private:
  std::array<std::vector<std::string>, 4> names_;
};

/// Looks through the folders of classes.
class FolderWalk {
 public:
  using Images = std::vector<std::pair<std::string, std::string>>;  // folder and file

  explicit FolderWalk(fs::path root) : root_(std::move(root)), above_{real_path(root_)} {}

  /// The names of the class folders, in no order.
  std::vector<std::string> class_names() {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : entries_of(root_)) {
      if (is_hidden(entry)) continue;
      if (entry.is_directory()) {
        if (is_new(entry.path())) names.push_back(entry.path().filename().string());
      } else {
        const bool image = has_image_extension(entry.path());
        left_out_.add(image ? LeftOut::beside_classes : LeftOut::no_extension, relative(entry.path()));
      }
    }
    return names;
  }

  /// All images of a class, in torchvision's order: by folder, then by file.
  Images images_of(const std::string& class_name) {
    Images images;
    enter(root_ / class_name, images);
    std::ranges::sort(images);
    return images;
  }

  std::string note() const { return left_out_.note(root_); }

 private:
  static fs::path real_path(const fs::path& folder) {
    std::error_code error;
    fs::path real = fs::canonical(folder, error);
    VT_CHECK(!error, "{}: cannot be read: {}", folder.string(), error.message());
    return real;
  }

  static std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
    std::error_code error;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator it(folder, error); !error && it != fs::directory_iterator(); it.increment(error)) {
      entries.push_back(*it);
    }
    VT_CHECK(!error, "{}: cannot be read: {}", folder.string(), error.message());
    return entries;
  }

  std::string relative(const fs::path& path) const { return path.lexically_relative(root_).string(); }

  bool is_hidden(const fs::directory_entry& entry) {
    if (!entry.path().filename().string().starts_with('.')) return false;
    left_out_.add(LeftOut::hidden, relative(entry.path()) + (entry.is_directory() ? "/" : ""));
    return true;
  }

  /// Whether the folder is none of those on the way to it, nor above them: a link could lead there.
  bool is_new(const fs::path& folder) {
    const fs::path real = real_path(folder);
    const bool known = std::ranges::any_of(above_, [&](const fs::path& above) {
      return std::mismatch(real.begin(), real.end(), above.begin(), above.end()).first == real.end();
    });
    if (known) left_out_.add(LeftOut::loop, relative(folder));
    return !known;
  }

  void enter(const fs::path& folder, Images& images) {
    above_.push_back(real_path(folder));
    for (const fs::directory_entry& entry : entries_of(folder)) {
      const fs::path& path = entry.path();
      if (is_hidden(entry)) continue;
      if (entry.is_directory()) {
        if (is_new(path)) enter(path, images);
      } else if (has_image_extension(path)) {
        images.emplace_back(folder.string(), path.filename().string());
      } else {
        left_out_.add(LeftOut::no_extension, relative(path));
      }
    }
    above_.pop_back();
  }

  fs::path root_;
  std::vector<fs::path> above_;  // the folders on the way to the present one, links resolved
  LeftOut left_out_;
};

class ImageFolder : public Dataset {
 public:
  ImageFolder(const fs::path& folder, ClassOrder order) {
    VT_CHECK(fs::is_directory(folder), "{}: no such folder", folder.string());
    FolderWalk walk(folder);
    class_names_ = in_order(walk.class_names(), order);
    VT_CHECK(!class_names_.empty(), "{}: no class: expected one subfolder of images for each", folder.string());
    for (std::int64_t label = 0; label < num_classes(); ++label) {
      const std::string& name = class_names_[static_cast<std::size_t>(label)];
      const FolderWalk::Images images = walk.images_of(name);
      VT_CHECK(!images.empty(), "{}: this class has no image, at any depth ({})", (folder / name).string(),
               image_extensions());
      for (const auto& [place, file] : images) files_.push_back({fs::path(place) / file, label});
    }
    if (std::string note = walk.note(); !note.empty()) notes_.push_back(std::move(note));
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

DatasetPtr open_image_folder(const fs::path& folder, ClassOrder order) {
  return std::make_shared<ImageFolder>(folder, order);
}

DatasetPtr open_image_folder(const fs::path& root, const std::string& split, ClassOrder order) {
  return open_image_folder(split_folder(root, split), order);
}

}  // namespace vitrine
