// What a module is: an aggregate with a list of its fields, and everything that follows from the
// list: parameter names, state dict, deep copy, moves between devices and dtypes.
//
//   struct TwoLayers {
//     Linear first, second;
//     static void fields(auto& self, auto&& field) { field("first", self.first); field("second", self.second); }
//   };
//   for_each_parameter(model, [](const std::string& name, Parameter& p) { ... });   // first.weight, first.bias, ...
//
// A field may be a Parameter, a Buffer, a module, an optional or a std::vector of these, or
// anything else (sizes, rates), which is listed too but plays no part: then a test can compare the
// list with the number of members. Names follow timm's: members are joined by dots and elements of
// a vector are numbered, as in `blocks.3.attn.qkv.weight`.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/philox.h"

namespace vitrine {

/// How layers are to behave in one forward pass. There is no hidden state: what is not said here is
/// inference.
struct Pass {
  bool training = false;           // dropout and drop path act only in training
  Generator* generator = nullptr;  // where they draw from; needed in training if a rate is above 0
  bool recompute = false;  // transformer blocks keep only their input for backward, and compute the rest again there
};

/// A tensor that belongs to a module's state but gets no gradient, such as running statistics.
/// Copies share the elements.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Tensor value) : value_(std::move(value)) {}

  Tensor& value() { return value_; }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }

 private:
  Tensor value_;
};

/// An aggregate with `static void fields(auto& self, auto&& field)` that calls field("name",
/// self.name) for each member.
template <class M>
concept Module = std::is_aggregate_v<M> && requires(M& module) {
  M::fields(module, [](std::string_view, auto&) {});
};

namespace detail {

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

inline std::string join(const std::string& prefix, std::string_view name) {
  return prefix.empty() ? std::string(name) : prefix + "." + std::string(name);
}

/// Calls visit(name, leaf) for every Parameter, Buffer and Tensor.
template <class Node, class Visit>
void visit_leaves(Node& node, const std::string& name, Visit& visit) {
  using Type = std::remove_const_t<Node>;
  if constexpr (std::same_as<Type, Parameter> || std::same_as<Type, Buffer> || std::same_as<Type, Tensor>) {
    visit(name, node);
  } else if constexpr (Module<Type>) {
    Type::fields(node, [&](std::string_view member, auto& value) { visit_leaves(value, join(name, member), visit); });
  } else if constexpr (is_optional<Type>) {
    if (node) visit_leaves(*node, name, visit);
  } else if constexpr (is_vector<Type>) {
    if constexpr (std::is_class_v<typename Type::value_type>) {
      for (std::size_t i = 0; i < node.size(); ++i) visit_leaves(node[i], join(name, std::to_string(i)), visit);
    }
  }  // else: a size or a rate
}

template <class Leaf, class Type>
inline constexpr bool is_leaf = std::same_as<std::remove_const_t<Type>, Leaf>;

}  // namespace detail

/// Calls visit(name, leaf) for every Parameter and Buffer, in the order of the lists of fields.
/// Names begin with `prefix`.
template <class M, class Visit>
requires Module<std::remove_const_t<M>>
void for_each_leaf(M& module, Visit&& visit, const std::string& prefix = "") {
  const auto visit_state = [&]<class Leaf>(const std::string& name, Leaf& leaf) {
    if constexpr (!detail::is_leaf<Tensor, Leaf>) visit(name, leaf);
  };
  detail::visit_leaves(module, prefix, visit_state);
}

/// The same for parameters alone.
template <class M, class Visit>
requires Module<std::remove_const_t<M>>
void for_each_parameter(M& module, Visit&& visit, const std::string& prefix = "") {
  for_each_leaf(
      module,
      [&]<class Leaf>(const std::string& name, Leaf& leaf) {
        if constexpr (detail::is_leaf<Parameter, Leaf>) visit(name, leaf);
      },
      prefix);
}

/// The parameters by name, for optimisers and gradient checks. The pointers are valid until the
/// module is moved or destroyed.
template <Module M>
std::vector<NamedParameter> parameters(M& module) {
  std::vector<NamedParameter> list;
  for_each_parameter(module, [&](const std::string& name, Parameter& parameter) {
    list.push_back({name, &parameter});
  });
  return list;
}

/// Number of trainable elements.
template <Module M>
std::int64_t parameter_count(const M& module) {
  std::int64_t count = 0;
  for_each_parameter(module, [&](const std::string&, const Parameter& p) { count += element_count(p.shape()); });
  return count;
}

// ---- State dict ----

using StateDict = std::vector<std::pair<std::string, Tensor>>;

/// The names that did not match when a state dict was loaded.
struct LoadReport {
  struct Mismatch {
    std::string name;
    Shape expected, found;
  };
  std::vector<std::string> missing;     // in the module, not in the state
  std::vector<std::string> unexpected;  // in the state, not in the module
  std::vector<Mismatch> mismatched;     // in both, with different shapes

  bool clean() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

/// One line: "missing head.weight, head.bias; unexpected fc.weight; head.weight has shape (5, 8),
/// expected (10, 8)".
std::string to_string(const LoadReport& report);

/// Copies the tensors of `state` into those of `target` with the same name, converting dtype and
/// device. Strict: throws Error with the report unless all fits, and then nothing is changed.
/// Otherwise copies what fits and returns the report.
LoadReport load_tensors(const StateDict& target, const StateDict& state, bool strict = true);

/// Names and values of all parameters and buffers: handles of their own elements, not copies.
template <Module M>
StateDict state_dict(const M& module) {
  StateDict state;
  for_each_leaf(module, [&](const std::string& name, const auto& leaf) { state.emplace_back(name, leaf.value()); });
  return state;
}
template <Module M>
LoadReport load_state_dict(M& module, const StateDict& state, bool strict = true) {
  return load_tensors(state_dict(module), state, strict);
}

// ---- Whole modules ----

/// A copy with elements of its own. (Copying a module shares them.)
template <Module M>
M deep_copy(const M& module) {
  M copy = module;
  for_each_leaf(copy, []<class Leaf>(const std::string&, Leaf& leaf) { leaf = Leaf(clone(leaf.value())); });
  return copy;
}

/// Moves every parameter, buffer and constant. Optimisers must be made afterwards: they hold on to
/// the elements.
template <Module M>
void move_to(M& module, Device device) {
  const auto move = [&]<class Leaf>(const std::string&, Leaf& leaf) {
    if constexpr (!detail::is_leaf<Tensor, Leaf>) {
      leaf = Leaf(to_device(leaf.value(), device));
    } else if (leaf.defined()) {
      leaf = to_device(leaf, device);
    }
  };
  detail::visit_leaves(module, "", move);
}

/// Converts every parameter, and the floating buffers; these stay at least f32, for a running mean
/// in bf16 would stand still.
template <Module M>
void cast_to(M& module, DType dtype) {
  for_each_leaf(module, [&]<class Leaf>(const std::string&, Leaf& leaf) {
    const bool is_buffer = detail::is_leaf<Buffer, Leaf>;
    if (is_buffer && !is_floating(leaf.value().dtype())) return;
    leaf = Leaf(cast_data(leaf.value(), is_buffer && dtype == DType::bf16 ? DType::f32 : dtype));
  });
}

}  // namespace vitrine
