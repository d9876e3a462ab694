// The two containers of PyTorch's files, and the tensors gathered from their storages.
#include "weights/formats/torch_file.h"

#include <algorithm>
#include <functional>
#include <map>

#include "weights/files/byte_cursor.h"
#include "weights/files/file.h"
#include "weights/files/zip.h"
#include "weights/formats/torch_state.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t most_pickle_bytes = std::uint64_t{64} << 20;

using Bytes = std::vector<std::byte>;
using ReadStorage = std::function<Bytes(const TorchStorage&)>;

/// Each storage is read once, when its first tensor comes, and dropped after its last.
FileTensors read_tensors(TorchState state, const ReadStorage& read, const std::string& where) {
  struct Held {
    int uses = 0;
    Tensor elements;  // all of the storage, in one dim
  };
  using Key = std::pair<std::string, const ElementType*>;  // a storage may have tensors of several types
  std::map<Key, Held> storages;
  for (const TorchTensor& tensor : state.tensors) ++storages[{tensor.storage.key, tensor.type}].uses;
  FileTensors result{.tensors = {}, .notes = std::move(state.notes)};
  for (const TorchTensor& tensor : state.tensors) {
    Held& held = storages[{tensor.storage.key, tensor.type}];
    if (!held.elements.defined()) {
      Bytes bytes = read(tensor.storage);
      VT_CHECK(bytes.size() == tensor.storage.bytes(), "{}: storage {} has {} bytes, expected {}", where,
               printable(tensor.storage.key), bytes.size(), tensor.storage.bytes());
      bytes.resize(bytes.size() / tensor.type->bytes * tensor.type->bytes);
      const auto count = static_cast<std::int64_t>(bytes.size() / tensor.type->bytes);
      held.elements = tensor_of_elements(*tensor.type, {count}, bytes, fmt::format("{}: {}", where, tensor.name));
    }
    const Tensor view = element_count(tensor.shape) == 0
                            ? empty(tensor.shape, held.elements.dtype())
                            : held.elements.view_as(tensor.shape, tensor.strides, tensor.offset);
    result.tensors.emplace_back(tensor.name, contiguous_data(view));
    if (--held.uses == 0) held.elements = {};
  }
  return result;
}

/// Legacy files: five pickles one after the other.
class LegacyPickles {
 public:
  LegacyPickles(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  Pickle next() {
    Pickle pickle(bytes_.subspan(position_), where_, is_torch_name);
    position_ += pickle.size();
    return pickle;
  }
  std::size_t position() const { return position_; }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  std::size_t position_ = 0;
};

}  // namespace

FileTensors read_torch_zip(const fs::path& path) {
  const ZipReader zip(path);
  const std::string where = path.string(), ending = "data.pkl";
  const ZipEntry* found = nullptr;
  for (const ZipEntry& entry : zip.entries()) {
    if (entry.name == ending || entry.name.ends_with("/" + ending)) {
      VT_CHECK(!found, "{}: has two pickles, {} and {}, expected one", where, printable(found->name),
               printable(entry.name));
      found = &entry;
    }
  }
  VT_CHECK(found, "{}: is a zip archive without data.pkl, expected a file of torch.save", where);
  const std::string root = found->name.substr(0, found->name.size() - ending.size());
  VT_CHECK(!zip.find(root + "constants.pkl"),
           "{}: is a TorchScript program, expected weights; in Python: "
           "torch.save(torch.jit.load(path).state_dict(), new_path)",
           where);
  VT_CHECK(found->size <= most_pickle_bytes, "{}: has a pickle of {} bytes, expected at most {}", where, found->size,
           most_pickle_bytes);
  if (const ZipEntry* order = zip.find(root + "byteorder"); order && order->size <= 16) {
    const Bytes text = zip.read(*order);
    const std::string_view named(reinterpret_cast<const char*>(text.data()), text.size());
    VT_CHECK(named == "little", "{}: has the byte order \"{}\", expected little", where, printable(named));
  }
  const Bytes bytes = zip.read(*found);
  const Pickle pickle(bytes, where, is_torch_name);
  const auto read = [&](const TorchStorage& storage) {
    const ZipEntry* entry = zip.find(root + "data/" + storage.key);
    VT_CHECK(entry, "{}: has no storage data/{}: cut off or damaged", where, printable(storage.key));
    VT_CHECK(entry->size == storage.bytes(), "{}: storage {} has {} bytes, expected {}", where, printable(storage.key),
             entry->size, storage.bytes());
    return zip.read(*entry);
  };
  return read_tensors(find_torch_state(pickle, where), read, where);
}

FileTensors read_torch_legacy(const fs::path& path) {
  const FileDescriptor file = open_for_reading(path);
  const std::string where = path.string();
  const std::uint64_t file_size = fs::file_size(path);
  Bytes head(std::min(file_size, most_pickle_bytes));
  read_exactly(file, path, 0, head);
  LegacyPickles pickles(head, where);
  pickles.next();  // the number by which the file was known
  const Pickle version = pickles.next();
  VT_CHECK(version.root().number == 1001, "{}: has version {} of PyTorch's format, expected 1001", where,
           version.root().number);
  const Pickle machine = pickles.next();
  const PickleValue* little = machine.find(machine.root(), "little_endian");
  VT_CHECK(little && little->number == 1, "{}: was not written by a little-endian machine, expected one", where);
  const Pickle object = pickles.next(), keys = pickles.next();
  std::map<std::string, TorchStorage> storages;
  for (TorchStorage& storage : torch_storages(object, where)) storages.emplace(storage.key, std::move(storage));
  std::map<std::string, std::uint64_t> places;
  std::uint64_t place = pickles.position();
  for (const PickleId id : keys.root().items) {
    const auto found = storages.find(keys[id].string);
    VT_CHECK(found != storages.end(), "{}: has a storage {} that no tensor has: damaged", where,
             printable(keys[id].string));
    std::int64_t elements = 0;
    VT_CHECK(file_size - place >= 8, "{}: ends at byte {}, within its storages: cut off or damaged", where, file_size);
    read_exactly(file, path, place, std::as_writable_bytes(std::span(&elements, 1)));
    VT_CHECK(static_cast<std::uint64_t>(elements) == found->second.elements,
             "{}: storage {} has {} elements, expected {}: damaged", where, printable(found->first), elements,
             found->second.elements);
    place += 8;
    VT_CHECK(found->second.bytes() <= file_size - place, "{}: ends at byte {}, within storage {}: cut off or damaged",
             where, file_size, printable(found->first));
    VT_CHECK(places.emplace(found->first, place).second, "{}: has storage {} twice: damaged", where,
             printable(found->first));
    place += found->second.bytes();
  }
  VT_CHECK(place == file_size, "{}: {} bytes follow the last storage, expected none: damaged", where,
           file_size - place);
  const auto read = [&](const TorchStorage& storage) {
    const auto found = places.find(storage.key);
    VT_CHECK(found != places.end(), "{}: has no storage {}: damaged", where, printable(storage.key));
    Bytes bytes(storage.bytes());
    read_exactly(file, path, found->second, bytes);
    return bytes;
  };
  return read_tensors(find_torch_state(object, where), read, where);
}

}  // namespace vitrine
