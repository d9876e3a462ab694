// Batches made from bytes on a device, or copied there: they are those of the Loader.
#include <gtest/gtest.h>

#include <cmath>

#include "data/loader/device_loader.h"
#include "data/loader/loader.h"
#include "data/loader/prefetch_loader.h"
#include "tests/data/data_fixtures.h"
#include "tests/support/cuda_test.h"

#if defined(VT_HOST_CUDA)
#include <cuda_runtime.h>
#endif

namespace vitrine::testing {
namespace {

constexpr std::size_t no_limit = std::size_t{1} << 40;

/// Noise of 8 x 11 pixels, three classes.
class WideDataset : public Dataset {
 public:
  WideDataset() { class_names_ = {"a", "b", "c"}; }
  std::int64_t size() const override { return 13; }
  std::string name(std::int64_t index) const override { return fmt::format("wide/{}", index); }
  Sample get(std::int64_t index) const override {
    return {noise_image(8, 11, static_cast<std::uint64_t>(index)), index % 3};
  }
};

std::vector<float> floats(const Tensor& x) {
  return x.defined() ? to_device(cast_data(x, DType::f32), cpu).to_vector<float>() : std::vector<float>{};
}

/// Largest difference, relative to the expected value where that is above 1; infinite where a
/// number is missing or NaN.
double distance(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]) / std::max(1.0f, std::abs(expected[i]));
    largest = error <= largest ? largest : std::isnan(error) ? INFINITY : error;
  }
  return largest;
}

void expect_same(const Batch& actual, const Batch& expected, double bound, const std::string& what) {
  EXPECT_TRUE(distance(floats(actual.images), floats(expected.images)) <= bound)
      << what << " images " << distance(floats(actual.images), floats(expected.images));
  EXPECT_TRUE(floats(actual.targets) == floats(expected.targets)) << what << " targets";
  EXPECT_EQ(actual.images.shape(), expected.images.shape()) << what;
  EXPECT_EQ(actual.indices, expected.indices) << what;
  EXPECT_EQ(actual.labels.to_vector<std::int64_t>(), expected.labels.to_vector<std::int64_t>()) << what;
  EXPECT_TRUE(actual.epoch == expected.epoch && actual.number == expected.number) << what;
}

/// Both give the same batches from `first` on, and the same number of them.
void expect_same_epoch(BatchSource& actual, BatchSource& expected, std::int64_t epoch, std::int64_t first, double bound,
                       const std::string& what) {
  ASSERT_EQ(actual.batches_per_epoch(), expected.batches_per_epoch()) << what;
  actual.start(epoch, first);
  expected.start(epoch, first);
  for (std::int64_t number = first; number < expected.batches_per_epoch(); ++number) {
    const std::optional<Batch> a = actual.next(), b = expected.next();
    ASSERT_TRUE(a && b) << what;
    expect_same(*a, *b, bound, fmt::format("{}, epoch {}, batch {}", what, epoch, number));
  }
  EXPECT_FALSE(actual.next() || expected.next()) << what;
}

/// A test on the CPU, and on a CUDA device where there is one, real or played.
class DeviceData : public ::testing::TestWithParam<Device::Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Device::Kind::cuda && cuda_device_count() == 0) GTEST_SKIP() << why_skipped;
  }
  Device device() const { return {GetParam(), 0}; }

  std::shared_ptr<const DeviceImages> load(const DatasetPtr& dataset, int shorter_side) const {
    const auto [images, reason] = DeviceImages::load(dataset, shorter_side, device(), no_limit);
    EXPECT_EQ(reason, "");
    return images;
  }
  DeviceLoader loader(const DatasetPtr& dataset, const DeviceTransform& transform, const LoaderOptions& options,
                      DType dtype = DType::f32) const {
    return {load(dataset, transform.shorter_side), transform, options, dtype};
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceData, ::testing::Values(Device::Kind::cpu, Device::Kind::cuda),
                         [](const auto& test) { return test.param == Device::Kind::cpu ? "Cpu" : "Cuda"; });

