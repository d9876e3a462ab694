// Damaged and hostile files of weights: an error of one line or the right tensors, in bounded time
// and memory.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "tests/data/data_fixtures.h"
#include "tests/support/expectations.h"
#include "tests/weights/file_bytes.h"
#include "weights/files/zip.h"
#include "weights/formats/numpy_file.h"
#include "weights/formats/pickle.h"
#include "weights/formats/torch_state.h"
#include "weights/weight_files.h"

namespace vitrine {
namespace {

using vitrine::testing::TemporaryFolder;

/// What came of it: "" where it was read.
std::string outcome_of(const std::function<void()>& read) {
  try {
    read();
    return "";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_FALSE(text.empty());
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    EXPECT_LT(text.size(), 1000u) << text;
    return text;
  }  // any other exception fails the test
}

/// Numbers that look random and are the same every time.
class Numbers {
 public:
  std::uint32_t below(std::size_t limit) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>((state_ >> 33) % limit);
  }

 private:
  std::uint64_t state_ = 1;
};

void expect_same(const NamedTensors& a, const NamedTensors& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first) << what;
    EXPECT_EQ(a[i].second.shape(), b[i].second.shape()) << what;
    EXPECT_EQ(cast_data(a[i].second, DType::f64).to_vector<double>(),
              cast_data(b[i].second, DType::f64).to_vector<double>())
        << what << ' ' << a[i].first;
  }
}

/// Elements of all tensors together.
std::int64_t elements_of(const NamedTensors& tensors) {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : tensors) count += tensor.numel();
  return count;
}

// ---- Damage ----

TEST(HostileFiles, EveryTruncationIsAnError) {
  const TemporaryFolder folder;
  const auto path = folder / "cut";
  for (const char* file : {"state.pth", "state_legacy.pth", "checkpoint.pth.tar", "hybrid_stem.npz"}) {
    const std::string whole = bytes_of_file(golden_file(file));
    const std::size_t step = std::max<std::size_t>(1, whole.size() / 3000);
    write_bytes(path, whole);
    for (std::size_t size = whole.size() - 1; size < whole.size(); size -= step) {  // until it wraps below 0
      std::filesystem::resize_file(path, size);
      EXPECT_NE(outcome_of([&] { read_weight_file(path); }), "") << file << " cut to " << size << " bytes";
    }
  }
}

/// A file whose bytes are changed and put back.
class Damaged {
 public:
  Damaged(const std::filesystem::path& path, const std::string& whole)
      : whole_(whole), file_(write_bytes(path, whole), std::ios::in | std::ios::out | std::ios::binary) {}
  void flip(std::size_t at, std::uint32_t bit) { put(at, static_cast<char>(whole_[at] ^ (1 << bit))); }
  void restore(std::size_t at) { put(at, whole_[at]); }

 private:
  void put(std::size_t at, char byte) {
    file_.seekp(static_cast<std::streamoff>(at));
    file_.put(byte).flush();
  }
  std::string whole_;
  std::fstream file_;
};

/// Zip archives have checksums: what is read in spite of a flipped bit must be what was written.
TEST(HostileFiles, FlippedBitsOfArchivesAreErrorsOrWithoutEffect) {
  const TemporaryFolder folder;
  const auto path = folder / "flipped";
  Numbers numbers;
  for (const char* file : {"state.pth", "checkpoint.pth.tar", "hybrid_stem.npz"}) {
    const std::string whole = bytes_of_file(golden_file(file));
    const NamedTensors expected = read_weight_file(golden_file(file)).tensors;
    Damaged damaged(path, whole);
    int errors = 0;
    for (int trial = 0; trial < 3000; ++trial) {
      const std::size_t at = numbers.below(whole.size());
      damaged.flip(at, numbers.below(8));
      FileTensors read;
      if (!outcome_of([&] { read = read_weight_file(path); }).empty()) {
        ++errors;
      } else {
        expect_same(read.tensors, expected, fmt::format("{}: byte {}", file, at));
      }
      damaged.restore(at);
    }
    EXPECT_GT(errors, 1000) << file;
  }
}

