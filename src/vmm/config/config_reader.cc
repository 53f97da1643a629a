#include "vmm/config/config_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/config/spelling.h"
#include "vmm/config/value_rules.h"

namespace vmm {
namespace {

constexpr size_t kMostModules = 256;
constexpr std::string_view kModulesExample = R"(modules = [{ path = "init.elf", args = "..." }])";

size_t IndexOf(const ConfigKey& key) {
  return static_cast<size_t>(&key - ConfigKeys().data());
}

std::string_view SectionOf(std::string_view name) {
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

std::string_view WordOf(std::string_view name) {
  return name.substr(name.find('.') + 1);
}

std::string Shown(std::string_view name) {
  return std::string(IsOneLine(name) ? name : "?");
}

bool IsSection(std::string_view name) {
  const auto sections = ConfigSections();
  return std::find(sections.begin(), sections.end(), name) != sections.end();
}

// The first key of a section, to show how it is written.
const ConfigKey& FirstOf(std::string_view section) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (SectionOf(key.name) == section) return key;
  }
  return ConfigKeys().front();
}

// How to repair a key that nobody knows, given the key that was likely meant.
std::string FixForUnknown(std::string_view section, const ConfigKey* meant) {
  if (meant == nullptr) return "remove it; `vmm config` lists every key";
  const std::string_view right_section = SectionOf(meant->name);
  if (right_section == section) return fmt::format("write '{}'", WordOf(meant->name));
  if (right_section.empty()) {
    return fmt::format("write '{}' above the first [section]", meant->name);
  }
  return fmt::format("write '{}' below the line [{}]", WordOf(meant->name), right_section);
}

}  // namespace

ConfigReader::ConfigReader(Config& config, ConfigProblems& problems, std::filesystem::path base)
    : config_(config),
      problems_(problems),
      base_(std::move(base)),
      places_(ConfigKeys().size()),
      given_(ConfigKeys().size()),
      disks_(kDiskItems, config, problems, base_),
      nets_(kNetItems, config, problems, base_),
      ports_(kPortItems, config, problems, base_),
      shares_(kShareItems, config, problems, base_) {}

const Place& ConfigReader::PlaceOf(std::string_view key) const {
  return places_[IndexOf(*FindConfigKey(key))];
}

bool ConfigReader::IsGiven(std::string_view key) const {
  return given_[IndexOf(*FindConfigKey(key))];
}

void ConfigReader::ReadFile(const TomlValue& root) {
  for (const TomlMember& member : root.members) ReadMember("", member);
}

void ConfigReader::ReadMember(std::string_view section, const TomlMember& member) {
  const std::string name = section.empty() ? member.key : fmt::format("{}.{}", section, member.key);
  if (section.empty() && IsSection(name)) {
    if (member.value.kind != TomlValue::Kind::kTable) {
      const ConfigKey& first = FirstOf(name);
      problems_.Add({member.at, {}},
                    {fmt::format("'{}' is {}", name, member.value.KindInWords()), "it is a section",
                     fmt::format("write [{}] and below it {} = {}", name, WordOf(first.name),
                                 first.example)});
      return;
    }
    for (const TomlMember& child : member.value.members) ReadMember(name, child);
    return;
  }
  // A quoted key may hold a dot; it names nothing then.
  const bool plain = member.key.find('.') == std::string::npos;
  if (const ConfigKey* key = plain ? FindConfigKey(name) : nullptr) {
    ReadValue(*key, member);
  } else {
    UnknownKey(section, member);
  }
}

void ConfigReader::UnknownKey(std::string_view section, const TomlMember& member) {
  const Place place{member.at, {}};
  const std::string name =
      section.empty() ? Shown(member.key) : fmt::format("{}.{}", section, Shown(member.key));
  if (const LaterKey* later = section.empty() ? FindLaterKey(member.key) : nullptr) {
    problems_.Add(
        place, {fmt::format("'{}' is not available in this version of vmm", name),
                "it is planned, but not built yet", fmt::format("remove it; {}", later->instead)});
    return;
  }
  const bool is_table = member.value.kind == TomlValue::Kind::kTable;
  const ConfigKey* meant = NearestConfigKey(name);
  if (section.empty() && is_table && (meant == nullptr || meant->name != member.key)) {
    const std::string_view near = NearestSpelling(member.key, ConfigSections());
    if (!near.empty() || meant == nullptr) {
      problems_.Add(place, {fmt::format("unknown section [{}]", name),
                            fmt::format("there are [{}]", fmt::join(ConfigSections(), "] and [")),
                            near.empty() ? "remove it" : fmt::format("write [{}]", near)});
      return;
    }
  }
  problems_.Add(place, {fmt::format("unknown key '{}'", name), "it would be ignored",
                        FixForUnknown(section, meant)});
}

void ConfigReader::ReadValue(const ConfigKey& key, const TomlMember& member) {
  if (key.kind == ValueKind::kModules) {
    ReadModules(key, member.value);
  } else if (ItemReader* list = ListOf(key)) {
    if (list->ReadList(member.value)) Store(key, ConfigValue(), {member.value.at, {}});
  } else {
    Store(key, ReadToml(key, member.value, base_), {member.value.at, {}});
  }
}

