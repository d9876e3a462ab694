// The played cublasLt: keeps descriptions, refuses what the real one refuses, and multiplies with
// plain loops.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>
#include <vector>

struct cublasLtContext {};

struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute_type;
  cudaDataType_t scale_type;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
};

struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t leading;
  std::int32_t batch = 1;
  std::int64_t stride = 0;
};

struct cublasLtMatmulPreferenceOpaque_t {
  std::uint64_t workspace_bytes = 0;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

namespace {

int failed_candidates = 0;

using Desc = cublasLtMatmulDescOpaque_t;
using Layout = cublasLtMatrixLayoutOpaque_t;

/// Copies an attribute's value, if it has the size of the field.
template <class T>
cublasStatus_t assign(T& field, const void* value, std::size_t bytes) {
  if (!value || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

std::size_t size_of(cudaDataType_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

/// The product to compute: d (m, n) = op(a) (m, k) op(b) (k, n).
struct Problem {
  Desc operation;
  Layout a, b, c, d;

  std::uint64_t rows() const { return d.rows; }
  std::uint64_t columns() const { return d.columns; }
  std::uint64_t depth() const { return operation.transpose_a == CUBLAS_OP_N ? a.columns : a.rows; }
};

bool layouts_fit(const Problem& x) {
  const bool plain_a = x.operation.transpose_a == CUBLAS_OP_N, plain_b = x.operation.transpose_b == CUBLAS_OP_N;
  bool fit = (plain_a ? x.a.rows : x.a.columns) == x.rows() && (plain_b ? x.b.columns : x.b.rows) == x.columns() &&
             (plain_b ? x.b.rows : x.b.columns) == x.depth() && x.c.rows == x.rows() && x.c.columns == x.columns();
  for (const Layout* layout : {&x.a, &x.b, &x.c, &x.d}) {
    fit = fit && layout->rows > 0 && layout->columns > 0 && layout->batch == x.d.batch && layout->batch > 0 &&
          layout->leading >= static_cast<std::int64_t>(layout->rows) && layout->stride >= 0;
  }
  const std::int64_t extent =
      x.d.leading * static_cast<std::int64_t>(x.d.columns - 1) + static_cast<std::int64_t>(x.d.rows);
  return fit && (x.d.batch == 1 || x.d.stride >= extent);
}

bool types_fit(const Problem& x) {
  const Desc& operation = x.operation;
  const cudaDataType_t type = x.a.type;
  if (x.b.type != type || x.c.type != type || x.d.type != type) return false;
  if (type == CUDA_R_64F) return operation.compute_type == CUBLAS_COMPUTE_64F && operation.scale_type == CUDA_R_64F;
  return operation.scale_type == CUDA_R_32F &&
         (operation.compute_type == CUBLAS_COMPUTE_32F ||
          (operation.compute_type == CUBLAS_COMPUTE_32F_FAST_TF32 && type == CUDA_R_32F));
}

cublasStatus_t check(const Problem& x) {
  const bool has_epilogue = x.operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT;
  if (!layouts_fit(x) || (has_epilogue && !x.operation.bias)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!types_fit(x) || x.d.batch > 65535) return CUBLAS_STATUS_NOT_SUPPORTED;
  return has_epilogue && x.a.type == CUDA_R_64F ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

/// A number that differs between problems.
std::uint64_t fingerprint(const Problem& x) {
  std::uint64_t result = 14695981039346656037u;
  const auto add = [&](auto value) { result = (result ^ static_cast<std::uint64_t>(value)) * 1099511628211u; };
  const Desc& operation = x.operation;
  for (const int value : {static_cast<int>(operation.compute_type), static_cast<int>(operation.scale_type),
                          static_cast<int>(operation.transpose_a), static_cast<int>(operation.transpose_b),
                          static_cast<int>(operation.epilogue)}) {
    add(value);
  }
  for (const Layout* layout : {&x.a, &x.b, &x.c, &x.d}) {
    add(layout->type);
    add(layout->rows);
    add(layout->columns);
    add(layout->leading);
    add(layout->batch);
    add(layout->stride);
  }
  return result;
}

// ---- What an algorithm remembers: its number, and what it was made for ----

enum AlgorithmField {
  number,
  workspace_bytes,
  problem,
  alignment_a,
  alignment_b,
  alignment_c,
  alignment_d,
  alignment_bias
};
constexpr std::uint64_t forward_order = 0, reverse_order = 1, reverse_workspace = 1 << 20;

std::uint64_t alignment_of(const void* address) {
  const std::uint64_t bits = reinterpret_cast<std::uintptr_t>(address) | 16;
  return bits & (~bits + 1);
}
bool is_aligned(const void* address, std::uint64_t alignment) {
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

// ---- The product ----

struct BFloat16 {
  std::uint16_t bits;
};
float widened(BFloat16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }
float widened(float x) { return x; }
double widened(double x) { return x; }

template <class T, class Wide>
T narrowed(Wide x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if (x != x) return {static_cast<std::uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
  } else {
    return x;
  }
}

/// To 10 bits of mantissa.
float rounded_to_tf32(float x) { return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1000u) & ~0x1FFFu); }

/// op(matrix) as dense columns of the type that is computed in.
template <class T, class Wide>
std::vector<Wide> load(const T* data, const Layout& layout, cublasOperation_t transpose, bool is_tf32) {
  std::vector<Wide> result(layout.rows * layout.columns);
  for (std::uint64_t column = 0; column < layout.columns; ++column) {
    for (std::uint64_t row = 0; row < layout.rows; ++row) {
      const auto leading = static_cast<std::uint64_t>(layout.leading);
      Wide value = widened(data[row + column * leading]);
      if constexpr (std::is_same_v<Wide, float>) value = is_tf32 ? rounded_to_tf32(value) : value;
      result[transpose == CUBLAS_OP_N ? row + column * layout.rows : column + row * layout.columns] = value;
    }
  }
  return result;
}

struct Pointers {
  const void *alpha, *a, *b, *beta, *c;
  void* d;
};

/// Whether the product is stored before the bias is added, and so rounded twice. cuBLASLt 13.1
/// does so on an H200 where the rows of an operand are not aligned to 16 bytes: the results of
/// two products there are off by 0.00410 and 0.00422 on the card, and played in this way.
bool adds_bias_later(const Problem& x) {
  const auto bytes = static_cast<std::int64_t>(size_of(x.a.type));
  return x.a.leading * bytes % 16 != 0 || x.b.leading * bytes % 16 != 0;
}

template <class T, class Wide>
void multiply(const Problem& x, const Pointers& p, std::int64_t batch, bool reverse) {
  const bool is_tf32 = x.operation.compute_type == CUBLAS_COMPUTE_32F_FAST_TF32;
  const auto a = load<T, Wide>(static_cast<const T*>(p.a) + batch * x.a.stride, x.a, x.operation.transpose_a, is_tf32);
  const auto b = load<T, Wide>(static_cast<const T*>(p.b) + batch * x.b.stride, x.b, x.operation.transpose_b, is_tf32);
  const T* c = static_cast<const T*>(p.c) + batch * x.c.stride;
  T* d = static_cast<T*>(p.d) + batch * x.d.stride;
  const T* bias = static_cast<const T*>(x.operation.bias);
  const Wide alpha = *static_cast<const Wide*>(p.alpha), beta = *static_cast<const Wide*>(p.beta);
  const std::uint64_t rows = x.rows(), depth = x.depth();
  std::vector<Wide> sums(rows);
  for (std::uint64_t column = 0; column < x.columns(); ++column) {
    std::fill(sums.begin(), sums.end(), Wide(0));
    for (std::uint64_t step = 0; step < depth; ++step) {
      const std::uint64_t k = reverse ? depth - 1 - step : step;
      const Wide factor = b[k + column * depth];
      const Wide* a_column = a.data() + k * rows;
      for (std::uint64_t row = 0; row < rows; ++row) sums[row] += a_column[row] * factor;
    }
    for (std::uint64_t row = 0; row < rows; ++row) {
      Wide value = alpha * sums[row];
      if (beta != 0) value += beta * widened(c[row + column * static_cast<std::uint64_t>(x.c.leading)]);
      if (x.operation.epilogue == CUBLASLT_EPILOGUE_BIAS) {
        value = (adds_bias_later(x) ? widened(narrowed<T>(value)) : value) + widened(bias[row]);
      }
      d[row + column * static_cast<std::uint64_t>(x.d.leading)] = narrowed<T>(value);
    }
  }
}

cublasStatus_t check_pointers(const Problem& x, const Pointers& p, const cublasLtMatmulAlgo_t& algorithm,
                              const void* workspace, std::size_t bytes) {
  const std::uint64_t* needs = algorithm.data;
  bool good = p.alpha && p.beta && p.c == p.d && needs[problem] == fingerprint(x) && bytes >= needs[workspace_bytes];
  for (const void* address : {p.a, p.b, p.c, static_cast<const void*>(p.d)}) {
    good = good && host_cuda::is_device_memory(address) && is_aligned(address, size_of(x.a.type));
  }
  good = good && is_aligned(p.a, needs[alignment_a]) && is_aligned(p.b, needs[alignment_b]) &&
         is_aligned(p.c, needs[alignment_c]) && is_aligned(p.d, needs[alignment_d]);
  if (needs[workspace_bytes]) good = good && host_cuda::is_device_memory(workspace) && is_aligned(workspace, 256);
  if (x.operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    good = good && host_cuda::is_device_memory(x.operation.bias) && is_aligned(x.operation.bias, needs[alignment_bias]);
  }
  return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

}  // namespace

void host_cuda::set_failed_candidates(int count) { failed_candidates = count; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown status";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return *handle = new cublasLtContext(), CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  return *operation = new Desc{compute_type, scale_type}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return delete operation, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(operation->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(operation->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(operation->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(operation->bias, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, std::uint64_t rows,
                                          std::uint64_t columns, std::int64_t leading) {
  return *layout = new Layout{type, rows, columns, leading}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return delete layout, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  const bool is_batch = attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
  return is_batch ? assign(layout->batch, value, bytes) : assign(layout->stride, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return *preference = new cublasLtMatmulPreferenceOpaque_t(), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return delete preference, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign(preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return assign(preference->alignment_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return assign(preference->alignment_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return assign(preference->alignment_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign(preference->alignment_d, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  *count = 0;
  if (!handle || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem x{*operation, *a, *b, *c, *d};
  if (const cublasStatus_t status = check(x); status != CUBLAS_STATUS_SUCCESS) return status;
  const auto widest = [](std::uint64_t alignment) { return std::min<std::uint64_t>(16, alignment); };
  const auto offer = [&](std::uint64_t order, std::uint64_t bytes) {
    if (*count == wanted || bytes > preference->workspace_bytes) return;
    if (*count < failed_candidates) {
      std::memset(&results[*count], 0x5A, sizeof(*results));
      results[(*count)++].state = CUBLAS_STATUS_NOT_SUPPORTED;
      return;
    }
    results[(*count)++] = {
        {{order, bytes, fingerprint(x), widest(preference->alignment_a), widest(preference->alignment_b),
          widest(preference->alignment_c), widest(preference->alignment_d), alignment_of(operation->bias)}},
        bytes,
        CUBLAS_STATUS_SUCCESS,
        1,
        {}};
  };
  offer(forward_order, 0);
  if (preference->reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) offer(reverse_order, reverse_workspace);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t bytes, cudaStream_t) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Problem x{*operation, *a_layout, *b_layout, *c_layout, *d_layout};
  const Pointers pointers{alpha, a, b, beta, c, d};
  if (const cublasStatus_t status = check(x); status != CUBLAS_STATUS_SUCCESS) return status;
  const cublasStatus_t status = check_pointers(x, pointers, *algorithm, workspace, bytes);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  // Everything is copied, for the call may be kept for a graph.
  std::array<double, 2> factors{};
  const std::size_t width = x.a.type == CUDA_R_64F ? sizeof(double) : sizeof(float);
  std::memcpy(&factors[0], alpha, width);
  std::memcpy(&factors[1], beta, width);
  host_cuda::enqueue([x, p = pointers, chosen = *algorithm, workspace, factors]() mutable {
    p.alpha = &factors[0];
    p.beta = &factors[1];
    if (chosen.data[workspace_bytes]) std::memset(workspace, 0xAB, chosen.data[workspace_bytes]);
    for (std::int64_t batch = 0; batch < x.d.batch; ++batch) {
      const bool reverse = chosen.data[number] == reverse_order;
      if (x.a.type == CUDA_R_64F) multiply<double, double>(x, p, batch, reverse);
      if (x.a.type == CUDA_R_32F) multiply<float, float>(x, p, batch, reverse);
      if (x.a.type == CUDA_R_16BF) multiply<BFloat16, float>(x, p, batch, reverse);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