std::vector<TrainTransform> transforms() {
  std::vector<TrainTransform> all;
  for (const auto crop : {TrainTransform::Crop::padded, TrainTransform::Crop::center}) {
    for (const auto mode : {TrainTransform::Padding::zero, TrainTransform::Padding::reflect}) {
      for (const int padding : {0, 3}) {
        all.push_back({.image_size = 8, .crop = crop, .padding = padding, .padding_mode = mode});
        all.back().normalization = cifar_normalization;
      }
    }
  }
  for (const char* mode : {"const", "rand", "pixel"}) {
    for (const int count : {1, 3}) {
      all.push_back({.image_size = 8, .padding = 2});
      all.back().erasing = {.probability = 0.7, .mode = erasing_mode_from_name(mode), .count = count};
    }
  }
  return all;
}

std::vector<std::optional<Mixing>> mixings() {
  std::vector<std::optional<Mixing>> all = {std::nullopt, Mixing{.mixup_alpha = 0, .cutmix_alpha = 0}};
  for (const char* mode : {"batch", "pair", "elem"}) {
    all.push_back(Mixing{.mixup_alpha = 0.8, .cutmix_alpha = 0, .mode = mixing_mode_from_name(mode)});
    all.push_back(Mixing{.mixup_alpha = 0, .cutmix_alpha = 1, .probability = 0.5, .mode = mixing_mode_from_name(mode)});
    all.push_back(Mixing{.probability = 0.8, .mode = mixing_mode_from_name(mode), .smoothing = 0});
  }
  all.push_back(Mixing{.off_epoch = 1});
  return all;
}

TEST_P(DeviceData, HasTheBatchesOfTheLoader) {
  const auto dataset = std::make_shared<WideDataset>();
  const auto all_transforms = transforms();
  const auto all_mixings = mixings();
  for (std::size_t t = 0; t < all_transforms.size(); ++t) {
    for (std::size_t m = 0; m < all_mixings.size(); ++m) {
      const LoaderOptions options{.batch_size = 4, .seed = 7, .workers = 0, .mixing = all_mixings[m], .classes = 5};
      Loader expected(dataset, all_transforms[t], options);
      DeviceLoader actual = loader(dataset, all_transforms[t], options);
      // The logarithm and the cosine behind the noise of a real GPU may differ from the CPU's in
      // the last bits.
      const double bound = all_transforms[t].erasing.probability > 0 ? 1e-6 : 0;
      for (const std::int64_t epoch : {0, 1}) {
        expect_same_epoch(actual, expected, epoch, 0, bound, fmt::format("transform {}, mixing {}", t, m));
      }
    }
  }
}

TEST_P(DeviceData, StartsAnywhere) {
  const DatasetPtr dataset = noise_dataset(23, 8);
  const LoaderOptions options{.batch_size = 4, .seed = 2, .workers = 0, .mixing = Mixing{}};
  Loader expected(dataset, TrainTransform{.image_size = 8}, options);
  DeviceLoader actual = loader(dataset, TrainTransform{.image_size = 8}, options);
  expect_same_epoch(actual, expected, 5, 3, 0, "from batch 3");
  expect_same_epoch(actual, expected, 2, 5, 0, "behind the last batch");
  expect_parts(error_of([&] { actual.start(0, 6); }), {"batch 6", "0 to 5"});
}

TEST_P(DeviceData, EvaluatesTheMiddleInOrder) {
  const auto dataset = std::make_shared<WideDataset>();
  for (const EvalTransform& transform :
       {EvalTransform{.image_size = 8}, EvalTransform{.image_size = 6, .crop_pct = 0.75}}) {
    const LoaderOptions options{.batch_size = 5, .workers = 0, .shuffle = false, .drop_last = false};
    Loader expected(dataset, transform, options);
    DeviceLoader actual = loader(dataset, transform, options);
    expect_same_epoch(actual, expected, 0, 0, 0, fmt::format("size {}", transform.image_size));
  }
}

/// More pixels than the kernel has threads in a block, and more classes than it has for an image.
TEST_P(DeviceData, MakesLargeImagesAndManyClasses) {
  const DatasetPtr dataset = noise_dataset(5, 20);
  const LoaderOptions options{.batch_size = 2, .workers = 0, .mixing = Mixing{.mixup_alpha = 0.8}, .classes = 600};
  Loader expected(dataset, TrainTransform{.image_size = 20}, options);
  DeviceLoader actual = loader(dataset, TrainTransform{.image_size = 20}, options);
  expect_same_epoch(actual, expected, 0, 0, 0, "large");
}

