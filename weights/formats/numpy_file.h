// NumPy's archives of arrays (.npz), in which Google published the ViT paper's and the AugReg
// weights: a zip archive with a file NAME.npy for each array.
//
// A .npy file is "\x93NUMPY", a version, the length of a header, the header, a Python dictionary
// such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, and the elements.
// (numpy/lib/format.py)
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "weights/files/elements.h"

namespace vitrine {

/// Every array of the archive, under its name without ".npy".
FileTensors read_numpy_archive(const std::filesystem::path& path);

/// One .npy file; Error, beginning with `where`, for another element type than numbers and for
/// damaged ones.
Tensor tensor_of_numpy(std::span<const std::byte> file, const std::string& where);

}  // namespace vitrine
