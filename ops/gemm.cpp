// Calls into the CBLAS library, one thread at a time: we own the threads.
#include "ops/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <mutex>

// OpenBLAS has its own threads, which would compete with ours; other CBLAS libraries lack the function.
extern "C" void openblas_set_num_threads(int count) __attribute__((weak));

namespace vitrine {
namespace {

void use_one_blas_thread() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (openblas_set_num_threads) openblas_set_num_threads(1);
  });
}

CBLAS_TRANSPOSE flag(bool transposed) { return transposed ? CblasTrans : CblasNoTrans; }

}  // namespace

template <>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<float> a, MatrixView<float> b, float beta,
                 float* c, std::int64_t c_leading) {
  use_one_blas_thread();
  cblas_sgemm(CblasRowMajor, flag(a.transposed), flag(b.transposed), static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0f, a.data, static_cast<int>(a.leading), b.data, static_cast<int>(b.leading), beta,
              c, static_cast<int>(c_leading));
}

template <>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<double> a, MatrixView<double> b,
                 double beta, double* c, std::int64_t c_leading) {
  use_one_blas_thread();
  cblas_dgemm(CblasRowMajor, flag(a.transposed), flag(b.transposed), static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0, a.data, static_cast<int>(a.leading), b.data, static_cast<int>(b.leading), beta,
              c, static_cast<int>(c_leading));
}

std::int64_t gemm_rows_per_task(std::int64_t m, std::int64_t n, std::int64_t k) {
  // About 2^25 multiply-adds a task: long enough to hide its start and the packing of b, short enough to balance threads.
  const std::int64_t rows = (std::int64_t{1} << 25) / std::max<std::int64_t>(1, n * k);
  return std::clamp<std::int64_t>(rows / 16 * 16, 32, std::max<std::int64_t>(32, m));
}

}  // namespace vitrine
