// The strict reader and the writer of safetensors files. Everything that a header claims is checked
// before memory is taken.
#include "weights/files/safetensors.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "weights/files/hash.h"

namespace vitrine {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t max_header = 100'000'000;
constexpr const char* metadata_key = "__metadata__";
constexpr const char* own_prefix = "vitrine.";
constexpr const char* scheme_key = "vitrine.scheme";
constexpr const char* scheme_version = "1";
constexpr const char* header_hash_key = "vitrine.hash";
constexpr const char* tensor_hash_prefix = "vitrine.hash/";
constexpr std::size_t hash_digits = 16;

const ElementType* find_type(const std::string& name) { return find_element_type(&ElementType::safetensors, name); }

/// The type with the bytes of ours, not one that is widened to it.
std::string_view file_type_of(DType dtype) {
  const auto is_it = [&](const ElementType& type) { return type.dtype == dtype && type.bytes == size_of(dtype); };
  return std::ranges::find_if(element_types(), is_it)->safetensors;
}

/// Parses the header; a key that occurs twice in one object, or nesting deeper than the format has,
/// is an Error.
Json parse_json(const std::string& text, const std::string& file) {
  std::vector<std::set<std::string>> keys;
  const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    VT_CHECK(depth <= 3, "{}: header is nested deeper than 3 levels", file);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      VT_CHECK(keys.back().insert(key).second, "{}: header has the key '{}' twice", file, key);
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(fmt::format("{}: header is not valid JSON at byte {}", file, error.byte));
  }
}

/// An unsigned integer of the header that fits in 63 bits.
std::uint64_t integer_at(const Json& value, const std::string& where) {
  VT_CHECK(value.is_number_unsigned() && value.get<std::uint64_t>() <= INT64_MAX,
           "{} is {}, expected an integer of at least 0", where, value.dump());
  return value.get<std::uint64_t>();
}

/// One entry, checked on its own: dtype, shape, and a range of the size that these two ask for
/// inside the data.
TensorEntry parse_entry(const std::string& name, const Json& value, std::uint64_t data_size, const std::string& file) {
  const std::string where = fmt::format("{}: tensor '{}'", file, name);
  VT_CHECK(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
               value.contains("data_offsets"),
           "{}: expected an object with dtype, shape and data_offsets", where);
  const Json &dtype = value["dtype"], &shape = value["shape"], &range = value["data_offsets"];
  TensorEntry entry;
  entry.name = name;
  VT_CHECK(dtype.is_string(), "{}: dtype is {}, expected a string", where, dtype.dump());
  entry.dtype = dtype.get<std::string>();
  const ElementType* type = find_type(entry.dtype);
  VT_CHECK(type, "{}: dtype is '{}', expected one of the format's such as F32, BF16, I64", where, entry.dtype);
  VT_CHECK(shape.is_array() && shape.size() <= max_dims, "{}: shape is {}, expected a list of at most {} sizes", where,
           shape.dump(), max_dims);
  std::uint64_t bytes = type->bytes;
  for (const Json& size : shape) {
    const std::uint64_t count = integer_at(size, where + ": a size");
    VT_CHECK(!__builtin_mul_overflow(bytes, count, &bytes), "{}: shape is {}, too large for memory", where,
             shape.dump());
    entry.shape.push_back(static_cast<std::int64_t>(count));
  }
  VT_CHECK(range.is_array() && range.size() == 2, "{}: data_offsets is {}, expected [begin, end]", where, range.dump());
  entry.begin = integer_at(range[0], where + ": begin");
  entry.end = integer_at(range[1], where + ": end");
  VT_CHECK(entry.begin <= entry.end && entry.end <= data_size,
           "{}: data_offsets is {}, expected a range within the {} bytes of data", where, range.dump(), data_size);
  VT_CHECK(entry.end - entry.begin == bytes, "{}: data_offsets holds {} bytes, expected {} for {} of shape {}", where,
           entry.end - entry.begin, bytes, entry.dtype, to_string(entry.shape));
  return entry;
}

/// Sorted by place, the ranges must touch each other from the first byte to the last.
void check_tiling(const std::vector<TensorEntry>& entries, std::uint64_t data_size, const std::string& file) {
  std::uint64_t position = 0;
  for (const TensorEntry& entry : entries) {
    VT_CHECK(entry.begin == position, "{}: tensor '{}' begins at byte {} of the data, expected {} (no {} allowed)",
             file, entry.name, entry.begin, position, entry.begin > position ? "hole" : "overlap");
    position = entry.end;
  }
  VT_CHECK(position == data_size, "{}: {} bytes follow the last tensor, expected none", file, data_size - position);
}

