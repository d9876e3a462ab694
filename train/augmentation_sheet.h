// The contact sheet of `vitrine augment`: what a recipe makes of pictures, with what was drawn below each.
#pragma once

#include <string>
#include <vector>

#include "data/image.h"
#include "train/recipe.h"
#include "train/setup.h"

namespace vitrine {

struct NamedPicture {
  std::string name;
  Image image;
};

/// One row for each picture: the picture itself, then `versions` of it as training would see them in its first epochs
/// with this seed, if these pictures were the data set. Mixup and CutMix take each column for a batch, and so need an
/// even number of pictures; with an odd one, they are left out.
Image augmentation_sheet(const Recipe& recipe, const PretrainedConfig& preprocessing,
                         const std::vector<NamedPicture>& pictures, int versions);

/// What was drawn for one image, as short phrases; at least one.
std::vector<std::string> phrases_of(const TrainTransform& transform, const TransformRecord& record);

}  // namespace vitrine
