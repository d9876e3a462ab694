// One output pixel as a function of the draws, then the loop over all of them on either device.
#include "data/loader/batch_kernel.h"

#include <cstring>

#include "tensor/device/launch.h"
#include "tensor/device/staging.h"
#include "tensor/error.h"
#include "tensor/parallel.h"

namespace vitrine {
namespace {

struct Color {
  float channel[3];
};

/// A batch as the device sees it. All pointers are to its memory.
struct BatchView {
  const std::uint8_t* bytes;  // (count, height, width, 3)
  const float* normalized;    // (3, 256)
  const SampleDraw* samples;  // (B)
  const ErasedBox* boxes;     // (B, most_boxes)
  std::int64_t batch, classes;
  int height, width, size, most_boxes;
  bool reflect, mixes;
  RandomErasing::Mode erasing;
  TargetLevels levels;

  VT_HD Color normalized_color(std::uint8_t red, std::uint8_t green, std::uint8_t blue) const {
    return {{normalized[red], normalized[256 + green], normalized[512 + blue]}};
  }

  /// Pixel (y, x) of an erased box.
  VT_HD Color noise(const ErasedBox& erased, int y, int x) const {
    Color color{{0, 0, 0}};
    if (erasing == RandomErasing::Mode::constant) return color;
    const Box& box = erased.box;
    const auto plane = static_cast<std::uint64_t>(box.height) * static_cast<std::uint64_t>(box.width);
    const auto pixel = static_cast<std::uint64_t>(y - box.top) * static_cast<std::uint64_t>(box.width) +
                       static_cast<std::uint64_t>(x - box.left);
    for (std::uint64_t c = 0; c < 3; ++c) {
      color.channel[c] = normal_number(erased.noise, erasing == RandomErasing::Mode::color ? c : c * plane + pixel);
    }
    return color;
  }

  /// Pixel (y, x) of sample i before mixing.
  VT_HD Color own_pixel(std::int64_t i, int y, int x) const {
    const SampleDraw& draw = samples[i];
    for (int b = draw.boxes - 1; b >= 0; --b) {  // the last box lies on top
      const ErasedBox& erased = boxes[i * most_boxes + b];
      if (erased.contains(y, x)) return noise(erased, y, x);
    }
    int row = draw.top + y, column = draw.left + (draw.flip ? size - 1 - x : x);
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    if (!inside && !reflect) return normalized_color(0, 0, 0);
    row = reflected(row, height);
    column = reflected(column, width);
    const std::uint8_t* pixel = bytes + ((draw.index * height + row) * width + column) * 3;
    return normalized_color(pixel[0], pixel[1], pixel[2]);
  }

  /// Pixel (y, x) of sample i of the batch.
  VT_HD Color pixel(std::int64_t i, int y, int x) const {
    const MixingDraw& draw = samples[i].mixing;
    const std::int64_t partner = batch - 1 - i;
    if (!mixes || (!draw.cutmix && draw.lambda == 1)) return own_pixel(i, y, x);
    if (draw.cutmix) {
      const bool in_box = y >= draw.top && y < draw.bottom && x >= draw.left && x < draw.right;
      return own_pixel(in_box ? partner : i, y, x);
    }
    Color color = own_pixel(i, y, x);
    const Color other = own_pixel(partner, y, x);
    const ShareBlend blend(draw.lambda);
    for (int c = 0; c < 3; ++c) color.channel[c] = blend(color.channel[c], other.channel[c]);
    return color;
  }

  /// Column k of the targets of sample i.
  VT_HD float target(std::int64_t i, std::int64_t k) const {
    const float own = samples[i].label == k ? levels.on : levels.off;
    if (!mixes) return own;
    const float other = samples[batch - 1 - i].label == k ? levels.on : levels.off;
    return ShareBlend(samples[i].mixing.lambda)(own, other);
  }