/// Where the digits of the header's own hash stand in its text.
std::size_t hash_position(const std::string& header, const std::string& digits) {
  const std::string member = fmt::format("\"{}\":\"{}\"", header_hash_key, digits);
  const std::size_t at = header.find(member);
  return at == std::string::npos ? at : at + member.size() - 1 - digits.size();
}

std::string hash_of_header(std::string header, std::size_t digits_at) {
  header.replace(digits_at, hash_digits, hash_digits, '0');
  return hash_text(xxh64(std::as_bytes(std::span(header.data(), header.size()))));
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  const auto size = static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
  return {size == 0 ? nullptr : static_cast<const std::byte*>(tensor.raw_data()), size};
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) : path_(path), file_(open_for_reading(path)) {
  struct stat status {};
  VT_CHECK(::fstat(file_.get(), &status) == 0 && S_ISREG(status.st_mode), "{}: expected a regular file", path.string());
  const auto file_size = static_cast<std::uint64_t>(status.st_size);
  VT_CHECK(file_size >= 8, "{}: has {} bytes, expected a safetensors file of at least 8", path.string(), file_size);
  std::uint64_t length = 0;
  read_exactly(file_, path, 0, std::as_writable_bytes(std::span(&length, 1)));
  VT_CHECK(length <= max_header && length <= file_size - 8, "{}: header length is {}, expected at most {}",
           path.string(), length, std::min(max_header, file_size - 8));
  std::string header(length, '\0');
  read_exactly(file_, path, 8, std::as_writable_bytes(std::span(header.data(), header.size())));
  VT_CHECK(!header.empty() && header[0] == '{', "{}: header does not begin with '{{'", path.string());
  data_start_ = 8 + length;
  parse_header(header, file_size - data_start_);
  parse_hashes(header);
}

