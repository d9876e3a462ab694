// Reading and atomic writing over POSIX calls, because the standard library has no fsync.
#include "weights/files/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "tensor/error.h"

namespace vitrine {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

/// "128 bytes needed, 64 bytes free on its disk": what a user wants to know first when a write
/// fails.
std::string space_report(const std::filesystem::path& path, std::uint64_t needed) {
  std::error_code failure;
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const auto space = std::filesystem::space(folder, failure);
  if (failure) return fmt::format("{} bytes needed", needed);
  return fmt::format("{} bytes needed, {} bytes free on its disk", needed, space.available);
}

void write_all(const FileDescriptor& file, std::span<const std::byte> bytes) {
  constexpr std::size_t largest_write = std::size_t{1} << 30;
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), std::min(bytes.size(), largest_write));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw std::system_error(written < 0 ? errno : ENOSPC, std::generic_category());
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void sync(const FileDescriptor& file) {
  if (::fsync(file.get()) != 0) throw std::system_error(errno, std::generic_category());
}

/// After a rename, the folder itself must reach the disk.
void sync_folder(const std::filesystem::path& folder) {
  const FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) ::fsync(descriptor.get());  // some file systems refuse it: nothing more can be done
}

/// Removes the temporary file unless it has been renamed away.
struct RemoveOnExit {
  std::filesystem::path path;
  bool active = true;
  ~RemoveOnExit() {
    if (active) ::unlink(path.c_str());
  }
};

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileDescriptor open_for_reading(const std::filesystem::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  VT_CHECK(file.get() >= 0, "{}: cannot be opened: {}", path.string(), reason(errno));
  struct stat status {};
  VT_CHECK(::fstat(file.get(), &status) == 0, "{}: cannot be read: {}", path.string(), reason(errno));
  VT_CHECK(!S_ISDIR(status.st_mode), "{}: is a folder, expected a file", path.string());
  return file;
}

void read_exactly(const FileDescriptor& file, const std::filesystem::path& path, std::uint64_t offset,
                  std::span<std::byte> target) {
  while (!target.empty()) {
    const ssize_t count = ::pread(file.get(), target.data(), target.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    VT_CHECK(count >= 0, "{}: cannot be read at byte {}: {}", path.string(), offset, reason(errno));
    VT_CHECK(count > 0, "{}: ends at byte {}, {} more expected", path.string(), offset, target.size());
    offset += static_cast<std::uint64_t>(count);
    target = target.subspan(static_cast<std::size_t>(count));
  }
}

void write_file_atomically(const std::filesystem::path& path, std::span<const std::span<const std::byte>> parts,
                           const std::function<void(const std::filesystem::path& temporary)>& check) {
  std::uint64_t needed = 0;
  for (const auto& part : parts) needed += part.size();
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  RemoveOnExit temporary{folder / fmt::format(".{}.{}.partial", path.filename().string(), ::getpid())};
  try {
    {
      FileDescriptor file(::open(temporary.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
      if (file.get() < 0) {
        temporary.active = false;
        throw std::system_error(errno, std::generic_category());
      }
      for (const auto& part : parts) write_all(file, part);
      sync(file);
    }
    if (check) check(temporary.path);
    if (::rename(temporary.path.c_str(), path.c_str()) != 0) {
      throw std::system_error(errno, std::generic_category());
    }
  } catch (const std::system_error& failure) {
    throw Error(fmt::format("{}: cannot be written: {} ({})", path.string(), failure.code().message(),
                            space_report(path, needed)));
  }
  temporary.active = false;
  sync_folder(folder);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  const std::span<const std::byte> part = std::as_bytes(std::span(text.data(), text.size()));
  write_file_atomically(path, std::span(&part, 1));
}

std::string read_text(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const FileDescriptor file = open_for_reading(path);
  struct stat status {};
  ::fstat(file.get(), &status);
  VT_CHECK(S_ISREG(status.st_mode), "{}: is no ordinary file, expected one: a pipe has no size", path.string());
  const auto size = static_cast<std::uint64_t>(status.st_size);
  VT_CHECK(size <= max_bytes, "{}: has {} bytes, expected at most {}", path.string(), size, max_bytes);
  std::string text(size, '\0');
  read_exactly(file, path, 0, std::as_writable_bytes(std::span(text.data(), text.size())));
  return text;
}

void make_folder(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  VT_CHECK(!failure, "{}: the folder cannot be made: {}", path.string(), failure.message());
}

}  // namespace vitrine
