// Patterns for names of weights with numbers in them: what one library calls
// `features.5.0.norm1.weight` another calls `layers.2.blocks.0.norm1.weight`, which two patterns
// with the same variables say.
//
//   const NamePattern theirs("features.{2s+1}.{j}.norm1.*"), ours("layers.{s}.blocks.{j}.norm1.*");
//   if (const auto found = theirs.match(name)) renamed = ours.fill(*found);
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

/// What the variables of a pattern stand for in one name.
struct NameMatch {
  std::map<char, std::int64_t> numbers;
  std::string rest;      // of `*`
  std::size_t part = 0;  // which word of `[a|b|c]`
};

/// Text in which `{s}`, `{s+1}` and `{2s+1}` are numbers computed from a variable that is at least
/// 0, `[a|b|c]` is one of these words, and `*` at the end is a word without dots.
class NamePattern {
 public:
  NamePattern(const std::string& text);  // not explicit: tables of patterns are written as text
  NamePattern(const char* text) : NamePattern(std::string(text)) {}

  /// How the whole of `name` fits, if it does; a variable that occurs twice has one value.
  std::optional<NameMatch> match(std::string_view name) const;
  /// The name for these values; a pattern with `[a|b|c]` takes the word number `match.part`.
  std::string fill(const NameMatch& match) const;
  /// Number of words in `[a|b|c]`; 1 without.
  std::size_t parts() const;

 private:
  struct Piece {
    enum Kind { text, number, words, rest } kind;
    std::vector<std::string> choices;  // the text, or the words
    char variable = 0;                 // the number is factor * variable + offset
    std::int64_t factor = 1, offset = 0;
  };
  static Piece number_of(std::string_view expression);
  static bool take(const Piece& piece, std::string_view& name, NameMatch& found);

  std::vector<Piece> pieces_;
};

}  // namespace vitrine
