// The binary files of CIFAR-10 and CIFAR-100: records of one or two label bytes and 3 x 32 x 32
// bytes of pixels.
//
// Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
#include <fstream>

#include "data/datasets/dataset.h"
#include "data/image/file_bytes.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

constexpr int side = 32;
constexpr std::size_t plane = side * side;

/// Where the two sets differ.
struct Layout {
  std::size_t label_bytes;  // the last of them is the label; CIFAR-100's first is the coarse one
  std::int64_t num_classes;
  const char* archive_folder;
  const char* names_file;
  std::size_t record() const { return label_bytes + 3 * plane; }
};
constexpr Layout cifar10_layout = {1, 10, "cifar-10-batches-bin", "batches.meta.txt"};
constexpr Layout cifar100_layout = {2, 100, "cifar-100-binary", "fine_label_names.txt"};

class Cifar : public Dataset {
 public:
  Cifar(const Layout& layout, const fs::path& root, const std::vector<std::string>& files) : layout_(layout) {
    const fs::path inner = root / layout.archive_folder;
    const fs::path folder = fs::is_directory(inner) ? inner : root;
    for (const std::string& file : files) add_file(folder / file);
    read_names(folder / layout.names_file);
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size() / layout_.record()); }

  std::string name(std::int64_t index) const override {
    for (const File& file : files_) {
      if (index < file.records) return fmt::format("{}: record {}", file.path.string(), index);
      index -= file.records;
    }
    return fmt::format("record {}", index);
  }

  Sample get(std::int64_t index) const override {
    VT_CHECK(index >= 0 && index < size(), "dataset: no sample {}, there are {}", index, size());
    const std::uint8_t* record = bytes_.data() + static_cast<std::size_t>(index) * layout_.record();
    const std::uint8_t* planes = record + layout_.label_bytes;
    Sample sample{Image(side, side), record[layout_.label_bytes - 1]};
    for (std::size_t i = 0; i < plane; ++i) {
      for (std::size_t c = 0; c < 3; ++c) sample.image.pixels[3 * i + c] = planes[c * plane + i];
    }
    return sample;
  }

 private:
  struct File {
    fs::path path;
    std::int64_t records;
  };

  void add_file(const fs::path& path) {
    const std::vector<std::uint8_t> bytes = read_bytes(path);
    const std::size_t record = layout_.record();
    VT_CHECK(!bytes.empty() && bytes.size() % record == 0, "{}: {} bytes, expected a multiple of {} (one record)",
             path.string(), bytes.size(), record);
    for (std::size_t start = 0; start < bytes.size(); start += record) {
      const std::size_t offset = start + layout_.label_bytes - 1;
      VT_CHECK(bytes[offset] < layout_.num_classes, "{}: label {} at offset {}, expected 0 to {}", path.string(),
               bytes[offset], offset, layout_.num_classes - 1);
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    files_.push_back({path, static_cast<std::int64_t>(bytes.size() / record)});
  }

  void read_names(const fs::path& path) {
    std::ifstream stream(path);
    for (std::string line; std::getline(stream, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) class_names_.push_back(line);
    }
    if (num_classes() == layout_.num_classes) return;
    class_names_.clear();
    for (std::int64_t i = 0; i < layout_.num_classes; ++i) class_names_.push_back(std::to_string(i));
  }

  Layout layout_;
  std::vector<std::uint8_t> bytes_;  // the records of all files, one after the other
  std::vector<File> files_;
};

}  // namespace

DatasetPtr open_cifar10(const fs::path& root, const std::string& split) {
  std::vector<std::string> files = {"test_batch.bin"};
  if (split == "train") {
    files.clear();
    for (int i = 1; i <= 5; ++i) files.push_back(fmt::format("data_batch_{}.bin", i));
  }
  return std::make_shared<Cifar>(cifar10_layout, root, files);
}

DatasetPtr open_cifar100(const fs::path& root, const std::string& split) {
  return std::make_shared<Cifar>(cifar100_layout, root,
                                 std::vector<std::string>{split == "train" ? "train.bin" : "test.bin"});
}

}  // namespace vitrine
