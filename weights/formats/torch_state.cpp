// From the values of a pickle to tensors. The names that PyTorch's pickles may have stand in
// `plain_names`, in the tables of element types, and in the rebuilding functions here.
#include "weights/formats/torch_state.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "weights/files/byte_cursor.h"

namespace vitrine {
namespace {

constexpr std::string_view rebuild_v1 = "torch._utils._rebuild_tensor", rebuild_v2 = "torch._utils._rebuild_tensor_v2",
                           rebuild_v3 = "torch._utils._rebuild_tensor_v3",
                           rebuild_parameter = "torch._utils._rebuild_parameter",
                           rebuild_parameter_with_state = "torch._utils._rebuild_parameter_with_state",
                           untyped_storage = "torch.storage.UntypedStorage";

/// What stands beside weights in checkpoints and is only data: arguments, counters, best results.
/// It is never made, only stepped over.
constexpr std::string_view plain_names[] = {"collections.OrderedDict",
                                            "collections.defaultdict",
                                            "argparse.Namespace",
                                            "__builtin__.set",
                                            "builtins.set",
                                            "__builtin__.list",
                                            "builtins.list",
                                            "__builtin__.dict",
                                            "builtins.dict",
                                            "builtins.frozenset",
                                            "builtins.complex",
                                            "builtins.slice",
                                            "_codecs.encode",
                                            "pathlib.PosixPath",
                                            "pathlib.WindowsPath",
                                            "pathlib._local.PosixPath",
                                            "torch.Size",
                                            "torch.device",
                                            "torch.storage.UntypedStorage",
                                            "numpy.core.multiarray.scalar",
                                            "numpy._core.multiarray.scalar",
                                            "numpy.core.multiarray._reconstruct",
                                            "numpy._core.multiarray._reconstruct",
                                            "numpy.dtype",
                                            "numpy.ndarray",
                                            "datetime.datetime",
                                            "datetime.timedelta",
                                            "yacs.config.CfgNode",
                                            rebuild_v1,
                                            rebuild_v2,
                                            rebuild_v3,
                                            rebuild_parameter,
                                            rebuild_parameter_with_state};

/// By which keys training scripts wrap a state dict; the first that is there counts. Averages come
/// first, as in timm (timm/models/_helpers.py, load_state_dict).
constexpr const char* wrappers[] = {"state_dict_ema",   "model_ema",   "ema",     "state_dict", "model", "module",
                                    "model_state_dict", "model_state", "teacher", "student",    "net",   "network",
                                    "weights"};
constexpr int deepest_wrapping = 4;

/// Numbers of elements and bytes stay far from overflow.
constexpr std::int64_t most_elements = std::int64_t{1} << 48;

class StateFinder {
 public:
  StateFinder(const Pickle& pickle, const std::string& where) : pickle_(pickle), where_(where) {}

  TorchState find() {
    const PickleValue* state = &pickle_.root();
    VT_CHECK(pickle_.is_dictionary(*state), "{}: holds {}, expected a dictionary of names and tensors (a state dict)",
             where_, is_tensor(*state) ? "one tensor" : "no dictionary");
    for (int depth = 0; depth < deepest_wrapping; ++depth) {
      const PickleValue* inner = unwrap(*state);
      if (!inner) break;
      state = inner;
    }
    std::vector<std::string> others;
    for (std::size_t i = 0; i + 1 < state->items.size(); i += 2) {
      const PickleValue &key = pickle_[state->items[i]], &value = pickle_[state->items[i + 1]];
      if (key.kind == PickleValue::text && is_tensor(value)) {
        add(key.string, value);
      } else if (key.kind == PickleValue::text) {
        others.push_back(printable(key.string));
      }
    }
    VT_CHECK(!result_.tensors.empty(), "{}: holds no tensors by name, only {}", where_,
             others.empty() ? "an empty dictionary" : names_of(others));
    if (!others.empty()) result_.notes.push_back(fmt::format("left out what is no tensor: {}", names_of(others)));
    return std::move(result_);
  }

