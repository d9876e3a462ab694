// The contact sheet of `vitrine augment`: what a recipe makes of pictures, with what was drawn
// below each.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/augment/mixing.h"
#include "data/image/contact_sheet.h"
#include "data/image/image.h"
#include "train/recipe/recipe.h"
#include "train/recipe/setup.h"

namespace vitrine {

struct NamedPicture {
  std::string name;
  Image image;
};

/// One row for each picture: the picture itself, then `versions` of it as training would see them
/// in its first epochs with this seed, if these pictures were the data set. Mixup and CutMix take
/// each column for a batch, and so need an even number of pictures; with an odd one, they are left
/// out, and the sheet's heading says so.
Image augmentation_sheet(const Recipe& recipe, const PretrainedConfig& preprocessing,
                         const std::vector<NamedPicture>& pictures, int versions);

/// The rows of that sheet.
std::vector<std::vector<Tile>> augmentation_tiles(const Recipe& recipe, const PretrainedConfig& preprocessing,
                                                  const std::vector<NamedPicture>& pictures, int versions);

/// A sentence that names what a sheet of this number of pictures leaves out: mixup and CutMix where
/// the number is odd, since each picture needs a partner. Empty where the sheet shows the whole
/// recipe.
std::string not_shown(const Recipe& recipe, std::size_t pictures);

/// What was drawn for one image, as short phrases; none where the image was left as it is.
std::vector<std::string> phrases_of(const TrainTransform& transform, const TransformRecord& record);

/// What was mixed into one image, from its partner, as one phrase: "mixup with 75.0% of picture 4"
/// or "cutmix 90x120 at 3,40 from picture 4" (width, height, left, top); nothing where it was not
/// mixed.
std::optional<std::string> phrase_of(const MixingDraw& draw, std::int64_t partner);

}  // namespace vitrine
