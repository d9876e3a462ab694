// Many small copies at once, as of the gradients of all parameters on their way into the
// optimiser's arena.
#include <algorithm>
#include <numeric>
#include <vector>

#include "tensor/device/launch.h"
#include "tensor/device/packs.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace vitrine {
namespace {

// What each copy does to an element of its target: assigns the source, adds it, or averages.
struct Assign {
  static constexpr bool reads_target = false;
  template <class T>
  VT_HD T operator()(T, T source) const {
    return source;
  }
};
struct Add {
  static constexpr bool reads_target = true;
  template <class T>
  VT_HD T operator()(T target, T source) const {
    return target + source;
  }
};
struct Blend {
  static constexpr bool reads_target = true;
  double keep, take;
  template <class T>
  VT_HD T operator()(T target, T source) const {
    return static_cast<T>(keep) * target + static_cast<T>(take) * source;
  }
};

void one_into(Assign, Tensor& target, const Tensor& source) { copy_into(target, source); }
void one_into(Add, Tensor& target, const Tensor& source) { add_into(target, cast_data(source, target.dtype())); }
void one_into(Blend blend, Tensor& target, const Tensor& source) {  // on the CPU, both row-major
  target.storage()->bump_version();
  const auto blend_as = [&]<class T>(T* to, const T* from) {
    parallel_for(target.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = blend(to[i], from[i]);
    });
  };
  target.dtype() == DType::f64 ? blend_as(target.data<double>(), source.data<double>())
                               : blend_as(target.data<float>(), source.data<float>());
}

#if VT_CUDA
/// Up to 128 copies, 3 KiB: a kernel parameter, so a captured graph holds a copy of it.
template <class T, class S>
struct Copies {
  static constexpr int most = 128;
  T* target[most];
  const S* source[most];
  std::int64_t count[most];
};

/// Block (b, c) does its share of copy c.
template <class F, class T, class S>
__global__ void copies_kernel(F f, Copies<T, S> copies) {
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
    if (F::reads_target) load_pack(target + i * width, to);
#pragma unroll
    for (int k = 0; k < width; ++k) to[k] = f(to[k], from[k]);
    store_pack(to, target + i * width);
  }
  for (std::int64_t i = packs * width + first; i < count; i += step) {
    target[i] = f(F::reads_target ? target[i] : T(0), static_cast<T>(source[i]));
  }
}

template <class F, class T, class S>
void launch_copies(const F& f, const Copies<T, S>& copies, int count) {
  if (count == 0) return;
  const std::int64_t largest = *std::max_element(copies.count, copies.count + count);
  const std::int64_t blocks = std::clamp<std::int64_t>(largest / 4096, 1, 64);
  launch(copies_kernel<F, T, S>, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(count)), dim3(256), 0,
         current_stream(), f, copies);
}

/// Whether the kernel can do it, from S to T.
template <class T, class S>
bool is_simple(const Tensor& target, const Tensor& source) {
  const bool in_order = target.is_contiguous() && source.is_contiguous() && target.shape() == source.shape();
  const bool fits = target.dtype() == dtype_of<T>() && source.dtype() == dtype_of<S>();
  return in_order && fits && target.device().is_cuda() && source.device() == target.device();
}

/// Does those pairs that the kernel can do, all of them from S to T, and leaves the others in
/// `pairs`.
template <class T, class S, class F>
void do_on_cuda(const F& f, std::span<Tensor> targets, std::span<const Tensor> sources,
                std::vector<std::size_t>& pairs) {
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
      launch_copies(f, copies, count);
      count = 0;
    }
    return true;
  };
  std::erase_if(pairs, is_done);
  launch_copies(f, copies, count);
}

template <class T, class F>
void do_all_on_cuda(const F& f, std::span<Tensor> targets, std::span<const Tensor> sources) {
  std::vector<std::size_t> pairs(targets.size());
  std::iota(pairs.begin(), pairs.end(), std::size_t{0});
  do_on_cuda<T, T>(f, targets, sources, pairs);
  do_on_cuda<T, bfloat16>(f, targets, sources, pairs);
  for (const std::size_t i : pairs) one_into(f, targets[i], sources[i]);
}
#endif

template <class F>
void do_all(const F& f, std::span<Tensor> targets, std::span<const Tensor> sources) {
  VT_CHECK(targets.size() == sources.size(), "copy_all: {} targets and {} sources, expected as many", targets.size(),
           sources.size());
#if VT_CUDA
  if (!targets.empty() && targets[0].device().is_cuda()) {
    const bool is_double = targets[0].dtype() == DType::f64;
    return is_double ? do_all_on_cuda<double>(f, targets, sources) : do_all_on_cuda<float>(f, targets, sources);
  }
#endif
  for (std::size_t i = 0; i < targets.size(); ++i) one_into(f, targets[i], sources[i]);
}

}  // namespace

void copy_all_into(std::span<Tensor> targets, std::span<const Tensor> sources) { do_all(Assign{}, targets, sources); }
void add_all_into(std::span<Tensor> targets, std::span<const Tensor> sources) { do_all(Add{}, targets, sources); }

void blend_all_into(std::span<Tensor> targets, double keep, std::span<const Tensor> sources, double take) {
  std::vector<Tensor> ready;
  for (std::size_t i = 0; i < std::min(targets.size(), sources.size()); ++i) {
    const Tensor& target = targets[i];
    VT_CHECK(target.is_contiguous() && (target.dtype() == DType::f32 || target.dtype() == DType::f64) &&
                 target.dtype() == targets[0].dtype() && target.device() == targets[0].device(),
             "blend_all_into: target {} is {} {} on {}, expected f32 or f64, row-major, all of one dtype on one device",
             i, name_of(target.dtype()), to_string(target.shape()), to_string(target.device()));
    VT_CHECK(sources[i].shape() == target.shape() && sources[i].device() == target.device(),
             "blend_all_into: target {} is {} on {}, its source {} on {}", i, to_string(target.shape()),
             to_string(target.device()), to_string(sources[i].shape()), to_string(sources[i].device()));
    ready.push_back(contiguous_data(cast_data(sources[i], target.dtype())));
  }
  do_all(Blend{keep, take}, targets, ready);
}

}  // namespace vitrine
