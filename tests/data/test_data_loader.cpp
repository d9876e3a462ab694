// Tests of the loader: the same bits for any number of workers, any starting point, and errors that
// arrive.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "data/loader/loader.h"
#include "tests/data/data_fixtures.h"

namespace vitrine::testing {
namespace {

TrainTransform busy_transform() {
  TrainTransform transform{.image_size = 8, .padding = 2};
  transform.color_jitter = {0.3, 0.3, 0.3};
  transform.erasing = {.probability = 0.5, .mode = RandomErasing::Mode::pixel};
  return transform;
}

bool same_bits(const Batch& a, const Batch& b) {
  const auto floats = [](const Tensor& t) { return t.defined() ? t.to_vector<float>() : std::vector<float>{}; };
  return floats(a.images) == floats(b.images) && floats(a.targets) == floats(b.targets) && a.indices == b.indices &&
         a.labels.to_vector<std::int64_t>() == b.labels.to_vector<std::int64_t>() && a.epoch == b.epoch &&
         a.number == b.number;
}

std::vector<Batch> all_batches(Loader& loader, std::int64_t epoch, std::int64_t first = 0) {
  std::vector<Batch> batches;
  for (Batch& batch : loader.epoch(epoch, first)) batches.push_back(batch);
  return batches;
}

/// A dataset that takes its time for every sample, and counts them.
class SlowDataset : public Dataset {
 public:
  explicit SlowDataset(std::chrono::milliseconds delay) : delay_(delay) { class_names_ = {"only"}; }
  std::int64_t size() const override { return 1000; }
  std::string name(std::int64_t index) const override { return fmt::format("slow/{}", index); }
  Sample get(std::int64_t) const override {
    ++count;
    std::this_thread::sleep_for(delay_);
    return {Image(8, 8), 0};
  }
  mutable std::atomic<int> count = 0;

 private:
  std::chrono::milliseconds delay_;
};

TEST(Loader, GivesTheSameBitsForAnyNumberOfWorkers) {
  const DatasetPtr dataset = noise_dataset(53, 8);
  const auto options = [](int workers, int prefetch) {
    return LoaderOptions{.batch_size = 6, .seed = 3, .workers = workers, .prefetch = prefetch, .mixing = Mixing{}};
  };
  Loader reference(dataset, busy_transform(), options(0, 1));
  for (const auto& [workers, prefetch] : {std::pair{1, 1}, {2, 4}, {5, 3}, {3, 100}}) {
    Loader loader(dataset, busy_transform(), options(workers, prefetch));
    for (const std::int64_t epoch : {0, 4}) {
      const std::vector<Batch> expected = all_batches(reference, epoch), got = all_batches(loader, epoch);
      ASSERT_EQ(got.size(), 8u);
      ASSERT_EQ(expected.size(), 8u);
      for (std::size_t i = 0; i < 8; ++i) EXPECT_TRUE(same_bits(got[i], expected[i])) << workers << ' ' << i;
    }
  }
}

TEST(Loader, StartsAnywhereAndLeavesTheLoopAnywhere) {
  Loader loader(noise_dataset(40, 8), busy_transform(), {.batch_size = 4, .seed = 9, .workers = 3});
  const std::vector<Batch> whole = all_batches(loader, 2);
  ASSERT_EQ(whole.size(), 10u);
  for (Batch& batch : loader.epoch(1)) {
    if (batch.number == 1) break;  // drops what the workers are making
  }
  const std::vector<Batch> rest = all_batches(loader, 2, 7);
  ASSERT_EQ(rest.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(rest[i], whole[7 + i]));
  EXPECT_TRUE(all_batches(loader, 2, 10).empty());
  EXPECT_FALSE(loader.next().has_value());
}

TEST(Loader, VisitsEverySampleOnceInANewOrderEachEpoch) {
  Loader loader(noise_dataset(30, 8), busy_transform(), {.batch_size = 7, .seed = 1, .drop_last = false});
  EXPECT_EQ(loader.batches_per_epoch(), 5);
  std::vector<std::vector<std::int64_t>> orders;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    std::vector<std::int64_t> visited;
    for (Batch& batch : loader.epoch(epoch)) {
      EXPECT_EQ(batch.images.shape(), (Shape{batch.size(), 3, 8, 8}));
      EXPECT_FALSE(batch.targets.defined());
      for (std::int64_t i = 0; i < batch.size(); ++i) {
        const std::int64_t index = batch.indices[static_cast<std::size_t>(i)];
        EXPECT_EQ(batch.labels.to_vector<std::int64_t>()[static_cast<std::size_t>(i)], index % 3);
        visited.push_back(index);
      }
    }
    orders.push_back(visited);
    std::ranges::sort(visited);
    std::vector<std::int64_t> all(30);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(visited, all);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_EQ(orders[1], epoch_order(30, 1, 1));
  EXPECT_NE(epoch_order(30, 1, 1), epoch_order(30, 2, 1));
}

TEST(Loader, WithoutShufflingEvaluatesInOrder) {
  Loader loader(noise_dataset(10, 8), EvalTransform{.image_size = 8},
                {.batch_size = 4, .shuffle = false, .drop_last = false});
  const std::vector<Batch> batches = all_batches(loader, 0);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_EQ(batches[2].indices, (std::vector<std::int64_t>{8, 9}));
  std::vector<float> expected(192);
  EvalTransform{.image_size = 8}(noise_image(8, 8, 9), expected.data());
  const std::vector<float> images = batches[2].images.to_vector<float>();
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), images.begin() + 192));
}

