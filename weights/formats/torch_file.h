// PyTorch's files, as torch.save writes them: .pth, .pt, .bin, .pth.tar. Read without PyTorch and
// without executing anything: the pickle in them may name tensors and plain data, all else is
// refused (weights/formats/pickle.h).
//
// Since PyTorch 1.6 a file is a zip archive (stored entries): NAME/data.pkl, the pickle, in which a
// tensor is a call of torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...);
// NAME/data/KEY, the bytes of each storage; NAME/byteorder. Before, and with
// _use_new_zipfile_serialization=False, it is five pickles (a number that marks the format, its
// version, sizes of the machine, the object, the keys of the storages), then the storages, each
// behind its number of elements. (torch/serialization.py)
//
//   const FileTensors file = read_torch_zip("deit_small.pth");   // .notes: "took "model", one of model, optimizer"
#pragma once

#include <filesystem>

#include "weights/files/elements.h"

namespace vitrine {

/// The state dict in a file: that at the top, or under a key by which training scripts wrap it,
/// such as "model" or "state_dict"; of several the moving average is taken, as timm does.
/// Everything else is left out. Error, of one line, for damaged and for hostile files.
FileTensors read_torch_zip(const std::filesystem::path& path);
FileTensors read_torch_legacy(const std::filesystem::path& path);

}  // namespace vitrine