ItemReader* ConfigReader::ListOf(const ConfigKey& key) {
  switch (key.kind) {
    case ValueKind::kDisks:
      return &disks_;
    case ValueKind::kNets:
      return &nets_;
    case ValueKind::kPorts:
      return &ports_;
    case ValueKind::kShares:
      return &shares_;
    default:
      return nullptr;
  }
}

void ConfigReader::Store(const ConfigKey& key, Parsed<ConfigValue> value, const Place& place) {
  if (!value) {
    problems_.Add(place, std::move(value.error()));
    return;
  }
  key.set(config_, *value);
  places_[IndexOf(key)] = place;
  given_[IndexOf(key)] = true;
}

void ConfigReader::ReadModules(const ConfigKey& key, const TomlValue& list) {
  if (list.kind != TomlValue::Kind::kArray) {
    problems_.Add({list.at, {}}, {fmt::format("'{}' is {}", key.name, list.KindInWords()),
                                  "it must be a list", fmt::format("write {}", kModulesExample)});
    return;
  }
  if (list.items.size() > kMostModules) {
    problems_.Add({list.at, {}}, {fmt::format("there are {} modules", list.items.size()),
                                  fmt::format("the most is {}", kMostModules),
                                  "put several files into one module"});
    return;
  }
  ConfigValue value;
  for (const TomlValue& item : list.items) ReadModule(item, value.modules);
  Store(key, std::move(value), {list.at, {}});
}

void ConfigReader::ReadModule(const TomlValue& item, std::vector<ModuleSpec>& modules) {
  using Kind = TomlValue::Kind;
  const Place item_place{item.at, {}};
  const auto add = [&](const TomlValue& path_value, std::string args) {
    auto path = ParsePath(path_value.text, base_);
    if (!path) {
      problems_.Add({path_value.at, {}}, std::move(path.error()));
      return;
    }
    modules.push_back({*path, std::move(args)});
    module_places_.push_back({path_value.at, {}});
  };
  if (item.kind == Kind::kString) return add(item, {});
  if (item.kind != Kind::kTable) {
    problems_.Add(item_place, {fmt::format("a module is {}", item.KindInWords()),
                               "it must be a path, or a table with path and args",
                               fmt::format("write {}", kModulesExample)});
    return;
  }
  const TomlValue* path = nullptr;
  std::string args;
  bool good = true;
  for (const auto& [name, at, value] : item.members) {
    if (name != "path" && name != "args") {
      constexpr std::string_view kKnown[] = {"path", "args"};
      const std::string_view near = NearestSpelling(name, kKnown);
      problems_.Add({at, {}}, {fmt::format("unknown key '{}' in a module", Shown(name)),
                               "a module has path and args",
                               near.empty() ? "remove it" : fmt::format("write '{}'", near)});
      good = false;
    } else if (value.kind != Kind::kString || !IsOneLine(value.text)) {
      problems_.Add({value.at, {}},
                    {fmt::format("'{}' of a module is {}", name,
                                 value.kind == Kind::kString ? "more than a line of text"
                                                             : value.KindInWords()),
                     "it must be a string of one line", fmt::format("write {}", kModulesExample)});
      good = false;
    } else if (name == "path") {
      path = &value;
    } else {
      args = value.text;
    }
  }
  if (path == nullptr && good) {
    problems_.Add(item_place, {"a module has no path", "it is a file that the kernel gets",
                               fmt::format("write {}", kModulesExample)});
  } else if (good) {
    add(*path, std::move(args));
  }
}

void ConfigReader::ReadOverride(const Override& setting) {
  const ConfigKey* key = FindConfigKey(setting.key);
  const Place place{{}, setting.origin};
  if (key == nullptr) {
    problems_.Add(place, {fmt::format("unknown key '{}'", setting.key), "it would be ignored",
                          FixForUnknown("", NearestConfigKey(setting.key))});
  } else if (key->kind == ValueKind::kModules) {
    ReadModuleOption(*key, setting);
  } else if (ItemReader* list = ListOf(*key)) {
    list->ReadOption(setting);
    Store(*key, ConfigValue(), place);
  } else if (key->kind == ValueKind::kFile && setting.value.empty()) {
    key->set(config_, {});  // takes back what the file gave
    given_[IndexOf(*key)] = false;
  } else {
    Store(*key, ReadText(*key, setting.value, {}), place);
  }
}

// "PATH ARGS"; the first one takes back the modules of the file, and an empty one adds nothing.
void ConfigReader::ReadModuleOption(const ConfigKey& key, const Override& setting) {
  if (!module_option_seen_) {
    module_option_seen_ = true;
    config_.modules.clear();
    module_places_.clear();
  }
  given_[IndexOf(key)] = true;
  places_[IndexOf(key)] = {{}, setting.origin};
  if (setting.value.empty()) return;
  const size_t space = setting.value.find(' ');
  auto path = ParsePath(std::string_view(setting.value).substr(0, space), {});
  if (!path) {
    problems_.Add(places_[IndexOf(key)], std::move(path.error()));
    return;
  }
  config_.modules.push_back(
      {*path, space == std::string::npos ? std::string() : setting.value.substr(space + 1)});
  module_places_.push_back(places_[IndexOf(key)]);
}

}  // namespace vmm
