// Reshapes and permutations, by ops that make views.
#include "weights/names/tensor_form.h"

#include "ops/ops.h"
#include "weights/names/square_side.h"

namespace vitrine {

Tensor to_our_form(const Tensor& theirs, TensorForm form) {
  const int dims = theirs.dim();
  switch (form) {
    case TensorForm::same:
      return theirs;
    case TensorForm::flat_grid: {
      const std::int64_t side = dims == 3 ? square_side(theirs.size(1)) : -1;
      return side < 0 ? theirs : reshape(theirs, {theirs.size(0), side, side, theirs.size(2)});
    }
    case TensorForm::kernel:
      if (dims == 2) return contiguous_data(permute(theirs, {1, 0}));
      return dims == 4 ? contiguous_data(permute(theirs, {3, 2, 0, 1})) : theirs;
    case TensorForm::into_heads:
      if (dims != 3) return theirs;
      return contiguous_data(permute(reshape(theirs, {theirs.size(0), theirs.size(1) * theirs.size(2)}), {1, 0}));
    case TensorForm::from_heads:
      if (dims != 3) return theirs;
      return contiguous_data(permute(reshape(theirs, {theirs.size(0) * theirs.size(1), theirs.size(2)}), {1, 0}));
    case TensorForm::line:
      return reshape(theirs, {theirs.numel()});
  }
  return theirs;
}

Tensor to_flat_grid(const Tensor& ours) {
  return ours.dim() == 4 ? reshape(ours, {ours.size(0), ours.size(1) * ours.size(2), ours.size(3)}) : ours;
}

Shape shape_in_their_form(const Shape& ours, TensorForm form) {
  if (form == TensorForm::flat_grid && ours.size() == 4) return {ours[0], ours[1] * ours[2], ours[3]};
  if (form == TensorForm::kernel && ours.size() == 4) return {ours[2], ours[3], ours[1], ours[0]};
  const bool turned = form == TensorForm::kernel || form == TensorForm::into_heads || form == TensorForm::from_heads;
  return turned && ours.size() == 2 ? Shape{ours[1], ours[0]} : ours;
}

}  // namespace vitrine
