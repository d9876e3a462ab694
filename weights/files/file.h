// Files that are either the old one or the new one, never half of it: write a temporary file beside
// the target, fsync it, rename it, fsync the folder. Whatever happens in between (kill -9, a full
// disk), the last good file is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace vitrine {

/// An open file descriptor that closes itself.
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor = -1) : descriptor_(descriptor) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

/// Opens a file for reading. An Error that names the path and the reason when it cannot be opened
/// or is a folder.
FileDescriptor open_for_reading(const std::filesystem::path& path);

/// Reads exactly `target.size()` bytes from byte `offset` on; fewer is an Error that names path and
/// offset.
void read_exactly(const FileDescriptor& file, const std::filesystem::path& path, std::uint64_t offset,
                  std::span<std::byte> target);

/// Replaces `path` by the concatenation of `parts`. `check`, where given, may look at the finished
/// temporary file before it takes the place of the old one, and throw. An Error names the path, the
/// bytes needed and the bytes free on the disk; the old file is then untouched and no temporary
/// file is left.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::span<const std::byte>> parts,
                           const std::function<void(const std::filesystem::path& temporary)>& check = {});
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// The whole file as text; an Error that names the path when it cannot be read or is larger than
/// `max_bytes`.
std::string read_text(const std::filesystem::path& path, std::uint64_t max_bytes = std::uint64_t{1} << 24);

/// Creates the folder and those above it; an Error that names the path and the reason.
void make_folder(const std::filesystem::path& path);

}  // namespace vitrine