/// Without checksums, to reach what lies behind them.
TEST(HostileFiles, FlippedBitsOfPicklesAreBounded) {
  const TemporaryFolder folder;
  const auto path = folder / "flipped";
  Numbers numbers;
  const std::string legacy = bytes_of_file(golden_file("state_legacy.pth"));
  Damaged damaged(path, legacy);
  for (int trial = 0; trial < 6000; ++trial) {
    std::vector<std::size_t> places;
    for (std::uint32_t flips = 1 + numbers.below(3); flips > 0; --flips) {
      places.push_back(15 + numbers.below(legacy.size() - 15));  // behind what tells the format
      damaged.flip(places.back(), numbers.below(8));
    }
    outcome_of([&] { EXPECT_LE(elements_of(read_weight_file(path).tensors), 1 << 24); });
    for (const std::size_t at : places) damaged.restore(at);
  }
  for (const char* file : {"state.pth", "checkpoint.pth.tar"}) {
    const ZipReader zip(golden_file(file));
    std::vector<std::byte> pickle;
    for (const ZipEntry& entry : zip.entries()) {
      if (entry.name.ends_with("data.pkl")) pickle = zip.read(entry);
    }
    ASSERT_FALSE(pickle.empty());
    for (std::size_t bit = 0; bit < 8 * pickle.size(); ++bit) {
      pickle[bit / 8] ^= std::byte{1} << (bit % 8);
      outcome_of([&] { find_torch_state(Pickle(pickle, "flipped", is_torch_name), "flipped"); });
      pickle[bit / 8] ^= std::byte{1} << (bit % 8);
    }
  }
}

TEST(HostileFiles, RandomStepsOfPicklesAreBounded) {
  Numbers numbers;
  const std::string steps = "(0122qrhj}])\x85\x86\x87tldaesu\x90RbQcN\x88K\x8aX.\x81\x91\x92\x93\x94";
  for (int trial = 0; trial < 20000; ++trial) {
    std::string pickle = "\x80\x04";
    for (std::uint32_t length = numbers.below(60); length > 0; --length) {
      pickle += numbers.below(4) == 0 ? static_cast<char>(numbers.below(3)) : steps[numbers.below(steps.size())];
    }
    outcome_of([&] { find_torch_state(Pickle(std::as_bytes(std::span(pickle)), "random", is_torch_name), "random"); });
  }
}

TEST(HostileFiles, DamagedHeadersOfNumPyAreErrors) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
  const auto file = [](const std::string& text) {
    return "\x93NUMPY\x01" + std::string(1, '\0') + little_endian(static_cast<std::uint16_t>(text.size())) + text +
           std::string(24, '\1');
  };
  const auto read = [&](const std::string& text) {
    const std::string bytes = file(text);
    return outcome_of([&] { tensor_of_numpy(std::as_bytes(std::span(bytes)), "array"); });
  };
  EXPECT_EQ(read(header), "");
  for (std::size_t bit = 0; bit < 8 * header.size(); ++bit) {
    header[bit / 8] = static_cast<char>(header[bit / 8] ^ (1 << (bit % 8)));
    read(header);
    header[bit / 8] = static_cast<char>(header[bit / 8] ^ (1 << (bit % 8)));
  }
  for (const char* shape :
       {"(4294967296, 4294967296)", "(-2, -3)", "(2, 4)", "(2, 3", "()", "(1,1,1,1,1,1,1,1,6)", "x"}) {
    EXPECT_NE(read(fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}", shape)), "") << shape;
  }
  for (const char* type : {"'>f4'", "'|O'", "'<c8'", "'<U4'", "[('a', '<f4')]", "'<f4", ""}) {
    EXPECT_TRUE(contains(read(fmt::format("{{'descr': {}, 'fortran_order': False, 'shape': (2, 3), }}", type)),
                         "has the element type"))
        << type;
  }
}

