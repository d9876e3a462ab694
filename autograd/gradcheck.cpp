// The gradient check: what backward returns against differences, entry by entry or in random
// directions.
#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "autograd/tape.h"
#include "tensor/philox.h"

namespace vitrine {
namespace {

/// A leaf whose elements the check perturbs.
struct Variable {
  std::string name;  // for messages
  Tensor value;      // f64, row-major: what the function reads, on any device
  Tensor on_cpu;     // a copy of `value`; the same memory if `value` is on the CPU

  Variable(std::string name_, Tensor value_)
      : name(std::move(name_)), value(std::move(value_)), on_cpu(to_device(value, cpu)) {}

  void set(const std::vector<double>& elements) {
    std::ranges::copy(elements, on_cpu.data<double>());
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

/// The derivative of every output element where the variable moves along `direction`: J direction.
std::vector<double> numeric_derivative(const std::function<Tensor()>& function, Variable& variable,
                                       const std::vector<double>& direction, double step) {
  const std::vector<double> centre = variable.on_cpu.to_vector<double>();
  const auto outputs_at = [&](double offset) {
    std::vector<double> moved = centre;
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += offset * direction[i];
    variable.set(moved);
    return function().to_vector<double>();
  };
  const auto plus2 = outputs_at(2 * step), plus1 = outputs_at(step);
  const auto minus1 = outputs_at(-step), minus2 = outputs_at(-2 * step);
  variable.set(centre);
  std::vector<double> derivative(plus1.size());
  for (std::size_t i = 0; i < derivative.size(); ++i) {
    derivative[i] = (8 * (plus1[i] - minus1[i]) - (plus2[i] - minus2[i])) / (12 * step);
  }
  return derivative;
}

std::vector<double> unit_vector(std::int64_t size, std::int64_t one) {
  std::vector<double> vector(static_cast<std::size_t>(size), 0.0);
  vector[static_cast<std::size_t>(one)] = 1;
  return vector;
}

/// Uniform random elements in (-1, 1), different for each `stream`.
std::vector<double> random_vector(std::int64_t size, std::uint64_t stream) {
  const Random random{1, Purpose::test, stream};
  std::vector<double> vector;
  for (std::int64_t i = 0; i < size; ++i) {
    vector.push_back(random.bits(static_cast<std::uint64_t>(i)) * 0x1p-31 - 1);
  }
  return vector;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// Compares entries and keeps the worst.
class Comparison {
 public:
  explicit Comparison(const GradcheckOptions& options) : options_(options) {}

  /// `where` is only called for the worst.
  void entry(double backward, double numeric, const std::function<std::string()>& where) {
    ++report_.entries;
    const double error = std::abs(backward - numeric);
    const double size = std::max(std::abs(backward), std::abs(numeric));
    if (!(error <= options_.absolute_tolerance + options_.relative_tolerance * size)) report_.passed = false;
    double relative = error / std::max(size, options_.absolute_tolerance / options_.relative_tolerance);
    if (std::isnan(relative)) relative = std::numeric_limits<double>::infinity();
    if (relative > report_.worst_relative_error || report_.message.empty()) {
      report_.worst_relative_error = relative;
      report_.message = fmt::format("{}: backward {:.10g}, numeric {:.10g}", where(), backward, numeric);
    }
  }

  GradcheckReport report() const { return report_; }

 private:
  GradcheckOptions options_;
  GradcheckReport report_;
};

std::vector<double> flat_or_zeros(const Tensor& gradient, std::int64_t count) {
  return gradient.defined() ? gradient.to_vector<double>() : std::vector<double>(static_cast<std::size_t>(count), 0.0);
}

/// The gradient of the v-th variable, taken out of what backward returned.
using GradientOf = std::function<Tensor(const Gradients& gradients, std::size_t v)>;

/// What is checked: a recorded output, the function that computes it again, and its leaves.
struct Subject {
  Tape& tape;
  Tensor output;
  std::function<Tensor()> function;
  std::vector<Variable> variables;
  GradientOf gradient_of;

  /// dy^T J for each variable, as backward gives it.
  std::vector<std::vector<double>> backward(const std::vector<double>& dy) const {
    const Tensor gradient = to_device(from_vector(dy, output.shape()), output.device());
    const Gradients gradients = tape.tracks(output) ? tape.backward(output, gradient, {.retain = true}) : Gradients();
    std::vector<std::vector<double>> products;
    for (std::size_t v = 0; v < variables.size(); ++v) {
      products.push_back(flat_or_zeros(gradient_of(gradients, v), variables[v].value.numel()));
    }
    return products;
  }

  /// J direction for one variable, by differences.
  std::vector<double> numeric(std::size_t v, const std::vector<double>& direction, double step) {
    const PauseRecording pause;
    std::vector<double> derivative = numeric_derivative(function, variables[v], direction, step);
    VT_CHECK(static_cast<std::int64_t>(derivative.size()) == output.numel(),
             "gradcheck: the function returned {} elements, then {}, expected the same shape on every call",
             output.numel(), derivative.size());
    return derivative;
  }
};

/// Every entry of the Jacobian: rows from backward, columns from differences.
void compare_entries(Subject& subject, Comparison& comparison, double step) {
  std::vector<std::vector<std::vector<double>>> rows;  // [output element][variable][input element]
  const std::int64_t outputs = subject.output.numel();
  for (std::int64_t row = 0; row < outputs; ++row) rows.push_back(subject.backward(unit_vector(outputs, row)));
  for (std::size_t v = 0; v < subject.variables.size(); ++v) {
    const Variable& variable = subject.variables[v];
    for (std::int64_t element = 0; element < variable.value.numel(); ++element) {
      const auto column = subject.numeric(v, unit_vector(variable.value.numel(), element), step);
      for (std::size_t row = 0; row < rows.size(); ++row) {
        comparison.entry(rows[row][v][static_cast<std::size_t>(element)], column[row], [&] {
          return fmt::format("d y{} / d {}{}",
                             to_string(unravel(static_cast<std::int64_t>(row), subject.output.shape())), variable.name,
                             to_string(unravel(element, variable.value.shape())));
        });
      }
    }
  }
}

/// u^T J v for random u and v: u^T J from backward, J v from differences.
void compare_directions(Subject& subject, Comparison& comparison, const GradcheckOptions& options) {
  std::vector<std::vector<double>> us;                     // [direction]
  std::vector<std::vector<std::vector<double>>> products;  // [direction][variable]: u^T J
  for (int k = 0; k < options.directions; ++k) {
    us.push_back(random_vector(subject.output.numel(), 2 * static_cast<std::uint64_t>(k)));
    products.push_back(subject.backward(us.back()));  // all of them first: differences change what backward needs
  }
  for (std::size_t k = 0; k < us.size(); ++k) {
    for (std::size_t v = 0; v < subject.variables.size(); ++v) {
      const std::vector<double> direction = random_vector(subject.variables[v].value.numel(), 2 * k + 1);
      comparison.entry(dot(products[k][v], direction), dot(us[k], subject.numeric(v, direction, options.step)),
                       [&] { return fmt::format("d y / d {} in direction {}", subject.variables[v].name, k); });
    }
  }
}

GradcheckReport compare(Subject subject, const GradcheckOptions& options) {
  VT_CHECK(subject.output.dtype() == DType::f64, "gradcheck: the function returned {}, expected f64",
           name_of(subject.output.dtype()));
  Comparison comparison(options);
  if (options.directions > 0)
    compare_directions(subject, comparison, options);
  else
    compare_entries(subject, comparison, options.step);
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
  return compare({tape, output, [&] { return function(arguments); }, std::move(variables),
                  [&](const Gradients& gradients, std::size_t v) { return gradients[leaves[positions[v]]]; }},
                 options);
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
  return compare({tape, output, function, std::move(variables),
                  [&](const Gradients& gradients, std::size_t v) { return gradients[*parameters[v].parameter]; }},
                 options);
}

}  // namespace vitrine
