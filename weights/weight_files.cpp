// The table of formats, and folders that hold weights.
#include "weights/weight_files.h"

#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <set>

#include "weights/files/byte_cursor.h"
#include "weights/files/config_file.h"
#include "weights/files/file.h"
#include "weights/files/safetensors.h"
#include "weights/files/zip.h"
#include "weights/formats/numpy_file.h"
#include "weights/formats/torch_file.h"
#include "weights/names/checkpoint_prefixes.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

FileTensors read_safetensors_weights(const fs::path& path) {
  const SafetensorsReader file(path);
  NamedTensors weights, average;
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name.starts_with(optimizer_prefix)) continue;
    const bool averaged = entry.name.starts_with(average_prefix);
    (averaged ? average : weights)
        .emplace_back(averaged ? entry.name.substr(average_prefix.size()) : entry.name, file.read(entry.name));
  }
  return {.tensors = std::move(average.empty() ? weights : average), .notes = {}};
}

/// Of PyTorch, or of NumPy.
FileTensors read_zip(const fs::path& path) {
  const ZipReader zip(path);
  const auto has = [&](std::string_view ending) {
    return std::ranges::any_of(zip.entries(), [&](const ZipEntry& entry) { return entry.name.ends_with(ending); });
  };
  if (has("data.pkl")) return read_torch_zip(path);
  if (has(".npy")) return read_numpy_archive(path);
  throw Error(fmt::format(
      "{}: is a zip archive of {} files, such as {}, and none of PyTorch or NumPy; unpack it and name the weights in "
      "it",
      path.string(), zip.entries().size(), zip.entries().empty() ? "none" : printable(zip.entries()[0].name)));
}

/// Reads one file of several; another index is an Error.
FileTensors read_part(const fs::path& path);

/// The index of weights in several files: {"weight_map": {NAME: FILE beside the index}}.
FileTensors read_shards(const fs::path& index) {
  const ConfigFile config(index);
  std::map<std::string, std::set<std::string>> names_in;
  for (const auto& [name, file] : config.members("weight_map")) {
    VT_CHECK(!file.empty() && fs::path(file).filename() == file && file != "." && file != "..",
             "{}: {} is in the file \"{}\", expected the name of one beside the index", index.string(), printable(name),
             printable(file));
    names_in[file].insert(name);
  }
  VT_CHECK(!names_in.empty(), "{}: has no weight_map, expected an index of weights in several files", index.string());
  FileTensors all;
  for (const auto& [file, names] : names_in) {
    const fs::path path = index.parent_path() / file;
    VT_CHECK(fs::exists(path), "{}: does not exist, but {} names it: one of {} parts is missing", path.string(),
             index.filename().string(), names_in.size());
    std::set<std::string> missing = names;
    for (auto& entry : read_part(path).tensors) {
      VT_CHECK(missing.erase(entry.first) == 1, "{}: has {}, which {} does not place there", path.string(),
               printable(entry.first), index.filename().string());
      all.tensors.push_back(std::move(entry));
    }
    VT_CHECK(missing.empty(), "{}: lacks {}, which {} places there", path.string(), printable(*missing.begin()),
             index.filename().string());
  }
  all.notes.push_back(fmt::format("read {} tensors from {} files", all.tensors.size(), names_in.size()));
  return all;
}

// ---- Which format ----

/// The first bytes of a file, and its size.
struct FileStart {
  std::string text;
  std::uint64_t size = 0;

  bool begins(std::string_view signature) const { return text.starts_with(signature); }
  /// The same without white space before it and with any letter case.
  bool begins_text(std::string_view word) const {
    std::size_t at = 0;
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
    return text.size() - at >= word.size() &&
           std::ranges::equal(word, text.substr(at, word.size()), [](char a, char b) {
             return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
           });
  }
};

/// A header in JSON behind its length. Whether the length is true, the reader says.
bool has_json_header(const FileStart& start) {
  std::uint64_t length = 0;
  if (start.text.size() <= sizeof length || start.text[sizeof length] != '{') return false;
  std::memcpy(&length, start.text.data(), sizeof length);
  return length < (std::uint64_t{1} << 40);
}

bool is_empty(const FileStart& start) { return start.size == 0; }
bool is_index(const FileStart& start) { return start.text.find("weight_map") != std::string::npos; }
bool is_pickle(const FileStart& start) { return start.text.size() > 1 && start.text[1] >= 2 && start.text[1] <= 5; }
bool is_tar(const FileStart& start) { return start.text.size() > 262 && start.text.compare(257, 5, "ustar") == 0; }
bool is_zeros(const FileStart& start) { return start.text.find_first_not_of('\0') == std::string::npos; }

/// What a file can be, by all that the row says of its start. It has a reader, or the message
/// "FILE: is NAME; ADVICE".
struct FileFormat {
  const char* name;
  std::string_view bytes = {};  // it begins with them
  std::string_view text = {};   // the same behind white space, in any letter case
  bool (*test)(const FileStart& start) = nullptr;
  FileTensors (*read)(const fs::path& path) = nullptr;
  const char* advice = "";

  bool matches(const FileStart& start) const {
    return start.begins(bytes) && start.begins_text(text) && (!test || test(start));
  }
};

constexpr const char* expected = "expected weights as .safetensors, .pth, .pt, .bin or .npz";
constexpr const char* unpack = "unpack it first and name the file in it";
constexpr const char* page =
    "download the file itself; of Hugging Face the address has /resolve/ where the page has /blob/";
constexpr const char* its_folder = "name the folder that it describes, or the file with the weights";

