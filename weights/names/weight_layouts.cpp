// Renaming of weights by the tables of weights/names/weight_tables.h.
#include "weights/names/weight_layouts.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "models/swin.h"
#include "ops/ops.h"
#include "weights/names/square_side.h"
#include "weights/names/weight_tables.h"

namespace vitrine {
namespace {

// ---- Which table ----

/// What all names begin with and none needs, as wrappers leave it.
std::string common_prefix(const std::vector<std::string>& names) {
  std::string prefix;
  for (bool found = !names.empty(); found;) {
    found = false;
    for (const std::string wrapper : {"module.", "model."}) {
      const std::string longer = prefix + wrapper;
      if (!std::ranges::all_of(names, [&](const std::string& name) { return name.starts_with(longer); })) continue;
      prefix = longer;
      found = true;
    }
  }
  return prefix;
}

bool any_matches(const std::vector<NamePattern>& patterns, std::string_view name) {
  return std::ranges::any_of(patterns, [&](const NamePattern& pattern) { return pattern.match(name).has_value(); });
}

/// A row, and what its variables stand for in one name.
struct FoundRow {
  const NameRow* row = nullptr;
  NameMatch match;
};

std::optional<FoundRow> find_row(const NameTable& table, const NamePattern NameRow::*side, std::string_view name) {
  for (const NameRow& row : table.rows) {
    if (auto match = (row.*side).match(name)) return FoundRow{&row, std::move(*match)};
  }
  return std::nullopt;
}

bool names_have_base(const NameTable& table, const std::vector<std::string>& names, const std::string& prefix) {
  return table.base.empty() || std::ranges::any_of(names, [&](const std::string& name) {
           return std::string_view(name).substr(prefix.size()).starts_with(table.base);
         });
}

/// The name of a file as the table has it.
std::string full_name(const std::string& name, const std::string& prefix, const std::string& missing_base) {
  return missing_base + name.substr(prefix.size());
}

/// The table that understands most of the names; the first among equals.
///
/// For example, a file has "module.features.3.1.mlp.0.weight", and all its other names begin with
/// "module." too: that is the prefix, which goes. What remains has a row in the table
/// "torchvision's Swin", and in no other:
///
///   theirs  features.{2s+1}.{j}.mlp.0.*       matches with s = 1, j = 1, * = weight
///   ours    layers.{s}.blocks.{j}.mlp.fc1.*   filled in: layers.1.blocks.1.mlp.fc1.weight
///
/// All names are counted so. This table has rows for most of them and is chosen. Had it been
/// "timm's Swin", of the role `ours`, then the names would stay as they are.
const NameTable* choose_table(const std::vector<std::string>& names, const std::string& prefix) {
  const NameTable* best = nullptr;
  std::ptrdiff_t most = 0;
  for (const NameTable& table : name_tables()) {
    const bool has_base = names_have_base(table, names, prefix);
    const std::ptrdiff_t understood = std::ranges::count_if(names, [&](const std::string& name) {
      const std::string full = full_name(name, prefix, has_base ? "" : table.base);
      return find_row(table, &NameRow::theirs, full) || any_matches(table.derived, full) ||
             any_matches(table.unused, full);
    });
    if (understood > most) most = understood, best = &table;
  }
  return best;
}

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

/// (1, H W, C) -> (1, H, W, C) for square grids; others stay and will be reported.
Tensor to_grid(const Tensor& flat) {
  if (flat.dim() != 3) return flat;
  const std::int64_t side = square_side(flat.size(1));
  if (side < 0) return flat;
  return reshape(flat, {flat.size(0), side, side, flat.size(2)});
}
Tensor to_flat(const Tensor& grid) {
  return grid.dim() == 4 ? reshape(grid, {grid.size(0), grid.size(1) * grid.size(2), grid.size(3)}) : grid;
}

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

TranslatedWeights to_our_layout(const StateDict& weights) {
  TranslatedWeights result;
  for (const auto& [name, tensor] : weights) result.names.push_back(name);
  result.prefix = common_prefix(result.names);
  const NameTable* table = choose_table(result.names, result.prefix);
  if (!table || table->role == TableRole::ours) {
    for (const auto& [name, tensor] : weights) {
      const std::string bare = name.substr(result.prefix.size());
      if (table && any_matches(table->derived, bare)) {
        result.derived.push_back(name);
      } else {
        result.state.emplace_back(bare, tensor);
      }
    }
    return result;
  }
  result.table = table;
  result.has_base = names_have_base(*table, result.names, result.prefix);
  const std::string missing_base = result.has_base ? "" : table->base;
  std::map<std::string, Parts> parts;
  std::unordered_set<std::string> taken;
  for (const auto& entry : weights) {
    const std::string name = full_name(entry.first, result.prefix, missing_base);
    const auto found = find_row(*table, &NameRow::theirs, name);
    if (!found) {
      auto& names = any_matches(table->derived, name)  ? result.derived
                    : any_matches(table->unused, name) ? result.unused
                                                       : result.unknown;
      names.push_back(entry.first);
      continue;
    }
    const std::string ours = found->row->ours.fill(found->match);
    if (found->row->theirs.parts() > 1) {
      add_part(parts, ours, *found, entry, result.state);
    } else {
      VT_CHECK(taken.insert(ours).second, "weights: {} occurs twice", entry.first);
      result.state.emplace_back(ours, found->row->flat_grid ? to_grid(entry.second) : entry.second);
    }
  }
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
  if (!found) return {prefix + ours};
  std::vector<std::string> theirs;
  for (found->match.part = 0; found->match.part < found->row->theirs.parts(); ++found->match.part) {
    std::string name = found->row->theirs.fill(found->match);
    if (!has_base && name.starts_with(table->base)) name.erase(0, table->base.size());
    theirs.push_back(prefix + name);
  }
  return theirs;
}

Shape TranslatedWeights::shape_of(const std::string& ours, const Shape& shape) const {
  const auto found = table ? find_row(*table, &NameRow::ours, ours) : std::nullopt;
  if (!found || shape.size() == 0) return shape;
  if (found->row->flat_grid && shape.size() == 4) return {shape[0], shape[1] * shape[2], shape[3]};
  Shape of_part = shape;
  of_part[0] /= static_cast<std::int64_t>(found->row->theirs.parts());
  return of_part;
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
      result.emplace_back(found->row->theirs.fill(found->match), found->row->flat_grid ? to_flat(tensor) : tensor);
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
