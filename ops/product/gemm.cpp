// Calls into libraries, one thread at a time: we own the threads. oneDNN for f32, where it is some
// 15% faster than OpenBLAS on the shapes of a ViT, and for bf16; OpenBLAS for f64, which oneDNN
// lacks.
#include "ops/product/gemm.h"

#include <cblas.h>
#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <compare>
#include <csignal>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <type_traits>
#include <vector>

#include "tensor/error.h"

// OpenBLAS has its own threads, which would compete with ours; other CBLAS libraries lack the
// function.
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

/// Holds signals back for as long as it lives. oneDNN's sgemm points the stack pointer into memory
/// from malloc while it computes (jit_avx512_common_gemm_f32.cpp, jit_avx_gemm_f32.cpp: "mov rsp,
/// ws"): the frame of a signal handler would land below that buffer, over whatever else lies in the
/// heap. Signals of a fault in the code itself stay open, for debuggers.
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

// ---- bf16: oneDNN compiles a kernel for each kind of product, which each thread keeps ----

/// All that a kernel is compiled for. Leading dimensions count elements.
struct Bf16Kind {
  std::int64_t m, n, k, a_leading, b_leading, c_leading;
  bool a_transposed, b_transposed, c_is_float;
  float beta;
  auto operator<=>(const Bf16Kind&) const = default;
};

dnnl::memory::desc describe(std::int64_t rows, std::int64_t columns, std::int64_t leading, bool transposed,
                            dnnl::memory::data_type type) {
  return {{rows, columns}, type, transposed ? dnnl::memory::dims{1, leading} : dnnl::memory::dims{leading, 1}};
}

class Bf16Product {
 public:
  explicit Bf16Product(const Bf16Kind& kind)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), primitive_(), arguments_() {
    using dnnl::memory;
    const auto bf16 = memory::data_type::bf16, c_type = kind.c_is_float ? memory::data_type::f32 : bf16;
    const memory::desc a = describe(kind.m, kind.k, kind.a_leading, kind.a_transposed, bf16);
    const memory::desc b = describe(kind.k, kind.n, kind.b_leading, kind.b_transposed, bf16);
    const memory::desc c = describe(kind.m, kind.n, kind.c_leading, false, c_type);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (kind.beta != 0) {
      dnnl::post_ops sum;
      sum.append_sum(kind.beta);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine_);
    primitive_ = dnnl::matmul(description);
    arguments_ = {{DNNL_ARG_SRC, memory(a, engine_, nullptr)},
                  {DNNL_ARG_WEIGHTS, memory(b, engine_, nullptr)},
                  {DNNL_ARG_DST, memory(c, engine_, nullptr)},
                  {DNNL_ARG_SCRATCHPAD, memory(description.scratchpad_desc(), engine_, nullptr)}};
    scratch_bytes_ = description.scratchpad_desc().get_size();
  }

  /// `scratch` is memory that the products of a thread share.
  void run(const bfloat16* a, const bfloat16* b, void* c, std::vector<std::byte>& scratch) {
    if (scratch.size() < scratch_bytes_) scratch.resize(scratch_bytes_);
    arguments_.at(DNNL_ARG_SRC).set_data_handle(const_cast<bfloat16*>(a));
    arguments_.at(DNNL_ARG_WEIGHTS).set_data_handle(const_cast<bfloat16*>(b));
    arguments_.at(DNNL_ARG_DST).set_data_handle(c);
    arguments_.at(DNNL_ARG_SCRATCHPAD).set_data_handle(scratch.data());
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
  std::size_t scratch_bytes_ = 0;
};

template <class C>
void bf16_product(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<bfloat16> a, MatrixView<bfloat16> b,
                  float beta, C* c, std::int64_t c_leading) {
  constexpr std::size_t most_kinds = 256;  // a network has some dozens
  thread_local std::map<Bf16Kind, Bf16Product> products;
  thread_local std::vector<std::byte> scratch;
  const OneOpenMpThread one_thread;
  const Bf16Kind kind{m,   n, k, a.leading, b.leading, c_leading, a.transposed, b.transposed, std::is_same_v<C, float>,
                      beta};
  if (products.size() >= most_kinds && !products.contains(kind)) products.clear();
  try {
    products.try_emplace(kind, kind).first->second.run(a.data, b.data, c, scratch);
  } catch (const dnnl::error& error) {
    throw Error(fmt::format("gemm: oneDNN refuses bf16 with m {}, n {}, k {}: {}", m, n, k, error.what()));
  }
}

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

template <>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<bfloat16> a, MatrixView<bfloat16> b,
                 bfloat16 beta, bfloat16* c, std::int64_t c_leading) {
  bf16_product(m, n, k, a, b, beta, c, c_leading);
}

template <>
void gemm_serial(std::int64_t m, std::int64_t n, std::int64_t k, MatrixView<bfloat16> a, MatrixView<bfloat16> b,
                 float beta, float* c, std::int64_t c_leading) {
  bf16_product(m, n, k, a, b, beta, c, c_leading);
}

bool has_bf16_products() {
  constexpr int needed = dnnl_cpu_isa_avx512_core_bf16;  // a set of bits, which those of later processors include
  static const bool has = (dnnl_get_effective_cpu_isa() & needed) == needed;  // obeys ONEDNN_MAX_CPU_ISA
  return has;
}

std::int64_t gemm_rows_per_task(std::int64_t m, std::int64_t n, std::int64_t k, DType dtype) {
  // A large product is cut into tasks of about 2^26 multiply-adds (2^28 in bf16, which is that much
  // faster), long enough to hide the packing of b; a small one into eight of at least 2^21, long
  // enough to hide the start of a task: eight are equally much work for two, four and eight
  // threads.
  constexpr std::int64_t short_task = 1 << 21, few = 8;
  const std::int64_t long_task = dtype == DType::bf16 ? 1 << 28 : 1 << 26;
  const std::int64_t total = m * n * k, tasks = std::max(total / long_task, std::min(few, total / short_task));
  return std::max<std::int64_t>(32, (m / std::max<std::int64_t>(1, tasks) + 15) / 16 * 16);
}

}  // namespace vitrine