TEST_P(DeviceData, GivesImagesInBf16) {
  const DatasetPtr dataset = noise_dataset(8, 8);
  const LoaderOptions options{.batch_size = 4, .workers = 0, .mixing = Mixing{}};
  Loader reference(dataset, TrainTransform{.image_size = 8}, options);
  DeviceLoader actual = loader(dataset, TrainTransform{.image_size = 8}, options, DType::bf16);
  reference.start(0);
  actual.start(0);
  const Batch expected = *reference.next(), batch = *actual.next();
  EXPECT_EQ(batch.images.dtype(), DType::bf16);
  EXPECT_EQ(floats(batch.images), floats(cast_data(expected.images, DType::bf16)));
  EXPECT_EQ(floats(batch.targets), floats(expected.targets));
}

TEST_P(DeviceData, WritesWhereItIsTold) {
  const DatasetPtr dataset = noise_dataset(8, 8);
  const LoaderOptions options{.batch_size = 4, .workers = 0, .mixing = Mixing{}};
  DeviceLoader reference = loader(dataset, TrainTransform{.image_size = 8}, options);
  DeviceLoader actual = loader(dataset, TrainTransform{.image_size = 8}, options);
  BatchPlace place{zeros({4, 3, 8, 8}, DType::f32, device()), zeros({4, 3}, DType::f32, device())};
  reference.start(0);
  actual.start(0);
  const std::uint64_t version = place.images.storage()->version();
  const Batch expected = *reference.next(), batch = *actual.next_into(place);
  EXPECT_EQ(batch.images.raw_data(), place.images.raw_data());
  EXPECT_EQ(batch.targets.raw_data(), place.targets.raw_data());
  EXPECT_GT(place.images.storage()->version(), version);
  EXPECT_EQ(floats(place.images), floats(expected.images));
  EXPECT_EQ(floats(place.targets), floats(expected.targets));

  place.images = zeros({2, 3, 8, 8}, DType::f32, device());
  place.targets = zeros({4, 3}, DType::bf16, device());
  const Batch misfit = *actual.next_into(place), next = *reference.next();
  EXPECT_NE(misfit.images.raw_data(), place.images.raw_data());
  EXPECT_NE(misfit.targets.raw_data(), place.targets.raw_data());
  expect_same(misfit, next, 0, "tensors that do not fit");
}

TEST_P(DeviceData, ReplacesAndListsBadSamples) {
  const DatasetPtr dataset = noise_dataset(40, 8, 22);
  LoaderOptions options{.batch_size = 4, .workers = 0, .shuffle = false, .bad_samples_allowed = 1};
  Loader expected(dataset, TrainTransform{.image_size = 8}, options);
  DeviceLoader lenient = loader(dataset, TrainTransform{.image_size = 8}, options);
  EXPECT_TRUE(lenient.bad_samples().empty());
  expect_same_epoch(lenient, expected, 0, 0, 0, "with a bad sample");
  EXPECT_EQ(lenient.bad_samples(), (std::vector<std::string>{"noise/22: damaged on purpose"}));

  options.bad_samples_allowed = 0;
  DeviceLoader strict = loader(dataset, TrainTransform{.image_size = 8}, options);
  strict.start(0);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(strict.next().has_value());
  EXPECT_EQ(error_of([&] { strict.next(); }), "noise/22: damaged on purpose");
  EXPECT_FALSE(strict.next().has_value());
  strict.start(0, 6);
  EXPECT_TRUE(strict.next().has_value()) << "the loader can go on behind the bad sample";
}

