// Settings in JSON, by nlohmann's library.
#include "weights/files/config_file.h"

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "tensor/error.h"
#include "weights/files/file.h"

namespace vitrine {
namespace {

using Json = nlohmann::ordered_json;

/// The value at "key" or "outer.key"; nullptr where there is none.
const Json* find(const Json& json, const std::string& key) {
  const std::size_t dot = key.find('.');
  const auto found = json.find(key.substr(0, dot));
  if (found == json.end() || found->is_null()) return nullptr;
  return dot == std::string::npos ? &*found : find(*found, key.substr(dot + 1));
}

}  // namespace

struct ConfigFile::Content {
  Json json;
};

ConfigFile::ConfigFile(const std::filesystem::path& path) : path_(path) {
  auto content = std::make_shared<Content>();
  try {
    content->json = Json::parse(read_text(path));
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("{}: is not valid JSON: {}", path.string(), error.what()));
  }
  VT_CHECK(content->json.is_object(), "{}: expected a JSON object", path.string());
  content_ = std::move(content);
}

bool ConfigFile::has(const std::string& key) const { return find(content_->json, key) != nullptr; }

template <class T>
T ConfigFile::get(const std::string& key, T fallback) const {
  const Json* found = find(content_->json, key);
  if (!found) return fallback;
  try {
    // nlohmann's library would cut off a fraction, and what no integer can hold.
    if (std::is_same_v<T, std::int64_t> && !found->is_number_integer())
      throw nlohmann::json::type_error::create(302, "", found);
    return found->get<T>();
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format("{}: {} is {}, which has the wrong type", path_.string(), key, found->dump()));
  }
}

template bool ConfigFile::get(const std::string&, bool) const;
template std::int64_t ConfigFile::get(const std::string&, std::int64_t) const;
template double ConfigFile::get(const std::string&, double) const;
template std::string ConfigFile::get(const std::string&, std::string) const;
template std::vector<int> ConfigFile::get(const std::string&, std::vector<int>) const;
template std::vector<double> ConfigFile::get(const std::string&, std::vector<double>) const;
template std::vector<std::string> ConfigFile::get(const std::string&, std::vector<std::string>) const;
template std::array<std::int64_t, 3> ConfigFile::get(const std::string&, std::array<std::int64_t, 3>) const;
template std::array<double, 3> ConfigFile::get(const std::string&, std::array<double, 3>) const;

std::vector<std::pair<std::string, std::string>> ConfigFile::members(const std::string& key) const {
  std::vector<std::pair<std::string, std::string>> all;
  const Json* found = find(content_->json, key);
  if (!found || !found->is_object()) return all;
  for (const auto& [name, value] : found->items()) {
    all.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return all;
}

std::string ConfigFile::where(const std::string& key) const { return fmt::format("{}: {}", path_.string(), key); }

}  // namespace vitrine