TEST(Loader, AugmentationDependsOnEpochAndSampleNotOnTheBatch) {
  const DatasetPtr dataset = noise_dataset(12, 8);
  Loader small(dataset, busy_transform(), {.batch_size = 2, .seed = 5, .shuffle = false});
  Loader large(dataset, busy_transform(), {.batch_size = 12, .seed = 5, .shuffle = false});
  const std::vector<float> by_two = all_batches(small, 1)[3].images.to_vector<float>();
  const std::vector<float> at_once = all_batches(large, 1)[0].images.to_vector<float>();
  const std::vector<float> next_epoch = all_batches(large, 2)[0].images.to_vector<float>();
  EXPECT_TRUE(std::equal(by_two.begin(), by_two.end(), at_once.begin() + 6 * 192));
  EXPECT_NE(at_once, next_epoch);
}

TEST(Loader, AnErrorArrivesInItsPlaceAndNamesTheSample) {
  for (const int workers : {0, 1, 4}) {
    Loader loader(noise_dataset(40, 8, 22), busy_transform(), {.batch_size = 4, .workers = workers, .shuffle = false});
    loader.start(0);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(loader.next().has_value());
    EXPECT_EQ(error_of([&] { loader.next(); }), "noise/22: damaged on purpose");
    EXPECT_FALSE(loader.next().has_value());
    EXPECT_EQ(all_batches(loader, 0, 6).size(), 4u) << "the loader can go on behind the bad sample";
  }
}

TEST(Loader, ReplacesAndListsBadSamplesUpToTheCap) {
  Loader lenient(noise_dataset(40, 8, 22), busy_transform(),
                 {.batch_size = 4, .shuffle = false, .bad_samples_allowed = 1});
  for (int round = 0; round < 2; ++round) {
    const std::vector<Batch> batches = all_batches(lenient, round);
    ASSERT_EQ(batches.size(), 10u);
    EXPECT_EQ(batches[5].indices, (std::vector<std::int64_t>{20, 21, 23, 23}));
    EXPECT_EQ(lenient.bad_samples(), (std::vector<std::string>{"noise/22: damaged on purpose"}));
  }

  const TemporaryFolder folder;
  for (int i = 0; i < 6; ++i) write_file(folder / fmt::format("a/{}.png", i), encode_png(noise_image(8, 8)));
  for (const int i : {1, 3}) write_file(folder / fmt::format("a/{}.png", i), {1, 2, 3});
  Loader capped(open_image_folder(folder.path()), busy_transform(),
                {.batch_size = 6, .workers = 0, .shuffle = false, .bad_samples_allowed = 1});
  capped.start(0);
  expect_parts(error_of([&] { capped.next(); }),
               {(folder / "a/3.png").string(), "expected an image: JPEG", "1 are allowed"});
}

TEST(Loader, AFailingTransformNamesTheSample) {
  Loader loader(noise_dataset(4, 8), Transform(busy_transform()), {.batch_size = 2});
  Transform failing(busy_transform());
  failing.apply = [](const Image&, RandomSequence&, float*) { throw Error("no"); };
  Loader broken(noise_dataset(4, 8), failing, {.batch_size = 2, .shuffle = false});
  broken.start(0);
  EXPECT_EQ(error_of([&] { broken.next(); }), "noise/0: no");
}

TEST(Loader, NeverRunsFurtherAheadThanPrefetch) {
  const auto dataset = std::make_shared<SlowDataset>(std::chrono::milliseconds(0));
  Loader loader(dataset, busy_transform(), {.batch_size = 2, .workers = 3, .prefetch = 2});
  loader.start(0);
  loader.next();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_LE(dataset->count, 2 * (1 + 2));
}

TEST(Loader, StopsInTheMiddleOfABatch) {
  const auto dataset = std::make_shared<SlowDataset>(std::chrono::milliseconds(10));
  const auto start = std::chrono::steady_clock::now();
  {
    Loader loader(dataset, busy_transform(), {.batch_size = 500, .workers = 2});
    loader.start(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    loader.start(1);  // an abandoned batch takes five seconds if it is finished
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST(Loader, ChecksItsOptions) {
  const auto message = [](LoaderOptions options) {
    return error_of([&] { Loader loader(noise_dataset(10, 8), busy_transform(), options); });
  };
  expect_parts(message({.batch_size = 0}), {"batch size is 0"});
  expect_parts(message({.batch_size = 11}), {"batch size is 11", "10 samples"});
  expect_parts(message({.batch_size = 2, .workers = -1}), {"-1 workers"});
  expect_parts(message({.batch_size = 2, .prefetch = 0}), {"prefetch is 0"});
  expect_parts(message({.batch_size = 3, .mixing = Mixing{}}), {"batch size is 3", "even"});
  Loader loader(noise_dataset(10, 8), busy_transform(), {.batch_size = 2});
  expect_parts(error_of([&] { loader.start(0, 6); }), {"batch 6", "0 to 5"});
}

}  // namespace
}  // namespace vitrine::testing
