// Calls into cublasLt: descriptions of products, the choice of algorithms, and the plans that
// remember both.
#include "ops/product/gemm_cuda.h"

#include <atomic>

#include "tensor/device/launch.h"

#if VT_CUDA
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "tensor/tensor.h"
#endif

namespace vitrine {
namespace {

std::atomic<bool> allow_tf32 = false, autotune_products = false;

#if VT_CUDA

void require(cublasStatus_t status, const char* call, const CudaProduct& x) {
  VT_CHECK(status == CUBLAS_STATUS_SUCCESS, "gemm: {} returned {} for m {}, n {}, k {}, batch {} in {}", call,
           cublasLtGetStatusString(status), x.m, x.n, x.k, x.batch, name_of(x.dtype));
}

/// One handle per device, never destroyed: cublasLt may be gone before static objects are.
cublasLtHandle_t handle_of(int device) {
  static auto& handles = *new std::map<int, cublasLtHandle_t>();
  cublasLtHandle_t& handle = handles[device];
  if (!handle) require(cublasLtCreate(&handle), "cublasLtCreate", {});
  return handle;
}

/// The cublasLt handle and the workspace of one device and stream. Products of one stream run one
/// after the other, so all of them can use the same workspace.
struct Context {
  cublasLtHandle_t handle = nullptr;
  Tensor workspace;
};

Context& context_of(int device, cudaStream_t stream) {
  static auto& contexts = *new std::map<std::pair<int, cudaStream_t>, Context>();
  Context& context = contexts[{device, stream}];
  if (context.handle) return context;
  int capability = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, device));
  const std::int64_t megabytes = capability >= 9 ? 32 : 4;  // the sizes that NVIDIA recommends
  context.workspace = empty({megabytes << 20}, DType::u8, cuda(device));
  context.handle = handle_of(device);
  return context;
}

// ---- Describing a product ----

/// Owns a description that cublasLt made.
template <class Opaque, cublasStatus_t (*destroy)(Opaque*)>
struct Destroy {
  void operator()(Opaque* pointer) const { (void)destroy(pointer); }
};
template <class Opaque, cublasStatus_t (*destroy)(Opaque*)>
using Owned = std::unique_ptr<Opaque, Destroy<Opaque, destroy>>;
using Operation = Owned<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy>;

/// A product as cublasLt knows it, and the algorithm for it. cublasLt stores matrices by columns,
/// so what we store by rows is the transpose to it: it computes c^T (n, m) = b^T (n, k) a^T (k, m),
/// and takes our b first.
struct Plan {
  Operation operation;
  Layout first, second, result;  // of b, a and c
  cublasLtMatmulAlgo_t algorithm{};
  bool is_supported = false;
};

cudaDataType_t data_type(DType dtype) {
  if (dtype == DType::f64) return CUDA_R_64F;
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

cublasComputeType_t compute_type(DType dtype) {
  if (dtype == DType::f64) return CUBLAS_COMPUTE_64F;
  return dtype == DType::f32 && allow_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

template <class T>
void set_attribute(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, T value,
                   const CudaProduct& x) {
  require(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value)),
          "cublasLtMatmulDescSetAttribute", x);
}

Operation describe_operation(const CudaProduct& x) {
  cublasLtMatmulDesc_t made = nullptr;
  require(cublasLtMatmulDescCreate(&made, compute_type(x.dtype), x.dtype == DType::f64 ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescCreate", x);
  Operation operation(made);
  const auto order = [](const MatrixView<void>& view) { return view.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set_attribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, order(x.b), x);
  set_attribute(operation, CUBLASLT_MATMUL_DESC_TRANSB, order(x.a), x);
  if (x.epilogue != GemmEpilogue::none) {
    set_attribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS, x);
    set_attribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, x.bias, x);  // the heuristics look at its alignment
  }
  return operation;
}

/// The matrices of (rows, columns) elements that lie row by row behind one pointer, as cublasLt
/// sees them.
Layout describe_layout(std::int64_t rows, std::int64_t columns, std::int64_t leading, std::int64_t stride,
                       const CudaProduct& x) {
  cublasLtMatrixLayout_t made = nullptr;
  require(cublasLtMatrixLayoutCreate(&made, data_type(x.dtype), static_cast<std::uint64_t>(columns),
                                     static_cast<std::uint64_t>(rows), leading),
          "cublasLtMatrixLayoutCreate", x);
  Layout layout(made);
  const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, auto value) {
    require(cublasLtMatrixLayoutSetAttribute(layout.get(), attribute, &value, sizeof(value)),
            "cublasLtMatrixLayoutSetAttribute", x);
  };
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(x.batch));
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  return layout;
}

