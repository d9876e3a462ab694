// IDX files, in which MNIST and its relatives come: a big-endian header of sizes, then bytes; often
// compressed by gzip.
//
// Source: http://yann.lecun.com/exdb/mnist, "The IDX file format": two zero bytes, the element type
// (8 = unsigned byte), the number of dims, and each size as 32 bits.
#include <zlib.h>

#include <algorithm>

#include "data/datasets/dataset.h"
#include "data/image/file_bytes.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

/// Hands out the bytes of a file in order, inflated if they are a gzip stream.
class ByteReader {
 public:
  explicit ByteReader(const fs::path& path) : name_(path.string()), file_(read_bytes(path)) {
    compressed_ = file_.size() >= 2 && file_[0] == 0x1F && file_[1] == 0x8B;
    if (!compressed_) return;
    stream_.next_in = file_.data();
    stream_.avail_in = static_cast<unsigned>(std::min<std::size_t>(file_.size(), UINT32_MAX));
    const int gzip_window = 15 + 16;  // zlib's code for "expect gzip's header"
    VT_CHECK(inflateInit2(&stream_, gzip_window) == Z_OK, "{}: zlib: {}", name_, message());
  }
  ~ByteReader() {
    if (compressed_) inflateEnd(&stream_);
  }
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  const std::string& name() const { return name_; }
  const std::vector<std::uint8_t>& file() const { return file_; }

  /// No more bytes than this can follow, because deflate shrinks 1032 times at the most.
  std::uint64_t most_bytes() const { return compressed_ ? file_.size() * 1032ull : file_.size() - position_; }

  /// Reads up to `count` bytes and returns how many there were.
  std::size_t read(std::uint8_t* target, std::size_t count) {
    if (!compressed_) {
      count = std::min(count, file_.size() - position_);
      std::copy_n(file_.data() + position_, count, target);
      position_ += count;
      return count;
    }
    std::size_t done = 0;
    while (done < count && !ended_) {
      const auto step = static_cast<unsigned>(std::min<std::size_t>(count - done, 1u << 30));
      stream_.next_out = target + done;
      stream_.avail_out = step;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      done += step - stream_.avail_out;
      ended_ = result == Z_STREAM_END;
      VT_CHECK(result == Z_OK || ended_, "{}: bad gzip data at byte {} of {}: {}", name_, stream_.total_in,
               file_.size(), result == Z_BUF_ERROR ? "the file ends too early" : message());
    }
    return done;
  }

 private:
  const char* message() const { return stream_.msg != nullptr ? stream_.msg : "unknown error"; }

  std::string name_;
  std::vector<std::uint8_t> file_;
  z_stream stream_ = {};
  bool compressed_ = false;
  bool ended_ = false;
  std::size_t position_ = 0;
};

struct IdxFile {
  std::vector<std::uint32_t> sizes;
  std::vector<std::uint8_t> bytes;
};

IdxFile read_idx(const fs::path& path, std::size_t expected_dims) {
  ByteReader reader(path);
  std::uint8_t magic[4] = {};
  const std::size_t got = reader.read(magic, 4);
  VT_CHECK(got == 4 && magic[0] == 0 && magic[1] == 0 && magic[2] == 8 && magic[3] == expected_dims,
           "{}: begins with{}, expected 00 00 08 {:02X} (IDX, unsigned bytes, {} dims)", reader.name(),
           first_bytes({magic, got}), expected_dims, expected_dims);

  IdxFile idx;
  std::uint64_t total = 1;
  for (std::size_t i = 0; i < expected_dims; ++i) {
    std::uint8_t size[4] = {};
    VT_CHECK(reader.read(size, 4) == 4, "{}: ends inside its header of {} bytes", reader.name(), 4 + 4 * expected_dims);
    idx.sizes.push_back(static_cast<std::uint32_t>(size[0]) << 24 | static_cast<std::uint32_t>(size[1]) << 16 |
                        static_cast<std::uint32_t>(size[2]) << 8 | size[3]);
    VT_CHECK(idx.sizes.back() > 0, "{}: size {} at offset {} is 0", reader.name(), i, 4 + 4 * i);
    VT_CHECK(total <= reader.most_bytes() / idx.sizes.back(),
             "{}: size {} at offset {} is {}, more than the file of {} bytes can hold", reader.name(), i, 4 + 4 * i,
             idx.sizes.back(), reader.file().size());
    total *= idx.sizes.back();
  }
  idx.bytes.resize(total);
  const std::size_t count = reader.read(idx.bytes.data(), total);
  VT_CHECK(count == total, "{}: holds {} bytes after its header, which announces {}", reader.name(), count, total);
  std::uint8_t extra = 0;
  VT_CHECK(reader.read(&extra, 1) == 0, "{}: holds more bytes after its header than the {} which that announces",
           reader.name(), total);
  return idx;
}

class Idx : public Dataset {
 public:
  Idx(const fs::path& images, const fs::path& labels)
      : path_(images), images_(read_idx(images, 3)), labels_(read_idx(labels, 1)) {
    VT_CHECK(images_.sizes[0] == labels_.sizes[0], "{}: {} labels, expected {}, as there are images in {}",
             labels.string(), labels_.sizes[0], images_.sizes[0], images.string());
    check_image_claim(images.string(), images_.sizes[1], images_.sizes[2], images_.bytes.size(), 1);
    const int classes = 1 + *std::ranges::max_element(labels_.bytes);
    for (int i = 0; i < classes; ++i) class_names_.push_back(std::to_string(i));
  }

  std::int64_t size() const override { return images_.sizes[0]; }
  std::string name(std::int64_t index) const override { return fmt::format("{}: image {}", path_.string(), index); }
  Sample get(std::int64_t index) const override {
    VT_CHECK(index >= 0 && index < size(), "dataset: no sample {}, there are {}", index, size());
    const auto i = static_cast<std::size_t>(index);
    Sample sample{Image(static_cast<int>(images_.sizes[1]), static_cast<int>(images_.sizes[2])), labels_.bytes[i]};
    const std::size_t pixels = sample.image.pixels.size() / 3;
    for (std::size_t p = 0; p < pixels; ++p) {
      std::fill_n(&sample.image.pixels[3 * p], 3, images_.bytes[i * pixels + p]);
    }
    return sample;
  }

 private:
  fs::path path_;
  IdxFile images_;  // (N, H, W)
  IdxFile labels_;  // (N)
};

/// The one file in `root` whose name ends with one of the usual spellings of MNIST's, such as
/// train-images-idx3-ubyte.gz.
fs::path find_idx_file(const fs::path& root, const std::string& stem, int dims) {
  const std::string dashes = fmt::format("{}-idx{}-ubyte", stem, dims);
  const std::string dots = fmt::format("{}.idx{}-ubyte", stem, dims);
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string file = entry.path().filename().string();
    for (const std::string& ending : {dashes, dots, dashes + ".gz", dots + ".gz"}) {
      if (file.ends_with(ending)) found.push_back(entry.path());
    }
  }
  VT_CHECK(!found.empty(), "{}: no file {} (or {}.gz)", root.string(), dashes, dashes);
  return *std::ranges::min_element(found);
}

}  // namespace

DatasetPtr open_idx(const fs::path& images, const fs::path& labels) { return std::make_shared<Idx>(images, labels); }

DatasetPtr open_mnist(const fs::path& root, const std::string& split) {
  const std::string stem = split == "train" ? "train" : "t10k";
  const fs::path images = find_idx_file(root, stem + "-images", 3), labels = find_idx_file(root, stem + "-labels", 1);
  return open_idx(images, labels);
}

}  // namespace vitrine
