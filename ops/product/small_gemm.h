// Products of small matrices, for attention: a library spends more on packing and dispatch than on
// a 65 x 64 product.
//
// The result is held in vector registers, `rows` x `vectors` of them, while one loop runs over k:
// each step loads one row of b and broadcasts one element of a for each row of the block. So b must
// have dense rows; a may have any strides.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vitrine::small_gemm {

/// 64 bytes of T: one AVX-512 register, or several smaller ones where the machine has no AVX-512.
template <class T>
struct Vector {
  typedef T Type __attribute__((vector_size(64), aligned(alignof(T)), may_alias));
  static constexpr std::int64_t width = 64 / sizeof(T);
};

/// Columns are computed in whole vectors: the leading dimension to give to b and c is a multiple of
/// the width.
template <class T>
constexpr std::int64_t padded(std::int64_t columns) {
  return (columns + Vector<T>::width - 1) / Vector<T>::width * Vector<T>::width;
}

/// Element (r, k) at data[r * row + k * column].
template <class T>
struct StridedMatrix {
  const T* data;
  std::int64_t row, column;
};

/// c[0..rows)[0..vectors * width) (+)= a[0..rows)[0..depth) b[0..depth)[0..vectors * width)
template <class T, int rows, int vectors>
void block(StridedMatrix<T> a, const T* b, std::int64_t b_leading, std::int64_t depth, bool add, T* c,
           std::int64_t c_leading) {
  using V = typename Vector<T>::Type;
  constexpr std::int64_t width = Vector<T>::width;
  V sums[rows][vectors];
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v) {
      sums[r][v] = add ? *reinterpret_cast<const V*>(c + r * c_leading + v * width) : V{};
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    V row[vectors];
    for (int v = 0; v < vectors; ++v) row[v] = *reinterpret_cast<const V*>(b + k * b_leading + v * width);
    for (int r = 0; r < rows; ++r) {
      const T factor = a.data[r * a.row + k * a.column];
      for (int v = 0; v < vectors; ++v) sums[r][v] += factor * row[v];
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v) *reinterpret_cast<V*>(c + r * c_leading + v * width) = sums[r][v];
  }
}

/// c (m, vectors * width) (+)= a b, in blocks of `rows` rows. Rows that remain make one smaller
/// block: m = 14 and rows = 6 give blocks of 6, 6 and 2 rows.
template <class T, int rows, int vectors>
void row_blocks(std::int64_t m, StridedMatrix<T> a, const T* b, std::int64_t b_leading, std::int64_t depth, bool add,
                T* c, std::int64_t c_leading) {
  for (; m >= rows; m -= rows, a.data += rows * a.row, c += rows * c_leading) {
    block<T, rows, vectors>(a, b, b_leading, depth, add, c, c_leading);
  }
  if constexpr (rows > 1) {
    if (m > 0) row_blocks<T, rows - 1, vectors>(m, a, b, b_leading, depth, add, c, c_leading);
  }
}

/// c (m, n) = a b, or c += a b. n must be a multiple of the vector width; rows of b and c are
/// dense.
template <class T>
void multiply(std::int64_t m, std::int64_t n, std::int64_t depth, StridedMatrix<T> a, const T* b,
              std::int64_t b_leading, bool add, T* c, std::int64_t c_leading) {
  std::int64_t column = 0;
  const auto run = [&]<int rows, int vectors>() {  // rows x vectors sums, a row of b and a factor fit in 32 registers
    row_blocks<T, rows, vectors>(m, a, b + column, b_leading, depth, add, c + column, c_leading);
    column += vectors * Vector<T>::width;
  };
  while (column < n) {
    const std::int64_t vectors = (n - column) / Vector<T>::width;
    if (vectors == 5)
      run.template operator()<5, 5>();
    else if (vectors >= 4)
      run.template operator()<6, 4>();
    else if (vectors == 3)
      run.template operator()<8, 3>();
    else if (vectors == 2)
      run.template operator()<8, 2>();
    else
      run.template operator()<8, 1>();
  }
}

/// target (columns, padded rows) = the transpose of source (rows, columns), with zeros in the
/// padding.
template <class T>
void transpose_padded(const T* source, std::int64_t leading, std::int64_t rows, std::int64_t columns, T* target) {
  const std::int64_t target_leading = padded<T>(rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) target[c * target_leading + r] = source[r * leading + c];
  }
  for (std::int64_t c = 0; c < columns; ++c) {
    std::fill(target + c * target_leading + rows, target + (c + 1) * target_leading, T(0));
  }
}

}  // namespace vitrine::small_gemm
