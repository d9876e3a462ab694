// Random numbers as a pure function: Philox 4x32-10 turns (seed, purpose, stream, index) into bits,
// the same on CPU and CUDA, for any number of threads, workers or blocks.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011),
// section 3.3 and table 2.
#pragma once

#include <cstdint>

#include "tensor/device/host_device.h"

namespace vitrine {

struct PhiloxBlock {
  std::uint32_t word[4];
};

/// Ten rounds of Philox 4x32 on a 128-bit counter under a 64-bit key.
VT_HD inline PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ull * counter.word[0];
    const std::uint64_t product1 = 0xCD9E8D57ull * counter.word[2];
    const auto high0 = static_cast<std::uint32_t>(product0 >> 32), low0 = static_cast<std::uint32_t>(product0);
    const auto high1 = static_cast<std::uint32_t>(product1 >> 32), low1 = static_cast<std::uint32_t>(product1);
    counter = {{high1 ^ counter.word[1] ^ key0, low1, high0 ^ counter.word[3] ^ key1, low0}};
    key0 += 0x9E3779B9u;  // the golden ratio
    key1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

/// What a random number is for. Two purposes never share a number, even under the same seed.
enum class Purpose : std::uint16_t {
  test,
  initialization,
  dropout,
  drop_path,
  shuffle,
  augmentation,
  mixing,
  generated_data
};

/// One stream of random numbers: element `index` is computed, not iterated to.
struct Random {
  std::uint64_t seed = 0;
  Purpose purpose = Purpose::test;
  std::uint64_t stream = 0;  // a layer's call, a (epoch, sample) pair, ...
  /// Where it is not null, *base is added to `stream`. It points to memory of the device that
  /// draws: a captured CUDA graph holds the address, and draws anew whenever the number there has
  /// changed.
  const std::uint64_t* base = nullptr;

  /// Four 32-bit words for block `index` (below 2^48).
  VT_HD PhiloxBlock block(std::uint64_t index) const {
    const auto high = static_cast<std::uint32_t>((index >> 32) & 0xFFFFu) | (static_cast<std::uint32_t>(purpose) << 16);
    const std::uint64_t number = base ? stream + *base : stream;
    return philox4x32_10({{static_cast<std::uint32_t>(index), high, static_cast<std::uint32_t>(number),
                           static_cast<std::uint32_t>(number >> 32)}},
                         static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  }
  /// The `index`-th 32-bit word of the stream; four share a block.
  VT_HD std::uint32_t bits(std::uint64_t index) const { return block(index >> 2).word[index & 3]; }
  /// Uniform on [0, 1), 24 bits.
  VT_HD float uniform(std::uint64_t index) const { return static_cast<float>(bits(index) >> 8) * 0x1p-24f; }
};

/// Reads a Random one number after the other, for host code such as augmentation and
/// initialisation.
class RandomSequence {
 public:
  explicit RandomSequence(Random random) : random_(random) {}
  RandomSequence(std::uint64_t seed, Purpose purpose, std::uint64_t stream = 0) : random_{seed, purpose, stream} {}

  std::uint32_t bits() { return random_.bits(next_++); }
  double uniform() { return bits() * 0x1p-32; }                                       // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }  // [low, high)
  std::int64_t integer(std::int64_t count);                                           // 0 ... count - 1, unbiased
  bool chance(double probability) { return uniform() < probability; }
  double normal();             // mean 0, standard deviation 1 (Box-Muller, one of the pair)
  double gamma(double shape);  // scale 1 (Marsaglia and Tsang 2000)
  double beta(double a, double b);

 private:
  Random random_;
  std::uint64_t next_ = 0;
};

/// Hands out a fresh Random for every use; the whole state is two integers, so a checkpoint can
/// keep it.
struct Generator {
  std::uint64_t seed = 0;
  std::uint64_t count = 0;
  const std::uint64_t* base = nullptr;  // see Random::base; not part of the state
  Random next(Purpose purpose) { return {seed, purpose, count++, base}; }
};

}  // namespace vitrine
