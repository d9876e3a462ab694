// The directory at the end of the archive is what counts; local headers must agree with it.
#include "weights/files/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "weights/files/byte_cursor.h"

namespace vitrine {
namespace {

constexpr std::uint32_t local_signature = 0x04034b50, directory_signature = 0x02014b50, end_signature = 0x06054b50,
                        end64_signature = 0x06064b50, locator64_signature = 0x07064b50;
constexpr std::uint64_t local_bytes = 30, directory_bytes = 46, end_bytes = 22, locator64_bytes = 20, end64_bytes = 56;
constexpr std::uint64_t longest_comment = 0xFFFF;
constexpr std::uint16_t zip64_extra = 1, stored = 0, deflated = 8, encrypted_flag = 1;
/// What deflated entries may unpack to: many times what weights do, far less than a zip bomb.
constexpr std::uint64_t most_unpacked = std::uint64_t{64} << 20, most_growth = 64;

/// Replaces sizes that are all ones by those of the zip64 field; they stand there in this order.
void take_zip64(std::span<const std::byte> extra, ZipEntry& entry, const std::string& where) {
  ByteCursor fields(extra, where);
  while (fields.left() >= 4) {
    const auto kind = fields.number<std::uint16_t>(), size = fields.number<std::uint16_t>();
    ByteCursor field(fields.bytes(size), where);
    if (kind != zip64_extra) continue;
    for (std::uint64_t* value : {&entry.size, &entry.packed_size, &entry.header}) {
      if (*value == 0xFFFFFFFF) *value = field.number<std::uint64_t>();
    }
    return;
  }
}

/// Deflated bytes -> `size` bytes, in pieces, so that a size that is not true takes no memory.
std::vector<std::byte> inflate_all(std::span<const std::byte> packed, std::uint64_t size, const std::string& where) {
  struct Stream : z_stream {
    Stream() : z_stream{} {}
    ~Stream() { inflateEnd(this); }
  } stream;
  VT_CHECK(inflateInit2(&stream, -MAX_WBITS) == Z_OK, "{}: zlib could not be started", where);
  constexpr std::size_t piece = std::size_t{1} << 20;
  std::vector<std::byte> bytes;
  int status = Z_OK;
  while (status == Z_OK) {
    if (stream.avail_in == 0) {
      const std::size_t count = std::min(packed.size(), piece);
      stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
      stream.avail_in = static_cast<uInt>(count);
      packed = packed.subspan(count);
    }
    const std::size_t before = bytes.size();
    bytes.resize(std::min<std::uint64_t>(size + 1, before + piece));  // one more than allowed shows that it is too long
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data() + before);
    stream.avail_out = static_cast<uInt>(bytes.size() - before);
    status = inflate(&stream, Z_NO_FLUSH);
    bytes.resize(bytes.size() - stream.avail_out);
    VT_CHECK(bytes.size() <= size, "{}: unpacks to more than the {} bytes that it names", where, size);
  }
  VT_CHECK(status == Z_STREAM_END && bytes.size() == size, "{}: cannot be unpacked: cut off or damaged", where);
  return bytes;
}

}  // namespace

ZipReader::ZipReader(const std::filesystem::path& path)
    : path_(path), where_(path.string()), file_(open_for_reading(path)), file_size_(std::filesystem::file_size(path)) {
  read_directory(find_directory());
}

std::vector<std::byte> ZipReader::bytes_at(std::uint64_t offset, std::uint64_t count) const {
  VT_CHECK(offset <= file_size_ && count <= file_size_ - offset,
           "{}: is a zip archive with {} bytes at {}, expected within its {}: cut off or damaged", where_, count,
           offset, file_size_);
  std::vector<std::byte> bytes(count);
  read_exactly(file_, path_, offset, bytes);
  return bytes;
}

/// The end record stands at the very end, before a comment.
ZipReader::Directory ZipReader::find_directory() const {
  const std::uint64_t tail_size = std::min(file_size_, end_bytes + longest_comment);
  const std::uint64_t tail_begin = file_size_ - tail_size;
  const std::vector<std::byte> tail = bytes_at(tail_begin, tail_size);
  for (std::uint64_t at = tail_size; at-- > 0;) {
    if (tail_size - at < end_bytes) continue;
    ByteCursor end(std::span<const std::byte>(tail).subspan(at), where_);
    if (end.number<std::uint32_t>() != end_signature) continue;
    const auto disk = end.number<std::uint16_t>(), first_disk = end.number<std::uint16_t>();
    Directory directory;
    const auto on_disk = end.number<std::uint16_t>();
    directory.entries = end.number<std::uint16_t>();
    directory.size = end.number<std::uint32_t>();
    directory.begin = end.number<std::uint32_t>();
    if (end.number<std::uint16_t>() != end.left()) continue;  // its comment does not reach the end of the file
    VT_CHECK(disk == 0 && first_disk == 0 && on_disk == directory.entries,
             "{}: is one part of a zip archive in several, expected a whole one", where_);
    const bool is_zip64 = directory.entries == 0xFFFF || directory.size == 0xFFFFFFFF || directory.begin == 0xFFFFFFFF;
    return is_zip64 ? read_zip64_end(tail_begin + at) : directory;
  }
  throw Error(
      fmt::format("{}: is a zip archive without its end: cut off (an unfinished download?) or damaged", where_));
}

