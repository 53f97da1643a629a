// From the settings as written - the tree of vm.toml, the options of the command line - to a
// Config, one key at a time. What the keys mean together is checked by config_rules.h.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "vmm/config/config.h"
#include "vmm/config/config_keys.h"
#include "vmm/config/item_reader.h"
#include "vmm/config/load_config.h"
#include "vmm/config/problems.h"

namespace vmm {

class ConfigReader {
 public:
  // Relative paths of the file are taken from `base`.
  ConfigReader(Config& config, ConfigProblems& problems, std::filesystem::path base);

  void ReadFile(const TomlValue& root);
  void ReadOverride(const Override& setting);

  // Where the value of `key` came from; an empty place when it was not given.
  const Place& PlaceOf(std::string_view key) const;
  bool IsGiven(std::string_view key) const;
  // The places of Config::modules, one each.
  const std::vector<Place>& ModulePlaces() const { return module_places_; }
  // The places of Config::disks, one each.
  const std::vector<Place>& DiskPlaces() const { return disks_.places(); }
  // The places of Config::nets, one each.
  const std::vector<Place>& NetPlaces() const { return nets_.places(); }
  // The places of Config::shares, one each.
  const std::vector<Place>& SharePlaces() const { return shares_.places(); }
  // The places of Config::ports, one each.
  const std::vector<Place>& PortPlaces() const { return ports_.places(); }

 private:
  void ReadMember(std::string_view section, const TomlMember& member);
  void UnknownKey(std::string_view section, const TomlMember& member);
  void ReadValue(const ConfigKey& key, const TomlMember& member);
  ItemReader* ListOf(const ConfigKey& key);
  void ReadModules(const ConfigKey& key, const TomlValue& list);
  void ReadModule(const TomlValue& item, std::vector<ModuleSpec>& modules);
  void ReadModuleOption(const ConfigKey& key, const Override& setting);
  void Store(const ConfigKey& key, Parsed<ConfigValue> value, const Place& place);

  Config& config_;
  ConfigProblems& problems_;
  std::filesystem::path base_;
  std::vector<Place> places_;  // one for each row of ConfigKeys()
  std::vector<bool> given_;
  std::vector<Place> module_places_;
  bool module_option_seen_ = false;
  ItemReader disks_, nets_, ports_, shares_;
};

}  // namespace vmm
