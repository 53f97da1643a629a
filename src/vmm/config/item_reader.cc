#include "vmm/config/item_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "vmm/config/spelling.h"
#include "vmm/config/value_rules.h"

namespace vmm {
namespace {

std::string_view WordOf(const ConfigKey& key) {
  return key.name.substr(key.name.find('.') + 1);
}

}  // namespace

const ConfigKey* ItemReader::Find(std::string_view word) const {
  const auto keys = kind_.keys();
  const auto key = std::ranges::find(keys, word, WordOf);
  return key == keys.end() ? nullptr : &*key;
}

// The key that was likely meant, or none.
std::string_view ItemReader::Nearest(std::string_view word) const {
  std::vector<std::string_view> words;
  for (const ConfigKey& key : kind_.keys()) {
    words.push_back(WordOf(key));
    for (const std::string_view alias : SplitChoices(key.aliases)) {
      if (alias == word) return WordOf(key);
    }
  }
  return NearestSpelling(word, words);
}

bool ItemReader::ReadList(const TomlValue& list) {
  const Place place{list.at, {}};
  if (list.kind != TomlValue::Kind::kArray) {
    problems_.Add(place,
                  {fmt::format("'{}' is {}", kind_.list, list.KindInWords()), "it must be a list",
                   list.kind == TomlValue::Kind::kTable
                       ? fmt::format("write [[{}]] instead of [{}]", kind_.list, kind_.list)
                       : fmt::format("write {}", kind_.example)});
    return false;
  }
  for (const TomlValue& item : list.items) ReadItem(item);
  return true;
}

void ItemReader::Begin() {
  kind_.add(config_);
  given_.clear();
}

void ItemReader::ReadItem(const TomlValue& item) {
  const Place place{item.at, {}};
  Begin();
  if (item.kind == TomlValue::Kind::kString) {
    Keep(Store(FirstKey(), ReadToml(FirstKey(), item, base_), place), place);
    return;
  }
  bool good = item.kind == TomlValue::Kind::kTable;
  if (!good) {
    problems_.Add(place, {fmt::format("{} is {}", kind_.item, item.KindInWords()),
                          fmt::format("it must be {} or a table", kind_.plain),
                          fmt::format("write {}", kind_.example)});
  }
  Place first_place = place;
  for (const TomlMember& member : item.members) {
    good = ReadMember(member) && good;
    if (member.key == WordOf(FirstKey())) first_place = {member.value.at, {}};
  }
  const bool has_first = std::ranges::count(given_, WordOf(FirstKey())) != 0;
  if (good && !has_first && !kind_.why_needed.empty()) {
    good = false;
    const std::string_view word = WordOf(FirstKey());
    problems_.Add(place,
                  {fmt::format("{} has no {}", kind_.item, word), std::string(kind_.why_needed),
                   fmt::format("write {} = {}", word, FirstKey().example)});
  }
  Keep(good, first_place);
}

bool ItemReader::ReadMember(const TomlMember& member) {
  const ConfigKey* key = Find(member.key);
  if (key == nullptr) return UnknownKey(member.key, {member.at, {}});
  const TomlValue& value = member.value;
  const bool may_be_several = key->kind == ValueKind::kForward || key->kind == ValueKind::kIds;
  if (!may_be_several || value.kind != TomlValue::Kind::kArray) {
    return Store(*key, ReadToml(*key, value, base_), {value.at, {}});
  }
  bool good = true;
  for (const TomlValue& one : value.items) {
    good = Store(*key, ReadToml(*key, one, base_), {one.at, {}}) && good;
  }
  return good;
}

bool ItemReader::UnknownKey(std::string_view word, const Place& place) {
  const std::string_view near = Nearest(word);
  problems_.Add(
      place,
      {fmt::format("unknown key '{}' of {}", IsOneLine(word) ? word : "?", kind_.item),
       "it would be ignored",
       near.empty() ? "remove it; docs/config.md lists them" : fmt::format("write '{}'", near)});
  return false;
}

bool ItemReader::Store(const ConfigKey& key, Parsed<ConfigValue> value, const Place& place) {
  if (value) {
    if (auto wrong = kind_.check(key, *value)) value = tl::unexpected(std::move(*wrong));
  }
  if (!value) {
    problems_.Add(place, std::move(value.error()));
    return false;
  }
  key.set(config_, *value);
  given_.push_back(WordOf(key));
  return true;
}

// The item that was begun, unless it has a fault, or there are too many.
void ItemReader::Keep(bool good, const Place& place) {
  const size_t count = kind_.count(config_);
  if (good && count > kind_.most) {
    if (count == kind_.most + 1) {
      problems_.Add(place, {fmt::format("there are more than {} {}", kind_.most, kind_.plural),
                            "there are no more slots", "remove some"});
    }
    good = false;
  }
  if (good) {
    kind_.complete(config_, given_);
    places_.push_back(place);
  } else {
    kind_.drop(config_);
  }
}

bool ItemReader::ReadPair(std::string_view pair, const Place& place) {
  const size_t equals = pair.find('=');
  const std::string_view word = pair.substr(0, equals);
  const ConfigKey* key = Find(word);
  if (key == nullptr) return UnknownKey(word, place);
  if (equals == std::string_view::npos) {
    problems_.Add(place, {fmt::format("'{}' of {} has no value", word, kind_.item), "it needs one",
                          fmt::format("write {}=VALUE", word)});
    return false;
  }
  return Store(*key, ReadText(*key, pair.substr(equals + 1), {}), place);
}

void ItemReader::ReadOption(const Override& setting) {
  if (!std::exchange(has_option_, true)) {
    while (kind_.count(config_) != 0) kind_.drop(config_);
    places_.clear();
  }
  if (setting.value.empty()) return;
  const Place place{{}, setting.origin};
  Begin();
  std::string_view rest = setting.value;
  bool good = true;
  for (bool is_first = true;; is_first = false) {
    const size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    good = (is_first ? Store(FirstKey(), ReadText(FirstKey(), part, {}), place)
                     : ReadPair(part, place)) &&
           good;
    if (comma == std::string_view::npos) break;
    rest = rest.substr(comma + 1);
  }
  Keep(good, place);
}

}  // namespace vmm
