// Many small copies at once: the gradients of all parameters on their way into the optimiser's arena.
#include <algorithm>
#include <numeric>
#include <vector>

#include "tensor/launch.h"
#include "tensor/packs.h"
#include "tensor/tensor.h"

namespace vitrine {
namespace {

template <bool add>
void one_into(Tensor& target, const Tensor& source) {
  add ? add_into(target, cast_data(source, target.dtype())) : copy_into(target, source);
}

#if VT_CUDA
/// Up to 128 copies, 3 KiB: it travels as a parameter of the kernel, so a captured graph keeps it too.
template <class T, class S>
struct Copies {
  static constexpr int most = 128;
  T* target[most];
  const S* source[most];
  std::int64_t count[most];
};

/// Block (b, c) does its share of copy c.
template <class T, class S, bool add>
__global__ void copies_kernel(Copies<T, S> copies) {
  T* target = copies.target[blockIdx.y];
  const S* source = copies.source[blockIdx.y];
  const std::int64_t count = copies.count[blockIdx.y];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  constexpr int width = pack_width<T>;
  const bool aligned = reinterpret_cast<std::uintptr_t>(target) % (width * sizeof(T)) == 0 &&
                       reinterpret_cast<std::uintptr_t>(source) % (width * sizeof(S)) == 0;
  const std::int64_t packs = aligned ? count / width : 0;
  for (std::int64_t i = first; i < packs; i += step) {
    T from[width], to[width] = {};
    load_pack(source + i * width, from);
    if (add) load_pack(target + i * width, to);
#pragma unroll
    for (int k = 0; k < width; ++k) to[k] += from[k];
    store_pack(to, target + i * width);
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) {
    target[i] = (add ? target[i] : 0) + static_cast<T>(source[i]);
  }
}

template <bool add, class T, class S>
void launch_copies(const Copies<T, S>& copies, int count) {
  if (count == 0) return;
  const std::int64_t largest = *std::max_element(copies.count, copies.count + count);
  const std::int64_t blocks = std::clamp<std::int64_t>(largest / 4096, 1, 64);
  launch(copies_kernel<T, S, add>, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(count)), dim3(256), 0,
         current_stream(), copies);
}

/// Whether the kernel can do it, from S to T.
template <class T, class S>
bool is_simple(const Tensor& target, const Tensor& source) {
  const bool in_order = target.is_contiguous() && source.is_contiguous() && target.shape() == source.shape();
  const bool fits = target.dtype() == dtype_of<T>() && source.dtype() == dtype_of<S>();
  return in_order && fits && target.device().is_cuda() && source.device() == target.device();
}

/// Does those pairs that the kernel can do, all of them from S to T, and leaves the others in `pairs`.
template <class T, class S, bool add>
void copy_on_cuda(std::span<Tensor> targets, std::span<const Tensor> sources, std::vector<std::size_t>& pairs) {
  Copies<T, S> copies;
  int count = 0;
  const auto is_done = [&](std::size_t i) {
    Tensor& target = targets[i];
    if (!is_simple<T, S>(target, sources[i])) return false;
    target.storage()->bump_version();
    copies.target[count] = target.template data<T>();
    copies.source[count] = sources[i].template data<S>();
    copies.count[count] = target.numel();
    if (++count == Copies<T, S>::most) {
      launch_copies<add>(copies, count);
      count = 0;
    }
    return true;
  };
  std::erase_if(pairs, is_done);
  launch_copies<add>(copies, count);
}

template <class T, bool add>
void copy_all_on_cuda(std::span<Tensor> targets, std::span<const Tensor> sources) {
  std::vector<std::size_t> pairs(targets.size());
  std::iota(pairs.begin(), pairs.end(), std::size_t{0});
  copy_on_cuda<T, T, add>(targets, sources, pairs);
  copy_on_cuda<T, bfloat16, add>(targets, sources, pairs);
  for (const std::size_t i : pairs) one_into<add>(targets[i], sources[i]);
}
#endif

template <bool add>
void all_into(std::span<Tensor> targets, std::span<const Tensor> sources) {
  VT_CHECK(targets.size() == sources.size(), "copy_all: {} targets and {} sources, expected as many", targets.size(),
           sources.size());
#if VT_CUDA
  if (!targets.empty() && targets[0].device().is_cuda()) {
    const bool is_double = targets[0].dtype() == DType::f64;
    return is_double ? copy_all_on_cuda<double, add>(targets, sources) : copy_all_on_cuda<float, add>(targets, sources);
  }
#endif
  for (std::size_t i = 0; i < targets.size(); ++i) one_into<add>(targets[i], sources[i]);
}

}  // namespace

void copy_all_into(std::span<Tensor> targets, std::span<const Tensor> sources) { all_into<false>(targets, sources); }
void add_all_into(std::span<Tensor> targets, std::span<const Tensor> sources) { all_into<true>(targets, sources); }

}  // namespace vitrine