TEST_P(DeviceData, SaysWhyItCannot) {
  const TemporaryFolder folder;
  write_file(folder / "a/0.png", encode_png(noise_image(8, 8)));
  const auto reason = [&](const DatasetPtr& dataset, int side, std::size_t most = no_limit) {
    const auto outcome = DeviceImages::load(dataset, side, device(), most);
    EXPECT_EQ(outcome.images == nullptr, !outcome.reason.empty());
    return outcome.reason;
  };
  EXPECT_EQ(reason(noise_dataset(10, 8), 8, 10 * 192), "");
  expect_parts(reason(noise_dataset(10, 8), 8, 10 * 192 - 1), {"MB of pixels"});
  expect_parts(reason(noise_dataset(10, 8), 16), {"8 x 8", "resized to 16"});
  EXPECT_EQ(reason(open_image_folder(folder.path()), 8), "");
  write_file(folder / "a/1.png", encode_png(noise_image(8, 9)));
  expect_parts(reason(open_image_folder(folder.path()), 8), {(folder / "a/1.png").string(), "9 x 8", "8 x 8"});
  write_file(folder / "a/0.png", {1, 2, 3});
  write_file(folder / "a/1.png", {1, 2, 3});
  expect_parts(reason(open_image_folder(folder.path()), 8), {"none of the first images"});

  EXPECT_EQ(DeviceTransform(TrainTransform{}).reason, "");
  EXPECT_NE(DeviceTransform(TrainTransform{.crop = TrainTransform::Crop::resized}).reason, "");
  EXPECT_NE(DeviceTransform(TrainTransform{.color_jitter = {.contrast = 0.1}}).reason, "");
  expect_parts(error_of([&] {
                 loader(noise_dataset(8, 8), TrainTransform{.image_size = 8, .color_jitter = {0.1}}, {.batch_size = 4});
               }),
               {"device loader", "colours"});
  const auto images = load(noise_dataset(8, 8), 8);
  expect_parts(error_of([&] { DeviceLoader(images, TrainTransform{.image_size = 6}, {.batch_size = 4}); }),
               {"8 x 8", "side of 6"});
  expect_parts(error_of([&] { DeviceLoader(images, TrainTransform{.image_size = 8}, {.batch_size = 9}); }),
               {"batch size is 9"});
}

class Uploading : public CudaTest {};

TEST_F(Uploading, HasTheBatchesOfTheLoader) {
  const DatasetPtr dataset = noise_dataset(23, 8, 5);
  const TrainTransform transform{.image_size = 8, .color_jitter = {0.3, 0.3, 0.3}};
  for (const bool mixes : {true, false}) {
    LoaderOptions options{.batch_size = 4, .seed = 2, .drop_last = mixes, .bad_samples_allowed = 1};
    if (mixes) options.mixing = Mixing{};
    Loader expected(dataset, transform, options);
    PrefetchLoader actual(std::make_unique<Loader>(dataset, transform, options), cuda(0));
    for (const std::int64_t first : {0, 3}) expect_same_epoch(actual, expected, 1, first, 0, "uploaded");
    EXPECT_EQ(actual.bad_samples(), expected.bad_samples());
    actual.start(0);
    EXPECT_TRUE(actual.next()->images.device().is_cuda());
  }
  EXPECT_THROW(PrefetchLoader(std::make_unique<Loader>(dataset, transform, LoaderOptions{.batch_size = 4}), cpu),
               Error);
}

TEST_F(Uploading, KeepsWhatItHasGivenAndWritesWhereItIsTold) {
  const DatasetPtr dataset = noise_dataset(40, 8);
  const LoaderOptions options{.batch_size = 4, .workers = 0, .mixing = Mixing{}};
  Loader reference(dataset, TrainTransform{.image_size = 8}, options);
  PrefetchLoader actual(std::make_unique<Loader>(dataset, TrainTransform{.image_size = 8}, options), cuda(0));
  const BatchPlace place{zeros({4, 3, 8, 8}, DType::f32, cuda(0)), zeros({4, 3}, DType::f32, cuda(0))};
  reference.start(0);
  actual.start(0);
  std::vector<Batch> given, expected;
  for (int i = 0; i < 6; ++i) {
    given.push_back(*actual.next());
    expected.push_back(*reference.next());
  }
  for (std::size_t i = 0; i < 6; ++i) expect_same(given[i], expected[i], 0, fmt::format("batch {}", i));
  const Batch batch = *actual.next_into(place), next = *reference.next();
  EXPECT_EQ(batch.images.raw_data(), place.images.raw_data());
  EXPECT_EQ(batch.targets.raw_data(), place.targets.raw_data());
  expect_same(batch, next, 0, "written to a place");
}

}  // namespace
}  // namespace vitrine::testing
