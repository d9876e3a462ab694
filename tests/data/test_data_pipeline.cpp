// Tests of what surrounds the policies: their place in the training transform, repeated
// augmentation, and the recipe's words.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "data/augment/image_ops.h"
#include "data/image/contact_sheet.h"
#include "data/image/font.h"
#include "data/loader/loader.h"
#include "tests/data/data_fixtures.h"
#include "train/recipe/augmentation_sheet.h"
#include "train/recipe/setup.h"

namespace vitrine::testing {
namespace {

std::vector<float> transformed(const TrainTransform& transform, const Image& image, std::uint64_t stream,
                               TransformRecord* record = nullptr) {
  const auto side = static_cast<std::size_t>(transform.image_size);
  std::vector<float> output(3 * side * side);
  RandomSequence random(1, Purpose::augmentation, stream);
  transform(image, random, output.data(), record);
  return output;
}

TEST(TrainTransform, RecordsWhatItDrew) {
  TrainTransform transform{.image_size = 12, .crop = TrainTransform::Crop::resized, .random_interpolation = true};
  transform.policy = AugmentPolicy::parse("rand-m9-mstd0.5-inc1");
  transform.erasing = {.probability = 0.5, .count = 2};
  const Image source = noise_image(20, 30);
  std::map<Interpolation, int> interpolations;
  std::map<std::size_t, int> steps;
  int flips = 0, erased = 0;
  for (std::uint64_t stream = 0; stream < 400; ++stream) {
    TransformRecord record;
    const std::vector<float> output = transformed(transform, source, stream, &record);
    // The record is enough to do it again: crop, mirror, steps, normalise, erase with 0.
    Image expected = resized_crop(source, record.box, 12, 12, record.interpolation);
    if (record.flip) expected = mirror(expected);
    for (const AugmentStep& step : record.steps) expected = apply(expected, step);
    std::vector<float> values(output.size());
    normalize(expected, transform.normalization, false, values.data());
    for (const Box& box : record.erased) {
      for (int c = 0; c < 3; ++c) {
        for (int y = box.top; y < box.top + box.height; ++y) {
          std::fill_n(values.begin() + (c * 12 + y) * 12 + box.left, box.width, 0.0f);
        }
      }
    }
    EXPECT_EQ(output, values) << stream;
    ++interpolations[record.interpolation];
    ++steps[record.steps.size()];
    flips += record.flip ? 1 : 0;
    erased += record.erased.empty() ? 0 : 1;
  }
  EXPECT_TRUE(interpolations[Interpolation::bilinear] >= 150 && interpolations[Interpolation::bicubic] >= 150);
  EXPECT_TRUE(steps[0] >= 50 && steps[1] >= 150 && steps[2] >= 50);
  EXPECT_TRUE(flips >= 150 && flips <= 250);
  EXPECT_TRUE(erased >= 150 && erased <= 250);
}

TEST(TrainTransform, APaddedCropIsRecordedFromTheImage) {
  const TrainTransform transform{.image_size = 8, .padding = 2, .horizontal_flip = 0};
  const Image source = noise_image(8, 8), padded = pad(source, 2, TrainTransform::Padding::zero);
  std::set<int> tops;
  for (std::uint64_t stream = 0; stream < 100; ++stream) {
    TransformRecord record;
    std::vector<float> expected(192);
    const std::vector<float> output = transformed(transform, source, stream, &record);
    normalize(crop(padded, {record.box.top + 2, record.box.left + 2, 8, 8}), transform.normalization, false,
              expected.data());
    EXPECT_EQ(output, expected);
    tops.insert(record.box.top);
  }
  EXPECT_EQ(tops, (std::set<int>{-2, -1, 0, 1, 2}));
}

TEST(TrainTransform, APolicySilencesColorJitterUnlessItIsThreeAugment) {
  const Image source = noise_image(8, 8);
  const auto jitters = [&](std::string_view name) {
    TrainTransform transform{.image_size = 8, .crop = TrainTransform::Crop::center};
    transform.policy = AugmentPolicy::parse(name);
    transform.color_jitter = {0.3, 0.3, 0.3};
    int count = 0;
    for (std::uint64_t stream = 0; stream < 50; ++stream) {
      TransformRecord record;
      transformed(transform, source, stream, &record);
      if (record.steps.size() >= 3) ++count;
      EXPECT_EQ(record.steps.size(), name == "3a" ? 4u : name.empty() ? 3u : 2u);
    }
    return count;
  };
  EXPECT_EQ(jitters(""), 50);
  EXPECT_EQ(jitters("rand-p1"), 0);
  EXPECT_EQ(jitters("3a"), 50);
}

TEST(TrainTransform, PoliciesFillWithTheMeanAndUseTheInterpolation) {
  TrainTransform transform{.image_size = 8, .crop = TrainTransform::Crop::center};
  transform.normalization = imagenet_normalization;
  transform.interpolation = Interpolation::bilinear;
  transform.policy = AugmentPolicy::parse("rand-p1");
  TransformRecord record;
  transformed(transform, noise_image(8, 8), 1, &record);
  ASSERT_EQ(record.steps.size(), 2u);
  EXPECT_EQ(record.steps[0].fill, (Color{124, 116, 104}));
  EXPECT_EQ(record.steps[0].resampling, Resampling::bilinear);
}

// ---- Repeated augmentation ----

TEST(RepeatedAugmentation, AnEpochHasEachImageSeveralTimesInARow) {
  const std::vector<std::int64_t> order = {4, 2, 0, 1, 3};
  EXPECT_EQ(repeated_order(order, 1), order);
  EXPECT_EQ(repeated_order(order, 3), (std::vector<std::int64_t>{4, 4, 4, 2, 2}));
  EXPECT_EQ(samples_per_epoch(1000, 1), 1000);
  EXPECT_EQ(samples_per_epoch(1000, 3), 768);
  EXPECT_EQ(samples_per_epoch(1'281'167, 3), 1'281'024);  // 5004 x 256, as RASampler has it for ImageNet
  EXPECT_EQ(samples_per_epoch(255, 3), 255);
}

TEST(RepeatedAugmentation, TheLoaderAugmentsEveryRepeatAnewAndTheSameForAnyNumberOfWorkers) {
  const DatasetPtr dataset = noise_dataset(300, 8);
  TrainTransform transform{.image_size = 8, .padding = 2};
  transform.policy = AugmentPolicy::parse("rand-m9-mstd0.5-inc1");
  const auto epoch = [&](int workers, int repeats) {
    Loader loader(dataset, transform, {.batch_size = 64, .seed = 3, .workers = workers, .repeats = repeats});
    std::vector<std::int64_t> indices;
    std::vector<std::vector<float>> images;
    for (const Batch& batch : loader.epoch(2)) {
      indices.insert(indices.end(), batch.indices.begin(), batch.indices.end());
      const std::vector<float> values = batch.images.to_vector<float>();
      for (std::size_t i = 0; i < 64; ++i) {
        images.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(192 * i),
                            values.begin() + static_cast<std::ptrdiff_t>(192 * (i + 1)));
      }
    }
    return std::pair{indices, images};
  };
  const auto [indices, images] = epoch(0, 3);
  ASSERT_EQ(indices.size(), 256u);
  EXPECT_EQ(indices, repeated_order(epoch_order(300, 3, 2), 3));
  int different = 0;
  for (std::size_t i = 0; i + 2 < images.size(); i += 3) {
    different += images[i] != images[i + 1] && images[i] != images[i + 2] && images[i + 1] != images[i + 2] ? 1 : 0;
  }
  EXPECT_GE(different, 80);  // of 85; two draws may be alike
  EXPECT_EQ(epoch(3, 3), (std::pair{indices, images}));
  EXPECT_EQ(epoch(2, 1).first.size(), 256u);  // 4 whole batches of 300 images
}

TEST(RepeatedAugmentation, TheLoaderChecksIt) {
  const DatasetPtr dataset = noise_dataset(300, 8);
  const auto message = [&](LoaderOptions options) {
    return error_of([&] { Loader(dataset, TrainTransform{.image_size = 8}, options); });
  };
  expect_parts(message({.repeats = 0}), {"0 repeats", "1 to 100"});
  expect_parts(message({.shuffle = false, .repeats = 2}), {"2 repeats without shuffling"});
  expect_parts(message({.batch_size = 280, .repeats = 2}), {"batch size is 280", "256 samples"});
}

// ---- Recipe ----

TEST(AugmentationRecipe, WordsBecomeTheTransformAndTheLoader) {
  const Recipe recipe = parse_recipe(
      "dataset: shapes\naa: rand-m9-mstd0.5-inc1\naug_repeats: 3\ninterpolation: random\nremode: rand\nrecount: 2\n",
      "recipe.yaml");
  check_recipe(recipe);
  const Model model = create_model("vit_tiny_patch4_32", {.depth = 1});
  const PretrainedConfig config = preprocessing(recipe, model);
  EXPECT_EQ(config.interpolation, model.pretrained_config().interpolation) << "evaluation never draws";
  const TrainTransform transform = train_transform(recipe, config);
  EXPECT_FALSE(transform.policy.empty());
  EXPECT_TRUE(transform.random_interpolation);
  EXPECT_EQ(transform.erasing.mode, RandomErasing::Mode::color);
  EXPECT_EQ(transform.erasing.count, 2);
  EXPECT_EQ(train_loader_options(recipe, 0, cpu).repeats, 3);
  EXPECT_EQ(eval_loader_options(recipe).repeats, 1);
  EXPECT_EQ(train_loader_options(parse_recipe("aug-repeats: 0", "r.yaml"), 0, cpu).repeats, 1);
  EXPECT_TRUE(train_transform(parse_recipe("aa:", "r.yaml"), config).policy.empty());
}

TEST(AugmentationRecipe, MistakesNameTheFlag) {
  const auto message = [](const std::string& yaml) {
    return error_of([&] { check_recipe(parse_recipe("dataset: shapes\n" + yaml, "r.yaml")); });
  };
  expect_parts(message("aa: augmix-m5"), {"--aa", "\"augmix-m5\"", "rand[-mN]", "autoaugment-cifar10"});
  expect_parts(message("aa: rand-m9-foo"), {"--aa", "\"foo\""});
  expect_parts(message("aug-repeats: 101"), {"--aug-repeats", "101"});
  expect_parts(message("aug-repeats: -1"), {"aug-repeats", "-1"});
  expect_parts(message("interpolation: nearest"), {"interpolation", "bilinear, bicubic, random"});
}

// ---- The contact sheet ----

TEST(ContactSheet, WrapsPhrasesIntoLines) {
  EXPECT_EQ(wrapped({"flip", "rotate -27", "equalize"}, 17),
            (std::vector<std::string>{"flip, rotate -27", "equalize"}));
  EXPECT_EQ(wrapped({"flip", "cutmix 9x12 at 3,40"}, 11), (std::vector<std::string>{"flip", "cutmix 9x12", "at 3,40"}));
  EXPECT_EQ(wrapped({"abcdefgh"}, 3), (std::vector<std::string>{"abc", "def", "gh"}));
  EXPECT_TRUE(wrapped({}, 10).empty());
}

const std::string capital_i =
    ".###."
    "..#.."
    "..#.."
    "..#.."
    "..#.."
    "..#.."
    ".###.";

std::string letter_at(const Image& sheet, int top, int left) {
  std::string letter;
  for (int y = 0; y < 7; ++y) {
    for (int x = 0; x < 5; ++x) letter += sheet.at(top + y, left + x)[0] < 128 ? '#' : '.';
  }
  return letter;
}

TEST(ContactSheet, EnlargesPicturesAndWritesBelowThem) {
  const Image picture = noise_image(64, 32);
  const Image sheet = contact_sheet({{{picture, {"I"}}, {picture, {"I", "flip"}}}});
  EXPECT_EQ(sheet.width, 8 + 2 * (128 + 8));
  EXPECT_EQ(sheet.height, 8 + 128 + 4 + glyph_height + 8);
  for (int y = 0; y < 128; ++y) {
    for (int x = 0; x < 64; ++x) {  // twice its size, in the middle of its cell
      ASSERT_EQ(std::memcmp(sheet.at(8 + y, 8 + 32 + x), picture.at(y / 2, x / 2), 3), 0) << y << ' ' << x;
    }
  }
  EXPECT_EQ(letter_at(sheet, 8 + 128 + 4, 8), capital_i);
  expect_parts(error_of([] { contact_sheet({}); }), {"no pictures"});
  expect_parts(error_of([] { contact_sheet({{{Image(0, 3), {}}}}); }), {"3 x 0 pixels"});
}

TEST(ContactSheet, HeadingMovesTheTilesDown) {
  const std::vector<std::vector<Tile>> rows = {{{noise_image(32, 32), {"flip"}}, {noise_image(32, 32), {}}}};
  const Image sheet = contact_sheet(rows),
              headed = contact_sheet(rows, std::string(30, 'I') + " " + std::string(9, 'I') + " III");
  ASSERT_EQ(headed.height, sheet.height + 10) << "44 characters fit";
  const Image taller = contact_sheet(rows, std::string(30, 'I') + " " + std::string(9, 'I') + " IIII");
  ASSERT_EQ(taller.height, sheet.height + 2 * 10) << "45 do not";
  EXPECT_EQ(letter_at(taller, 8, 8 + 39 * 6), capital_i) << "the last of the first line";
  EXPECT_EQ(letter_at(taller, 8 + 10, 8), capital_i) << "the first of the second";
  EXPECT_TRUE(std::equal(sheet.pixels.begin() + 8 * sheet.width * 3, sheet.pixels.end(),
                         taller.pixels.begin() + (8 + 2 * 10) * taller.width * 3));
}

TEST(ContactSheet, ShowsWhatTheTransformMakes) {
  const Recipe recipe = parse_recipe("aa: rand-m9-p1\nreprob: 1\ncutmix: 1\n", "r.yaml");
  PretrainedConfig config;
  config.input_size = {3, 32, 32};
  const TrainTransform transform = train_transform(recipe, config);
  const std::vector<NamedPicture> pictures = {{"first.png", noise_image(32, 32, 1)},
                                              {"second.png", noise_image(32, 32, 2)}};
  const Image alone = augmentation_sheet(recipe, config, {pictures[0]}, 2);
  const int top = 8 + glyph_height;  // below one line that says that CutMix is not shown
  // Below the tile stands what was drawn; in it, the floats of the loader's sample 0 in epoch 1 as
  // bytes.
  TransformRecord record;
  std::vector<float> values(3 * 32 * 32);
  RandomSequence random(recipe.seed, Purpose::augmentation, std::uint64_t{1} << 32);
  transform(pictures[0].image, random, values.data(), &record);
  EXPECT_EQ(phrases_of(transform, record).size(), 1 + (record.flip ? 1u : 0u) + 2 + record.erased.size());
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 32; ++x) {
      for (int c = 0; c < 3; ++c) {
        const double value = values[static_cast<std::size_t>((c * 32 + y) * 32 + x)] * 0.5 + 0.5;
        const double expected = std::clamp(255 * value, 0.0, 255.0);
        const int found = alone.at(top + 4 * y + 1, 8 + 2 * 136 + 4 * x + 2)[c];
        ASSERT_TRUE(std::abs(found - expected) <= 0.51) << y << ' ' << x << ' ' << c;
      }
    }
  }
  const Image both = augmentation_sheet(recipe, config, pictures, 2);
  EXPECT_EQ(both.width, alone.width);
  const auto second_version = [](const Image& sheet, int y) { return crop(sheet, {y, 8 + 2 * 136, 128, 128}).pixels; };
  EXPECT_NE(second_version(alone, top), second_version(both, 8)) << "two pictures are mixed, one cannot be";
}

