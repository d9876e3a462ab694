// Tests of the image folder: what is read, in which order, and what is left out.
#include <gtest/gtest.h>

#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

namespace fs = std::filesystem;

TEST(ImageFolder, ClassesAreSortedFoldersAndImagesAreFoundInAnyCase) {
  const TemporaryFolder folder;
  write_file(folder / "train/zebra/2.JPG", rgb_jpeg);
  write_file(folder / "train/zebra/1.jpeg", rgb_jpeg);
  write_file(folder / "train/ant/x.PNG", encode_png(noise_image(4, 6)));
  write_file(folder / "train/ant/notes.txt", {'h', 'i'});
  write_file(folder / "train/.cache/x.png", {});
  const DatasetPtr dataset = open_image_folder(folder / "train");
  EXPECT_EQ(dataset->class_names(), (std::vector<std::string>{"ant", "zebra"}));
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->get(0).label, 0);
  EXPECT_EQ(dataset->get(0).image.pixels, noise_image(4, 6).pixels);
  EXPECT_EQ(dataset->name(1), (folder / "train/zebra/1.jpeg").string());
  EXPECT_EQ(dataset->get(2).label, 1);
}

TEST(ImageFolder, ErrorsNameTheFolder) {
  const TemporaryFolder folder;
  expect_parts(error_of([&] { open_image_folder(folder / "none"); }), {"none", "no such folder"});
  expect_parts(error_of([&] { open_image_folder(folder.path()); }), {folder.path().string(), "no class"});
  write_file(folder / "full/x.png", encode_png(noise_image(4, 4)));
  write_file(folder / "hollow/deep/notes.txt", {});
  expect_parts(error_of([&] { open_image_folder(folder.path()); }), {"hollow", "no image, at any depth", ".png"});
}

/// The names of all samples, without the path of the folder.
std::vector<std::string> names_of(const DatasetPtr& dataset, const fs::path& folder) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < dataset->size(); ++i) {
    names.push_back(fs::path(dataset->name(i)).lexically_relative(folder).string());
  }
  return names;
}

TEST(ImageFolder, ReadsEveryDepthInTheOrderOfTorchvision) {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> png = encode_png(noise_image(4, 4));
  // Class by class Python's sorted(os.walk(folder)), and sorted(files) of each, as in torchvision.
  const std::vector<std::string> expected = {"a/0.png",          "a/z.webp",     "a/sub/1.bmp",       "a/sub-x/0.jpeg",
                                             "a/sub/deep/0.ppm", "b/only/1.tif", "b/only/below/0.png"};
  for (const std::string& name : expected) write_file(folder / name, png);
  const DatasetPtr dataset = open_image_folder(folder.path());
  EXPECT_EQ(names_of(dataset, folder.path()), expected);
  EXPECT_EQ(dataset->get(6).label, 1);
  EXPECT_TRUE(dataset->notes().empty());
}

TEST(ImageFolder, CountsAndNamesWhatIsLeftOut) {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> png = encode_png(noise_image(4, 4));
  for (const char* name : {"a/0.png", "a/._0.png", "a/.DS_Store", "a/Thumbs.db", "a/deep/notes.txt", "a/.git/x.png",
                           ".ipynb_checkpoints/x.png", "README", "stray.png"}) {
    write_file(folder / name, png);
  }
  const DatasetPtr dataset = cache_in_memory(open_image_folder(folder.path()));
  EXPECT_EQ(dataset->size(), 1);
  ASSERT_EQ(dataset->notes().size(), 1u);
  EXPECT_EQ(dataset->notes()[0],
            fmt::format("left out 8 files of {}: README, a/Thumbs.db, a/deep/notes.txt (no image extension), "
                        ".ipynb_checkpoints/, a/.DS_Store, a/._0.png, a/.git/ (hidden), "
                        "stray.png (beside the class folders)",
                        folder.path().string()));
  for (int i = 0; i < 9; ++i) write_file(folder / fmt::format("a/{}.txt", i), {});
  expect_parts(open_image_folder(folder.path())->notes()[0], {"left out 17 files", "a/3.txt and 7 more (no image"});
}

TEST(ImageFolder, FollowsLinksButNotInCircles) {
  const TemporaryFolder folder, elsewhere;
  const std::vector<std::uint8_t> png = encode_png(noise_image(4, 4));
  write_file(folder / "a/0.png", png);
  write_file(elsewhere / "1.png", png);
  fs::create_directory_symlink(elsewhere.path(), folder / "b");
  fs::create_directory_symlink(elsewhere.path(), folder / "a/more");
  fs::create_directory_symlink("..", folder / "a/up");
  fs::create_directory_symlink("..", folder / "up");
  fs::create_directory_symlink(folder / "a", elsewhere / "back");  // a/more/back is a again
  const DatasetPtr dataset = open_image_folder(folder.path());
  EXPECT_EQ(dataset->class_names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(names_of(dataset, folder.path()),
            (std::vector<std::string>{"a/0.png", "a/more/1.png", "b/1.png", "b/back/0.png"}));
  expect_parts(dataset->notes().at(0),
               {"left out 5 files", "a/more/back, a/up, b/back/more, b/back/up, up (a link to a folder above"});
}

TEST(ImageFolder, OrdersClassesAsTorchvisionOrAsTimm) {
  const std::vector<std::string> names = {"10", "2", "a10b", "B", "a2", "01", "a", "1", "n02", "n1", "A3"};
  // sorted(names), and sorted(names, key=natural_key) of timm 1.0.
  EXPECT_EQ(in_order(names, ClassOrder::sorted),
            (std::vector<std::string>{"01", "1", "10", "2", "A3", "B", "a", "a10b", "a2", "n02", "n1"}));
  EXPECT_EQ(in_order(names, ClassOrder::natural),
            (std::vector<std::string>{"01", "1", "2", "10", "a", "a2", "A3", "a10b", "B", "n1", "n02"}));
  EXPECT_TRUE(orders_differ({"0", "1", "2", "10"}));
  EXPECT_FALSE(orders_differ({"0", "1", "2"}));
  EXPECT_FALSE(orders_differ({"cat", "dog"}));
  expect_parts(error_of([] { class_order_from_name("random"); }), {"random", "sorted or natural"});

  const TemporaryFolder folder;
  for (const char* name : {"2", "10", "1"})
    write_file(folder / (std::string(name) + "/0.png"), encode_png(noise_image(4, 4)));
  EXPECT_EQ(open_image_folder(folder.path())->class_names(), (std::vector<std::string>{"1", "10", "2"}));
  const DatasetPtr natural = open_image_folder(folder.path(), ClassOrder::natural);
  EXPECT_EQ(natural->class_names(), (std::vector<std::string>{"1", "2", "10"}));
  EXPECT_EQ(natural->name(2), (folder / "10/0.png").string());
  EXPECT_EQ(natural->get(2).label, 2);
}

}  // namespace
}  // namespace vitrine::testing
