// Position embeddings and bias tables for other sizes.
#include "weights/resize_positions.h"

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "ops/ops.h"
#include "weights/names/square_side.h"

namespace vitrine {
namespace {

// ---- Position embeddings ----

/// Matrix (to, from) f64 of linear interpolation with the first and the last places of both
/// aligned.
Tensor aligned_matrix(std::int64_t from, std::int64_t to) {
  const std::int64_t steps = std::max<std::int64_t>(to - 1, 1);
  Tensor matrix = zeros({to, from}, DType::f64);
  for (std::int64_t o = 0; o < to; ++o) {
    const std::int64_t place = o * (from - 1);  // in units of 1 / steps: whole numbers never lead past the last one
    double* row = matrix.data<double>() + o * from + place / steps;
    const double share = static_cast<double>(place % steps) / static_cast<double>(steps);
    row[0] = 1 - share;
    if (share > 0) row[1] = share;
  }
  return matrix;
}

/// Images (1, D, H, W) -> (1, D, grid, grid), in double.
Tensor resize_aligned(const Tensor& images, std::int64_t grid) {
  const Tensor rows = aligned_matrix(images.size(2), grid), columns = aligned_matrix(images.size(3), grid);
  return matmul(matmul(rows, cast_data(images, DType::f64)), transpose(columns, 0, 1));
}

/// The same by timm's bicubic, in float or double.
Tensor resize_bicubic(const Tensor& images, std::int64_t grid) {
  const DType dtype = images.dtype() == DType::bf16 ? DType::f32 : images.dtype();
  return interpolate(cast_data(images, dtype), grid, grid, InterpolationMode::bicubic, /*antialias=*/true);
}

// ---- Bias tables ----

/// The offsets of a window along one axis, as places in another window: 0 in the middle, steps of
/// 1, q, q^2, ... outwards, with q such that `from` offsets cover `to`, as far as 1.01 <= q <= 1.5
/// allows.
std::vector<double> geometric_places(std::int64_t from, std::int64_t to) {
  const auto steps = static_cast<double>(from / 2);
  double low = 1.01, high = 1.5, q = low;
  while (high - low > 1e-6) {
    q = (low + high) / 2;
    const double reach = (1 - std::pow(q, steps)) / (1 - q);
    (reach > static_cast<double>(to / 2) ? high : low) = q;
  }
  std::vector<double> places(static_cast<std::size_t>(from), 0.0);
  double place = 1;
  for (std::int64_t i = 0; i < from / 2; ++i) {
    places[static_cast<std::size_t>(from / 2 + 1 + i)] = place;
    places[static_cast<std::size_t>(from / 2 - 1 - i)] = -place;
    place += std::pow(q, static_cast<double>(i + 1));
  }
  return places;
}

/// Matrix (to, from) f64 of linear interpolation from the places of `from` offsets at those of `to`
/// offsets; beyond the last place the last value goes on.
Tensor offset_matrix(std::int64_t from, std::int64_t to) {
  const std::vector<double> places = geometric_places(from, to);
  Tensor matrix = zeros({to, from}, DType::f64);
  for (std::int64_t o = 0; o < to; ++o) {
    double* row = matrix.data<double>() + o * from;
    const double wanted = static_cast<double>(o - to / 2);
    const auto right = std::ranges::lower_bound(places, wanted) - places.begin();  // the first place not before it
    if (right == 0 || right == from) {
      row[right == 0 ? 0 : from - 1] = 1;
      continue;
    }
    const double before = places[static_cast<std::size_t>(right - 1)], after = places[static_cast<std::size_t>(right)];
    row[right - 1] = (after - wanted) / (after - before);
    row[right] = (wanted - before) / (after - before);
  }
  return matrix;
}

}  // namespace

Tensor resize_position_map(const Tensor& map, std::int64_t grid, PositionFilter filter) {
  VT_CHECK(map.dim() == 4 && grid > 0,
           "resize_position_map: the map has shape {} and goes to grid {}, expected (1, H, W, D) and grid > 0",
           to_string(map.shape()), grid);
  if (map.size(1) == grid && map.size(2) == grid) return map;
  const PauseRecording pause;
  const Tensor images = permute(map, {0, 3, 1, 2});
  const Tensor resized =
      filter == PositionFilter::bicubic ? resize_bicubic(images, grid) : resize_aligned(images, grid);
  return cast_data(contiguous(permute(resized, {0, 2, 3, 1})), map.dtype());
}

Tensor resize_position_embedding(const Tensor& embedding, std::int64_t grid, std::int64_t prefix_tokens,
                                 PositionFilter filter) {
  VT_CHECK(embedding.dim() == 3 && prefix_tokens >= 0 && grid > 0,
           "resize_position_embedding: the embedding has shape {}, {} prefix tokens and goes to grid {}, expected (1, "
           "tokens, D), "
           "prefix >= 0, grid > 0",
           to_string(embedding.shape()), prefix_tokens, grid);
  const std::int64_t tokens = embedding.size(1), D = embedding.size(2), side = square_side(tokens - prefix_tokens);
  VT_CHECK(side > 0, "resize_position_embedding: {} of the {} tokens are patches, expected a square number",
           tokens - prefix_tokens, tokens);
  if (side == grid) return embedding;
  const PauseRecording pause;
  const Tensor map = reshape(slice(embedding, 1, prefix_tokens, tokens), {1, side, side, D});
  const Tensor patches = reshape(resize_position_map(map, grid, filter), {1, grid * grid, D});
  return prefix_tokens == 0 ? patches : concat({slice(embedding, 1, 0, prefix_tokens), patches}, 1);
}

Tensor resize_bias_table(const Tensor& table, std::int64_t window) {
  VT_CHECK(table.dim() == 2 && window > 0,
           "resize_bias_table: the table has shape {} and goes to window {}, expected (offsets, heads) and "
           "window > 0",
           to_string(table.shape()), window);
  const std::int64_t from = square_side(table.size(0)), to = 2 * window - 1, heads = table.size(1);
  VT_CHECK(from % 2 == 1, "resize_bias_table: the table has {} offsets, expected (2 window - 1)^2", table.size(0));
  if (from == to) return table;
  const PauseRecording pause;
  const Tensor matrix = offset_matrix(from, to);
  const Tensor values = reshape(transpose(cast_data(table, DType::f64), 0, 1), {heads, from, from});
  const Tensor resized = matmul(matmul(matrix, values), transpose(matrix, 0, 1));  // (heads, to, to)
  return cast_data(contiguous(transpose(reshape(resized, {heads, to * to}), 0, 1)), table.dtype());
}

}  // namespace vitrine
