// safetensors files: what is written is read back, a strict reader refuses everything else, and no
// bit flips unnoticed.
#include "tests/support/folder_test.h"
#include "weights/files/safetensors.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "tensor/philox.h"
#include "weights/files/hash.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

class Safetensors : public FolderTest {
 protected:
  fs::path put(const std::string& bytes) const {
    const fs::path path = folder_ / "file.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  /// A file with this header and `data` bytes behind it.
  fs::path put_header(const std::string& header, std::size_t data) const {
    const std::uint64_t length = header.size();
    return put(std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data, 'x'));
  }
  /// Flips one bit of the file in place.
  static void flip(const fs::path& path, std::size_t bit) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    const auto position = static_cast<std::streamoff>(bit / 8);
    file.seekg(position);
    const auto byte = static_cast<char>(file.get() ^ (1 << (bit % 8)));
    file.seekp(position);
    file.put(byte);
  }
  /// The message with which reading the file fails.
  static std::string failure(const fs::path& path) {
    try {
      SafetensorsReader(path).read_all();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
};

std::string bytes_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

NamedTensors example() {
  Tensor grid = arange(6, DType::f32).view_as({3, 2}, {1, 3}, 0);  // not row-major
  return {{"a.weight", grid},
          {"b", from_values<double>({0.1, -1e300}, {2})},
          {"scalar", full({}, 7, DType::i64)},
          {"nothing", zeros({0, 5}, DType::bf16)},
          {"bytes", from_values<std::uint8_t>({1, 2, 255}, {3})},
          {"mask", full({3}, 1, DType::boolean)},
          {"half", full({2, 2}, 1.5, DType::bf16)}};
}

TEST(Xxh64, PublishedVectors) {
  const auto hash = [](std::string_view text) { return xxh64(std::as_bytes(std::span(text.data(), text.size()))); };
  EXPECT_EQ(hash_text(hash("")), "ef46db3751d8e999");
  EXPECT_EQ(hash_text(hash("a")), "d24ec4f1a98c6e5b");
  EXPECT_EQ(hash_text(hash("abc")), "44bc2cf5ad770999");
  EXPECT_EQ(hash_text(hash("Nobody inspects the spammish repetition")), "fbcea83c8a378bf1");
}

TEST_F(Safetensors, ReadsBackWhatItWrites) {
  const fs::path path = folder_ / "file.safetensors";
  write_safetensors(path, example(), {{"state", "{\"step\": 3}"}});
  const SafetensorsReader file(path);
  EXPECT_EQ(file.metadata(), (Metadata{{"state", "{\"step\": 3}"}}));
  EXPECT_TRUE(file.has_hashes());
  ASSERT_EQ(file.entries().size(), 7u);
  EXPECT_EQ(file.read("a.weight").to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(file.read("b").to_vector<double>(), (std::vector<double>{0.1, -1e300}));
  EXPECT_EQ(file.read("scalar").dim(), 0);
  EXPECT_EQ(file.read("scalar").to_vector<std::int64_t>(), (std::vector<std::int64_t>{7}));
  EXPECT_EQ(file.read("nothing").shape(), (Shape{0, 5}));
  EXPECT_EQ(file.read("bytes").to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{1, 2, 255}));
  EXPECT_EQ(file.read("mask").dtype(), DType::boolean);
  EXPECT_EQ(static_cast<float>(file.read("half").to_vector<bfloat16>()[3]), 1.5f);
  EXPECT_EQ(files(), 1u) << "a temporary file was left";
}

TEST_F(Safetensors, EveryBitFlipIsDetected) {
  const fs::path path = folder_ / "file.safetensors";
  write_safetensors(path, {{"w", ones({2})}, {"n", zeros({0})}}, {{"s", "{\"step\": 3}"}});
  const std::string good = bytes_of_file(path);
  ASSERT_EQ(failure(path), "no error");
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {  // all of them, not a sample
    flip(path, bit);
    EXPECT_NE(failure(path), "no error") << "bit " << bit % 8 << " of byte " << bit / 8 << " ('" << good[bit / 8]
                                         << "')";
    flip(path, bit);
  }
  EXPECT_EQ(bytes_of_file(path), good);
}

TEST_F(Safetensors, RandomBitFlipsInALargerFile) {
  const fs::path path = folder_ / "file.safetensors";
  Tensor weight = zeros({50, 60});
  RandomSequence random(1, Purpose::test);
  for (int i = 0; i < 3000; ++i) weight.data<float>()[i] = static_cast<float>(random.normal());
  write_safetensors(path, {{"weight", weight}, {"bias", zeros({100})}});
  const auto bits = static_cast<std::int64_t>(8 * fs::file_size(path));
  int detected = 0;
  for (int i = 0; i < 600; ++i) {
    const auto bit = static_cast<std::size_t>(random.integer(bits));
    flip(path, bit);
    detected += failure(path) != "no error";
    flip(path, bit);
  }
  EXPECT_EQ(detected, 600);
}

TEST_F(Safetensors, EveryTruncationIsDetected) {
  const fs::path path = folder_ / "file.safetensors";
  write_safetensors(path, {{"w", ones({2})}});
  const std::string good = bytes_of_file(path);
  for (std::size_t size = good.size(); size-- > 0;) {
    fs::resize_file(path, size);
    EXPECT_NE(failure(path), "no error") << size << " bytes";
  }
  EXPECT_NE(failure(put(good + "x")), "no error");
}

TEST_F(Safetensors, FilesOfOtherToolsHaveNoHashes) {
  const fs::path path = put_header(R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}   )", 2);
  const SafetensorsReader file(path);
  EXPECT_FALSE(file.has_hashes());
  EXPECT_EQ(file.read("t").to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{'x', 'x'}));
}

