// The measurements of measure_peak.
#include "benchmarks/support/peak.h"

#include <algorithm>

#include "benchmarks/support/stopwatch.h"
#include "op_table/op_table.h"
#include "ops/ops.h"
#include "tensor/device/launch.h"
#if VT_CUDA
#include <cublas_v2.h>
#endif

namespace vitrine {
namespace {

/// The time of the fastest of some repetitions, after one that is not timed.
template <class Work>
double shortest_seconds(Device device, int repetitions, const Work& work) {
  work();
  Stopwatch watch(device);
  watch.mark();
  for (int i = 0; i < repetitions; ++i) {
    work();
    watch.mark();
  }
  const auto times = watch.milliseconds();
  return *std::ranges::min_element(times) / 1e3;
}

double product_flops(double side, double seconds) { return 2 * side * side * side / seconds; }

Peak measure_cpu_peak() {
  constexpr std::int64_t side = 1536, count = std::int64_t{1} << 26;
  const Tensor a = cast_data(test_values({side, side}, 1), DType::f32), b = transpose(a);
  const double product = shortest_seconds(cpu, 8, [&] { matmul(a, b); });
  const Tensor source = ones({count});
  Tensor target = zeros({count});
  const double copy = shortest_seconds(cpu, 8, [&] { copy_into(target, source); });
  return {product_flops(side, product), 8.0 * count / copy};
}

#if VT_CUDA
void check(cublasStatus_t status, const char* call) {
  VT_CHECK(status == CUBLAS_STATUS_SUCCESS, "cublas: {} failed: status {}", call, static_cast<int>(status));
}

/// An 8192 x 8192 x 8192 product of bare cuBLAS with f32 sums, without TF32.
double cuda_product_flops(Device device, DType dtype) {
  constexpr std::int64_t side = 8192;
  // Random bits cost a real GPU power and so clock; rows that repeat are as good for that.
  const Tensor rows = to_device(cast_data(test_values({256, side}, 1), dtype), device);
  const Tensor a = clone(expand(unsqueeze(rows, 0), {side / 256, 256, side})), b = clone(a), c = empty_like(a);
  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle), "cublasCreate");
  check(cublasSetStream(handle, current_stream()), "cublasSetStream");
  const cudaDataType_t type = dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const float one = 1, zero = 0;
  const double seconds = shortest_seconds(device, 20, [&] {
    check(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, side, side, side, &one, a.raw_data(), type, side, b.raw_data(),
                       type, side, &zero, c.raw_data(), type, side, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  });
  check(cublasDestroy(handle), "cublasDestroy");
  return product_flops(side, seconds);
}

Peak measure_cuda_peak(Device device, DType dtype) {
  constexpr std::int64_t bytes = std::int64_t{1} << 30;
  const Tensor source = full({bytes / 4}, 1.5, DType::f32, device), target = empty_like(source);
  const double copy = shortest_seconds(device, 20, [&] {
    CUDA_CHECK(
        cudaMemcpyAsync(target.raw_data(), source.raw_data(), bytes, cudaMemcpyDeviceToDevice, current_stream()));
  });
  return {cuda_product_flops(device, dtype), 2.0 * bytes / copy};
}
#endif

}  // namespace

Peak measure_peak(Device device, DType dtype) {
#if VT_CUDA
  if (device.is_cuda()) return measure_cuda_peak(device, dtype);
#endif
  VT_CHECK(device.is_cpu() && (dtype == DType::f32 || dtype == DType::bf16),
           "measure_peak: {} in {}, expected f32 or bf16", to_string(device), name_of(dtype));
  return measure_cpu_peak();
}

}  // namespace vitrine
