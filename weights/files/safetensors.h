// safetensors: named tensors in one file, read strictly and written atomically, with a hash of
// every tensor.
//
//   write_safetensors("model.safetensors", {{"head.weight", weight}, {"head.bias", bias}});
//   SafetensorsReader file("model.safetensors");
//   Tensor weight = file.read("head.weight");
//
// The format (huggingface/safetensors, README "Format"): a little-endian u64, the length of the
// header; the header, a JSON object {"name": {"dtype", "shape", "data_offsets": [begin, end]},
// "__metadata__": {string: string}}; the data, which the ranges tile without hole or overlap. Any
// tool that knows the format reads our files.
//
// Ours carry in `__metadata__`: "vitrine.scheme" = version of this scheme, "vitrine.hash" = XXH64
// of the header (with that value read as zeros), and "vitrine.hash/<name>" = XXH64 of the tensor's
// bytes. A file that has them is checked as it is read, so that no bit of it can change unnoticed;
// a file without them is read as it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "weights/files/elements.h"
#include "weights/files/file.h"

namespace vitrine {

using Metadata = std::map<std::string, std::string>;

/// What the header says about one tensor.
struct TensorEntry {
  std::string name;
  std::string dtype;  // as in the file: "F32", "BF16", ...
  Shape shape;
  std::uint64_t begin = 0;  // bytes from the start of the data
  std::uint64_t end = 0;
};

class SafetensorsReader {
 public:
  /// Reads and checks the header; no tensor is read yet. Throws an Error that names the file, the
  /// entry and the reason.
  explicit SafetensorsReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<TensorEntry>& entries() const { return entries_; }  // in the order of the data
  const Metadata& metadata() const { return metadata_; }                // without the hashes
  bool contains(const std::string& name) const { return index_.contains(name); }
  bool has_hashes() const { return !hashes_.empty() || metadata_hashed_; }

  /// One tensor, on the CPU, verified against its hash where the file has one. F16 becomes f32, I8,
  /// I16 and U16 become i32. An unknown name or a dtype that cannot be read is an Error that says
  /// what there is.
  Tensor read(const std::string& name) const;
  NamedTensors read_all() const;

 private:
  void parse_header(const std::string& header, std::uint64_t data_size);
  void parse_hashes(const std::string& header);

  std::filesystem::path path_;
  FileDescriptor file_;
  std::uint64_t data_start_ = 0;
  std::vector<TensorEntry> entries_;
  std::map<std::string, std::size_t> index_;  // name -> position in entries_
  Metadata metadata_;
  std::map<std::string, std::string> hashes_;
  bool metadata_hashed_ = false;
};

/// Every tensor of the file by name.
std::map<std::string, Tensor> read_safetensors(const std::filesystem::path& path);

/// Writes the tensors (any device, any strides) in place of `path`; the finished file is read back
/// and its hashes are compared before it replaces the old one. Names must be unique; metadata keys
/// may not begin with "vitrine.".
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors, const Metadata& metadata = {});

}  // namespace vitrine
