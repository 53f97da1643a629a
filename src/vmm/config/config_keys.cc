#include "vmm/config/config_keys.h"

#include <fmt/format.h>

#include "vmm/config/spelling.h"
#include "vmm/config/value_parsers.h"

namespace vmm {
namespace {

std::string_view LastWord(std::string_view name) {
  return name.substr(name.rfind('.') + 1);
}

bool HasWord(std::string_view list, std::string_view word) {
  for (std::string_view part : SplitChoices(list)) {
    if (part == word) return true;
  }
  return false;
}

std::string_view KindForDocs(const ConfigKey& key) {
  switch (key.kind) {
    case ValueKind::kText:
      return "string";
    case ValueKind::kName:
      return "name";
    case ValueKind::kInteger:
      return "number";
    case ValueKind::kBoolean:
      return "true or false";
    case ValueKind::kSize:
      return "size";
    case ValueKind::kTime:
      return "time";
    case ValueKind::kChoice:
      return "choice";
    case ValueKind::kFile:
      return "file";
    case ValueKind::kCpu:
      return "processor";
    case ValueKind::kConsole:
      return "console";
    case ValueKind::kGdb:
      return "address";
    case ValueKind::kModules:
      return "list of modules";
    case ValueKind::kDisks:
      return "list of disks";
    case ValueKind::kNets:
      return "list of network cards";
    case ValueKind::kPorts:
      return "list of ports";
    case ValueKind::kMac:
      return "MAC address";
    case ValueKind::kForward:
      return "list of forwards";
    case ValueKind::kShares:
      return "list of directories";
    case ValueKind::kIds:
      return "list of ids";
  }
  return "";
}

std::string TypeCell(const ConfigKey& key) {
  if (key.kind == ValueKind::kInteger) return fmt::format("number, {} to {}", key.min, key.max);
  if (key.kind == ValueKind::kSize) {
    return fmt::format("size, {} to {}", FormatSize(key.min), FormatSize(key.max));
  }
  if (key.kind == ValueKind::kChoice) {
    return fmt::format("`\"{}\"`", fmt::join(SplitChoices(key.choices), "\"`, `\""));
  }
  return std::string(KindForDocs(key));
}

std::string DefaultCell(std::string_view text);

// The keys of the tables in a list.
std::string MemberTable(std::span<const ConfigKey> keys) {
  std::string table = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n";
  for (const ConfigKey& key : keys) {
    table += fmt::format("| `{}` | {} | {} | {} |\n", LastWord(key.name), TypeCell(key),
                         DefaultCell(key.default_text), key.help);
  }
  return table;
}

// Values in code style, words as they are.
std::string DefaultCell(std::string_view text) {
  const bool is_value = text.find(' ') == std::string_view::npos && text != "none";
  return is_value ? fmt::format("`{}`", text) : std::string(text);
}

}  // namespace

const ConfigKey* FindConfigKey(std::string_view name) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

const LaterKey* FindLaterKey(std::string_view name) {
  for (const LaterKey& key : LaterKeys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

const ConfigKey* NearestConfigKey(std::string_view name) {
  const std::string_view word = LastWord(name);
  // The right word in the wrong section, then what other programs call it.
  for (const ConfigKey& key : ConfigKeys()) {
    if (LastWord(key.name) == word) return &key;
  }
  for (const ConfigKey& key : ConfigKeys()) {
    if (HasWord(key.aliases, name) || HasWord(key.aliases, word)) return &key;
  }
  std::vector<std::string_view> words;
  for (const ConfigKey& key : ConfigKeys()) words.push_back(LastWord(key.name));
  const std::string_view nearest = NearestSpelling(word, words);
  if (nearest.empty()) return nullptr;
  for (const ConfigKey& key : ConfigKeys()) {
    if (LastWord(key.name) == nearest) return &key;
  }
  return nullptr;
}

std::vector<std::string_view> SplitChoices(std::string_view choices) {
  std::vector<std::string_view> parts;
  while (!choices.empty()) {
    const size_t bar = choices.find('|');
    parts.push_back(choices.substr(0, bar));
    choices = bar == std::string_view::npos ? std::string_view() : choices.substr(bar + 1);
  }
  return parts;
}

std::string DescribeKind(const ConfigKey& key) {
  switch (key.kind) {
    case ValueKind::kText:
      return "a string";
    case ValueKind::kName:
      return "a name";
    case ValueKind::kInteger:
      return "a whole number";
    case ValueKind::kBoolean:
      return "true or false";
    case ValueKind::kSize:
      return "a size, a string such as \"512M\"";
    case ValueKind::kTime:
      return "a time, a string such as \"30s\"";
    case ValueKind::kChoice:
      return fmt::format("one of \"{}\"", fmt::join(SplitChoices(key.choices), "\", \""));
    case ValueKind::kFile:
      return "the path of a file, a string";
    case ValueKind::kCpu:
      return "a processor, a string such as \"x86-64-v3\"";
    case ValueKind::kConsole:
      return "a place for a console, a string such as \"stdio\"";
    case ValueKind::kModules:
      return "a list of modules";
    case ValueKind::kDisks:
      return "a list of disks";
    case ValueKind::kNets:
      return "a list of network cards";
    case ValueKind::kPorts:
      return "a list of ports";
    case ValueKind::kMac:
      return "a MAC address, a string such as \"52:54:00:12:34:56\"";
    case ValueKind::kForward:
      return "a list of forwards, strings such as \"tcp:2222:22\"";
    case ValueKind::kShares:
      return "a list of directories";
    case ValueKind::kIds:
      return "a list of ids, strings such as \"0:1000\"";
    case ValueKind::kGdb:
      return "a place to connect to, a string such as \"1234\"";
  }
  return "";
}

std::string ConfigKeysMarkdown() {
  std::string table = "| Key | Type | Default | Option | Meaning |\n|---|---|---|---|---|\n";
  for (const ConfigKey& key : ConfigKeys()) {
    table += fmt::format("| `{}` | {} | {} | `{}` | {} |\n", key.name, TypeCell(key),
                         DefaultCell(key.default_text), key.option, key.help);
  }
  return table;
}

std::string DiskKeysMarkdown() {
  return MemberTable(DiskKeys());
}

std::string NetKeysMarkdown() {
  return MemberTable(NetKeys());
}

std::string ShareKeysMarkdown() {
  return MemberTable(ShareKeys());
}

std::string PortKeysMarkdown() {
  return MemberTable(PortKeys());
}

}  // namespace vmm
