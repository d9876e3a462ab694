// Drivers that compare values: against the reference, between layouts, from run to run, and error
// texts.
#include "op_table/drivers.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "op_table/layouts.h"
#include "tensor/parallel.h"

namespace vitrine {

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Tensor left = to_device(contiguous_data(a), cpu), right = to_device(contiguous_data(b), cpu);
  const auto bytes = static_cast<std::size_t>(left.numel()) * size_of(left.dtype());
  return bytes == 0 || std::memcmp(left.raw_data(), right.raw_data(), bytes) == 0;
}

namespace {

/// Keeps count, and remembers the worst error.
class Tally {
 public:
  explicit Tally(const std::string& op) { check_.op = op; }

  void add(double error, double bound, const std::string& where) {
    ++check_.cases;
    if (!(error <= bound)) ++check_.failed;
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    if (error > check_.worst_relative_error || check_.where.empty()) {
      check_.worst_relative_error = error;
      check_.where = where;
    }
  }
  OpCheck result() const { return check_; }

 private:
  OpCheck check_;
};

/// Largest |a - b| / max(1, |b|). Equal NaNs and equal infinities agree; anything else that is not
/// a number is infinite.
double worst_error(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return std::numeric_limits<double>::infinity();
  const auto left = cast_data(a, DType::f64).to_vector<double>(), right = cast_data(b, DType::f64).to_vector<double>();
  double worst = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i] == right[i] || (std::isnan(left[i]) && std::isnan(right[i]))) continue;
    const double error = std::abs(left[i] - right[i]) / std::max(1.0, std::abs(right[i]));
    worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

Tensors cast_floating(const Tensors& inputs, DType dtype) {
  Tensors result;
  for (const Tensor& input : inputs) result.push_back(input.dtype() == DType::f64 ? cast_data(input, dtype) : input);
  return result;
}

Tensors back_to_f64(const Tensors& inputs) {
  Tensors result;
  for (const Tensor& input : inputs)
    result.push_back(is_floating(input.dtype()) ? cast_data(input, DType::f64) : input);
  return result;
}

/// The output of a call and the gradients of its floating inputs, for an output gradient of whole
/// numbers between -2 and 2, which every dtype holds.
Tensors value_and_gradients(const std::function<Tensor(const Tensors&)>& call, const Tensors& inputs,
                            bool differentiable) {
  Tape tape;
  Tensors leaves = inputs;
  for (Tensor& leaf : leaves) {
    if (is_floating(leaf.dtype())) leaf = tape.watch(leaf);
  }
  const Tensor y = call(leaves);
  Tensors results{y};
  if (!differentiable || !tape.tracks(y)) return results;
  const Tensor dy = to_device(cast_data(test_indices(y.shape(), 5, 11), y.dtype()), y.device()) - 2.0;
  const Gradients grads = tape.backward(y, dy);
  for (const Tensor& leaf : leaves) {
    if (const Tensor gradient = grads[leaf]; gradient.defined()) results.push_back(gradient);
  }
  return results;
}

}  // namespace

Tensors moved(const Tensors& inputs, Device device) {
  Tensors result;
  for (const Tensor& input : inputs) result.push_back(to_device(input, device));
  return result;
}

OpCheck check_op_values(const OpRow& row, DType dtype) {
  Tally tally(row.op);
  double bound = 1e-10;
  if (dtype == DType::f32) bound = row.f32_tolerance;
  if (dtype == DType::bf16) bound = 0x1p-7 + row.f32_tolerance;  // one rounding of the output, and some of the operands
  for (const OpCase& op_case : row.cases()) {
    const Tensors inputs = cast_floating(op_case.inputs, dtype);
    const Tensor expected = op_case.reference(back_to_f64(inputs));
    tally.add(worst_error(op_case.call(inputs), expected), bound, op_case.name);
  }
  return tally.result();
}

OpCheck check_op_layouts(const OpRow& row) {
  Tally tally(row.op);
  for (const OpCase& op_case : row.cases()) {
    for (const Layout& layout : layouts_for(op_case.inputs)) {
      Tensors plain;
      for (const Tensor& input : layout.view(layout.bases)) plain.push_back(clone(input));
      tally.add(worst_error(op_case.call(layout.view(layout.bases)), op_case.call(plain)), 1e-12,
                op_case.name + ", " + layout.name);
    }
  }
  return tally.result();
}

OpCheck check_op_determinism(const OpRow& row, Device device) {
  Tally tally(row.op);
  const int threads_before = num_threads();
  for (const OpCase& op_case : row.cases()) {
    const Tensors inputs = moved(cast_floating(op_case.inputs, DType::f32), device);
    const Tensors expected = value_and_gradients(op_case.call, inputs, row.differentiable);
    for (const int threads : {threads_before, 1, 2, 3}) {
      set_num_threads(threads);
      const Tensors actual = value_and_gradients(op_case.call, inputs, row.differentiable);
      bool same = actual.size() == expected.size();
      for (std::size_t i = 0; same && i < actual.size(); ++i) same = same_bits(actual[i], expected[i]);
      tally.add(same ? 0 : std::numeric_limits<double>::infinity(), 0,
                fmt::format("{}, {} threads", op_case.name, threads));
    }
    set_num_threads(threads_before);
  }
  return tally.result();
}

OpCheck check_op_device(const OpRow& row, DType dtype, Device device) {
  Tally tally(row.op);
  double bound = 1e-10;
  if (dtype == DType::f32) bound = row.f32_tolerance;
  if (dtype == DType::bf16) bound = 0x1p-7 + row.f32_tolerance;
  for (const OpCase& op_case : row.cases()) {
    for (const Layout& layout : layouts_for(cast_floating(op_case.inputs, dtype))) {
      const auto call = [&](const Tensors& bases) { return op_case.call(layout.view(bases)); };
      const Tensors expected = value_and_gradients(call, back_to_f64(layout.bases), row.differentiable);
      const Tensors actual = value_and_gradients(call, moved(layout.bases, device), row.differentiable);
      const std::string where = fmt::format("{}, {}", op_case.name, layout.name);
      tally.add(actual.size() == expected.size() ? 0 : std::numeric_limits<double>::infinity(), 0, where);
      for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
        const bool is_gradient = i > 0;  // a gradient adds up what many outputs hand back
        tally.add(worst_error(to_device(actual[i], cpu), expected[i]), is_gradient ? 10 * bound : bound,
                  is_gradient ? fmt::format("{}, gradient {}", where, i - 1) : where);
      }
    }
  }
  return tally.result();
}

OpCheck check_op_errors(const OpRow& row) {
  Tally tally(row.op);
  for (const OpError& error : row.errors) {
    std::string message = "nothing was thrown";
    try {
      error.call();
    } catch (const Error& thrown) {
      message = thrown.what();
    }
    const bool found = message.find(error.message) != std::string::npos;
    tally.add(found ? 0 : std::numeric_limits<double>::infinity(), 0,
              fmt::format("expected \"{}\", got \"{}\"", error.message, message));
  }
  return tally.result();
}

}  // namespace vitrine
