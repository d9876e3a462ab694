// Matrix products on the GPU through cublasLt: row-major matrices, single or in batches, with the
// bias of a layer in the same call.
//
//   gemm_cuda({.m = 8320, .n = 576, .k = 192, .dtype = DType::bf16,
//              .a = {x, 192}, .b = {weight, 192, true}, .c = y, .c_leading = 576});      // y = x weight^T
//
// A product is planned when it is first seen: cublasLt describes it and its heuristics choose an
// algorithm. The plan is kept, so that the same product later costs one look-up and one launch: no
// allocation and no wait, and it may be captured in a CUDA graph once it has run outside of one.
//
// Same bits from run to run: the algorithm follows from the product, the GPU and the version of
// cuBLAS, and cuBLAS promises equal results for equal algorithms. Autotuning gives that up, see
// below.
#pragma once

#include <cstdint>

#include "ops/product/gemm.h"
#include "tensor/dtype.h"

namespace vitrine {

/// What the kernel does besides the product.
enum class GemmEpilogue : std::uint8_t {
  none,
  bias  // adds bias (n) to every row of c
};

/// c (m, n) = a (m, k) b (k, n) + beta c, `batch` times. No size is 0; c has `c_leading` elements
/// between rows, and is not read where beta is 0.
struct CudaProduct {
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  DType dtype = DType::f32;  // of all operands: f32, f64, or bf16, which is multiplied and summed in f32
  MatrixView<void> a{}, b{};
  void* c = nullptr;
  std::int64_t c_leading = 0;
  // Elements between matrices of a batch; 0 = one a or b for all.
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0;
  double beta = 0;
  GemmEpilogue epilogue = GemmEpilogue::none;
  void* bias = nullptr;  // elements of `dtype`
};

/// Queues the product on the current stream of this thread's current device.
void gemm_cuda(const CudaProduct& product);

/// False where cublasLt has no algorithm for the product, which happens only with an epilogue;
/// depends on `dtype`, the sizes and the alignment of the pointers. Plans the product.
bool gemm_cuda_supports(const CudaProduct& product);

/// Number of products planned so far in this process.
std::int64_t gemm_cuda_plan_count();

/// Lets products in f32 round their operands to TF32, 10 bits of mantissa, on tensor cores. Off at
/// first: f32 means f32.
void set_allow_tf32(bool allow);

/// Times the best candidates of the heuristics when a product is planned and keeps the fastest. Off
/// at first, because which one wins can differ from run to run, and with it the order of sums: a
/// loss curve is then no longer the same to the bit. While it is on, a product that was planned
/// without it is planned anew, and planning waits for the GPU.
void set_gemm_autotune(bool autotune);

}  // namespace vitrine
