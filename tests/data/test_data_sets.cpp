// Tests of the datasets: CIFAR, IDX, the generated shapes, and opening by kind.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <fstream>

#include "data/datasets/dataset_kinds.h"
#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

std::vector<std::uint8_t> gzipped(const std::vector<std::uint8_t>& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return read_bytes(path);
}

/// An IDX file whose byte i is i % 251.
std::vector<std::uint8_t> idx_file(const std::vector<std::uint8_t>& sizes, std::size_t count) {
  std::vector<std::uint8_t> file = {0, 0, 8, static_cast<std::uint8_t>(sizes.size())};
  for (const std::uint8_t size : sizes) file.insert(file.end(), {0, 0, 0, size});
  for (std::size_t i = 0; i < count; ++i) file.push_back(static_cast<std::uint8_t>(i % 251));
  return file;
}

std::vector<std::uint8_t> cifar_file(std::size_t label_bytes, std::vector<std::uint8_t> labels) {
  std::vector<std::uint8_t> file;
  for (const std::uint8_t label : labels) {
    for (std::size_t i = 1; i < label_bytes; ++i) file.push_back(3);  // the coarse label
    file.push_back(label);
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < 1024; ++i) file.push_back(static_cast<std::uint8_t>(80 * c + label + i % 7));
    }
  }
  return file;
}

TEST(Cifar, ReadsRecordsOfBothKinds) {
  const TemporaryFolder folder;
  for (std::uint8_t i = 1; i <= 5; ++i) {
    write_file(folder / fmt::format("data_batch_{}.bin", i), cifar_file(1, {i, 9}));
  }
  const DatasetPtr ten = open_cifar10(folder.path(), "train");
  ASSERT_EQ(ten->size(), 10);
  EXPECT_EQ(ten->num_classes(), 10);
  const Sample sample = ten->get(4);  // the first of data_batch_3.bin
  EXPECT_EQ(sample.label, 3);
  EXPECT_EQ(sample.image.at(0, 2)[0], 5);
  EXPECT_EQ(sample.image.at(1, 0)[1], 80 + 3 + 32 % 7);
  EXPECT_EQ(sample.image.at(31, 31)[2], 160 + 3 + 1023 % 7);
  expect_parts(ten->name(4), {"data_batch_3.bin", "record 0"});

  write_file(folder / "cifar-100-binary/test.bin", cifar_file(2, {99, 0, 42}));
  std::ofstream names(folder / "cifar-100-binary/fine_label_names.txt");
  for (int i = 0; i < 100; ++i) names << "thing" << i << "\r\n";
  names.close();
  const DatasetPtr hundred = open_cifar100(folder.path(), "test");
  ASSERT_EQ(hundred->size(), 3);
  EXPECT_EQ(hundred->get(2).label, 42);
  EXPECT_EQ(hundred->class_names()[42], "thing42");
}

TEST(Cifar, RefusesWrongSizesAndLabels) {
  const TemporaryFolder folder;
  std::vector<std::uint8_t> file = cifar_file(1, {1, 2});
  file.pop_back();
  write_file(folder / "test_batch.bin", file);
  expect_parts(error_of([&] { open_cifar10(folder.path(), "test"); }), {"test_batch.bin", "6145 bytes", "3073"});
  write_file(folder / "test_batch.bin", cifar_file(1, {1, 10}));
  expect_parts(error_of([&] { open_cifar10(folder.path(), "test"); }),
               {"test_batch.bin", "label 10", "offset 3073", "9"});
  write_file(folder / "test_batch.bin", {});
  expect_parts(error_of([&] { open_cifar10(folder.path(), "test"); }), {"test_batch.bin", "0 bytes"});
  expect_parts(error_of([&] { open_cifar10(folder.path(), "train"); }), {"data_batch_1.bin", "no such file"});
}