  TorchStorage storage_of(const PickleValue& value) const {
    const auto fail = [&]() -> Error { return damaged("a storage"); };
    if (value.kind != PickleValue::persistent) throw fail();
    const auto& items = pickle_[value.arguments].items;
    if (items.size() < 5 || items.size() > 6 || pickle_[items[0]].string != "storage") throw fail();
    const PickleValue &type = pickle_[items[1]], &key = pickle_[items[2]];
    if (type.kind != PickleValue::name || key.kind != PickleValue::text) throw fail();
    VT_CHECK(items.size() == 5 || pickle_[items[5]].kind == PickleValue::none,
             "{}: has storages that are views, of PyTorch before 0.4, expected a newer file", where_);
    TorchStorage storage{.key = key.string, .type = nullptr, .elements = static_cast<std::uint64_t>(count(items[4]))};
    if (type.string == untyped_storage) return storage;
    constexpr std::string_view module = "torch.";
    storage.type = type.string.starts_with(module)
                       ? find_element_type(&ElementType::storage, std::string_view(type.string).substr(module.size()))
                       : nullptr;
    VT_CHECK(storage.type, "{}: has storages of type {}, expected {}", where_, printable(type.string),
             readable_types(&ElementType::storage));
    return storage;
  }

 private:
  Error damaged(const char* what) const {
    return Error(fmt::format("{}: its pickle has {} of another form than torch.save writes: damaged", where_, what));
  }

  static std::string names_of(const std::vector<std::string>& names) {
    const std::size_t shown = std::min<std::size_t>(names.size(), 8);
    return fmt::format("{}{}", fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                       shown < names.size() ? fmt::format(" and {} others", names.size() - shown) : "");
  }

  bool is_tensor(const PickleValue& value) const {
    const std::string_view called = pickle_.called_name(value);
    return called == rebuild_v1 || called == rebuild_v2 || called == rebuild_v3 || called == rebuild_parameter ||
           called == rebuild_parameter_with_state;
  }

  bool has_tensors(const PickleValue& value) const {
    if (!pickle_.is_dictionary(value)) return false;
    for (std::size_t i = 1; i < value.items.size(); i += 2) {
      if (is_tensor(pickle_[value.items[i]])) return true;
    }
    return false;
  }

  /// The dictionary that the wrapper holds, or nullptr where `outer` is the state dict itself.
  const PickleValue* unwrap(const PickleValue& outer) {
    std::vector<std::string> keys;
    for (std::size_t i = 0; i < outer.items.size(); i += 2) {
      const PickleValue& key = pickle_[outer.items[i]];
      if (key.kind == PickleValue::text) keys.push_back(printable(key.string));
    }
    for (const char* wrapper : wrappers) {
      const PickleValue* inner = pickle_.find(outer, wrapper);
      if (!inner || !(has_tensors(*inner) || wraps(*inner))) continue;
      result_.notes.push_back(fmt::format("took \"{}\", one of {}", wrapper, names_of(keys)));
      return inner;
    }
    return nullptr;
  }

  /// Whether one more wrapper lies in it.
  bool wraps(const PickleValue& value) const {
    return std::ranges::any_of(wrappers, [&](const char* wrapper) {
      const PickleValue* inner = pickle_.find(value, wrapper);
      return inner && has_tensors(*inner);
    });
  }

  std::int64_t count(PickleId id) const {
    const PickleValue& value = pickle_[id];
    if (value.kind != PickleValue::integer || value.number < 0) throw damaged("a size");
    VT_CHECK(value.number <= most_elements, "{}: has a size of {}, too large for memory", where_, value.number);
    return value.number;
  }

  /// The call that makes the tensor of a parameter is its first argument.
  const PickleValue& without_parameter(const PickleValue& value) const {
    const PickleValue* inner = &value;
    for (int depth = 0; depth < 2; ++depth) {
      const std::string_view called = pickle_.called_name(*inner);
      if (called != rebuild_parameter && called != rebuild_parameter_with_state) break;
      const auto& arguments = pickle_[inner->arguments].items;
      if (arguments.empty()) throw damaged("a parameter");
      inner = &pickle_[arguments[0]];
    }
    return *inner;
  }

