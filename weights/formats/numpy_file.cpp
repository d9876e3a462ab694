// The header of .npy files, read by its three keys and not as Python.
#include "weights/formats/numpy_file.h"

#include <algorithm>
#include <charconv>

#include "weights/files/byte_cursor.h"
#include "weights/files/zip.h"

namespace vitrine {
namespace {

/// What stands behind 'key': in the header, without spaces before it.
std::string_view value_after(std::string_view header, std::string_view key, const std::string& where) {
  const std::string quoted = fmt::format("'{}':", key);
  const std::size_t at = header.find(quoted);
  VT_CHECK(at != std::string_view::npos, "{}: header has no '{}': \"{}\"", where, key, printable(header));
  std::string_view rest = header.substr(at + quoted.size());
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  return rest;
}

/// "'<f4'": the sign of the byte order, which single bytes lack, and the type.
const ElementType& type_of(std::string_view value, const std::string& where) {
  const std::size_t stop = value.substr(std::min<std::size_t>(1, value.size())).find('\'');
  const std::string_view text = value.starts_with('\'') && stop != std::string_view::npos ? value.substr(1, stop) : "";
  const bool is_ordered = text.starts_with('<') || text.starts_with('|');
  const ElementType* type = is_ordered ? find_element_type(&ElementType::numpy, text.substr(1)) : nullptr;
  VT_CHECK(type && type->dtype, "{}: has the element type {}, expected little-endian {}", where,
           printable(value.substr(0, value.find(','))), readable_types(&ElementType::numpy));
  return *type;
}

/// "(3, 4)", "(3,)" or "()".
Shape shape_of(std::string_view value, const std::string& where) {
  const std::string_view text = value.substr(0, value.find(')'));
  Shape shape;
  std::string_view rest = text.substr(std::min<std::size_t>(1, text.size()));
  bool valid = value.starts_with('(') && text.size() < value.size();
  while (valid && !rest.empty()) {
    std::int64_t size = 0;
    const auto [stop, failure] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
    valid = failure == std::errc() && size >= 0 && shape.size() < max_dims;
    if (!valid) break;
    shape.push_back(size);
    rest.remove_prefix(static_cast<std::size_t>(stop - rest.data()));
    while (rest.starts_with(' ') || rest.starts_with(',') || rest.starts_with('L')) rest.remove_prefix(1);
  }
  VT_CHECK(valid, "{}: has the shape \"{}\", expected at most {} sizes", where, printable(text), max_dims);
  return shape;
}

/// The product of the sizes and `bytes`; Error where it is not `available`.
void check_size(const Shape& shape, std::uint64_t bytes, std::uint64_t available, const std::string& where) {
  std::uint64_t needed = bytes;
  bool too_large = false;
  for (const std::int64_t size : shape) {
    too_large = __builtin_mul_overflow(needed, static_cast<std::uint64_t>(size), &needed) || too_large;
  }
  VT_CHECK(!too_large && needed == available, "{}: has {} bytes of elements, expected those of shape {}", where,
           available, to_string(shape));
}

}  // namespace

Tensor tensor_of_numpy(std::span<const std::byte> file, const std::string& where) {
  ByteCursor cursor(file, where);
  VT_CHECK(cursor.text(6) == "\x93NUMPY", "{}: is no array of NumPy", where);
  const auto version = cursor.number<std::uint8_t>();
  cursor.bytes(1);
  VT_CHECK(version >= 1 && version <= 3, "{}: has version {} of NumPy's format, expected 1 to 3", where, version);
  const std::string_view header =
      cursor.text(version == 1 ? cursor.number<std::uint16_t>() : cursor.number<std::uint32_t>());
  const ElementType& type = type_of(value_after(header, "descr", where), where);
  const bool by_columns = value_after(header, "fortran_order", where).starts_with("True");
  const Shape shape = shape_of(value_after(header, "shape", where), where);
  check_size(shape, type.bytes, cursor.left(), where);
  if (!by_columns) return tensor_of_elements(type, shape, cursor.bytes(cursor.left()), where);
  Shape reversed;
  for (int d = shape.size(); d-- > 0;) reversed.push_back(shape[d]);
  const Tensor columns = tensor_of_elements(type, reversed, cursor.bytes(cursor.left()), where);
  Strides strides;
  for (int d = shape.size(); d-- > 0;) strides.push_back(columns.strides()[d]);
  return contiguous_data(columns.view_as(shape, strides, 0));
}

FileTensors read_numpy_archive(const std::filesystem::path& path) {
  const ZipReader zip(path);
  constexpr std::string_view ending = ".npy";
  FileTensors result;
  for (const ZipEntry& entry : zip.entries()) {
    const std::string where = fmt::format("{}: {}", path.string(), printable(entry.name));
    VT_CHECK(entry.name.ends_with(ending) && is_plain_name(entry.name), "{}: expected the name of an array", where);
    const std::vector<std::byte> bytes = zip.read(entry);
    result.tensors.emplace_back(entry.name.substr(0, entry.name.size() - ending.size()), tensor_of_numpy(bytes, where));
  }
  VT_CHECK(!result.tensors.empty(), "{}: is an archive without arrays", path.string());
  return result;
}

}  // namespace vitrine