// ---- Bombs ----

/// What is said of the file, within a second or two.
std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  const auto path = folder / "bomb.pth";
  write_bytes(path, bytes);
  const auto start = std::chrono::steady_clock::now();
  const std::string text = outcome_of([&] { read_weight_file(path); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  return text;
}

TEST(HostileFiles, ArchivesThatWouldGrowAreRefused) {
  const std::string zeros(std::size_t{80} << 20, '\0');
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", zeros, true}})), "unpacks to more than 67108864 bytes"));
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", zeros.substr(0, 1 << 20), true, 1000}})),
                       "unpacks to more than the 1000 bytes"));
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", "x", true, 1000}})), "cannot be unpacked"));
  EXPECT_TRUE(contains(refusal(zip_of({{"a/data.pkl", "x", false, 1000}})), "is stored as 1 bytes and has 1000"));
  std::string overlapping = zip_of({{"a/data.pkl", std::string(100, 'x')}, {"a/data/0", std::string(100, 'y')}});
  const std::size_t second = overlapping.find("PK\1\2", overlapping.find("PK\1\2") + 1);
  overlapping.replace(second + 42, 4, little_endian<std::uint32_t>(10));  // its header within the first
  EXPECT_TRUE(contains(refusal(overlapping), "overlaps what follows it"));
  std::string many = zip_of({{"a/data.pkl", "x"}});
  many.replace(many.size() - 14, 4, "\xfe\xff\xfe\xff");
  EXPECT_TRUE(contains(refusal(many), "damaged"));
}

TEST(HostileFiles, PicklesThatWouldGrowAreRefused) {
  const auto of = [](const std::string& steps) { return refusal(torch_zip_of("\x80\x04" + steps, "")); };
  EXPECT_TRUE(contains(of(std::string(3'000'000, '}')), "more than 2097152 values"));
  EXPECT_TRUE(contains(of(")" +
                          [] {
                            std::string deep;
                            for (int i = 0; i < 1'000'000; ++i) deep += "\x85";  // a tuple in a tuple in a tuple ...
                            return deep;
                          }() +
                          "."),
                       "expected a dictionary"));
  std::string doubling = "]";  // each list holds the one before it twice: 2^1000 lists, if they were expanded
  for (int i = 0; i < 1000; ++i) doubling += "2]q\1" + std::string("0") + "h\1(" + "h\1" + "h\1" + "e";
  of(doubling + ".");
  EXPECT_TRUE(contains(of("]q\1h\1a."), "expected a dictionary"));  // a list that holds itself
  EXPECT_TRUE(contains(of("\x8d" + little_endian(INT64_MAX) + "."), "cut off or damaged"));
  EXPECT_TRUE(contains(of("\x8b\xff\xff\xff\xff."), "cut off or damaged"));
  EXPECT_TRUE(contains(of("\x95" + little_endian<std::int64_t>(-1) + "."), "cut off or damaged"));
  EXPECT_TRUE(contains(of("R."), "takes what it never put"));
  EXPECT_TRUE(contains(of("(}t1."), "takes what it never put"));
  EXPECT_TRUE(contains(of("}(0t."), "takes what it never put"));  // below the mark
  EXPECT_TRUE(contains(of("}(2t."), "takes what it never put"));
  EXPECT_TRUE(contains(of("h\7."), "takes what it never put"));
  // A dictionary that is its own wrapper, and a parameter within itself.
  of("}q\1" + pickled_text("model") + "h\1s.");
  std::string nested = pickled_tensor("0", 0, {0}, {1});
  for (int i = 0; i < 1000; ++i)
    nested = "ctorch._utils\n_rebuild_parameter\n" + pickled_tuple({nested, "\x88", "}"}) + "R";
  EXPECT_TRUE(contains(of("}" + pickled_text("a") + nested + "s."), "damaged"));
}

}  // namespace
}  // namespace vitrine
