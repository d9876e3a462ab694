// The gradient check: numeric and backward Jacobians, entry by entry.
#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "autograd/tape.h"

namespace vitrine {
namespace {

/// A leaf whose elements the check moves.
struct Variable {
  std::string name;  // for messages
  Tensor value;      // f64, row-major: what the function reads, on any device
  Tensor on_cpu;     // the same numbers; the same memory where `value` is on the CPU

  Variable(std::string name_, Tensor value_)
      : name(std::move(name_)), value(std::move(value_)), on_cpu(to_device(value, cpu)) {}

  double get(std::int64_t element) const { return on_cpu.data<double>()[element]; }
  void set(std::int64_t element, double x) {
    on_cpu.data<double>()[element] = x;
    if (!value.device().is_cpu()) copy_into(value, on_cpu);
  }
};

Dims unravel(std::int64_t position, const Shape& shape) {
  Dims index = shape;
  for (int d = shape.size() - 1; d >= 0; --d) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
  return index;
}

/// Column `element` of the numeric Jacobian: the derivative of every output element with respect to one input element.
std::vector<double> numeric_column(const std::function<Tensor()>& function, Variable& variable, std::int64_t element,
                                   double step) {
  const double centre = variable.get(element);
  const auto outputs_at = [&](double offset) {
    variable.set(element, centre + offset);
    return function().to_vector<double>();
  };
  const auto plus2 = outputs_at(2 * step), plus1 = outputs_at(step);
  const auto minus1 = outputs_at(-step), minus2 = outputs_at(-2 * step);
  variable.set(element, centre);
  std::vector<double> column(plus1.size());
  for (std::size_t i = 0; i < column.size(); ++i) {
    column[i] = (8 * (plus1[i] - minus1[i]) - (plus2[i] - minus2[i])) / (12 * step);
  }
  return column;
}

/// Compares entries and keeps the worst.
class Comparison {
 public:
  explicit Comparison(const GradcheckOptions& options) : options_(options) {}

  void entry(double backward, double numeric, const Variable& variable, std::int64_t input_position,
             std::int64_t output_position, const Shape& output_shape) {
    ++report_.entries;
    const double error = std::abs(backward - numeric);
    const double size = std::max(std::abs(backward), std::abs(numeric));
    if (!(error <= options_.absolute_tolerance + options_.relative_tolerance * size)) report_.passed = false;
    double relative = error / std::max(size, options_.absolute_tolerance / options_.relative_tolerance);
    if (std::isnan(relative)) relative = std::numeric_limits<double>::infinity();
    if (relative > report_.worst_relative_error || report_.message.empty()) {
      report_.worst_relative_error = relative;
      report_.message = fmt::format("d y{} / d {}{}: backward {:.10g}, numeric {:.10g}",
                                    to_string(unravel(output_position, output_shape)), variable.name,
                                    to_string(unravel(input_position, variable.value.shape())), backward, numeric);
    }
  }

  GradcheckReport report() const { return report_; }

 private:
  GradcheckOptions options_;
  GradcheckReport report_;
};

/// One-hot gradient of the output: 1 at `row`, else 0.
Tensor unit_gradient(const Tensor& output, std::int64_t row) {
  Tensor dy = zeros(output.shape(), DType::f64);
  dy.data<double>()[row] = 1;
  return to_device(dy, output.device());
}

std::vector<double> flat_or_zeros(const Tensor& gradient, std::int64_t count) {
  return gradient.defined() ? gradient.to_vector<double>() : std::vector<double>(static_cast<std::size_t>(count), 0.0);
}

/// The gradient of the v-th variable, taken out of what backward returned.
using GradientOf = std::function<Tensor(const Gradients& gradients, std::size_t v)>;

/// The backward Jacobian by rows: entry [row][v] is the gradient of variable v for the output element `row`.
std::vector<std::vector<std::vector<double>>> backward_jacobian(Tape& tape, const Tensor& output,
                                                                const std::vector<Variable>& variables,
                                                                const GradientOf& gradient_of) {
  std::vector<std::vector<std::vector<double>>> rows(static_cast<std::size_t>(output.numel()));
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const Tensor dy = unit_gradient(output, static_cast<std::int64_t>(row));
    const Gradients gradients = tape.tracks(output) ? tape.backward(output, dy, {.retain = true}) : Gradients();
    for (std::size_t v = 0; v < variables.size(); ++v) {
      rows[row].push_back(flat_or_zeros(gradient_of(gradients, v), variables[v].value.numel()));
    }
  }
  return rows;
}

/// Compares the Jacobian of `output`, recorded on `tape`, with differences of `function`, which computes it again.
GradcheckReport compare_jacobians(Tape& tape, const Tensor& output, const std::function<Tensor()>& function,
                                  std::vector<Variable>& variables, const GradientOf& gradient_of,
                                  const GradcheckOptions& options) {
  VT_CHECK(output.dtype() == DType::f64, "gradcheck: the function returned {}, expected f64", name_of(output.dtype()));
  const auto rows = backward_jacobian(tape, output, variables, gradient_of);
  const PauseRecording pause;
  Comparison comparison(options);
  for (std::size_t v = 0; v < variables.size(); ++v) {
    for (std::int64_t element = 0; element < variables[v].value.numel(); ++element) {
      const std::vector<double> column = numeric_column(function, variables[v], element, options.step);
      VT_CHECK(column.size() == rows.size(),
               "gradcheck: the function returned {} elements, then {}, expected the same shape on every call",
               rows.size(), column.size());
      for (std::size_t row = 0; row < rows.size(); ++row) {
        comparison.entry(rows[row][v][static_cast<std::size_t>(element)], column[row], variables[v], element,
                         static_cast<std::int64_t>(row), output.shape());
      }
    }
  }
  return comparison.report();
}

}  // namespace

GradcheckReport check_gradients(const TensorFunction& function, const std::vector<Tensor>& inputs,
                                GradcheckOptions options) {
  std::vector<Tensor> arguments;
  std::vector<std::size_t> positions;  // of the f64 inputs
  std::vector<Variable> variables;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    arguments.push_back(clone(inputs[i]));
    if (inputs[i].dtype() != DType::f64) continue;
    positions.push_back(i);
    variables.emplace_back(fmt::format("x{}", i), arguments.back());
  }
  VT_CHECK(!variables.empty(), "gradcheck: no input is f64, expected at least one");

  Tape tape;
  std::vector<Tensor> leaves = arguments;
  for (const std::size_t p : positions) leaves[p] = tape.watch(arguments[p]);
  const Tensor output = function(leaves);
  return compare_jacobians(
      tape, output, [&] { return function(arguments); }, variables,
      [&](const Gradients& gradients, std::size_t v) { return gradients[leaves[positions[v]]]; }, options);
}

GradcheckReport check_parameter_gradients(const std::function<Tensor()>& function,
                                          const std::vector<NamedParameter>& parameters, GradcheckOptions options) {
  std::vector<Variable> variables;
  for (const NamedParameter& named : parameters) {
    const Tensor& value = named.parameter->value();
    VT_CHECK(value.dtype() == DType::f64 && value.is_contiguous(),
             "gradcheck: parameter {} is {}, expected f64, row-major", named.name, name_of(value.dtype()));
    variables.emplace_back(named.name, value);
  }
  Tape tape;
  const Tensor output = function();
  return compare_jacobians(
      tape, output, function, variables,
      [&](const Gradients& gradients, std::size_t v) { return gradients[*parameters[v].parameter]; }, options);
}

}  // namespace vitrine