/// Whether `mixed` is what its caption says: parts of `own` and of its partner, among the unmixed
/// pictures of its column.
void expect_mixed_as_said(const Tile& mixed, const Tile& own, const std::vector<std::vector<Tile>>& unmixed,
                          std::size_t column) {
  const std::string phrase = mixed.caption.back();
  double percent = 0;
  int width = 0, height = 0, left = 0, top = 0, number = 0;
  const bool mixup = std::sscanf(phrase.c_str(), "mixup with %lf%% of picture %d", &percent, &number) == 2;
  const bool cutmix =
      std::sscanf(phrase.c_str(), "cutmix %dx%d at %d,%d from picture %d", &width, &height, &left, &top, &number) == 5;
  ASSERT_TRUE(mixup != cutmix && number >= 1 && number <= 4) << phrase;
  const Image& other = unmixed[static_cast<std::size_t>(number - 1)][column].picture;
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 32; ++x) {
      const bool inside = y >= top && y < top + height && x >= left && x < left + width;
      const double share = mixup ? percent / 100 : inside ? 1 : 0;
      for (int c = 0; c < 3; ++c) {
        const double expected = (1 - share) * own.picture.at(y, x)[c] + share * other.at(y, x)[c];
        ASSERT_TRUE(std::abs(mixed.picture.at(y, x)[c] - expected) <= 1.2) << phrase << ": " << y << ' ' << x;
      }
    }
  }
}