TEST(Idx, ReadsPlainAndCompressedFiles) {
  const TemporaryFolder folder;
  write_file(folder / "images", idx_file({4, 3, 5}, 60));
  write_file(folder / "labels", idx_file({4}, 4));
  write_file(folder / "images.gz", gzipped(idx_file({4, 3, 5}, 60)));
  write_file(folder / "labels.gz", gzipped(idx_file({4}, 4)));
  for (const char* ending : {"", ".gz"}) {
    const DatasetPtr dataset =
        open_idx(folder / (std::string("images") + ending), folder / (std::string("labels") + ending));
    ASSERT_EQ(dataset->size(), 4);
    EXPECT_EQ(dataset->num_classes(), 4);
    const Sample sample = dataset->get(2);
    EXPECT_EQ(sample.label, 2);
    EXPECT_EQ(sample.image.height, 3);
    EXPECT_EQ(sample.image.width, 5);
    for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(sample.image.at(1, 4)[c], 2 * 15 + 9);
  }
}

TEST(Idx, ChecksHeadersAgainstTheFile) {
  const TemporaryFolder folder;
  write_file(folder / "labels", idx_file({4}, 4));
  const auto message = [&](const std::vector<std::uint8_t>& images) {
    write_file(folder / "images", images);
    return error_of([&] { open_idx(folder / "images", folder / "labels"); });
  };
  expect_parts(message(idx_file({4}, 4)), {"images", "00 00 08 01", "00 00 08 03"});
  expect_parts(message({0, 0, 8}), {"images", "00 00 08 03"});
  expect_parts(message({0, 0, 8, 3, 0, 0}), {"images", "inside its header"});
  expect_parts(message(idx_file({4, 0, 5}, 0)), {"images", "offset 8", "0"});
  expect_parts(message(idx_file({3, 3, 5}, 45)), {"4 labels", "3"});
  expect_parts(message(idx_file({4, 3, 5}, 61)), {"images", "more bytes", "60"});
  std::vector<std::uint8_t> huge = idx_file({4, 3, 5}, 60);
  std::fill_n(huge.begin() + 4, 12, std::uint8_t{0xFF});  // 2^96 bytes
  expect_parts(message(huge), {"images", "offset 4", "4294967295"});
  expect_parts(message(gzipped(huge)), {"images", "offset 4", "4294967295"});
  expect_parts(message(gzipped(idx_file({4, 3, 5}, 59))), {"images", "59 bytes", "60"});
  std::vector<std::uint8_t> cut = gzipped(idx_file({4, 3, 5}, 60));
  cut.resize(cut.size() - 12);
  expect_parts(message(cut), {"images", "gzip", "too early"});
}

TEST(Shapes, DependOnSeedSplitAndIndexAlone) {
  const DatasetPtr train = make_shapes(200, "train", 5);
  ASSERT_EQ(train->num_classes(), 10);
  EXPECT_TRUE(std::ranges::is_sorted(train->class_names()));
  const Sample sample = train->get(7);
  EXPECT_EQ(sample.image.height, 32);
  EXPECT_EQ(sample.image.pixels, make_shapes(8, "train", 5)->get(7).image.pixels);
  EXPECT_NE(sample.image.pixels, make_shapes(200, "test", 5)->get(7).image.pixels);
  EXPECT_NE(sample.image.pixels, make_shapes(200, "train", 6)->get(7).image.pixels);
  std::vector<int> count(10);
  for (std::int64_t i = 0; i < 200; ++i) ++count[static_cast<std::size_t>(train->get(i).label)];
  for (const int n : count) EXPECT_GT(n, 5);
  expect_parts(error_of([] { make_shapes(3, "trian"); }), {"trian", "train"});
  expect_parts(error_of([] { make_shapes(0, "train"); }), {"0 samples"});
}

TEST(CacheInMemory, KeepsSamplesAndTheErrorsOfBadOnes) {
  const DatasetPtr source = noise_dataset(9, 5, 4), held = cache_in_memory(source, 3);
  ASSERT_EQ(held->size(), 9);
  EXPECT_EQ(held->class_names(), source->class_names());
  EXPECT_EQ(held->get(8).image.pixels, source->get(8).image.pixels);
  EXPECT_EQ(held->get(8).label, 2);
  EXPECT_EQ(error_of([&] { held->get(4); }), "damaged on purpose");
  expect_parts(error_of([&] { held->get(9); }), {"9"});
}

