// Renaming of weights by the tables of weights/names/weight_tables.h.
#include "weights/names/weight_layouts.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "models/swin.h"
#include "ops/ops.h"
#include "weights/names/name_fit.h"
#include "weights/names/square_side.h"
#include "weights/names/weight_tables.h"

namespace vitrine {
namespace {

/// Our own table for these names; nullptr where no architecture fits.
const NameTable* our_table(const StateDict& weights) {
  const NameTable* best = nullptr;
  std::ptrdiff_t most = 0;
  for (const NameTable& table : name_tables()) {
    if (table.role != TableRole::ours) continue;
    const std::ptrdiff_t known = std::ranges::count_if(
        weights, [&](const auto& entry) { return find_row(table, &NameRow::theirs, entry.first).has_value(); });
    if (known > most) most = known, best = &table;
  }
  return best;
}

// ---- Tensors ----

/// Query, key and value while they are gathered, by our name for all three.
struct Parts {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
};

Tensor join(const Parts& parts) {
  for (std::size_t i = 1; i < parts.tensors.size(); ++i) {
    VT_CHECK(parts.tensors[i].shape() == parts.tensors[0].shape(), "weights: {} has shape {}, expected {} as {} has it",
             parts.names[i], to_string(parts.tensors[i].shape()), to_string(parts.tensors[0].shape()), parts.names[0]);
  }
  return concat(parts.tensors, 0);
}

/// Puts the part in its place; the whole goes into the state when the last part has come.
void add_part(std::map<std::string, Parts>& all, const std::string& ours, const FoundRow& found,
              const std::pair<std::string, Tensor>& entry, StateDict& state) {
  Parts& parts = all[ours];
  const std::size_t count = found.row->theirs.parts(), part = found.match.part;
  parts.names.resize(count);
  parts.tensors.resize(count);
  VT_CHECK(!parts.tensors[part].defined(), "weights: {} and {} are the same weight", parts.names[part], entry.first);
  parts.names[part] = entry.first;
  parts.tensors[part] = entry.second;
  if (std::ranges::all_of(parts.tensors, [](const Tensor& t) { return t.defined(); })) {
    state.emplace_back(ours, join(parts));
  }
}

}  // namespace

WeightLayout weight_layout_from_name(std::string_view name) {
  if (name == "timm") return WeightLayout::timm;
  if (name == "torchvision") return WeightLayout::torchvision;
  VT_CHECK(name == "huggingface", "weight layout: \"{}\" is not known, expected timm, torchvision or huggingface",
           name);
  return WeightLayout::huggingface;
}

// ---- From another layout to ours ----

namespace {

/// One weight of the file into the state, under our name and in our form.
class Translator {
 public:
  Translator(const NameFit& fit, TranslatedWeights& result) : fit_(fit), result_(result) {}

  void take(const std::pair<std::string, Tensor>& entry) {
    const std::string full = fit_.full_name(entry.first);
    if (!entry.first.starts_with(fit_.prefix) && !fit_.knows(full)) {
      (is_copy(full) ? result_.copies : result_.unknown).push_back(entry.first);
      return;
    }
    if (any_matches(fit_.table->derived, full)) {
      result_.derived.push_back(entry.first);
    } else if (fit_.table->role == TableRole::ours) {
      put(full, entry.first, entry.second);
    } else if (const auto found = find_row(*fit_.table, &NameRow::theirs, full)) {
      take_found(*found, entry);
    } else {
      (any_matches(fit_.table->unused, full) ? result_.unused : result_.unknown).push_back(entry.first);
    }
  }

 private:
  /// Whether it ends in a name that the table knows: of a second model in the file.
  bool is_copy(const std::string& name) const {
    for (std::size_t at = name.find_first_of("./"); at != std::string::npos; at = name.find_first_of("./", at + 1)) {
      if (fit_.knows(name.substr(at + 1))) return true;
    }
    return false;
  }

  void take_found(const FoundRow& found, const std::pair<std::string, Tensor>& entry) {
    const std::string ours = found.row->ours.fill(found.match);
    const std::pair shaped(entry.first, to_our_form(entry.second, found.row->form));
    if (found.row->theirs.parts() > 1) {
      add_part(parts_, ours, found, shaped, result_.state);
    } else {
      put(ours, entry.first, shaped.second);
    }
  }

  void put(const std::string& ours, const std::string& name, const Tensor& tensor) {
    const auto [found, is_new] = result_.sources.emplace(ours, name);
    VT_CHECK(is_new, "weights: {} and {} are the same weight", found->second, name);
    result_.state.emplace_back(ours, tensor);
  }

