// The lists of vm.toml whose items are plain strings or tables: disks, network cards, ports,
// shares.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/config/config_keys.h"
#include "vmm/config/load_config.h"
#include "vmm/config/problems.h"
#include "vmm/config/toml_document.h"

namespace vmm {

// What one such list holds.
struct ItemKind {
  std::string_view list;        // the key: "disk"
  std::string_view item;        // "a disk"
  std::string_view plural;      // "disks"
  std::string_view plain;       // what a plain string is: "a path"
  std::string_view example;     // of the list
  std::string_view why_needed;  // the first key must be given, and it is this; empty: it need not
  size_t most;                  // items
  std::span<const ConfigKey> (*keys)();  // the first is what a plain string gives
  // Of Config's list: one more, the last one less, how many.
  void (*add)(Config&);
  void (*drop)(Config&);
  size_t (*count)(const Config&);
  // Of the last: with `given`, the words of its keys, it is what the user asked for.
  void (*complete)(Config&, std::span<const std::string_view> given);
  // What a key's row can't say about a value.
  std::optional<ValueError> (*check)(const ConfigKey&, const ConfigValue&);
};
extern const ItemKind kDiskItems, kNetItems, kPortItems, kShareItems;

class ItemReader {
 public:
  // Relative paths of the file are taken from `base`.
  ItemReader(const ItemKind& kind, Config& config, ConfigProblems& problems,
             std::filesystem::path base)
      : kind_(kind), config_(config), problems_(problems), base_(std::move(base)) {}

  // The value of the list's key. False: it is no list.
  bool ReadList(const TomlValue& list);
  // "FIRST[,KEY=VALUE...]"; the first one takes back the items of the file, and an empty one adds
  // nothing.
  void ReadOption(const Override& setting);

  // Of the items in Config, one each.
  const std::vector<Place>& places() const { return places_; }

 private:
  void ReadItem(const TomlValue& item);
  bool ReadMember(const TomlMember& member);
  bool ReadPair(std::string_view pair, const Place& place);
  bool UnknownKey(std::string_view word, const Place& place);
  bool Store(const ConfigKey& key, Parsed<ConfigValue> value, const Place& place);
  void Begin();
  void Keep(bool good, const Place& place);
  const ConfigKey& FirstKey() const { return kind_.keys().front(); }
  const ConfigKey* Find(std::string_view word) const;
  std::string_view Nearest(std::string_view word) const;

  const ItemKind& kind_;
  Config& config_;
  ConfigProblems& problems_;
  const std::filesystem::path base_;
  std::vector<Place> places_;
  std::vector<std::string_view> given_;  // of the item that is being read
  bool has_option_ = false;
};

}  // namespace vmm
