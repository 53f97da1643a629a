// Disks as the user wrote them: paths, tables, options of the command line.
#pragma once

#include <filesystem>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/config/config_keys.h"
#include "vmm/config/load_config.h"
#include "vmm/config/problems.h"
#include "vmm/config/toml_document.h"

namespace vmm {

class DiskReader {
 public:
  // Relative paths of the file are taken from `base`.
  DiskReader(Config& config, ConfigProblems& problems, std::filesystem::path base)
      : config_(config), problems_(problems), base_(std::move(base)) {}

  // The value of `disk`. False: it is no list.
  bool ReadList(const TomlValue& list);
  // "FILE[,KEY=VALUE...]"; the first one takes back the disks of the file, and an empty one adds
  // nothing.
  void ReadOption(const Override& setting);

  // Of Config::disks, one each.
  const std::vector<Place>& places() const { return places_; }

 private:
  void ReadItem(const TomlValue& item);
  bool ReadMember(const TomlMember& member);
  bool ReadPair(std::string_view pair, const Place& place);
  bool UnknownKey(std::string_view word, const Place& place);
  bool Store(const ConfigKey& key, Parsed<ConfigValue> value, const Place& place);
  void Keep(bool good, const Place& place);

  Config& config_;
  ConfigProblems& problems_;
  const std::filesystem::path base_;
  std::vector<Place> places_;
  bool has_option_ = false;
};

}  // namespace vmm