ZipReader::Directory ZipReader::read_zip64_end(std::uint64_t end_record) const {
  VT_CHECK(end_record >= locator64_bytes, "{}: has no zip64 record: damaged", where_);
  const auto locator_bytes = bytes_at(end_record - locator64_bytes, locator64_bytes);
  ByteCursor locator(locator_bytes, where_);
  VT_CHECK(locator.number<std::uint32_t>() == locator64_signature, "{}: has no zip64 record: damaged", where_);
  locator.bytes(4);
  const auto bytes = bytes_at(locator.number<std::uint64_t>(), end64_bytes);
  ByteCursor end(bytes, where_);
  VT_CHECK(end.number<std::uint32_t>() == end64_signature, "{}: has no zip64 record: damaged", where_);
  end.bytes(28);
  Directory directory;
  directory.entries = end.number<std::uint64_t>();
  directory.size = end.number<std::uint64_t>();
  directory.begin = end.number<std::uint64_t>();
  return directory;
}

void ZipReader::read_directory(const Directory& directory) {
  VT_CHECK(directory.entries <= directory.size / directory_bytes,
           "{}: is a zip archive of {} entries in {} bytes: damaged", where_, directory.entries, directory.size);
  const std::vector<std::byte> bytes = bytes_at(directory.begin, directory.size);
  ByteCursor cursor(bytes, where_);
  while (cursor.left() > 0) {
    VT_CHECK(cursor.number<std::uint32_t>() == directory_signature, "{}: has a damaged zip directory", where_);
    ZipEntry entry;
    cursor.bytes(4);  // versions
    const auto flags = cursor.number<std::uint16_t>(), method = cursor.number<std::uint16_t>();
    cursor.bytes(4);  // time and date
    entry.crc = cursor.number<std::uint32_t>();
    entry.packed_size = cursor.number<std::uint32_t>();
    entry.size = cursor.number<std::uint32_t>();
    const auto name_size = cursor.number<std::uint16_t>(), extra_size = cursor.number<std::uint16_t>(),
               comment_size = cursor.number<std::uint16_t>();
    cursor.bytes(8);  // disk and attributes
    entry.header = cursor.number<std::uint32_t>();
    entry.name = cursor.text(name_size);
    take_zip64(cursor.bytes(extra_size), entry, where_);
    cursor.bytes(comment_size);
    const std::string where = fmt::format("{}: {}", where_, printable(entry.name));
    VT_CHECK((flags & encrypted_flag) == 0, "{}: is encrypted, expected an archive without password", where);
    VT_CHECK(method == stored || method == deflated, "{}: is packed by method {}, expected stored or deflated", where,
             method);
    entry.deflated = method == deflated;
    VT_CHECK(entry.deflated || entry.size == entry.packed_size, "{}: is stored as {} bytes and has {}: damaged", where,
             entry.packed_size, entry.size);
    VT_CHECK(index_.emplace(entry.name, entries_.size()).second, "{}: is in the archive twice", where);
    entries_.push_back(std::move(entry));
  }
  VT_CHECK(entries_.size() == directory.entries, "{}: has {} zip entries, expected {}: damaged", where_,
           entries_.size(), directory.entries);
  check_layout(directory.begin);
}

/// Entries may not overlap, by which a small archive could unpack to a huge one, nor grow beyond
/// measure.
void ZipReader::check_layout(std::uint64_t directory_begin) const {
  std::vector<const ZipEntry*> by_place;
  std::uint64_t unpacked = 0;
  const std::uint64_t most = std::max(most_unpacked, file_size_ * most_growth);
  for (const ZipEntry& entry : entries_) {
    by_place.push_back(&entry);
    if (!entry.deflated) continue;
    VT_CHECK(entry.size <= most - unpacked, "{}: unpacks to more than {} bytes from {}, which no weights do", where_,
             most, file_size_);
    unpacked += entry.size;
  }
  std::ranges::sort(by_place, {}, [](const ZipEntry* entry) { return entry->header; });
  for (std::size_t i = 0; i < by_place.size(); ++i) {
    const ZipEntry& entry = *by_place[i];
    const std::uint64_t end = i + 1 < by_place.size() ? by_place[i + 1]->header : directory_begin;
    const std::uint64_t room = end < entry.header ? 0 : end - entry.header;
    VT_CHECK(room >= local_bytes && entry.packed_size <= room - local_bytes,
             "{}: {}: overlaps what follows it in the archive: damaged", where_, printable(entry.name));
  }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

std::vector<std::byte> ZipReader::read(const ZipEntry& entry) const {
  const std::string where = fmt::format("{}: {}", where_, printable(entry.name));
  const auto header_bytes = bytes_at(entry.header, local_bytes);
  ByteCursor header(header_bytes, where);
  VT_CHECK(header.number<std::uint32_t>() == local_signature, "{}: has no local header: damaged", where);
  header.bytes(4);  // version and flags
  VT_CHECK(header.number<std::uint16_t>() == (entry.deflated ? deflated : stored),
           "{}: is packed in another way than the directory says: damaged", where);
  header.bytes(16);  // time, date, checksum and sizes, which may stand behind the data instead
  const auto name_size = header.number<std::uint16_t>(), extra_size = header.number<std::uint16_t>();
  const auto name = bytes_at(entry.header + local_bytes, name_size);
  VT_CHECK(std::ranges::equal(name, std::as_bytes(std::span(entry.name))), "{}: has another name before its data",
           where);
  std::vector<std::byte> bytes = bytes_at(entry.header + local_bytes + name_size + extra_size, entry.packed_size);
  if (entry.deflated) bytes = inflate_all(bytes, entry.size, where);
  const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  VT_CHECK(crc == entry.crc, "{}: has the checksum {:08x}, expected {:08x}: the file is damaged", where, crc,
           entry.crc);
  return bytes;
}

}  // namespace vitrine
