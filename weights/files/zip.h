// Zip archives, in which PyTorch and NumPy store arrays: read strictly, with every size checked
// before memory is taken.
//
//   const ZipReader zip("model.pth");
//   if (const ZipEntry* entry = zip.find("model/data.pkl")) bytes = zip.read(*entry);
//
// The format: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 6.3.10. Stored and deflated
// entries, also beyond 4 GiB (zip64); no encryption, no archives in several parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "weights/files/file.h"

namespace vitrine {

struct ZipEntry {
  std::string name;
  std::uint64_t size = 0, packed_size = 0;  // bytes, and bytes in the archive
  std::uint64_t header = 0;                 // where its local header begins
  std::uint32_t crc = 0;
  bool deflated = false;
};

class ZipReader {
 public:
  /// Reads and checks the directory; no entry is read yet.
  explicit ZipReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<ZipEntry>& entries() const { return entries_; }
  /// The entry of that name, or nullptr.
  const ZipEntry* find(std::string_view name) const;
  /// The unpacked bytes, compared with their checksum.
  std::vector<std::byte> read(const ZipEntry& entry) const;

 private:
  struct Directory {
    std::uint64_t begin = 0, size = 0, entries = 0;
  };
  Directory find_directory() const;
  Directory read_zip64_end(std::uint64_t end_record) const;
  void read_directory(const Directory& directory);
  void check_layout(std::uint64_t directory_begin) const;
  std::vector<std::byte> bytes_at(std::uint64_t offset, std::uint64_t count) const;

  std::filesystem::path path_;
  std::string where_;  // the path, for messages
  FileDescriptor file_;
  std::uint64_t file_size_ = 0;
  std::vector<ZipEntry> entries_;
  std::map<std::string, std::size_t, std::less<>> index_;  // name -> position in entries_
};

}  // namespace vitrine