TEST_F(Safetensors, LegalHeaders) {
  EXPECT_EQ(failure(put_header("{}", 0)), "no error");
  EXPECT_EQ(failure(put_header(R"({"__metadata__":{"format":"pt"}})", 0)), "no error");
  EXPECT_EQ(failure(put_header(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                               R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
                               2)),
            "no error");
}

struct Refusal {
  const char* header;
  std::size_t data;
  const char* message;
};

TEST_F(Safetensors, RefusesHeaders) {
  const Refusal refusals[] = {
      {"[]", 0, "does not begin with '{'"},
      {" {}", 0, "does not begin with '{'"},
      {"", 0, "does not begin with '{'"},
      {"{", 0, "not valid JSON at byte"},
      {"{}x", 0, "not valid JSON at byte"},
      {R"({"a":1})", 0, "tensor 'a': expected an object with dtype, shape and data_offsets"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "expected an object with"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1, "expected an object with"},
      {R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "dtype is 8, expected a string"},
      {R"({"a":{"dtype":"U9","shape":[1],"data_offsets":[0,1]}})", 1, "dtype is 'U9'"},
      {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "shape is 1, expected a list"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "a size is -1, expected an integer"},
      {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "a size is 1.0, expected an integer"},
      {R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1, "at most 8 sizes"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "too large for memory"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "expected [begin, end]"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "expected a range within the 1 bytes"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1, "expected a range within the 1 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}})", 2,
       "holds 2 bytes, expected 4 for F32 of shape (1)"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
       "begins at byte 1 of the data, expected 0 (no hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "'b' begins at byte 1 of the data, expected 2 (no overlap"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 3, "2 bytes follow the last tensor"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "has the key 'a' twice"},
      {R"({"__metadata__":{"x":"1","x":"2"}})", 0, "has the key 'x' twice"},
      {R"({"__metadata__":{"x":1}})", 0, "'x' is 1, expected a string"},
      {R"({"__metadata__":[]})", 0, "not an object of strings"},
      {R"({"__metadata__":{"vitrine.scheme":"1"}})", 0, "the header is damaged"},
      {R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", 1, "has the byte 120 as a BOOL"},
      {R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})", 1, "has dtype F8_E4M3, expected F32, F64"},
      {R"({"a":[[[[[[[[1]]]]]]]]})", 0, "nested deeper"},
  };
  for (const Refusal& refusal : refusals) {
    const std::string message = failure(put_header(refusal.header, refusal.data));
    EXPECT_NE(message.find(refusal.message), std::string::npos) << refusal.header << "\n  gave: " << message;
    EXPECT_NE(message.find("file.safetensors: "), std::string::npos) << message;
  }
}

TEST_F(Safetensors, AHostileLengthTakesNoMemory) {
  const std::uint64_t length = 1ull << 62;
  EXPECT_NE(failure(put(std::string(reinterpret_cast<const char*>(&length), 8) + "{}")).find("header length is 4611"),
            std::string::npos);
  EXPECT_NE(failure(put("1234")).find("has 4 bytes, expected a safetensors file of at least 8"), std::string::npos);
  EXPECT_NE(failure(folder_ / "none.safetensors").find("none.safetensors: cannot be opened: No such file"),
            std::string::npos);
  EXPECT_NE(failure(folder_).find("is a folder, expected a file"), std::string::npos);
}

TEST_F(Safetensors, UnknownNamesAndDoubleNames) {
  const fs::path path = folder_ / "file.safetensors";
  EXPECT_THROW(write_safetensors(path, {{"a", zeros({1})}, {"a", zeros({1})}}), Error);
  EXPECT_THROW(write_safetensors(path, {{"__metadata__", zeros({1})}}), Error);
  EXPECT_THROW(write_safetensors(path, {{"a", zeros({1})}}, {{"vitrine.hash", ""}}), Error);
  EXPECT_THROW(write_safetensors(path, {{"a", Tensor()}}), Error);
  EXPECT_EQ(files(), 0u);
  write_safetensors(path, {{"a", zeros({1})}});
  EXPECT_THROW(SafetensorsReader(path).read("b"), Error);
}

TEST_F(Safetensors, AFailedWriteLeavesTheOldFile) {
  const fs::path path = folder_ / "file.safetensors";
  write_safetensors(path, {{"a", full({4}, 3)}});
  const std::string before = bytes_of_file(path);

  // A limit on the size of files stands in for a full disk: write(2) fails in the middle.
  rlimit old_limit{};
  ::getrlimit(RLIMIT_FSIZE, &old_limit);
  auto* old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{4096, old_limit.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::string message = "no error";
  try {
    write_safetensors(path, {{"a", zeros({100000})}});
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);

  EXPECT_NE(message.find("file.safetensors: cannot be written"), std::string::npos) << message;
  EXPECT_NE(message.find("bytes needed"), std::string::npos) << message;
  EXPECT_NE(message.find("bytes free"), std::string::npos) << message;
  EXPECT_EQ(bytes_of_file(path), before);
  EXPECT_EQ(files(), 1u) << "a temporary file was left";
  EXPECT_THROW(write_safetensors(folder_ / "none" / "x.safetensors", {}), Error);
}

}  // namespace
}  // namespace vitrine