Layout describe_operand(const MatrixView<void>& view, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                        const CudaProduct& x) {
  if (view.transposed) std::swap(rows, columns);
  return describe_layout(rows, columns, view.leading, stride, x);
}

/// The largest power of two, up to 256, that divides the address. Algorithms that load more at once
/// are then left out.
std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

Preference describe_preference(const CudaProduct& x, std::uint64_t workspace_bytes) {
  cublasLtMatmulPreference_t made = nullptr;
  require(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate", x);
  Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    require(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
            "cublasLtMatmulPreferenceSetAttribute", x);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Where a long sum is split, its parts are kept in f32 and not rounded to bf16 in between.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(x.b.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(x.a.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(x.c));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(x.c));
  return preference;
}

// ---- Running one ----

cublasStatus_t run(const CudaProduct& x, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                   const Context& context) {
  if (x.epilogue != GemmEpilogue::none) {
    set_attribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, x.bias, x);
  }
  const bool is_f64 = x.dtype == DType::f64;
  const float factors[2] = {1.0f, static_cast<float>(x.beta)};
  const double wide_factors[2] = {1.0, x.beta};
  const void* alpha = is_f64 ? static_cast<const void*>(&wide_factors[0]) : &factors[0];
  const void* beta = is_f64 ? static_cast<const void*>(&wide_factors[1]) : &factors[1];
  return cublasLtMatmul(context.handle, plan.operation.get(), alpha, x.b.data, plan.first.get(), x.a.data,
                        plan.second.get(), beta, x.c, plan.result.get(), x.c, plan.result.get(), &algorithm,
                        context.workspace.raw_data(), context.workspace.storage()->bytes(), current_stream());
}

// ---- Choosing an algorithm ----

constexpr int most_candidates = 8;

/// Milliseconds for `repeats` runs, or infinity where the algorithm does not run after all.
float time_of(const CudaProduct& x, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Context& context) {
  constexpr int repeats = 10;
  if (run(x, plan, algorithm, context) != CUBLAS_STATUS_SUCCESS) return std::numeric_limits<float>::infinity();
  cudaEvent_t start = nullptr, end = nullptr;
  CUDA_CHECK(cudaEventCreate(&start));
  CUDA_CHECK(cudaEventCreate(&end));
  CUDA_CHECK(cudaEventRecord(start, current_stream()));
  for (int i = 0; i < repeats; ++i) (void)run(x, plan, algorithm, context);
  CUDA_CHECK(cudaEventRecord(end, current_stream()));
  CUDA_CHECK(cudaEventSynchronize(end));
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, start, end));
  CUDA_CHECK(cudaEventDestroy(start));
  CUDA_CHECK(cudaEventDestroy(end));
  return milliseconds;
}

/// The fastest candidate, timed on a c of its own, because the caller's may be added to (beta).
const cublasLtMatmulHeuristicResult_t& fastest(const CudaProduct& x, const Plan& plan,
                                               std::span<const cublasLtMatmulHeuristicResult_t> candidates, int device,
                                               const Context& context) {
  CudaProduct trial = x;
  Tensor c = empty({(x.batch - 1) * x.c_stride + (x.m - 1) * x.c_leading + x.n}, x.dtype, cuda(device));
  trial.c = c.raw_data();
  std::array<float, most_candidates> times{};
  std::transform(candidates.begin(), candidates.end(), times.begin(),
                 [&](const auto& candidate) { return time_of(trial, plan, candidate.algo, context); });
  const auto best = std::min_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(candidates.size()));
  return candidates[static_cast<std::size_t>(best - times.begin())];
}

