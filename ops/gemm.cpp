// Calls into libraries, one thread at a time: we own the threads. oneDNN for f32, where it is some 15% faster than OpenBLAS
// on the shapes of a ViT, and OpenBLAS for f64, which oneDNN lacks.
#include "ops/gemm.h"

#include <cblas.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <mutex>

#include "tensor/error.h"

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

/// oneDNN takes its number of threads from OpenMP, which keeps one for each of our threads.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOpenMpThread() { omp_set_num_threads(before_); }
  OneOpenMpThread(const OneOpenMpThread&) = delete;
  OneOpenMpThread& operator=(const OneOpenMpThread&) = delete;

 private:
  int before_;
};

/// Holds signals back for as long as it lives. oneDNN's sgemm points the stack pointer into memory from malloc while it computes
/// (jit_avx512_common_gemm_f32.cpp, jit_avx_gemm_f32.cpp: "mov rsp, ws"): the frame of a signal handler would land below
/// that buffer, over whatever else lies in the heap. Signals of a fault in the code itself stay open, for debuggers.
class NoSignals {
 public:
  NoSignals() {
    sigset_t held_back;
    sigfillset(&held_back);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigdelset(&held_back, fault);
    pthread_sigmask(SIG_SETMASK, &held_back, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

template <>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<float> a, MatrixView<float> b, float beta,
                 float* c, std::int64_t c_leading) {
  const OneOpenMpThread one_thread;
  const NoSignals no_signals;
  const auto flag = [](bool transposed) { return transposed ? 'T' : 'N'; };
  const dnnl_status_t status = dnnl_sgemm(flag(a.transposed), flag(b.transposed), m, n, k, 1.0f, a.data, a.leading,
                                          b.data, b.leading, beta, c, c_leading);
  VT_CHECK(status == dnnl_success, "gemm: oneDNN returned status {} for m {}, n {}, k {}", static_cast<int>(status), m,
           n, k);
}

template <>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<double> a, MatrixView<double> b,
                 double beta, double* c, std::int64_t c_leading) {
  use_one_blas_thread();
  const auto flag = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  cblas_dgemm(CblasRowMajor, flag(a.transposed), flag(b.transposed), static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0, a.data, static_cast<int>(a.leading), b.data, static_cast<int>(b.leading), beta,
              c, static_cast<int>(c_leading));
}

std::int64_t gemm_rows_per_task(std::int64_t m, std::int64_t n, std::int64_t k) {
  // A large product is cut into tasks of about 2^26 multiply-adds, long enough to hide the packing of b; a small one into eight of
  // at least 2^21, long enough to hide the start of a task: eight are equally much work for two, four and eight threads.
  constexpr std::int64_t long_task = 1 << 26, short_task = 1 << 21, few = 8;
  const std::int64_t total = m * n * k, tasks = std::max(total / long_task, std::min(few, total / short_task));
  return std::max<std::int64_t>(32, (m / std::max<std::int64_t>(1, tasks) + 15) / 16 * 16);
}

}  // namespace vitrine
