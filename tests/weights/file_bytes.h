// Files made byte by byte: temporary ones, zip archives and pickles.
#pragma once

#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/source_dir.h"

namespace vitrine {

inline std::string golden_file(const std::string& name) { return source_dir() + "/tests/golden/weight_files/" + name; }

inline std::string bytes_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::filesystem::path write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

template <class T>
std::string little_endian(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string deflated(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

/// An entry of a zip archive. A size that is given is named in place of the true one.
struct ZipPart {
  std::string name, bytes;
  bool packed = false;
  std::uint32_t named_size = 0;
};

inline std::string zip_of(const std::vector<ZipPart>& parts) {
  std::string archive, directory;
  for (const ZipPart& part : parts) {
    const std::string data = part.packed ? deflated(part.bytes) : part.bytes;
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(part.bytes.data()), part.bytes.size());
    const auto size = part.named_size ? part.named_size : static_cast<std::uint32_t>(part.bytes.size());
    const std::string common = little_endian<std::uint16_t>(20) + little_endian<std::uint16_t>(0) +
                               little_endian<std::uint16_t>(part.packed ? 8 : 0) + little_endian<std::uint32_t>(0) +
                               little_endian(static_cast<std::uint32_t>(crc)) +
                               little_endian(static_cast<std::uint32_t>(data.size())) + little_endian(size) +
                               little_endian(static_cast<std::uint16_t>(part.name.size())) +
                               little_endian<std::uint16_t>(0);
    directory += "PK\1\2" + little_endian<std::uint16_t>(20) + common + std::string(10, '\0') +
                 little_endian(static_cast<std::uint32_t>(archive.size())) + part.name;
    archive += "PK\3\4" + common + part.name + data;
  }
  const auto count = static_cast<std::uint16_t>(parts.size());
  return archive + directory + "PK\5\6" + std::string(4, '\0') + little_endian(count) + little_endian(count) +
         little_endian(static_cast<std::uint32_t>(directory.size())) +
         little_endian(static_cast<std::uint32_t>(archive.size())) + std::string(2, '\0');
}

/// The archive of one part with the records of those beyond 4 GiB, in which all that does not fit
/// in 16 or 32 bits stands again.
inline std::string zip64_of(const std::string& name, const std::string& bytes) {
  std::string archive = zip_of({{name, bytes}});
  const std::size_t directory = archive.find("PK\1\2"), end = archive.find("PK\5\6");
  const std::string extra =
      little_endian<std::uint16_t>(0xCAFE) + little_endian<std::uint16_t>(2) + "xx" +  // of others
      little_endian<std::uint16_t>(1) + little_endian<std::uint16_t>(24) + little_endian<std::uint64_t>(bytes.size()) +
      little_endian<std::uint64_t>(bytes.size()) + little_endian<std::uint64_t>(0);
  std::string entry = archive.substr(directory, end - directory);
  entry.replace(20, 8, 8, '\xff');
  entry.replace(30, 2, little_endian(static_cast<std::uint16_t>(extra.size())));
  entry.replace(42, 4, 4, '\xff');
  entry += extra;
  const std::string record = "PK\6\6" + little_endian<std::uint64_t>(44) + std::string(12, '\0') +
                             little_endian<std::uint64_t>(1) + little_endian<std::uint64_t>(1) +
                             little_endian<std::uint64_t>(entry.size()) + little_endian<std::uint64_t>(directory);
  const std::string locator = "PK\6\7" + std::string(4, '\0') + little_endian<std::uint64_t>(directory + entry.size()) +
                              little_endian<std::uint32_t>(1);
  return archive.substr(0, directory) + entry + record + locator + "PK\5\6" + std::string(4, '\0') +
         std::string(12, '\xff') + std::string(2, '\0');
}

// ---- Pickles, in pieces ----

inline std::string pickled_text(const std::string& text) {
  return "X" + little_endian(static_cast<std::uint32_t>(text.size())) + text;
}
inline std::string pickled_number(std::int64_t number) { return "\x8a\x08" + little_endian(number); }
inline std::string pickled_tuple(const std::vector<std::string>& items) {
  std::string tuple = "(";
  for (const std::string& item : items) tuple += item;
  return tuple + "t";
}

/// A call of _rebuild_tensor_v2 on float32 numbers.
inline std::string pickled_tensor(const std::string& key, std::int64_t elements, const std::vector<std::int64_t>& shape,
                                  const std::vector<std::int64_t>& strides, std::int64_t offset = 0) {
  std::vector<std::string> sizes, steps;
  for (const std::int64_t size : shape) sizes.push_back(pickled_number(size));
  for (const std::int64_t stride : strides) steps.push_back(pickled_number(stride));
  const std::string storage = pickled_tuple({pickled_text("storage"), "ctorch\nFloatStorage\n", pickled_text(key),
                                             pickled_text("cpu"), pickled_number(elements)}) +
                              "Q";
  return "ctorch._utils\n_rebuild_tensor_v2\n" +
         pickled_tuple({storage, pickled_number(offset), pickled_tuple(sizes), pickled_tuple(steps), "\x89", "}"}) +
         "R";
}

/// A whole pickle: a dictionary with one entry.
inline std::string pickle_of(const std::string& name, const std::string& value) {
  return "\x80\x02}" + pickled_text(name) + value + "s.";
}

/// A file of torch.save with one storage, "0".
inline std::string torch_zip_of(const std::string& pickle, const std::string& storage) {
  return zip_of({{"a/data.pkl", pickle}, {"a/byteorder", "little"}, {"a/data/0", storage}});
}

}  // namespace vitrine
