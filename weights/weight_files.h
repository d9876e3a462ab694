// Weight files of any format that people have: which one it is, is seen from its first bytes, not
// from its name. A format is one row of the table in weights/weight_files.cpp.
//
//   const FileTensors file = read_weight_file("deit_small.pth");   // also a folder with weights
//   for (const auto& [name, tensor] : file.tensors) ...
#pragma once

#include <filesystem>
#include <string>

#include "weights/files/elements.h"

namespace vitrine {

/// The folder that `path` means: of Hugging Face's cache (models--org--name, with refs and
/// snapshots) the snapshot that refs/main names, or the only one; else `path`.
std::filesystem::path weights_folder(const std::filesystem::path& path);

/// The file with weights that `path` means: itself, or in a folder model.safetensors, its index of
/// several parts, or pytorch_model.bin. Error that says what the folder has, where it has none.
std::filesystem::path weights_file(const std::filesystem::path& path);

/// Error that says what the file is, where it is not safetensors.
void check_is_safetensors(const std::filesystem::path& path);

/// The weights at `path`, a file or a folder, under the names that they have there; of our own
/// checkpoints with a moving average, the average, without optimiser. Error that says what the file
/// is, and what to do, where it is no weights.
FileTensors read_weight_file(const std::filesystem::path& path);

}  // namespace vitrine