TEST(ContactSheet, SaysWhatWasMixed) {
  PretrainedConfig config;
  config.input_size = {3, 32, 32};
  std::vector<NamedPicture> pictures;
  for (int i = 1; i <= 4; ++i) pictures.push_back({fmt::format("{}.png", i), noise_image(32, 32, i)});
  const auto unmixed = augmentation_tiles(parse_recipe("aa: rand-m9-inc1\n", "r.yaml"), config, pictures, 4);
  std::map<std::string, int> kinds;
  for (const auto& [mode, draws] : {std::pair{"batch", 1u}, {"pair", 2u}, {"elem", 4u}}) {
    const Recipe recipe = parse_recipe(
        fmt::format("aa: rand-m9-inc1\nmixup: 0.8\ncutmix: 1\nmixup-off-epoch: 1\nmixup-mode: {}\n", mode), "r.yaml");
    const auto tiles = augmentation_tiles(recipe, config, pictures, 4);
    std::set<std::string> first_column;
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(tiles[i][0].caption[0], fmt::format("picture {}", i + 1));
      for (std::size_t column = 1; column <= 4; ++column) {
        expect_mixed_as_said(tiles[i][column], unmixed[i][column], unmixed, column);
        ++kinds[tiles[i][column].caption.back().substr(0, 6)];
      }
      const std::string phrase = tiles[i][1].caption.back();
      first_column.insert(phrase.substr(0, phrase.rfind(' ')));  // without the partner's number
    }
    EXPECT_EQ(first_column.size(), draws) << mode;
  }
  EXPECT_GE(kinds["mixup "], 4);
  EXPECT_GE(kinds["cutmix"], 4);
  EXPECT_FALSE(phrase_of({.lambda = 1, .cutmix = true}, 2)) << "an empty box mixes nothing";
}

