// Which output of a model is which class of the data: by name, where the weights name their
// classes.
#pragma once

#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "weights/model_folder.h"

namespace vitrine {

/// The data with labels that are outputs of the model, and a note where that changed them or may be
/// wrong. Data that lack classes, or have them in another order, are matched by name. Data none of
/// whose names the weights have, such as "n01440764" for "tench", and weights without names are
/// matched by number, where there are as many classes as outputs. Error, beginning with `where`,
/// for features without a head, and where nothing tells which output is which class.
struct MatchedClasses {
  DatasetPtr data;
  std::vector<std::string> notes;
};
MatchedClasses match_classes(DatasetPtr data, const LoadedModel& loaded, const std::string& where);

/// Error where the model gives features and not classes.
void check_has_head(const Model& model, const std::string& where);

}  // namespace vitrine
