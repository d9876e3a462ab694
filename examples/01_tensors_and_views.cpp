// Tensors and views: a tensor is a handle on memory that others may share.
#include <fmt/core.h>

#include "ops/ops.h"

using namespace vitrine;

int main() {
  // Two rows of three elements. Strides say how far apart neighbours are: 3 elements down, 1
  // across.
  Tensor x = from_values<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  fmt::print("x has shape {}, strides {}, dtype {}\n", to_string(x.shape()), to_string(x.strides()),
             name_of(x.dtype()));

  // A transpose moves nothing: the same six floats, read with the strides exchanged.
  Tensor t = transpose(x);
  fmt::print("its transpose has shape {}, strides {}\n", to_string(t.shape()), to_string(t.strides()));

  // So a write through one handle is seen through the other.
  Tensor corner = slice(slice(t, 0, 2, 3), 1, 1, 2);  // t[2, 1], which is x[1, 2]
  fill(corner, 60);
  VT_CHECK(x.to_vector<float>()[5] == 60, "a view must share its elements");

  // Broadcasting is a stride of 0: three equal rows, stored once.
  Tensor row = expand(from_values<float>({10, 20, 30}, {3}), {3, 3});
  fmt::print("an expanded row has strides {} and holds {} bytes\n", to_string(row.strides()), row.storage()->bytes());

  // Ops make new tensors and broadcast by themselves.
  Tensor y = x * from_values<float>({1, 10, 100}, {3}) + 0.5;
  fmt::print("x * (1, 10, 100) + 0.5 =");
  for (float value : y.to_vector<float>()) fmt::print(" {}", value);
  fmt::print("\n");

  // A mistake says what was given and what would do.
  try {
    matmul(x, x);
  } catch (const Error& error) {
    fmt::print("matmul(x, x): {}\n", error.what());
    return 0;
  }
  return 1;
}
