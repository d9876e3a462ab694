// Python's pickles read as data. A pickle is a program for a stack machine; ours carries out the
// steps that build numbers, strings, lists and dictionaries, and where Python would import
// something and call it, ours only writes down which name was to be called with what.
//
//   const Pickle pickle(bytes, "model.pth", is_known);
//   pickle.root().kind == PickleValue::dictionary;
//
// The format: CPython, Lib/pickletools.py, protocols 2 to 5 without the text forms of protocol 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

/// The number of a value in a Pickle. Values that a pickle shares are one value with one number, so
/// a pickle is never expanded.
using PickleId = std::uint32_t;

struct PickleValue {
  enum Kind : std::uint8_t {
    none,
    boolean,
    integer,
    real,
    text,        // also bytes, and integers of more than 8 bytes, as they stand
    tuple,       // items, which never change
    list,        // items; sets are lists
    dictionary,  // items: key, value, key, value, ...
    name,        // text is "module.name", to be called or to stand for itself
    call,        // of `callee` with the tuple `arguments`; items are what was added afterwards
    persistent   // what persistent_load would be given: `arguments`
  };
  Kind kind = none;
  PickleId callee = 0, arguments = 0;
  std::int64_t number = 0;  // of a boolean or an integer
  double real_number = 0;
  std::string string = {};
  std::vector<PickleId> items = {};
};

class Pickle {
 public:
  /// Whether a pickle may have the name; it may also throw.
  using IsKnown = std::function<bool(const std::string& name)>;

  /// Reads one pickle at the start of `bytes`. Error, beginning with `where`, for what is no
  /// pickle, for names that are not known, and for more than a few million values.
  Pickle(std::span<const std::byte> bytes, const std::string& where, const IsKnown& is_known);

  const PickleValue& root() const { return values_[root_]; }
  std::span<const PickleValue> values() const { return values_; }
  const PickleValue& operator[](PickleId id) const { return values_[id]; }
  /// Bytes of the pickle; what follows them was not looked at.
  std::size_t size() const { return size_; }

  /// The value under a key of a dictionary, or nullptr.
  const PickleValue* find(const PickleValue& dictionary, std::string_view key) const;
  /// Whether it is a dictionary, or a call that makes one, such as OrderedDict().
  bool is_dictionary(const PickleValue& value) const;
  /// The name that a call calls; empty for other values.
  std::string_view called_name(const PickleValue& value) const;

 private:
  friend class PickleMachine;
  std::vector<PickleValue> values_;
  PickleId root_ = 0;
  std::size_t size_ = 0;
};

}  // namespace vitrine