TEST(OpenDataset, FindsOutTheKindAndSaysWhatThereIs) {
  const TemporaryFolder folder;
  expect_parts(error_of([&] { open_dataset({.root = folder.path()}); }), {"not a dataset", "CIFAR-10", "idx3"});
  expect_parts(error_of([&] { open_dataset({.root = folder / "none"}); }), {"none", "no such folder"});
  expect_parts(error_of([&] { open_dataset({.kind = "tfds", .root = folder.path()}); }),
               {"tfds", "cifar100", "shapes"});
  expect_parts(error_of([&] { open_dataset({.kind = "folder"}); }), {"folder"});

  write_file(folder / "photos/train/a/1.png", encode_png(noise_image(4, 4)));
  write_file(folder / "photos/val/a/1.png", encode_png(noise_image(4, 4, 1)));
  const DatasetPtr evaluation = open_dataset({.root = folder / "photos", .split = "test"});
  EXPECT_EQ(evaluation->get(0).image.pixels, noise_image(4, 4, 1).pixels);
  expect_parts(error_of([&] { open_dataset({.root = folder / "photos", .split = "extra"}); }), {"photos/extra"});

  write_file(folder / "ten/test_batch.bin", cifar_file(1, {1, 2}));
  EXPECT_EQ(open_dataset({.root = folder / "ten", .split = "val"})->size(), 2);
  expect_parts(error_of([&] { open_dataset({.root = folder / "ten", .split = "tset"}); }), {"tset", "validation"});
  write_file(folder / "hundred/train.bin", cifar_file(2, {1, 2, 3}));
  EXPECT_EQ(open_dataset({.root = folder / "hundred"})->num_classes(), 100);
  write_file(folder / "digits/mnist-t10k-images-idx3-ubyte.gz", gzipped(idx_file({4, 3, 5}, 60)));
  write_file(folder / "digits/mnist-t10k-labels-idx1-ubyte.gz", gzipped(idx_file({4}, 4)));
  EXPECT_EQ(open_dataset({.root = folder / "digits", .split = "test"})->size(), 4);
  expect_parts(error_of([&] { open_dataset({.root = folder / "digits"}); }), {"train-images-idx3-ubyte"});
  EXPECT_EQ(open_dataset({.kind = "shapes", .split = "test", .test_size = 30})->size(), 30);
}

TEST(DatasetKinds, EachIsListedAcceptedAndExplained) {
  const TemporaryFolder folder;
  EXPECT_EQ(dataset_kind_names(),
            (std::vector<std::string>{"folder", "cifar10", "cifar100", "mnist", "idx", "shapes"}));
  for (const DatasetKind& kind : dataset_kinds()) {
    expect_parts(dataset_kinds_help(), {kind.name + ": " + kind.help});
    // Every kind that lies in a folder asks for one, by the name that was given.
    if (kind.lies_in) expect_parts(error_of([&] { open_dataset({.kind = kind.name}); }), {'"' + kind.name + '"'});
  }
  expect_parts(error_of([] { open_dataset({.kind = "idx"}); }), {"\"idx\" needs a folder"});
  EXPECT_EQ(error_of([] { open_dataset({.kind = "tfds"}); }),
            "dataset: kind is \"tfds\", expected one of folder, cifar10, cifar100, mnist (or idx), shapes");
  EXPECT_EQ(error_of([&] { detect_dataset_kind(folder.path()); }),
            folder.path().string() +
                ": not a dataset: expected train/<class>/<file>.jpg (and val or test), data_batch_1.bin (CIFAR-10), "
                "train.bin (CIFAR-100) or train-images-idx3-ubyte[.gz] (MNIST)");
}

TEST(DatasetKinds, FilesOfAFormatWinOverAFolderCalledTrain) {
  const TemporaryFolder folder;
  write_file(folder / "train/a/1.png", encode_png(noise_image(4, 4)));
  EXPECT_EQ(detect_dataset_kind(folder.path()), "folder");
  write_file(folder / "train-images-idx3-ubyte", {});
  EXPECT_EQ(detect_dataset_kind(folder.path()), "mnist");
  write_file(folder / "test.bin", {});
  EXPECT_EQ(detect_dataset_kind(folder.path()), "cifar100");
  write_file(folder / "test_batch.bin", {});
  EXPECT_EQ(detect_dataset_kind(folder.path()), "cifar10");
}

}  // namespace
}  // namespace vitrine::testing
