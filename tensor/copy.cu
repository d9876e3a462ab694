// Fill, copy with conversion, and add-in-place: the only mathematics that a bare tensor has.
#include <algorithm>
#include <cstring>

#include "tensor/device/launch.h"
#include "tensor/device/packs.h"
#include "tensor/device/staging.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"
#include "tensor/tensor.h"

namespace vitrine {
namespace {

constexpr std::int64_t elements_per_chunk = 1 << 15;

/// Conversion between element types: through Compute<Source>, towards bool by comparison with zero.
template <class Target, class Source>
VT_HD Target convert(Source value) {
  if constexpr (std::is_same_v<Target, Source>)
    return value;
  else if constexpr (std::is_same_v<Target, bool>)
    return static_cast<Compute<Source>>(value) != Compute<Source>(0);
  else
    return static_cast<Target>(static_cast<Compute<Target>>(static_cast<Compute<Source>>(value)));
}

struct Copy {
  template <class Target, class Source>
  VT_HD void operator()(Target& target, Source source) const {
    target = convert<Target>(source);
  }
};

/// Ignores the source, which the drivers want: the compiler leaves the read out.
template <class T>
struct FillWith {
  T value;
  VT_HD void operator()(T& target, T) const { target = value; }
};

struct AddInto {
  template <class T>
  VT_HD void operator()(T& target, T source) const {
    target = static_cast<T>(static_cast<Compute<T>>(target) + static_cast<Compute<T>>(source));
  }
};

template <class F, class Target, class Source>
void apply_rows(F f, Target* target, const Source* source, const StridedLoop<2>& loop, std::int64_t first_row,
                std::int64_t last_row) {
  const std::int64_t length = loop.row_length(), ts = loop.row_stride(0), ss = loop.row_stride(1);
  for (std::int64_t row = first_row; row < last_row; ++row) {
    std::int64_t offset[2];
    loop.row_offsets(row, offset);
    Target* t = target + offset[0];
    const Source* s = source + offset[1];
    if (ts == 1 && ss == 1) {
      for (std::int64_t i = 0; i < length; ++i) f(t[i], s[i]);
    } else {
      for (std::int64_t i = 0; i < length; ++i) f(t[i * ts], s[i * ss]);
    }
  }
}

#if VT_CUDA
/// Row-major on both sides: each thread takes `width` neighbours, the last count % width elements
/// go one by one.
template <int width, class F, class Target, class Source>
__global__ void apply_packs_kernel(F f, Target* target, const Source* source, std::int64_t count) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x, packs = count / width;
  for (std::int64_t i = first; i < packs; i += step) {
    Pack<Target, width>* const target_pack = reinterpret_cast<Pack<Target, width>*>(target) + i;
    const auto from = read_pack(reinterpret_cast<const Pack<Source, width>*>(source) + i);
    auto to = read_pack(target_pack);  // the compiler drops this load if f does not read the target
#pragma unroll
    for (int k = 0; k < width; ++k) f(to.values[k], from.values[k]);
    write_pack(target_pack, to);
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) f(target[i], source[i]);
}

template <class F, class Target, class Source>
__global__ void apply_kernel(F f, Target* target, const Source* source, StridedLoop<2> loop, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    std::int64_t offset[2];
    loop.element_offsets(i, count, offset);
    f(target[offset[0]], source[offset[1]]);
  }
}

template <class F, class Target, class Source>
void apply_on_cuda(F f, Target* target, const Source* source, const StridedLoop<2>& loop, std::int64_t count) {
  constexpr int width = 16 / static_cast<int>(std::max(sizeof(Target), sizeof(Source))), block = 256;
  const bool in_order = loop.row_count() == 1 && loop.row_stride(0) == 1 && loop.row_stride(1) == 1;
  if (in_order && are_aligned(width * sizeof(Target), target) && are_aligned(width * sizeof(Source), source)) {
    launch(apply_packs_kernel<width, F, Target, Source>, grid_for(count, block * width), dim3(block), 0,
           current_stream(), f, target, source, count);
  } else {
    launch(apply_kernel<F, Target, Source>, grid_for(count, block), dim3(block), 0, current_stream(), f, target, source,
           loop, count);
  }
}

/// Within one dtype only bytes move: in words as large as the layout allows, up to 16 bytes.
/// `bytes` is the size of an element.
void copy_words_on_cuda(void* target, const void* source, StridedLoop<2> loop, std::int64_t count, std::size_t bytes) {
  const int last = loop.dims - 1;
  const auto pairs_up = [&] {  // two neighbours of every row are one word
    if (last < 0 || loop.stride[0][last] != 1 || loop.stride[1][last] != 1 || loop.size[last] % 2 != 0) return false;
    for (int d = 0; d < last; ++d) {
      if (loop.stride[0][d] % 2 != 0 || loop.stride[1][d] % 2 != 0) return false;
    }
    return are_aligned(2 * bytes, static_cast<char*>(target), static_cast<const char*>(source));
  };
  for (; bytes < 16 && pairs_up(); bytes *= 2, count /= 2) {
    loop.size[last] /= 2;
    for (int d = 0; d < last; ++d) loop.stride[0][d] /= 2, loop.stride[1][d] /= 2;
  }
  const auto copy = [&]<class W>(W) {
    apply_on_cuda(Copy{}, static_cast<W*>(target), static_cast<const W*>(source), loop, count);
  };
  switch (bytes) {
    case 16:
      return copy(Word<16>{});
    case 8:
      return copy(Word<8>{});
    case 4:
      return copy(Word<4>{});
    case 2:
      return copy(Word<2>{});
    default:
      return copy(Word<1>{});
  }
}
#endif

