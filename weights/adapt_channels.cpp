// First convolutions for other numbers of channels.
#include "weights/adapt_channels.h"

#include "ops/ops.h"
#include "tensor/error.h"

namespace vitrine {

Tensor adapt_input_channels(const Tensor& kernel, std::int64_t channels) {
  VT_CHECK(kernel.dim() == 4 && kernel.size(1) == 3,
           "adapt_input_channels: the kernel has shape {}, expected (D, 3, h, w)", to_string(kernel.shape()));
  VT_CHECK(channels > 0, "adapt_input_channels: {} channels, expected at least 1", channels);
  if (channels == 1) return sum(kernel, {1}, true);
  std::vector<Tensor> parts;
  for (std::int64_t c = 0; c < channels; ++c) parts.push_back(slice(kernel, 1, c % 3, c % 3 + 1));
  return concat(parts, 1) * (3.0 / static_cast<double>(channels));
}

}  // namespace vitrine
