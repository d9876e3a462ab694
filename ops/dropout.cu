// Dropout and drop path. Their masks are a function of (random, element index), so backward
// computes them again.
//
// Element i in row-major order is kept if random.uniform(i) >= probability, on either device and
// for any strides.
#include <algorithm>
#include <cmath>

#include "ops/drivers/elementwise.h"
#include "ops/ops.h"
#include "tensor/device/packs.h"

namespace vitrine {

// ---- dropout: y = x m / (1 - p), m = 0 with probability p, else 1, per element ----

namespace {

/// x m / (1 - p) from x and the element's random bits.
struct Drop {
  std::uint32_t threshold;  // uniform(i) >= p is the same as bits(i) / 2^8 >= p 2^24, in whole numbers
  double scale;

  explicit Drop(double probability)
      : threshold(static_cast<std::uint32_t>(std::ceil(probability * 0x1p24))), scale(1 / (1 - probability)) {}

  template <class T>
  VT_HD T operator()(T x, std::uint32_t bits) const {
    return x * ((bits >> 8) >= threshold ? static_cast<T>(scale) : T(0));
  }
};

/// The random words of `blocks_at_once` blocks from `first_block` on: enough for the compiler to
/// vectorise over blocks.
constexpr int blocks_at_once = 64;
void random_words(const Random& random, std::int64_t first_block, std::uint32_t (&words)[4 * blocks_at_once]) {
  for (int b = 0; b < blocks_at_once; ++b) {
    const PhiloxBlock block = random.block(static_cast<std::uint64_t>(first_block + b));
    for (int w = 0; w < 4; ++w) words[4 * b + w] = block.word[w];
  }
}

template <class T>
void dropout_on_cpu(Random random, Drop drop, std::int64_t count, const T* x, T* y) {
  constexpr std::int64_t step = 4 * blocks_at_once;
  parallel_for(count, 64 * step, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) std::uint32_t words[step];
    for (std::int64_t start = begin; start < end; start += step) {
      random_words(random, start / 4, words);
      map_contiguous(drop, std::min(step, end - start), y + start, x + start, words);
    }
  });
}

#if VT_CUDA
/// One thread takes the four elements that share a block of random words, where it can with one
/// access.
template <bool packed, class T>
__global__ void dropout_kernel(Random random, Drop drop, std::int64_t count, const T* x, T* y) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t b = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; 4 * b < count; b += step) {
    const PhiloxBlock block = random.block(static_cast<std::uint64_t>(b));
    if (packed && 4 * b + 3 < count) {
      Compute<T> values[4];
      load_pack(x + 4 * b, values);
#pragma unroll
      for (int w = 0; w < 4; ++w) values[w] = drop(values[w], block.word[w]);
      store_pack(values, y + 4 * b);
      continue;
    }
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const std::int64_t i = 4 * b + w;
      if (i < count) y[i] = static_cast<T>(drop(static_cast<Compute<T>>(x[i]), block.word[w]));
    }
  }
}
#endif

/// A new tensor from x in row-major order: calls body(data of x, data of y).
template <class Body>
Tensor in_order(const char* op, const Tensor& strided, const Body& body) {
  const Tensor x = contiguous_data(strided);
  Tensor y = empty_for(op, x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return y;
  dispatch_floating(x.dtype(), op, [&]<class T>(TypeTag<T>) { body(x.data<T>(), y.data<T>()); });
  return y;
}

Tensor dropout_forward(const Tensor& x, double probability, Random random) {
  const Drop drop(probability);
  const std::int64_t count = x.numel();
  return in_order("dropout", x, [&]<class T>(const T* from, T* to) {
    if (x.device().is_cpu()) return dropout_on_cpu<T>(random, drop, count, from, to);
#if VT_CUDA
    const auto kernel = are_aligned(4 * sizeof(T), from, to) ? dropout_kernel<true, T> : dropout_kernel<false, T>;
    launch(kernel, grid_for(count, 4 * 256), 256, 0, current_stream(), random, drop, count, from, to);
#endif
  });
}

void check(const char* op, const Tensor& x, double probability) {
  VT_CHECK(probability >= 0 && probability < 1, "{}: probability is {}, expected 0 <= probability < 1", op,
           probability);
  VT_CHECK(x.defined() && is_floating(x.dtype()), "{}: dtype of x {} is {}, expected f32, f64 or bf16", op,
           to_string(x.shape()), name_of(x.dtype()));
}

}  // namespace

Tensor dropout(const Tensor& x, double probability, Random random) {  // dx = dy m / (1 - p): dropout of dy
  check("dropout", x, probability);
  if (probability == 0) return x;
  return record("dropout", dropout_forward(x, probability, random), {x},
                [=](const Tensor& dy, BackwardContext& context) { context.add(0, dropout(dy, probability, random)); });
}

// ---- drop_path: y[b, ...] = x[b, ...] m[b] / (1 - p). Huang et al. 2016 ----

namespace {

/// What all elements of a sample are multiplied with.
template <class C>
VT_HD C sample_factor(const Random& random, const Drop& drop, std::int64_t sample) {
  const PhiloxBlock block = random.block(static_cast<std::uint64_t>(sample / 4));
  return drop(C(1), block.word[sample % 4]);
}

/// x and y are (B, size).
template <class T>
void drop_path_on_cpu(const Random& random, const Drop& drop, std::int64_t B, std::int64_t size, const T* x, T* y) {
  using C = Compute<T>;
  parallel_for(B, std::max<std::int64_t>(1, (1 << 14) / size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const C factor = sample_factor<C>(random, drop, b);
      for (std::int64_t i = b * size; i < (b + 1) * size; ++i) y[i] = static_cast<T>(static_cast<C>(x[i]) * factor);
    }
  });
}

#if VT_CUDA
/// A thread takes `width` neighbours of one sample: size is a multiple of it.
template <int width, class T>
__global__ void drop_path_kernel(Random random, Drop drop, std::int64_t packs, std::int64_t size, const T* x, T* y) {
  using C = Compute<T>;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; i < packs; i += step) {
    const C factor = sample_factor<C>(random, drop, i * width / size);
    C values[width];
    load_pack(x + i * width, values);
#pragma unroll
    for (int k = 0; k < width; ++k) values[k] *= factor;
    store_pack(values, y + i * width);
  }
}
#endif

Tensor drop_path_forward(const Tensor& x, double probability, Random random) {
  const Drop drop(probability);
  return in_order("drop_path", x, [&]<class T>(const T* from, T* to) {
    const std::int64_t B = x.size(0), size = x.numel() / B;
    if (x.device().is_cpu()) return drop_path_on_cpu<T>(random, drop, B, size, from, to);
#if VT_CUDA
    constexpr int width = pack_width<T>;
    const bool packed = size % width == 0 && are_aligned(16, from, to);
    const std::int64_t packs = x.numel() / (packed ? width : 1);
    launch(packed ? drop_path_kernel<width, T> : drop_path_kernel<1, T>, grid_for(packs, 256), 256, 0, current_stream(),
           random, drop, packs, size, from, to);
#endif
  });
}

}  // namespace

Tensor drop_path(const Tensor& x, double probability, Random random) {  // dx: drop_path of dy
  check("drop_path", x, probability);
  VT_CHECK(x.dim() >= 1, "drop_path: x is 0-d, expected at least one dim: the samples");
  if (probability == 0) return x;
  return record(
      "drop_path", drop_path_forward(x, probability, random), {x},
      [=](const Tensor& dy, BackwardContext& context) { context.add(0, drop_path(dy, probability, random)); });
}

}  // namespace vitrine