void SafetensorsReader::parse_header(const std::string& header, std::uint64_t data_size) {
  const std::string file = path_.string();
  const Json json = parse_json(header, file);
  for (const auto& [name, value] : json.items()) {
    if (name != metadata_key) {
      entries_.push_back(parse_entry(name, value, data_size, file));
      continue;
    }
    VT_CHECK(value.is_object(), "{}: {} is not an object of strings", file, metadata_key);
    for (const auto& [key, text] : value.items()) {
      VT_CHECK(text.is_string(), "{}: {}: '{}' is {}, expected a string", file, metadata_key, key, text.dump());
      metadata_[key] = text.get<std::string>();
    }
  }
  std::ranges::stable_sort(entries_, [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_tiling(entries_, data_size, file);
  for (std::size_t i = 0; i < entries_.size(); ++i) index_[entries_[i].name] = i;
}

/// Takes our own keys out of the metadata. One of them may be damaged, but not all: what is left of
/// a scheme must be whole.
void SafetensorsReader::parse_hashes(const std::string& header) {
  const auto scheme = metadata_.find(scheme_key);
  const auto own = metadata_.find(header_hash_key);
  const bool any = scheme != metadata_.end() || own != metadata_.end();
  if (!any) return;
  const std::string file = path_.string();
  VT_CHECK(scheme != metadata_.end() && own != metadata_.end(),
           "{}: metadata has only one of '{}' and '{}': the header is damaged", file, scheme_key, header_hash_key);
  const std::size_t at = own->second.size() == hash_digits ? hash_position(header, own->second) : std::string::npos;
  VT_CHECK(at != std::string::npos && hash_of_header(header, at) == own->second,
           "{}: header does not have the hash {} that it names: the file is damaged", file, own->second);
  VT_CHECK(scheme->second == scheme_version, "{}: '{}' is version {}, expected {}", file, scheme_key, scheme->second,
           scheme_version);
  for (const TensorEntry& entry : entries_) {
    const auto found = metadata_.find(tensor_hash_prefix + entry.name);
    VT_CHECK(found != metadata_.end(), "{}: metadata has no hash of tensor '{}'", file, entry.name);
    hashes_[entry.name] = found->second;
    metadata_.erase(found);
  }
  metadata_.erase(scheme_key);
  metadata_.erase(header_hash_key);
  metadata_hashed_ = true;
}

Tensor SafetensorsReader::read(const std::string& name) const {
  const auto found = index_.find(name);
  VT_CHECK(found != index_.end(), "{}: has no tensor '{}' among its {}", path_.string(), name, entries_.size());
  const TensorEntry& entry = entries_[found->second];
  const ElementType& type = *find_type(entry.dtype);
  const std::string where = fmt::format("{}: tensor '{}'", path_.string(), name);
  const bool as_it_is = type.dtype && size_of(*type.dtype) == type.bytes && type.dtype != DType::boolean;
  Tensor tensor;
  std::vector<std::byte> widened;
  std::span<std::byte> bytes;
  if (as_it_is) {
    tensor = empty(entry.shape, *type.dtype);
    bytes = {const_cast<std::byte*>(bytes_of(tensor).data()), entry.end - entry.begin};
  } else {
    widened.resize(entry.end - entry.begin);
    bytes = widened;
  }
  read_exactly(file_, path_, data_start_ + entry.begin, bytes);
  if (const auto hash = hashes_.find(name); hash != hashes_.end()) {
    const std::string actual = hash_text(xxh64(bytes));
    VT_CHECK(actual == hash->second, "{} has the hash {}, expected {}: the file is damaged", where, actual,
             hash->second);
  }
  return as_it_is ? tensor : tensor_of_elements(type, entry.shape, widened, where);
}

NamedTensors SafetensorsReader::read_all() const {
  NamedTensors all;
  for (const TensorEntry& entry : entries_) all.emplace_back(entry.name, read(entry.name));
  return all;
}

std::map<std::string, Tensor> read_safetensors(const std::filesystem::path& path) {
  std::map<std::string, Tensor> tensors;
  for (auto& [name, tensor] : SafetensorsReader(path).read_all()) tensors.emplace(name, std::move(tensor));
  return tensors;
}

namespace {

/// The header of row-major CPU tensors, padded so that the data begins at a multiple of 8, with its
/// own hash filled in.
std::string make_header(const NamedTensors& tensors, const Metadata& metadata, const std::string& file) {
  nlohmann::ordered_json about = {{scheme_key, scheme_version}, {header_hash_key, std::string(hash_digits, '0')}};
  for (const auto& [key, value] : metadata) {
    VT_CHECK(!key.starts_with(own_prefix), "{}: metadata key '{}' is reserved", file, key);
    about[key] = value;
  }
  nlohmann::ordered_json header = {{metadata_key, Json()}};
  std::uint64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    VT_CHECK(!header.contains(name), "{}: tensor '{}' is given twice", file, name);
    const auto bytes = bytes_of(tensor);
    about[tensor_hash_prefix + name] = hash_text(xxh64(bytes));
    header[name] = {{"dtype", file_type_of(tensor.dtype())},
                    {"shape", std::vector<std::int64_t>(tensor.shape().begin(), tensor.shape().end())},
                    {"data_offsets", {position, position + bytes.size()}}};
    position += bytes.size();
  }
  header[metadata_key] = std::move(about);
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("{}: a name or a metadata string is not UTF-8", file));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::string zeros(hash_digits, '0');
  const std::size_t at = hash_position(text, zeros);
  return text.replace(at, hash_digits, hash_of_header(text, at));
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors, const Metadata& metadata) {
  NamedTensors ready;
  for (const auto& [name, tensor] : tensors) {
    VT_CHECK(tensor.defined(), "{}: tensor '{}' is undefined", path.string(), name);
    ready.emplace_back(name, contiguous_data(to_device(tensor.detach(), cpu)));
  }
  // Wide elements first, so that every tensor begins at a multiple of its element's size.
  std::ranges::stable_sort(
      ready, [](const auto& a, const auto& b) { return size_of(a.second.dtype()) > size_of(b.second.dtype()); });
  const std::string header = make_header(ready, metadata, path.string());
  const std::uint64_t length = header.size();
  std::vector<std::span<const std::byte>> parts = {std::as_bytes(std::span(&length, 1)),
                                                   std::as_bytes(std::span(header.data(), header.size()))};
  for (const auto& [name, tensor] : ready) parts.push_back(bytes_of(tensor));
  write_file_atomically(path, parts, [](const std::filesystem::path& written) {
    const SafetensorsReader file(written);
    for (const TensorEntry& entry : file.entries()) file.read(entry.name);
  });
}

}  // namespace vitrine
