// The names in Google's .npz files of ViT.
#pragma once

#include <vector>

#include "weights/names/weight_tables.h"

namespace vitrine {

/// Those of google-research/vision_transformer (the ViT paper, AugReg) without and with a
/// convolutional front, and of google-research/big_vision. Only read.
std::vector<NameTable> google_tables();

}  // namespace vitrine
