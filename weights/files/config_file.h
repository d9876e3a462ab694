// A JSON file of settings; every mistake in it is an Error that names file and key.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace vitrine {

class ConfigFile {
 public:
  /// Reads the file; an Error where it is no JSON object.
  explicit ConfigFile(const std::filesystem::path& path);

  /// Whether there is a value at "key" or "outer.key" that is not null.
  bool has(const std::string& key) const;
  /// The value, or `fallback` where there is none. T: bool, std::int64_t, double, std::string,
  /// vectors of int, double and string, and arrays of three std::int64_t or double.
  template <class T>
  T get(const std::string& key, T fallback) const;
  /// The names and values of the object at "key", strings without quotes and everything else as in
  /// JSON; empty where it is none.
  std::vector<std::pair<std::string, std::string>> members(const std::string& key) const;

  /// "FILE: KEY", the beginning of a message.
  std::string where(const std::string& key) const;

 private:
  struct Content;  // keeps the JSON library out of this header
  std::filesystem::path path_;
  std::shared_ptr<const Content> content_;
};

}  // namespace vitrine
