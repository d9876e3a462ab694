// Many small copies at once: the gradients of all parameters on their way into the optimiser's arena.
#include <algorithm>
#include <vector>

#include "tensor/launch.h"
#include "tensor/packs.h"
#include "tensor/tensor.h"

namespace vitrine {
namespace {

template <bool add>
void one_into(Tensor& target, const Tensor& source) {
  add ? add_into(target, source) : copy_into(target, source);
}

#if VT_CUDA
/// Up to 128 copies, 3 KiB: it travels as a parameter of the kernel, so a captured graph keeps it too.
template <class T>
struct Copies {
  static constexpr int most = 128;
  T* target[most];
  const T* source[most];
  std::int64_t count[most];
};

/// Block (b, c) does its share of copy c.
template <class T, bool add>
__global__ void copies_kernel(Copies<T> copies) {
  T* target = copies.target[blockIdx.y];
  const T* source = copies.source[blockIdx.y];
  const std::int64_t count = copies.count[blockIdx.y];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  constexpr int width = pack_width<T>;
  const auto address = reinterpret_cast<std::uintptr_t>(target) | reinterpret_cast<std::uintptr_t>(source);
  const std::int64_t packs = address % 16 == 0 ? count / width : 0;
  for (std::int64_t i = first; i < packs; i += step) {
    T from[width], to[width] = {};
    load_pack(source + i * width, from);
    if (add) load_pack(target + i * width, to);
#pragma unroll
    for (int k = 0; k < width; ++k) to[k] += from[k];
    store_pack(to, target + i * width);
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) target[i] = (add ? target[i] : 0) + source[i];
}

template <class T, bool add>
void launch_copies(const Copies<T>& copies, int count) {
  if (count == 0) return;
  const std::int64_t largest = *std::max_element(copies.count, copies.count + count);
  const std::int64_t blocks = std::clamp<std::int64_t>(largest / 4096, 1, 64);
  launch(copies_kernel<T, add>, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(count)), dim3(256), 0,
         current_stream(), copies);
}

/// Does those pairs that the kernel can do, all of them in T, and returns the indices of the others.
template <class T, bool add>
std::vector<std::size_t> copy_on_cuda(std::span<Tensor> targets, std::span<const Tensor> sources) {
  std::vector<std::size_t> others;
  Copies<T> copies;
  int count = 0;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    Tensor& target = targets[i];
    const Tensor& source = sources[i];
    const bool in_order = target.is_contiguous() && source.is_contiguous() && target.shape() == source.shape();
    const bool same = target.dtype() == dtype_of<T>() && source.dtype() == dtype_of<T>();
    if (!in_order || !same || !target.device().is_cuda() || source.device() != target.device()) {
      others.push_back(i);
      continue;
    }
    target.storage()->bump_version();
    copies.target[count] = target.template data<T>();
    copies.source[count] = source.data<T>();
    copies.count[count] = target.numel();
    if (++count == Copies<T>::most) {
      launch_copies<T, add>(copies, count);
      count = 0;
    }
  }
  launch_copies<T, add>(copies, count);
  return others;
}
#endif

template <bool add>
void all_into(std::span<Tensor> targets, std::span<const Tensor> sources) {
  VT_CHECK(targets.size() == sources.size(), "copy_all: {} targets and {} sources, expected as many", targets.size(),
           sources.size());
#if VT_CUDA
  if (!targets.empty() && targets[0].device().is_cuda()) {
    const auto others = targets[0].dtype() == DType::f64 ? copy_on_cuda<double, add>(targets, sources)
                                                         : copy_on_cuda<float, add>(targets, sources);
    for (const std::size_t i : others) one_into<add>(targets[i], sources[i]);
    return;
  }
#endif
  for (std::size_t i = 0; i < targets.size(); ++i) one_into<add>(targets[i], sources[i]);
}

}  // namespace

void copy_all_into(std::span<Tensor> targets, std::span<const Tensor> sources) { all_into<false>(targets, sources); }
void add_all_into(std::span<Tensor> targets, std::span<const Tensor> sources) { all_into<true>(targets, sources); }

}  // namespace vitrine
