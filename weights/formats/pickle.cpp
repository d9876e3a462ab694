// The stack machine. Every step takes at least one byte of the pickle and makes at most one value,
// so time and memory are bounded by its size; nothing here calls itself.
#include "weights/formats/pickle.h"

#include <bit>
#include <unordered_map>

#include "weights/files/byte_cursor.h"

namespace vitrine {

namespace {

constexpr std::size_t most_values = std::size_t{1} << 21;  // a checkpoint of Swin-L with optimizer has 30,000
constexpr std::string_view ordered_dict = "collections.OrderedDict";

}  // namespace

class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& where, const Pickle::IsKnown& is_known,
                Pickle& pickle)
      : cursor_(bytes, where), where_(where), is_known_(is_known), pickle_(pickle) {}

  void run() {
    for (;;) {
      const auto step = cursor_.number<unsigned char>();
      if (step == '.') break;
      if (step == 0x80) {
        const auto protocol = cursor_.number<unsigned char>();
        VT_CHECK(protocol <= 5, "{}: is a pickle of protocol {}, expected 2 to 5", where_, protocol);
      } else if (!read_number(step) && !read_text(step) && !handle_stack(step) && !build_container(step) &&
                 !call(step)) {
        throw Error(fmt::format("{}: has the pickle step 0x{:02x} at byte {}, which no weights need", where_, step,
                                cursor_.position() - 1));
      }
    }
    pickle_.root_ = pop();
    pickle_.size_ = cursor_.position();
  }

 private:
  // ---- The stack ----

  PickleId make(PickleValue value) {
    auto& values = pickle_.values_;
    VT_CHECK(values.size() < most_values, "{}: is a pickle of more than {} values, which no weights have", where_,
             most_values);
    values.push_back(std::move(value));
    return static_cast<PickleId>(values.size() - 1);
  }
  void push(PickleValue value) { stack_.push_back(make(std::move(value))); }
  void push_integer(std::int64_t number) { push({.kind = PickleValue::integer, .number = number}); }
  void push_text(std::string_view text) { push({.kind = PickleValue::text, .string = std::string(text)}); }
  void push_items(PickleValue::Kind kind, std::vector<PickleId> items) {
    push({.kind = kind, .items = std::move(items)});
  }

  [[noreturn]] void fail_stack() const {
    throw Error(
        fmt::format("{}: is a pickle that takes what it never put, at byte {}: damaged", where_, cursor_.position()));
  }
  /// Only what lies above the last mark may be taken.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleId pop() {
    if (stack_.size() <= floor()) fail_stack();
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }
  PickleId top() const {
    if (stack_.size() <= floor()) fail_stack();
    return stack_.back();
  }
  std::vector<PickleId> pop_to_mark() {
    if (marks_.empty()) fail_stack();
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleId> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  std::vector<PickleId> pop_many(int count) {
    std::vector<PickleId> items(static_cast<std::size_t>(count));
    for (int i = count; i-- > 0;) items[static_cast<std::size_t>(i)] = pop();
    return items;
  }
  PickleId pop_of_kind(PickleValue::Kind kind, const char* what) {
    const PickleId id = pop();
    VT_CHECK(pickle_.values_[id].kind == kind, "{}: is a pickle with something else than {} at byte {}: damaged",
             where_, what, cursor_.position());
    return id;
  }

  // ---- Steps, by what they do; false where `step` is none of theirs ----

  bool read_number(unsigned char step) {
    switch (step) {
      case 'N':
        push({});
        return true;
      case 0x88:
      case 0x89:
        push({.kind = PickleValue::boolean, .number = step == 0x88});
        return true;
      case 'J':
        push_integer(cursor_.number<std::int32_t>());
        return true;
      case 'K':
        push_integer(cursor_.number<std::uint8_t>());
        return true;
      case 'M':
        push_integer(cursor_.number<std::uint16_t>());
        return true;
      case 0x8a:
        push_long(cursor_.text(cursor_.number<std::uint8_t>()));
        return true;
      case 0x8b:
        push_long(cursor_.text(cursor_.number<std::uint32_t>()));
        return true;
      case 'G': {
        const auto bits = __builtin_bswap64(cursor_.number<std::uint64_t>());  // the only number that is big-endian
        push({.kind = PickleValue::real, .real_number = std::bit_cast<double>(bits)});
        return true;
      }
      default:
        return false;
    }
  }

  /// Two's complement of any length.
  void push_long(std::string_view bytes) {
    if (bytes.size() > 8) return push_text(bytes);
    std::uint64_t value = !bytes.empty() && (bytes.back() & 0x80) != 0 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    push_integer(static_cast<std::int64_t>(value));
  }

  bool read_text(unsigned char step) {
    switch (step) {
      case 'U':   // SHORT_BINSTRING
      case 'C':   // SHORT_BINBYTES
      case 0x8c:  // SHORT_BINUNICODE
        push_text(cursor_.text(cursor_.number<std::uint8_t>()));
        return true;
      case 'T':  // BINSTRING
      case 'X':  // BINUNICODE
      case 'B':  // BINBYTES
        push_text(cursor_.text(cursor_.number<std::uint32_t>()));
        return true;
      case 0x8d:  // BINUNICODE8
      case 0x8e:  // BINBYTES8
        push_text(cursor_.text(cursor_.number<std::uint64_t>()));
        return true;
      case 0x95: {  // FRAME: what follows lies together
        const auto size = cursor_.number<std::uint64_t>();
        VT_CHECK(size <= cursor_.left(), "{}: is a pickle that ends at {} bytes, {} more expected: cut off or damaged",
                 where_, cursor_.position() + cursor_.left(), size - cursor_.left());
        return true;
      }
      default:
        return false;
    }
  }

  bool handle_stack(unsigned char step) {
    switch (step) {
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case '0':
        pop();
        return true;
      case '1':
        pop_to_mark();
        return true;
      case '2':
        stack_.push_back(top());
        return true;
      case 'q':
        memo_[cursor_.number<std::uint8_t>()] = top();
        return true;
      case 'r':
        memo_[cursor_.number<std::uint32_t>()] = top();
        return true;
      case 0x94:
        memo_[static_cast<std::uint32_t>(memo_.size())] = top();
        return true;
      case 'h':
        recall(cursor_.number<std::uint8_t>());
        return true;
      case 'j':
        recall(cursor_.number<std::uint32_t>());
        return true;
      default:
        return false;
    }
  }

  void recall(std::uint32_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) fail_stack();
    stack_.push_back(found->second);
  }

  bool build_container(unsigned char step) {
    switch (step) {
      case '}':
        push_items(PickleValue::dictionary, {});
        return true;
      case ']':
      case 0x8f:
        push_items(PickleValue::list, {});
        return true;
      case ')':
        push_items(PickleValue::tuple, {});
        return true;
      case 0x85:
      case 0x86:
      case 0x87:
        push_items(PickleValue::tuple, pop_many(step - 0x84));
        return true;
      case 't':
        push_items(PickleValue::tuple, pop_to_mark());
        return true;
      case 'l':
      case 0x91:
        push_items(PickleValue::list, pop_to_mark());
        return true;
      case 'd':
        push_items(PickleValue::dictionary, pairs(pop_to_mark()));
        return true;
      case 'a':
        append(pop_many(1), PickleValue::list);
        return true;
      case 'e':
      case 0x90:
        append(pop_to_mark(), PickleValue::list);
        return true;
      case 's':
        append(pop_many(2), PickleValue::dictionary);
        return true;
      case 'u':
        append(pairs(pop_to_mark()), PickleValue::dictionary);
        return true;
      default:
        return false;
    }
  }

  std::vector<PickleId> pairs(std::vector<PickleId> items) {
    if (items.size() % 2 != 0) fail_stack();
    return items;
  }

  /// Onto the list or dictionary on top of the stack, or onto what a call makes.
  void append(const std::vector<PickleId>& items, PickleValue::Kind kind) {
    PickleValue& target = pickle_.values_[top()];
    if (target.kind != kind && target.kind != PickleValue::call) fail_stack();
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  bool call(unsigned char step) {
    switch (step) {
      case 'c': {
        const std::string_view module = cursor_.line();
        push_name(module, cursor_.line());
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const PickleId name = pop_of_kind(PickleValue::text, "a name"),
                       module = pop_of_kind(PickleValue::text, "a name");
        push_name(pickle_.values_[module].string, pickle_.values_[name].string);
        return true;
      }
      case 0x92:
        pop();
        [[fallthrough]];  // NEWOBJ_EX: the named arguments do not matter to what is data
      case 'R':
      case 0x81: {
        const PickleId arguments = pop_of_kind(PickleValue::tuple, "arguments"),
                       callee = pop_of_kind(PickleValue::name, "a name to call");
        push({.kind = PickleValue::call,
              .callee = callee,
              .arguments = arguments,
              .items = pairs_of(callee, arguments)});
        return true;
      }
      case 'b':
        pop();
        top();
        return true;  // BUILD: attributes, such as the _metadata of a state dict
      case 'Q': {
        const PickleId arguments = pop_of_kind(PickleValue::tuple, "a persistent id");
        push({.kind = PickleValue::persistent, .arguments = arguments});
        return true;
      }
      default:
        return false;
    }
  }

  /// Python 2 gave an OrderedDict its content at once, as a list of lists [key, value].
  std::vector<PickleId> pairs_of(PickleId callee, PickleId arguments) const {
    const auto& values = pickle_.values_;
    std::vector<PickleId> pairs;
    if (values[callee].string != ordered_dict || values[arguments].items.empty()) return pairs;
    for (const PickleId pair : values[values[arguments].items[0]].items) {
      if (values[pair].items.size() != 2) fail_stack();
      pairs.insert(pairs.end(), values[pair].items.begin(), values[pair].items.end());
    }
    return pairs;
  }

  void push_name(std::string_view module, std::string_view name) {
    const std::string full = fmt::format("{}.{}", module, name);
    VT_CHECK(is_known_(full),
             "{}: names the Python object {}, which is neither tensor nor plain data: nothing is executed, so it is "
             "refused; in Python save the weights alone, torch.save(model.state_dict(), path)",
             where_, printable(full));
    push({.kind = PickleValue::name, .string = full});
  }

  ByteCursor cursor_;
  const std::string& where_;
  const Pickle::IsKnown& is_known_;
  Pickle& pickle_;
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, PickleId> memo_;
};

Pickle::Pickle(std::span<const std::byte> bytes, const std::string& where, const IsKnown& is_known) {
  PickleMachine(bytes, where, is_known, *this).run();
}

const PickleValue* Pickle::find(const PickleValue& dictionary, std::string_view key) const {
  if (!is_dictionary(dictionary)) return nullptr;
  const PickleValue* found = nullptr;
  for (std::size_t i = 0; i + 1 < dictionary.items.size(); i += 2) {  // the last of a key counts, as in Python
    const PickleValue& candidate = values_[dictionary.items[i]];
    if (candidate.kind == PickleValue::text && candidate.string == key) found = &values_[dictionary.items[i + 1]];
  }
  return found;
}

std::string_view Pickle::called_name(const PickleValue& value) const {
  return value.kind == PickleValue::call ? std::string_view(values_[value.callee].string) : std::string_view();
}

bool Pickle::is_dictionary(const PickleValue& value) const {
  return value.kind == PickleValue::dictionary || called_name(value) == ordered_dict;
}

}  // namespace vitrine
