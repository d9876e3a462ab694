// Patterns for names of weights: reading them, matching, filling in.
#include "weights/names/name_pattern.h"

#include <charconv>

#include "tensor/error.h"

namespace vitrine {
namespace {

/// Reads the number at the start of `text` and moves past it. Leading zeros are not how names are
/// numbered.
std::optional<std::int64_t> take_number(std::string_view& text) {
  std::int64_t value = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || text[0] == '-' || (text[0] == '0' && stop != text.data() + 1)) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(stop - text.data()));
  return value;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t bar = text.find('|'); bar != std::string_view::npos; bar = text.find('|')) {
    words.emplace_back(text.substr(0, bar));
    text.remove_prefix(bar + 1);
  }
  words.emplace_back(text);
  return words;
}

}  // namespace

NamePattern::Piece NamePattern::number_of(std::string_view expression) {
  Piece piece{.kind = Piece::number, .choices = {}};
  piece.factor = take_number(expression).value_or(1);
  VT_CHECK(!expression.empty(), "NamePattern: a number without a variable, expected for example {}", "{2s+1}");
  piece.variable = expression[0];
  expression.remove_prefix(1);
  if (!expression.empty() && expression[0] == '+') {
    expression.remove_prefix(1);
    piece.offset = take_number(expression).value_or(0);
  }
  VT_CHECK(expression.empty(), "NamePattern: cannot read \"{}\" in a number, expected for example {}", expression,
           "{2s+1}");
  return piece;
}

NamePattern::NamePattern(const std::string& whole) {
  std::string_view text = whole;
  while (!text.empty()) {
    const char first = text[0];
    if (first == '*') {
      VT_CHECK(text.size() == 1, "NamePattern: \"{}\" goes on after *, expected the end", text);
      pieces_.push_back({.kind = Piece::rest, .choices = {}});
      return;
    }
    if (first == '{' || first == '[') {
      const std::size_t stop = text.find(first == '{' ? '}' : ']');
      VT_CHECK(stop != std::string_view::npos, "NamePattern: \"{}\" has no closing bracket", text);
      const std::string_view inside = text.substr(1, stop - 1);
      pieces_.push_back(first == '{' ? number_of(inside) : Piece{.kind = Piece::words, .choices = split_words(inside)});
      text.remove_prefix(stop + 1);
      continue;
    }
    const std::size_t stop = std::min(text.find_first_of("{[*"), text.size());
    pieces_.push_back({.kind = Piece::text, .choices = {std::string(text.substr(0, stop))}});
    text.remove_prefix(stop);
  }
}

/// Moves `name` past what the piece stands for; false if it does not begin with that.
bool NamePattern::take(const Piece& piece, std::string_view& name, NameMatch& found) {
  if (piece.kind == Piece::rest) {
    found.rest = name;
    name = {};
    return !found.rest.empty() && found.rest.find('.') == std::string::npos;
  }
  if (piece.kind == Piece::number) {
    const auto value = take_number(name);
    if (!value || *value < piece.offset || (*value - piece.offset) % piece.factor != 0) return false;
    const std::int64_t variable = (*value - piece.offset) / piece.factor;
    return found.numbers.emplace(piece.variable, variable).first->second == variable;
  }
  for (std::size_t i = 0; i < piece.choices.size(); ++i) {
    if (!name.starts_with(piece.choices[i])) continue;
    name.remove_prefix(piece.choices[i].size());
    if (piece.kind == Piece::words) found.part = i;
    return true;
  }
  return false;
}

std::optional<NameMatch> NamePattern::match(std::string_view name) const {
  NameMatch found;
  for (const Piece& piece : pieces_) {
    if (!take(piece, name, found)) return std::nullopt;
  }
  return name.empty() ? std::optional(found) : std::nullopt;
}

std::string NamePattern::fill(const NameMatch& match) const {
  std::string name;
  for (const Piece& piece : pieces_) {
    switch (piece.kind) {
      case Piece::text:
        name += piece.choices[0];
        break;
      case Piece::number:
        name += std::to_string(piece.factor * match.numbers.at(piece.variable) + piece.offset);
        break;
      case Piece::words:
        name += piece.choices.at(match.part);
        break;
      case Piece::rest:
        name += match.rest;
        break;
    }
  }
  return name;
}

std::size_t NamePattern::parts() const {
  for (const Piece& piece : pieces_) {
    if (piece.kind == Piece::words) return piece.choices.size();
  }
  return 1;
}

}  // namespace vitrine