/// f(target element, source element) for all elements, on the device that both live on.
template <class F, class Target, class Source>
void apply(F f, Target* target, const Source* source, const StridedLoop<2>& loop, std::int64_t count, Device device) {
  if (count == 0) return;
#if VT_CUDA
  if (device.is_cuda()) return apply_on_cuda(f, target, source, loop, count);
#endif
  (void)device;
  if (loop.row_count() == 1) {  // one long row: split inside it
    const std::int64_t ts = loop.row_stride(0), ss = loop.row_stride(1);
    parallel_for(loop.row_length(), elements_per_chunk, [&](std::int64_t begin, std::int64_t end) {
      StridedLoop<2> piece = loop;
      piece.dims = 1;
      piece.size[0] = end - begin;
      piece.stride[0][0] = ts;
      piece.stride[1][0] = ss;
      apply_rows(f, target + begin * ts, source + begin * ss, piece, 0, 1);
    });
    return;
  }
  const std::int64_t rows_per_chunk = std::max<std::int64_t>(1, elements_per_chunk / loop.row_length());
  parallel_for(loop.row_count(), rows_per_chunk,
               [&](std::int64_t begin, std::int64_t end) { apply_rows(f, target, source, loop, begin, end); });
}

void check_same_shape(const Tensor& target, const Tensor& source, std::string_view op) {
  VT_CHECK(target.shape() == source.shape(), "{}: target has shape {} and source {}, expected one shape", op,
           to_string(target.shape()), to_string(source.shape()));
}

void copy_on_one_device(Tensor& target, const Tensor& source) {
  const auto loop = collapse<2>(target.shape(), {target.strides(), source.strides()});
#if VT_CUDA
  if (target.device().is_cuda() && target.dtype() == source.dtype()) {
    return copy_words_on_cuda(target.raw_data(), source.raw_data(), loop, target.numel(), size_of(target.dtype()));
  }
#endif
  dispatch_all(target.dtype(), "copy", [&](auto target_tag) {
    dispatch_all(source.dtype(), "copy", [&](auto source_tag) {
      using Target = typename decltype(target_tag)::type;
      using Source = typename decltype(source_tag)::type;
      apply(Copy{}, static_cast<Target*>(target.raw_data()), static_cast<const Source*>(source.raw_data()), loop,
            target.numel(), target.device());
    });
  });
}

#if VT_CUDA
/// Between devices: both ends row-major and of one dtype, so one memcpy does. A copy to a GPU only
/// waits until the source has been read, so that work for the GPU can go on being queued; a copy to
/// the CPU waits until the elements have arrived.
void copy_between_devices(Tensor& target, const Tensor& source) {
  const Tensor from = contiguous_data(cast_data(source, target.dtype()));
  Tensor to = target.is_contiguous() ? target : empty(target.shape(), target.dtype(), target.device());
  const std::size_t bytes = static_cast<std::size_t>(from.numel()) * size_of(from.dtype());
  if (source.device().is_cpu()) {
    copy_to_device(to.raw_data(), from.raw_data(), bytes);
  } else {
    CUDA_CHECK(cudaMemcpyAsync(to.raw_data(), from.raw_data(), bytes, cudaMemcpyDefault, current_stream()));
    CUDA_CHECK(cudaStreamSynchronize(current_stream()));
  }
  if (!target.is_contiguous()) copy_on_one_device(target, to);
}
#endif

}  // namespace

void copy_into(Tensor& target, const Tensor& source) {
  check_same_shape(target, source, "copy");
  if (target.numel() == 0) return;
  target.storage()->bump_version();
#if VT_CUDA
  if (target.device() != source.device()) return copy_between_devices(target, source);
#endif
  copy_on_one_device(target, source);
}

void fill(Tensor& target, double value) {
  if (target.numel() == 0) return;
  target.storage()->bump_version();
  const auto loop = collapse<2>(target.shape(), {target.strides(), target.strides()});
  dispatch_all(target.dtype(), "fill", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* data = static_cast<T*>(target.raw_data());
    apply(FillWith<T>{convert<T>(value)}, data, static_cast<const T*>(data), loop, target.numel(), target.device());
  });
}

void add_into(Tensor& target, const Tensor& source) {
  check_same_shape(target, source, "add_into");
  VT_CHECK(target.dtype() == source.dtype(), "add_into: target is {} and source {}, expected one dtype",
           name_of(target.dtype()), name_of(source.dtype()));
  VT_CHECK(target.device() == source.device(), "add_into: target is on {} and source on {}, expected one device",
           to_string(target.device()), to_string(source.device()));
  if (target.numel() == 0) return;
  target.storage()->bump_version();
  const auto loop = collapse<2>(target.shape(), {target.strides(), source.strides()});
  dispatch_numeric(target.dtype(), "add_into", [&](auto tag) {
    using T = typename decltype(tag)::type;
    apply(AddInto{}, target.data<T>(), source.data<T>(), loop, target.numel(), target.device());
  });
}

}  // namespace vitrine
