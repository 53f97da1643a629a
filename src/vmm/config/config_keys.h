// The closed table of the keys of vm.toml. Parsing, the options of the command line, the help for
// misspelt keys and docs/config.md all come from here: a key is added by adding a row.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/config/config.h"

namespace vmm {

enum class ValueKind : uint8_t {
  kText,     // a string, without control characters
  kName,     // a string of letters, digits, '.', '_' and '-'
  kInteger,  // from `min` to `max`
  kBoolean,
  kSize,  // "512M"; from `min` to `max` bytes, a multiple of 4 KiB
  kTime,  // "30s"
  kChoice,
  kFile,     // the path of a file that must be there
  kCpu,      // "host", "x86-64-v3,-avx2"
  kConsole,  // "stdio", "unix:PATH" ...
  kModules,  // a list of paths, or of tables with path and args
  kGdb,      // "1234", "HOST:1234", "unix:PATH"
  kDisks,    // a list of paths, or of tables with the keys of DiskKeys()
  kNets,     // a list of modes, or of tables with the keys of NetKeys()
  kPorts,    // a list of names, or of tables with the keys of PortKeys()
  kMac,      // "52:54:00:12:34:56"
  kForward,  // "tcp:[ADDRESS:]PORT:PORT", or a list of such
  kShares,   // a list of paths, or of tables with the keys of ShareKeys()
  kIds,      // "GUEST:HOST[:COUNT]", or a list of such
};

// A value, read according to its ValueKind; the other fields are empty.
struct ConfigValue {
  std::string text{};
  uint64_t number = 0;  // kInteger, kSize (bytes), kBoolean (0, 1), kChoice (index)
  std::chrono::milliseconds time{0};
  std::filesystem::path path{};
  ConsoleSpec console{};
  CpuChoice cpu{};
  std::vector<ModuleSpec> modules{};
  GdbSpec gdb{};
  NetSpec::Mac mac{};
  ForwardSpec forward{};
  IdRange ids{};
};

struct ConfigKey {
  std::string_view name;  // with its section: "limits.wall"
  ValueKind kind;
  std::string_view default_text;  // as written in vm.toml, or words
  std::string_view example;       // a right value, as written in vm.toml
  std::string_view option;        // of the command line: "--memory"
  std::string_view help;          // one sentence
  void (*set)(Config&, const ConfigValue&);
  std::string_view choices = {};  // "a|b|c", in the order of the enum
  std::string_view later = {};    // choices of the design that are not built yet: "d|e"
  std::string_view aliases = {};  // words that people try instead: "mem|ram"
  uint64_t min = 0;               // kInteger: itself; kSize: bytes; kTime: ms
  uint64_t max = 0;
};

std::span<const ConfigKey> ConfigKeys();
const ConfigKey* FindConfigKey(std::string_view name);

// The keys of one disk, "disk.path" first; they set the last of Config::disks.
std::span<const ConfigKey> DiskKeys();
// The keys of one network card, "net.mode" first; they set the last of Config::nets.
std::span<const ConfigKey> NetKeys();
// The keys of one shared directory, "share.path" first; they set the last of Config::shares.
std::span<const ConfigKey> ShareKeys();
// The keys of one named port, "port.name" first; they set the last of Config::ports.
std::span<const ConfigKey> PortKeys();

// Names of sections: "console", "limits".
std::span<const std::string_view> ConfigSections();

// A key of the design that this version does not have.
struct LaterKey {
  std::string_view name;
  std::string_view instead;  // what works today
};
std::span<const LaterKey> LaterKeys();
const LaterKey* FindLaterKey(std::string_view name);

// The known key that `name` (with its section) most likely means, or nullptr: a misspelling, an
// alias, or the right name in the wrong section.
const ConfigKey* NearestConfigKey(std::string_view name);

// "a|b|c" as its parts.
std::vector<std::string_view> SplitChoices(std::string_view choices);

// The kind in words, for messages and docs: "a size", "one of auto, kvm".
std::string DescribeKind(const ConfigKey& key);

// The table as Markdown; docs/config.md holds it word for word.
std::string ConfigKeysMarkdown();
std::string DiskKeysMarkdown();
std::string NetKeysMarkdown();
std::string ShareKeysMarkdown();
std::string PortKeysMarkdown();

}  // namespace vmm