Plan make_plan(const CudaProduct& x, int device, const Context& context) {
  Plan plan;
  plan.operation = describe_operation(x);
  plan.first = describe_operand(x.b, x.k, x.n, x.b_stride, x);
  plan.second = describe_operand(x.a, x.m, x.k, x.a_stride, x);
  plan.result = describe_layout(x.m, x.n, x.c_leading, x.c_stride, x);
  const Preference preference = describe_preference(x, context.workspace.storage()->bytes());
  std::array<cublasLtMatmulHeuristicResult_t, most_candidates> found{};  // the one it expects to be fastest comes first
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(context.handle, plan.operation.get(), plan.first.get(),
                                                               plan.second.get(), plan.result.get(), plan.result.get(),
                                                               preference.get(), most_candidates, found.data(), &count);
  // cublasLt reports an epilogue that it does not have as unsupported or as invalid. That is no
  // error here: the plan says that it is not supported, and the caller takes another way
  // (gemm_cuda_supports).
  if (x.epilogue == GemmEpilogue::none) require(status, "cublasLtMatmulAlgoGetHeuristic", x);
  if (status != CUBLAS_STATUS_SUCCESS) return plan;
  // A result is a candidate only if its state is success: its other fields mean nothing otherwise.
  const auto end = std::remove_if(found.begin(), found.begin() + count,
                                  [](const auto& result) { return result.state != CUBLAS_STATUS_SUCCESS; });
  const std::span candidates(found.begin(), end);
  plan.is_supported = !candidates.empty();
  if (!plan.is_supported) return plan;
  const bool choose = autotune_products && candidates.size() > 1;
  plan.algorithm = (choose ? fastest(x, plan, candidates, device, context) : candidates[0]).algo;
  return plan;
}

// ---- Remembering it ----

/// Everything that a plan was made for.
using Key = std::array<std::int64_t, 21>;

Key key_of(const CudaProduct& x, int device) {
  const auto number = [](auto value) { return static_cast<std::int64_t>(value); };
  return {device,
          x.m,
          x.n,
          x.k,
          x.batch,
          number(x.dtype),
          number(compute_type(x.dtype)),
          number(autotune_products.load()),
          x.a.leading,
          x.a.transposed,
          x.a_stride,
          alignment_of(x.a.data),
          x.b.leading,
          x.b.transposed,
          x.b_stride,
          alignment_of(x.b.data),
          x.c_leading,
          x.c_stride,
          alignment_of(x.c),
          number(x.epilogue),
          x.epilogue == GemmEpilogue::none ? 0 : alignment_of(x.bias)};
}

/// Guards the contexts, the plans, and the pointer to the bias that a plan holds while it is
/// queued.
std::mutex& plans_mutex() {
  static auto& mutex = *new std::mutex();
  return mutex;
}
std::map<Key, Plan>& plans() {
  static auto& result = *new std::map<Key, Plan>();
  return result;
}

const Plan& plan_of(const CudaProduct& x, int device, const Context& context) {
  const Key key = key_of(x, device);
  if (const auto found = plans().find(key); found != plans().end()) return found->second;
  return plans().emplace(key, make_plan(x, device, context)).first->second;
}

/// Calls body(plan, context) with what belongs to the product on the current device and stream.
template <class Body>
auto with_plan(const CudaProduct& x, Body body) {
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(plans_mutex());
  const Context& context = context_of(device, current_stream());
  return body(plan_of(x, device, context), context);
}

/// Most batches of one launch: a grid's third dim ends at 65535, and a multiple of 1024 keeps
/// alignments.
constexpr std::int64_t most_batches = 63 * 1024;

/// The product of the batches from `first` on, at most `most_batches` of them.
CudaProduct batches_from(const CudaProduct& x, std::int64_t first) {
  const auto bytes = static_cast<std::int64_t>(size_of(x.dtype));
  CudaProduct part = x;
  part.batch = std::min(x.batch - first, most_batches);
  part.a.data = static_cast<const char*>(x.a.data) + first * x.a_stride * bytes;
  part.b.data = static_cast<const char*>(x.b.data) + first * x.b_stride * bytes;
  part.c = static_cast<char*>(x.c) + first * x.c_stride * bytes;
  return part;
}

#endif

}  // namespace

void set_allow_tf32(bool allow) { allow_tf32 = allow; }
void set_gemm_autotune(bool autotune) { autotune_products = autotune; }

#if VT_CUDA
void gemm_cuda(const CudaProduct& product) {
  for (std::int64_t first = 0; first < product.batch; first += most_batches) {
    const CudaProduct part = batches_from(product, first);
    with_plan(part, [&](const Plan& plan, const Context& context) {
      require(plan.is_supported ? run(part, plan, plan.algorithm, context) : CUBLAS_STATUS_NOT_SUPPORTED,
              "cublasLtMatmul", part);
    });
  }
}

bool gemm_cuda_supports(const CudaProduct& product) {
  return with_plan(batches_from(product, 0), [](const Plan& plan, const Context&) { return plan.is_supported; });
}

std::int64_t gemm_cuda_plan_count() {
  const std::lock_guard lock(plans_mutex());
  return static_cast<std::int64_t>(plans().size());
}
#endif

}  // namespace vitrine
