// Window attention from its parts: windows, a bias for every offset, a cyclic shift and its mask
// (Swin, section 3.2).
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "autograd/gradcheck.h"
#include "models/swin.h"
#include "ops/ops.h"

using namespace vitrine;

// A map of 4 x 4 tokens has 16 x 16 pairs of tokens; four windows of 2 x 2 tokens have 4 x 4 pairs
// each. On larger maps the cost grows with the number of tokens, no longer with its square.
constexpr std::int64_t side = 4, window = 2, shift = window / 2, tokens = window * window, C = 8;
constexpr int heads = 2;

/// The parameters under the library's names. Copies share their elements, so the library's block
/// can lend its own.
struct WindowLayer {
  Parameter relative_position_bias_table;  // ((2 w - 1)^2, heads): a bias for every offset between two tokens
  Linear qkv, proj;
  static void fields(auto& self, auto&& field) {
    field("relative_position_bias_table", self.relative_position_bias_table);
    field("qkv", self.qkv);
    field("proj", self.proj);
  }
};

/// The row index of every token of an n x n map, (1, n, n, 1). Its transpose is the column index.
Tensor row_numbers(std::int64_t n) { return expand(reshape(arange(n, DType::f64), {1, n, 1, 1}), {1, n, n, 1}); }

/// The value at token i minus that at token j, for all pairs of each window: (windows, w^2, w^2).
Tensor differences(const Tensor& map) {
  const Tensor windows = window_partition(map, window);  // (windows, w^2, 1)
  return windows - transpose(windows);
}

/// For tokens i and j of a window the row of the bias table, (w^4). Offsets run from 1 - w to w -
/// 1, down and across. Two pairs of tokens with the same offset share a row, wherever they are.
Tensor table_rows() {
  const Tensor row = row_numbers(window), column = transpose(row, 1, 2);
  const Tensor down = differences(row) + (window - 1), right = differences(column) + (window - 1);
  return cast(reshape(down * (2 * window - 1) + right, {-1}), DType::i64);
}

Tensor shifted(const Tensor& map, std::int64_t by) { return roll(map, {-by, -by}, {1, 2}); }

/// The rolled map joins its opposite edges. Only tokens that were less than a window apart before
/// may see each other: where two were not, -100 is added to the score, and e^-100 is nothing beside
/// e^0. (windows, w^2, w^2)
Tensor shifted_mask() {
  const Tensor row = row_numbers(side), column = transpose(row, 1, 2);
  const Tensor apart = maximum(abs(differences(shifted(row, shift))), abs(differences(shifted(column, shift))));
  return where(less(apart, full({}, window, DType::f64)), zeros_like(apart), full({}, -100, DType::f64));
}

/// x (B windows, w^2, C) -> the same. softmax(q k^T / sqrt(D) + bias + mask) v in each window, for
/// each head.
Tensor attend(const WindowLayer& layer, const Tensor& x, const Tensor& mask) {
  const std::int64_t count = x.size(0), D = C / heads;
  const Tensor parts = permute(reshape(layer.qkv(x), {count, tokens, 3, heads, D}), {2, 0, 3, 1, 4});
  const Tensor q = select(parts, 0, 0), k = select(parts, 0, 1), v = select(parts, 0, 2);  // (B windows, heads, w^2, D)
  const Tensor rows = index_select(layer.relative_position_bias_table, 0, table_rows());
  const Tensor bias = permute(reshape(rows, {tokens, tokens, heads}), {2, 0, 1});
  Tensor scores = matmul(q, transpose(k)) / std::sqrt(D) + bias;  // (B windows, heads, w^2, w^2)
  if (mask.defined()) {  // it differs from window to window, but not from image to image or from head to head
    const Tensor by_image = reshape(scores, {-1, mask.size(0), heads, tokens, tokens});
    scores = reshape(by_image + unsqueeze(mask, 1), scores.shape());
  }
  return layer.proj(reshape(transpose(matmul(softmax(scores), v), 1, 2), {count, tokens, C}));
}

/// Feature map (B, 4, 4, C) -> the same. Rolling by half a window moves the borders, so that the
/// next block joins what this one separates; rolling, not padding, because then there are as many
/// windows as before.
Tensor attend_in_windows(const WindowLayer& layer, const Tensor& x, std::int64_t by, const Tensor& mask) {
  const Tensor windows = window_partition(shifted(x, by), window);
  return shifted(window_reverse(attend(layer, windows, mask), window, side, side), -by);
}

/// Draws the map, with one letter for all tokens that see each other. Token i sees j if by the
/// gradient y_i depends on x_j.
std::string draw(const WindowLayer& layer, const Tensor& x, std::int64_t by, const Tensor& mask) {
  std::string letters(side * side, ' '), drawing;
  char next = 'A';
  for (std::int64_t i = 0; i < side * side; ++i) {
    if (letters[static_cast<std::size_t>(i)] == ' ') {
      Tape tape;
      const Tensor leaf = tape.watch(x);
      const Tensor y = reshape(attend_in_windows(layer, leaf, by, mask), {-1, side * side, C});
      const Tensor slope = tape.backward(sum(select(y, 1, i)))[leaf];
      const std::vector<double> size = sum(abs(slope), {0, 3}).to_vector<double>();
      for (std::size_t j = 0; j < size.size(); ++j) letters[j] = size[j] > 1e-12 ? next : letters[j];
      ++next;
    }
    drawing += {' ', letters[static_cast<std::size_t>(i)], i % side == side - 1 ? '\n' : ' '};
  }
  return drawing;
}

int main() {
  // The library's block, with weights so large that no part can be wrong unseen.
  Initializer init(1, DType::f64);
  SwinBlock block = SwinBlock::make({.window = window}, side, C, heads, true, 0, init);
  for (const auto& [name, parameter] : parameters(block)) {
    copy_into(parameter->value(), init.normal(parameter->shape(), 0.5).value());
  }
  WindowLayer layer{*block.attn.relative_position_bias_table, block.attn.qkv, block.attn.proj};
  const Tensor x = init.normal({2, side, side, C}, 1).value(), mask = shifted_mask();

  const std::string plain = draw(layer, x, 0, {}), unmasked = draw(layer, x, shift, {}),
                    masked = draw(layer, x, shift, mask);
  fmt::print("windows:\n{}shifted:\n{}shifted, with the mask:\n{}", plain, unmasked, masked);

  // With a silent MLP, all that the library's block adds to x is attention in shifted windows.
  fill(block.mlp.fc2.weight.value(), 0);
  fill(block.mlp.fc2.bias->value(), 0);
  const Tensor difference = attend_in_windows(layer, block.norm1(x), shift, mask) - (block(x, {}) - x);
  const double largest = amax(abs(difference)).item();
  fmt::print("largest difference from the library's SwinBlock: {:.1e}\n", largest);

  const GradcheckReport by_x =
      check_gradients([&](const auto& in) { return attend_in_windows(layer, in[0], shift, mask); }, {x});
  const GradcheckReport by_weights =
      check_parameter_gradients([&] { return attend_in_windows(layer, x, shift, mask); }, parameters(layer));
  fmt::print("gradients: {} entries, worst relative error {:.1e}\n", by_x.entries + by_weights.entries,
             std::max(by_x.worst_relative_error, by_weights.worst_relative_error));
  const bool as_expected = masked == " A  B  B  C\n D  E  E  F\n D  E  E  F\n G  H  H  I\n";
  return as_expected && largest < 1e-12 && by_x.passed && by_weights.passed ? 0 : 1;
}