TEST(ContactSheet, SaysWhatItCannotShow) {
  const Recipe recipe = parse_recipe("mixup: 0.8\ncutmix: 1\nhflip: 0\ntrain-crop: center\n", "r.yaml");
  EXPECT_EQ(not_shown(recipe, 3), "mixup and CutMix not shown: give an even number of images, not 3");
  EXPECT_EQ(not_shown(recipe, 2), "");
  EXPECT_EQ(not_shown(parse_recipe("cutmix: 1\n", "r.yaml"), 1),
            "CutMix not shown: give an even number of images, not 1");
  EXPECT_EQ(not_shown(parse_recipe("mixup: 0.8\nmixup-prob: 0\n", "r.yaml"), 1), "");
  PretrainedConfig config;
  config.input_size = {3, 32, 32};
  const std::vector<NamedPicture> one = {{"first.png", noise_image(32, 32, 1)}};
  const auto tiles = augmentation_tiles(recipe, config, one, 1);
  EXPECT_EQ(tiles[0][1].caption, std::vector<std::string>{"unchanged"});
  EXPECT_EQ(augmentation_sheet(recipe, config, one, 1).pixels, contact_sheet(tiles, not_shown(recipe, 1)).pixels);
}

}  // namespace
}  // namespace vitrine::testing