  const NameFit& fit_;
  TranslatedWeights& result_;
  std::map<std::string, Parts> parts_;
};

}  // namespace

TranslatedWeights to_our_layout(const StateDict& weights) {
  const PauseRecording pause;
  TranslatedWeights result;
  for (const auto& [name, tensor] : weights) result.names.push_back(name);
  const NameFit fit = fit_names(result.names);
  result.prefix = fit.prefix;
  result.has_base = fit.has_base;
  if (!fit.table) {
    for (const auto& [name, tensor] : weights) result.state.emplace_back(fit.full_name(name), tensor);
    return result;
  }
  if (fit.table->role != TableRole::ours) result.table = fit.table;
  Translator translator(fit, result);
  for (const auto& entry : weights) translator.take(entry);
  return result;
}

std::string TranslatedWeights::description() const { return table ? table->description : "timm"; }

WeightLayout TranslatedWeights::layout() const {
  const std::string library = description();  // older forms of a library's names are its own, too
  if (library.starts_with("torchvision's ")) return WeightLayout::torchvision;
  return library.starts_with("Hugging Face's ") ? WeightLayout::huggingface : WeightLayout::timm;
}

std::vector<std::string> TranslatedWeights::names_of(const std::string& ours) const {
  auto found = table ? find_row(*table, &NameRow::ours, ours) : std::nullopt;
  const auto source = sources.find(ours);
  const std::size_t parts = found ? found->row->theirs.parts() : 1;
  if (source != sources.end()) return {source->second};
  if (!found) return {prefix + ours};
  std::vector<std::string> theirs;
  for (found->match.part = 0; found->match.part < parts; ++found->match.part) {
    std::string name = found->row->theirs.fill(found->match);
    if (!has_base && name.starts_with(table->base)) name.erase(0, table->base.size());
    theirs.push_back(prefix + name);
  }
  return theirs;
}

Shape TranslatedWeights::shape_of(const std::string& ours, const Shape& shape) const {
  const auto found = table ? find_row(*table, &NameRow::ours, ours) : std::nullopt;
  if (!found || shape.size() == 0) return shape;
  Shape of_part = shape;
  of_part[0] /= static_cast<std::int64_t>(found->row->theirs.parts());
  return shape_in_their_form(of_part, found->row->form);
}

std::vector<std::string> TranslatedWeights::notes() const {
  std::vector<std::string> all;
  if (table) {
    all.push_back(fmt::format("read {} tensors under the names of {}",
                              names.size() - derived.size() - unused.size() - copies.size(), description()));
  }
  if (!prefix.empty()) {
    const auto prefixed =
        std::ranges::count_if(names, [&](const std::string& name) { return name.starts_with(prefix); });
    all.push_back(fmt::format("removed \"{}\", with which {} of the {} names began", prefix, prefixed, names.size()));
  }
  if (!copies.empty()) {
    all.push_back(
        fmt::format("left out {} tensors of another model in the same file, such as {}", copies.size(), copies[0]));
  }
  if (!derived.empty()) {
    all.push_back(
        fmt::format("left out {} buffers that follow from the sizes, such as {}", derived.size(), derived[0]));
  }
  if (!unused.empty()) {
    all.push_back(fmt::format("left out {}: classifiers see the class token itself, here as in transformers",
                              fmt::join(unused, ", ")));
  }
  return all;
}

// ---- From ours to another layout ----

namespace {

const NameTable& written_table(const StateDict& weights, WeightLayout layout, const char* layout_name) {
  const NameTable* ours = our_table(weights);
  VT_CHECK(
      ours,
      "to_layout: the weights are of an architecture that {} does not have, expected ViT, DeiT, Swin, CvT, ResNet or "
      "RegNet",
      layout_name);
  const TableRole role = layout == WeightLayout::torchvision ? TableRole::torchvision : TableRole::huggingface;
  for (const NameTable& table : name_tables()) {
    if (table.architecture == ours->architecture && table.role == role) return table;
  }
  throw Error(fmt::format("to_layout: {} has no {}, expected another layout", layout_name, ours->architecture));
}

/// torchvision keeps with every bias table the index into it, row by row (w^4).
void add_index(StateDict& result, const std::string& table_name, const Tensor& bias_table) {
  const std::int64_t window = (square_side(bias_table.size(0)) + 1) / 2;
  const std::string suffix = "bias_table";
  result.emplace_back(table_name.substr(0, table_name.size() - suffix.size()) + "index",
                      relative_position_index(window));
}

}  // namespace

StateDict to_layout(const StateDict& weights, WeightLayout layout) {
  if (layout == WeightLayout::timm) return weights;
  const char* layout_name = layout == WeightLayout::torchvision ? "torchvision" : "huggingface";
  const NameTable& table = written_table(weights, layout, layout_name);
  const PauseRecording pause;
  StateDict result;
  for (const auto& [ours, tensor] : weights) {
    auto found = find_row(table, &NameRow::ours, ours);
    VT_CHECK(found, "to_layout: {} has no name in {}", ours, table.description);
    const auto parts = static_cast<std::int64_t>(found->row->theirs.parts());
    if (parts == 1) {
      result.emplace_back(found->row->theirs.fill(found->match),
                          found->row->form == TensorForm::flat_grid ? to_flat_grid(tensor) : tensor);
      if (layout == WeightLayout::torchvision && ours.ends_with(".relative_position_bias_table")) {
        add_index(result, result.back().first, tensor);
      }
      continue;
    }
    VT_CHECK(tensor.dim() > 0 && tensor.size(0) % parts == 0, "to_layout: {} has shape {}, expected {} equal parts",
             ours, to_string(tensor.shape()), parts);
    const std::vector<Tensor> pieces = split(tensor, tensor.size(0) / parts, 0);
    for (; found->match.part < pieces.size(); ++found->match.part) {
      result.emplace_back(found->row->theirs.fill(found->match), pieces[found->match.part]);
    }
  }
  return result;
}

}  // namespace vitrine
