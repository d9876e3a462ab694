// Images per second of processor time that one thread augments: padded crop, mirroring, policy,
// normalisation.
//
//   build/release/benchmarks/augment --img-size 32 --rounds 7
//
// Checks before it times: every run of the same seed must give the same floats, and a policy must
// change some.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>

#include "data/augment/transforms.h"
#include "data/datasets/dataset.h"
#include "tensor/error.h"

using namespace vitrine;

namespace {

struct Options {
  int image_size = 32, images = 2000, rounds = 7;
  std::vector<std::string> policies = {"",        "rand-m9-mstd0.5-inc1", "original",           "3a", "ra",
                                       "ta_wide", "autoaugment",          "autoaugment-cifar10"};
};

std::vector<Image> make_images(const Options& options) {
  const DatasetPtr shapes = make_shapes(options.images, "train");
  std::vector<Image> images;
  for (std::int64_t i = 0; i < options.images; ++i) {
    const Image image = shapes->get(i).image;
    images.push_back(resize(image, options.image_size, options.image_size, Interpolation::bicubic));
  }
  return images;
}

/// All images once, into the same output one after the other; the sum of the floats.
double run(const TrainTransform& transform, const std::vector<Image>& images, std::vector<float>& output) {
  double sum = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    RandomSequence random(1, Purpose::augmentation, i);
    transform(images[i], random, output.data());
    sum += static_cast<double>(output[i % output.size()]);
  }
  return sum;
}

void time_policy(const Options& options, const std::vector<Image>& images, const std::string& policy) {
  TrainTransform transform{.image_size = options.image_size, .policy = AugmentPolicy::parse(policy)};
  transform.check();
  std::vector<float> output(3 * static_cast<std::size_t>(options.image_size * options.image_size));
  const double expected = run(transform, images, output);  // also the warm-up
  TrainTransform plain = transform;
  plain.policy = {};
  VT_CHECK(policy.empty() || run(plain, images, output) != expected, "{}: changes nothing", policy);

  std::vector<double> rates;
  for (int round = 0; round < options.rounds; ++round) {
    const std::clock_t start = std::clock();  // of this process alone: what else runs does not count
    const double sum = run(transform, images, output);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    VT_CHECK(sum == expected, "{}: another run gave other floats", policy);
    rates.push_back(static_cast<double>(images.size()) / seconds);
  }
  std::ranges::sort(rates);
  fmt::print("{:22} {:3} px: {:8.0f} images/s on one thread in the median ({:.0f} .. {:.0f})\n",
             policy.empty() ? "no policy" : policy, options.image_size, rates[rates.size() / 2], rates.front(),
             rates.back());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Images per second that one thread augments.", "augment");
  Options options;
  app.add_option("--img-size", options.image_size, "side in pixels")->capture_default_str()->check(CLI::Range(8, 1024));
  app.add_option("--images", options.images, "images in a round")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds, "rounds of each policy")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--aa", options.policies, "policies");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::vector<Image> images = make_images(options);
    for (const std::string& policy : options.policies) time_policy(options, images, policy);
  } catch (const Error& error) {
    fmt::print(stderr, "augment: {}\n", error.what());
    return 1;
  }
  return 0;
}