  template <class T>
  VT_HD void write_pixel(T* images, std::int64_t i, int position) const {
    const int plane = size * size;
    const Color color = pixel(i, position / size, position % size);
    T* image = images + i * 3 * plane;
    for (int c = 0; c < 3; ++c) image[c * plane + position] = static_cast<T>(color.channel[c]);
  }
};

#if VT_CUDA
constexpr int block_threads = 256;

/// Sample i is made by blocks_per_image blocks: each thread makes one pixel, and together they go
/// over the targets.
template <class T>
__global__ void batch_kernel(BatchView view, unsigned blocks_per_image, T* images, float* targets) {
  const std::int64_t i = blockIdx.x / blocks_per_image;
  const auto position = static_cast<int>(blockIdx.x % blocks_per_image * blockDim.x + threadIdx.x);
  if (position < view.size * view.size) view.write_pixel(images, i, position);
  if (!targets) return;
  const auto step = static_cast<std::int64_t>(blocks_per_image) * blockDim.x;
  for (std::int64_t k = position; k < view.classes; k += step) targets[i * view.classes + k] = view.target(i, k);
}
#endif

template <class T>
void run(const BatchView& view, T* images, float* targets, Device device) {
#if VT_CUDA
  if (device.is_cuda()) {
    const auto blocks_per_image = static_cast<unsigned>((view.size * view.size + block_threads - 1) / block_threads);
    const auto blocks = static_cast<unsigned>(view.batch) * blocks_per_image;
    launch(batch_kernel<T>, dim3(blocks), dim3(block_threads), 0, current_stream(), view, blocks_per_image, images,
           targets);
    return;
  }
#endif
  (void)device;
  parallel_for(view.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (int position = 0; position < view.size * view.size; ++position) view.write_pixel(images, i, position);
      for (std::int64_t k = 0; targets && k < view.classes; ++k) targets[i * view.classes + k] = view.target(i, k);
    }
  });
}

/// Copies the draws to the device, into `buffer` if it is large enough.
template <class T>
const T* upload(const std::vector<T>& draws, Tensor& buffer, Device device) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (draws.empty()) return nullptr;
  const std::size_t bytes = draws.size() * sizeof(T);
  if (!buffer.defined() || static_cast<std::size_t>(buffer.numel()) < bytes) {
    buffer = empty({static_cast<std::int64_t>(bytes)}, DType::u8, device);
  }
  void* target = buffer.raw_data();
#if VT_CUDA
  if (device.is_cuda()) {
    copy_to_device(target, draws.data(), bytes);
    return static_cast<const T*>(target);
  }
#endif
  std::memcpy(target, draws.data(), bytes);
  return static_cast<const T*>(target);
}

Tensor table_of(const Normalization& normalization, Device device) {
  const NormalizedBytes values = normalized_bytes(normalization);
  return to_device(from_span(std::span<const float>(values[0].data(), 3 * 256), {3, 256}), device);
}

}  // namespace

BatchKernel::BatchKernel(Tensor bytes, const TrainTransform& transform)
    : bytes_(std::move(bytes)),
      normalized_(table_of(transform.normalization, bytes_.device())),
      size_(transform.image_size),
      reflect_(transform.padding_mode == TrainTransform::Padding::reflect),
      erasing_(transform.erasing.mode) {
  VT_CHECK(bytes_.dtype() == DType::u8 && bytes_.dim() == 4 && bytes_.size(3) == 3 && bytes_.is_contiguous(),
           "batch kernel: bytes are {} {}, expected row-major u8 (count, H, W, 3)", name_of(bytes_.dtype()),
           to_string(bytes_.shape()));
}

void BatchKernel::operator()(const BatchDraw& draw, TargetLevels levels, Tensor& images, Tensor& targets) {
  const auto batch = static_cast<std::int64_t>(draw.samples.size());
  const Device device = bytes_.device();
  VT_CHECK(images.shape() == (Shape{batch, 3, size_, size_}) && images.device() == device && images.is_contiguous(),
           "batch kernel: images have shape {} on {}, expected row-major ({}, 3, {}, {}) on {}",
           to_string(images.shape()), to_string(images.device()), batch, size_, size_, to_string(device));
  VT_CHECK(images.dtype() == DType::f32 || images.dtype() == DType::bf16,
           "batch kernel: images are {}, expected f32 or bf16", name_of(images.dtype()));
  const BatchView view{.bytes = static_cast<const std::uint8_t*>(bytes_.raw_data()),
                       .normalized = static_cast<const float*>(normalized_.raw_data()),
                       .samples = upload(draw.samples, samples_, device),
                       .boxes = upload(draw.boxes, boxes_, device),
                       .batch = batch,
                       .classes = targets.defined() ? targets.size(1) : 0,
                       .height = static_cast<int>(bytes_.size(1)),
                       .width = static_cast<int>(bytes_.size(2)),
                       .size = size_,
                       .most_boxes = static_cast<int>(draw.most_boxes),
                       .reflect = reflect_,
                       .mixes = draw.mixes,
                       .erasing = erasing_,
                       .levels = levels};
  images.storage()->bump_version();
  if (targets.defined()) targets.storage()->bump_version();
  float* target_values = targets.defined() ? targets.data<float>() : nullptr;
  if (images.dtype() == DType::f32) {
    run(view, images.data<float>(), target_values, device);
  } else {
    run(view, images.data<bfloat16>(), target_values, device);
  }
}

}  // namespace vitrine
