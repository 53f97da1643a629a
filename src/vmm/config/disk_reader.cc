#include "vmm/config/disk_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/config/config_keys.h"
#include "vmm/config/spelling.h"
#include "vmm/config/value_rules.h"

namespace vmm {
namespace {

constexpr std::string_view kExample = R"(disk = ["root.qcow2"])";

std::string_view WordOf(const ConfigKey& key) {
  return key.name.substr(key.name.find('.') + 1);
}

const ConfigKey& PathKey() {
  return DiskKeys().front();
}

const ConfigKey* Find(std::string_view word) {
  const auto keys = DiskKeys();
  const auto key = std::ranges::find(keys, word, WordOf);
  return key == keys.end() ? nullptr : &*key;
}

// The key that was likely meant, or none.
std::string_view Nearest(std::string_view word) {
  std::vector<std::string_view> words;
  for (const ConfigKey& key : DiskKeys()) {
    words.push_back(WordOf(key));
    for (const std::string_view alias : SplitChoices(key.aliases)) {
      if (alias == word) return WordOf(key);
    }
  }
  return NearestSpelling(word, words);
}

}  // namespace

bool DiskReader::ReadList(const TomlValue& list) {
  const Place place{list.at, {}};
  if (list.kind != TomlValue::Kind::kArray) {
    problems_.Add(place,
                  {fmt::format("'disk' is {}", list.KindInWords()), "it must be a list",
                   list.kind == TomlValue::Kind::kTable ? "write [[disk]] instead of [disk]"
                                                        : fmt::format("write {}", kExample)});
    return false;
  }
  for (const TomlValue& item : list.items) ReadItem(item);
  return true;
}

void DiskReader::ReadItem(const TomlValue& item) {
  const Place place{item.at, {}};
  config_.disks.emplace_back();
  if (item.kind == TomlValue::Kind::kString) {
    Keep(Store(PathKey(), ReadToml(PathKey(), item, base_), place), place);
    return;
  }
  bool good = item.kind == TomlValue::Kind::kTable;
  if (!good) {
    problems_.Add(place, {fmt::format("a disk is {}", item.KindInWords()),
                          "it must be a path or a table", fmt::format("write {}", kExample)});
  }
  bool has_path = false;
  Place path_place = place;
  for (const TomlMember& member : item.members) {
    good = ReadMember(member) && good;
    if (member.key == WordOf(PathKey())) {
      has_path = true;
      path_place = {member.value.at, {}};
    }
  }
  if (good && !has_path) {
    good = false;
    problems_.Add(place, {"a disk has no path", "it is the image", "write path = \"root.qcow2\""});
  }
  Keep(good, path_place);
}

bool DiskReader::ReadMember(const TomlMember& member) {
  const ConfigKey* key = Find(member.key);
  if (key == nullptr) return UnknownKey(member.key, {member.at, {}});
  return Store(*key, ReadToml(*key, member.value, base_), {member.value.at, {}});
}

bool DiskReader::UnknownKey(std::string_view word, const Place& place) {
  const std::string_view near = Nearest(word);
  problems_.Add(place, {fmt::format("unknown key '{}' of a disk", IsOneLine(word) ? word : "?"),
                        "it would be ignored",
                        near.empty() ? "remove it; docs/config.md lists them"
                                     : fmt::format("write '{}'", near)});
  return false;
}

bool DiskReader::Store(const ConfigKey& key, Parsed<ConfigValue> value, const Place& place) {
  if (value && key.name == "disk.serial" && value->text.size() > DiskSpec::kMaxSerial) {
    value = tl::unexpected<ValueError>(
        ValueError{fmt::format("'{}' has {} bytes", key.name, value->text.size()),
                   fmt::format("the most is {}", DiskSpec::kMaxSerial), "write a shorter one"});
  }
  if (!value) {
    problems_.Add(place, std::move(value.error()));
    return false;
  }
  key.set(config_, *value);
  return true;
}

// The disk that was begun, unless it has a fault, or there are too many.
void DiskReader::Keep(bool good, const Place& place) {
  if (good && config_.disks.size() > Config::kMaxDisks) {
    if (config_.disks.size() == Config::kMaxDisks + 1) {
      problems_.Add(place, {fmt::format("there are more than {} disks", Config::kMaxDisks),
                            "there are no more slots", "remove some"});
    }
    good = false;
  }
  if (good) {
    places_.push_back(place);
  } else {
    config_.disks.pop_back();
  }
}

bool DiskReader::ReadPair(std::string_view pair, const Place& place) {
  const size_t equals = pair.find('=');
  const std::string_view word = pair.substr(0, equals);
  const ConfigKey* key = Find(word);
  if (key == nullptr) return UnknownKey(word, place);
  if (equals == std::string_view::npos) {
    problems_.Add(place, {fmt::format("'{}' of a disk has no value", word), "it needs one",
                          fmt::format("write {}=VALUE", word)});
    return false;
  }
  return Store(*key, ReadText(*key, pair.substr(equals + 1), {}), place);
}

void DiskReader::ReadOption(const Override& setting) {
  if (!std::exchange(has_option_, true)) {
    config_.disks.clear();
    places_.clear();
  }
  if (setting.value.empty()) return;
  const Place place{{}, setting.origin};
  config_.disks.emplace_back();
  std::string_view rest = setting.value;
  bool good = true;
  for (bool is_path = true;; is_path = false) {
    const size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    good = (is_path ? Store(PathKey(), ReadText(PathKey(), part, {}), place)
                    : ReadPair(part, place)) &&
           good;
    if (comma == std::string_view::npos) break;
    rest = rest.substr(comma + 1);
  }
  Keep(good, place);
}

}  // namespace vmm