/// The first row that matches counts.
constexpr FileFormat formats[] = {
    {.name = "an empty file", .test = is_empty, .advice = "download or save it again (is the disk full?)"},
    {.name = "safetensors", .test = has_json_header, .read = read_safetensors_weights},
    {.name = "a zip archive", .bytes = "PK\3\4", .read = read_zip},
    {.name = "a file of PyTorch before 1.6",
     .bytes = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.",
     .read = read_torch_legacy},
    {.name = "an index of several files", .text = "{", .test = is_index, .read = read_shards},
    {.name = "a Git LFS pointer, not the file itself",
     .bytes = "version https://git-lfs",
     .advice = "run `git lfs pull` in its folder"},
    {.name = "a web page", .text = "<!doctype html", .advice = page},
    {.name = "a web page", .text = "<html", .advice = page},
    {.name = "XML, perhaps a server's error message",
     .text = "<?xml",
     .advice = "look into it, and download the file again"},
    {.name = "a Python pickle, but not of torch.save",
     .bytes = "\x80",
     .test = is_pickle,
     .advice = "save the weights in Python with torch.save or safetensors.torch.save_file"},
    {.name = "one array of NumPy", .bytes = "\x93NUMPY", .advice = "expected an archive of named arrays, .npz"},
    {.name = "packed by gzip", .bytes = "\x1f\x8b", .advice = unpack},
    {.name = "packed by xz", .bytes = "\xfd\x37zXZ", .advice = unpack},
    {.name = "packed by bzip2", .bytes = "BZh", .advice = unpack},
    {.name = "packed by zstd", .bytes = "\x28\xb5\x2f\xfd", .advice = unpack},
    {.name = "a tar archive", .test = is_tar, .advice = unpack},
    {.name = "an HDF5 file, as Keras writes", .bytes = "\x89HDF", .advice = expected},
    {.name = "a GGUF file", .bytes = "GGUF", .advice = expected},
    {.name = "a picture", .bytes = "\x89PNG", .advice = expected},
    {.name = "a picture", .bytes = "\xff\xd8\xff", .advice = expected},
    {.name = "JSON text", .text = "{", .advice = its_folder},
    {.name = "JSON text", .text = "[", .advice = its_folder},
    {.name = "a file of zeros", .test = is_zeros, .advice = "its download was not finished"},
};

FileStart read_start(const fs::path& path) {
  const FileDescriptor file = open_for_reading(path);
  struct stat status {};
  VT_CHECK(::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode), "{}: expected a regular file", path.string());
  FileStart start{.text = {}, .size = static_cast<std::uint64_t>(status.st_size)};
  start.text.resize(std::min<std::uint64_t>(start.size, 4096));
  read_exactly(file, path, 0, std::as_writable_bytes(std::span(start.text.data(), start.text.size())));
  return start;
}

/// The format of the file; Error where it has none with weights.
const FileFormat& format_of(const fs::path& file) {
  const FileStart start = read_start(file);
  for (const FileFormat& format : formats) {
    if (!format.matches(start)) continue;
    VT_CHECK(format.read, "{}: is {}; {}", file.string(), format.name, format.advice);
    return format;
  }
  throw Error(fmt::format("{}: is no weights of a known format: its {} bytes begin with \"{}\"; {}", file.string(),
                          start.size, printable(start.text.substr(0, 16)), expected));
}

FileTensors read_part(const fs::path& path) {
  const FileFormat& format = format_of(path);
  VT_CHECK(format.read != read_shards, "{}: is {}, expected one of the files", path.string(), format.name);
  return format.read(path);
}

/// What a folder is searched for, the first that is there.
constexpr const char* names_in_folder[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                           "pytorch_model.bin.index.json"};

std::string content_of(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(printable(entry.path().filename().string()));
  std::ranges::sort(names);
  if (names.size() > 8) names.resize(8), names.emplace_back("...");
  return names.empty() ? "nothing" : fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

fs::path weights_folder(const fs::path& path) {
  const fs::path snapshots = path / "snapshots", main = path / "refs" / "main";
  if (!fs::is_directory(snapshots)) return path;
  if (fs::exists(main)) {
    std::string commit = read_text(main, 1000);
    std::erase_if(commit, [](unsigned char c) { return std::isspace(c); });
    VT_CHECK(!commit.empty() && fs::path(commit).filename() == commit && fs::is_directory(snapshots / commit),
             "{}: names \"{}\", expected one of the folders in {}", main.string(), printable(commit),
             snapshots.string());
    return snapshots / commit;
  }
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(snapshots)) all.push_back(entry.path());
  VT_CHECK(all.size() == 1, "{}: has {} folders and no refs/main beside, expected the folder of one of them",
           snapshots.string(), all.size());
  return all[0];
}

fs::path weights_file(const fs::path& path) {
  if (!fs::is_directory(path)) return path;
  const fs::path folder = weights_folder(path);
  for (const char* name : names_in_folder) {
    if (fs::exists(folder / name)) return folder / name;
    VT_CHECK(!fs::is_symlink(folder / name), "{}: is a link to {}, which does not exist: an unfinished download",
             (folder / name).string(), fs::read_symlink(folder / name).string());
  }
  throw Error(fmt::format("{}: has no weights: expected {} in it, found {}", folder.string(),
                          fmt::join(names_in_folder, ", "), content_of(folder)));
}

void check_is_safetensors(const fs::path& path) {
  const FileFormat& format = format_of(path);
  VT_CHECK(format.read == read_safetensors_weights, "{}: is {}, expected safetensors", path.string(), format.name);
}

FileTensors read_weight_file(const fs::path& path) {
  const fs::path file = weights_file(path);
  return format_of(file).read(file);
}

}  // namespace vitrine