  void add(const std::string& name, const PickleValue& value) {
    VT_CHECK(is_plain_name(name), "{}: has a tensor named {}, expected a name without control characters", where_,
             printable(name));
    VT_CHECK(names_.insert(name).second, "{}: has {} twice", where_, name);
    const PickleValue& made = without_parameter(value);
    const std::string_view called = pickle_.called_name(made);
    const bool is_v3 = called == rebuild_v3;
    if (called != rebuild_v1 && called != rebuild_v2 && !is_v3) throw damaged("a tensor");
    const auto& arguments = pickle_[made.arguments].items;
    if (arguments.size() < (is_v3 ? 7u : 4u)) throw damaged("a tensor");
    TorchTensor tensor{.name = name, .storage = storage_of(pickle_[arguments[0]]), .shape = {}, .strides = {}};
    tensor.type = tensor.storage.type;
    if (is_v3) {
      constexpr std::string_view module = "torch.";
      const std::string& dtype = pickle_[arguments[6]].string;
      tensor.type = dtype.starts_with(module)
                        ? find_element_type(&ElementType::torch, std::string_view(dtype).substr(module.size()))
                        : nullptr;
    }
    VT_CHECK(tensor.type, "{}: {} has a dtype that cannot be read, expected {}", where_, name,
             readable_types(&ElementType::torch));
    tensor.offset = count(arguments[1]);
    const PickleValue &sizes = pickle_[arguments[2]], &strides = pickle_[arguments[3]];
    if (sizes.kind != PickleValue::tuple || strides.kind != PickleValue::tuple ||
        sizes.items.size() != strides.items.size()) {
      throw damaged("a tensor");
    }
    VT_CHECK(sizes.items.size() <= max_dims, "{}: {} has {} dims, expected at most {}", where_, name,
             sizes.items.size(), max_dims);
    for (const PickleId size : sizes.items) tensor.shape.push_back(count(size));
    for (const PickleId stride : strides.items) tensor.strides.push_back(count(stride));
    check_place(tensor);
    result_.tensors.push_back(std::move(tensor));
  }

  /// The last element must lie in the storage; and tensors may not be larger together than their
  /// storages by more than views of one another explain, since expanded ones need no storage.
  void check_place(const TorchTensor& tensor) {
    const std::uint64_t available = tensor.storage.bytes() / tensor.type->bytes;
    std::uint64_t elements = 1, last = static_cast<std::uint64_t>(tensor.offset);
    for (int d = 0; d < tensor.shape.size(); ++d) {
      const auto size = static_cast<std::uint64_t>(tensor.shape[d]),
                 stride = static_cast<std::uint64_t>(tensor.strides[d]);
      std::uint64_t reach = 0;
      const bool too_large = __builtin_mul_overflow(elements, size, &elements) ||
                             __builtin_mul_overflow(size == 0 ? 0 : size - 1, stride, &reach) ||
                             __builtin_add_overflow(last, reach, &last) ||
                             elements > static_cast<std::uint64_t>(most_elements);
      VT_CHECK(!too_large, "{}: {} has shape {}, too large for memory", where_, tensor.name, to_string(tensor.shape));
    }
    VT_CHECK(elements == 0 || last < available,
             "{}: {}, of shape {} from element {} on, reaches element {} of a storage of {}", where_, tensor.name,
             to_string(tensor.shape), tensor.offset, last, available);
    view_bytes_ += elements * tensor.type->bytes;
    if (storages_.insert(tensor.storage.key).second) storage_bytes_ += tensor.storage.bytes();
    constexpr std::uint64_t always_allowed = std::uint64_t{1} << 24, most_views = 8;
    VT_CHECK(view_bytes_ <= always_allowed + most_views * storage_bytes_,
             "{}: its tensors need {} bytes, their storages have {}: expanded tensors of this size are refused", where_,
             view_bytes_, storage_bytes_);
  }

  const Pickle& pickle_;
  const std::string& where_;
  TorchState result_;
  std::set<std::string> names_, storages_;
  std::uint64_t view_bytes_ = 0, storage_bytes_ = 0;
};

}  // namespace

std::uint64_t TorchStorage::bytes() const { return elements * (type ? type->bytes : 1); }

bool is_torch_name(const std::string& name) {
  if (std::ranges::count(plain_names, std::string_view(name))) return true;
  constexpr std::string_view module = "torch.";
  if (!name.starts_with(module)) return false;
  const std::string_view rest = std::string_view(name).substr(module.size());
  return find_element_type(&ElementType::storage, rest) || find_element_type(&ElementType::torch, rest);
}

TorchState find_torch_state(const Pickle& pickle, const std::string& where) {
  return StateFinder(pickle, where).find();
}

std::vector<TorchStorage> torch_storages(const Pickle& pickle, const std::string& where) {
  StateFinder finder(pickle, where);
  std::map<std::string, TorchStorage> storages;
  for (const PickleValue& value : pickle.values()) {
    if (value.kind != PickleValue::persistent) continue;
    const TorchStorage storage = finder.storage_of(value);
    const auto [found, is_new] = storages.emplace(storage.key, storage);
    VT_CHECK(is_new || found->second.bytes() == storage.bytes(), "{}: storage {} has {} bytes and {}: damaged", where,
             printable(storage.key), found->second.bytes(), storage.bytes());
  }
  std::vector<TorchStorage> all;
  for (auto& [key, storage] : storages) all.push_back(std::move(storage));
  return all;
}

}  // namespace vitrine
