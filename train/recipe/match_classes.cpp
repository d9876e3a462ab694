// Names of classes, compared; labels, renumbered.
#include "train/recipe/match_classes.h"

#include <algorithm>

namespace vitrine {
namespace {

/// The same samples with other labels.
class Relabeled : public Dataset {
 public:
  Relabeled(DatasetPtr data, std::vector<std::int64_t> labels, std::vector<std::string> names)
      : data_(std::move(data)), labels_(std::move(labels)) {
    class_names_ = std::move(names);
  }
  std::int64_t size() const override { return data_->size(); }
  std::string name(std::int64_t index) const override { return data_->name(index); }
  Sample get(std::int64_t index) const override {
    Sample sample = data_->get(index);
    sample.label = labels_.at(static_cast<std::size_t>(sample.label));
    return sample;
  }

 private:
  DatasetPtr data_;
  std::vector<std::int64_t> labels_;
};

/// The number of each class of the data among the weights' names; -1 for those that are not there.
std::vector<std::int64_t> numbers_of(const std::vector<std::string>& ours, const std::vector<std::string>& theirs) {
  std::vector<std::int64_t> numbers;
  for (const std::string& name : ours) {
    const auto found = std::ranges::find(theirs, name);
    numbers.push_back(found == theirs.end() ? -1 : found - theirs.begin());
  }
  return numbers;
}

MatchedClasses match_by_name(DatasetPtr data, const std::vector<std::string>& theirs, std::vector<std::int64_t> numbers,
                             const std::string& where) {
  const std::vector<std::string> ours = data->class_names();
  for (const std::string& name : ours) {
    VT_CHECK(std::ranges::count(theirs, name) == 1, "{}: has {} classes named {}, expected one", where,
             std::ranges::count(theirs, name), name);
  }
  const auto moved = std::ranges::find_if(numbers, [i = std::int64_t{0}](std::int64_t n) mutable { return n != i++; });
  std::string note =
      fmt::format("the data have {} of the {} classes of the weights, matched by name", ours.size(), theirs.size());
  if (moved != numbers.end()) {
    const auto at = static_cast<std::size_t>(moved - numbers.begin());
    note += fmt::format(": {} is number {} of the data and output {}", ours[at], at, *moved);
  }
  return {std::make_shared<Relabeled>(std::move(data), std::move(numbers), theirs), {note}};
}

}  // namespace

void check_has_head(const Model& model, const std::string& where) {
  VT_CHECK(model.classes() > 0,
           "{}: the model has no head (num_classes is 0) and gives features, expected one that gives classes; "
           "`vitrine train --pretrained-path` gives it a head",
           where);
}

MatchedClasses match_classes(DatasetPtr data, const LoadedModel& loaded, const std::string& where) {
  check_has_head(loaded.model, where);
  const std::int64_t outputs = loaded.model.classes();
  const std::vector<std::string>&theirs = loaded.label_names, &ours = data->class_names();
  const auto classes = static_cast<std::int64_t>(ours.size());
  VT_CHECK(outputs >= classes, "{}: the model has {} outputs, expected at least {}, the classes of the data", where,
           outputs, classes);
  if (theirs.empty() || ours == theirs) {
    VT_CHECK(outputs == classes || ours == theirs,
             "{}: the model has {} outputs without names and the data {} classes, expected as many outputs, or "
             "label_names in config.json, by which classes are matched",
             where, outputs, classes);
    return {std::move(data), {}};
  }
  std::vector<std::int64_t> numbers = numbers_of(ours, theirs);
  const auto unknown = std::ranges::find(numbers, -1);
  if (unknown == numbers.end()) return match_by_name(std::move(data), theirs, std::move(numbers), where);
  const auto known = std::ranges::find_if(numbers, [](std::int64_t number) { return number >= 0; });
  const std::string& name = ours[static_cast<std::size_t>(unknown - numbers.begin())];
  VT_CHECK(
      known == numbers.end(),
      "{}: the data have the class {}, which the weights do not have, though they have {}; expected classes of the "
      "weights alone, or none of their names",
      where, name, ours[static_cast<std::size_t>(known - numbers.begin())]);
  VT_CHECK(
      outputs == classes,
      "{}: the model has {} outputs, such as {}, and the data {} classes with other names, such as {}: nothing tells "
      "which is which",
      where, outputs, theirs[0], classes, name);
  std::string note = fmt::format(
      "warning: class 0 is {} in the data, but {} for the weights; taken for the same by number", ours[0], theirs[0]);
  return {std::move(data), {std::move(note)}};
}

}  // namespace vitrine
