#include "vmm/config/config_rules.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vmm/config/net_rules.h"
#include "vmm/config/share_rules.h"

namespace vmm {
namespace {

struct NamedConsole {
  std::string name;  // "serial0", "debug", of a port its own
  std::string file;  // a name for what it could be written to: "console0"
  std::string key;   // that says where it leads
  const ConsoleSpec& spec;
  const Place& place;
  bool is_given;
};

std::vector<NamedConsole> ConsolesOf(const Config& config, const ConfigReader& reader) {
  std::vector<NamedConsole> consoles;
  const auto add = [&](std::string name, std::string file, const ConsoleSpec& spec) {
    const std::string key = "console." + name;
    consoles.push_back(
        {name, std::move(file), name, spec, reader.PlaceOf(key), reader.IsGiven(key)});
  };
  for (unsigned i = 0; i < Config::kSerialPorts; ++i) {
    add(fmt::format("serial{}", i), fmt::format("console{}", i), config.serial[i]);
  }
  for (unsigned i = 0; i < Config::kVirtioConsoles; ++i) {
    add(fmt::format("hvc{}", i), fmt::format("hvc{}", i), config.hvc[i]);
  }
  add("debug", "debug", config.debug);
  for (size_t i = 0; i < config.ports.size(); ++i) {
    const PortSpec& port = config.ports[i];
    consoles.push_back({port.name, port.name, "to", port.to, reader.PortPlaces()[i], true});
  }
  return consoles;
}

// A file that the machine reads, and what it is called in messages.
struct Input {
  std::string what;  // "kernel"
  std::filesystem::path path;
  const Place* place;
};

std::vector<Input> InputsOf(const Config& config, const ConfigReader& reader) {
  std::vector<Input> inputs;
  if (!config.kernel.empty()) {
    inputs.push_back({"kernel", config.kernel, &reader.PlaceOf("kernel")});
  }
  if (!config.boot_sector.empty()) {
    inputs.push_back({"boot sector", config.boot_sector, &reader.PlaceOf("boot_sector")});
  }
  if (!config.firmware.empty()) {
    inputs.push_back({"firmware", config.firmware, &reader.PlaceOf("firmware")});
  }
  if (!config.initrd.empty()) {
    inputs.push_back({"initrd", config.initrd, &reader.PlaceOf("initrd")});
  }
  for (size_t i = 0; i < config.modules.size(); ++i) {
    inputs.push_back({"module", config.modules[i].path, &reader.ModulePlaces()[i]});
  }
  return inputs;
}

void CheckEngine(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  if (config.deterministic && config.accel == AccelChoice::kKvm) {
    problems.Add(
        reader.PlaceOf("deterministic"),
        {"deterministic = true does not go with accel = \"kvm\"", "KVM can't count instructions",
         "remove deterministic, or write accel = \"auto\" or \"interpreter\""});
  }
  const bool can_move = config.accel == AccelChoice::kAuto || config.accel == AccelChoice::kKvm;
  if (!config.accel_move.value_or(false) || can_move) return;
  problems.Add(reader.PlaceOf("accel_move"),
               {"accel_move = true does not go with this accel",
                "only a machine that runs on KVM may move to another engine",
                "remove accel_move, or write accel = \"auto\" or \"kvm\""});
}

void CheckRng(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  if (!config.rng || !config.deterministic) return;
  problems.Add(reader.PlaceOf("rng"),
               {"rng = true does not go with deterministic = true",
                "no two runs would read the same from it", "remove one of the two"});
}

// The virtio console's: names are the guest's and those of `vmm ctl attach`.
void CheckPorts(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  const std::vector<NamedConsole> consoles = ConsolesOf(config, reader);
  const size_t first = consoles.size() - config.ports.size();
  for (size_t i = first; i < consoles.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (consoles[i].name != consoles[j].name) continue;
      problems.Add(consoles[i].place,
                   {fmt::format("two {} have the name {}", j < first ? "consoles" : "ports",
                                consoles[i].name),
                    "each is found by its own", "write another name"});
      break;
    }
  }
  if (!config.deterministic) return;
  for (const NamedConsole& console : consoles) {
    const bool is_virtio = &console >= &consoles[first] || console.name.starts_with("hvc");
    if (!is_virtio || console.spec.kind == ConsoleSpec::Kind::kNull) continue;
    problems.Add(console.place,
                 {fmt::format("{} does not go with deterministic = true", console.name),
                  "when its bytes come is up to the host", "use a serial line"});
  }
}

void CheckDisks(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  if (config.disks.empty()) return;
  if (config.deterministic) {
    problems.Add(reader.PlaceOf("disk"),
                 {"disk does not go with deterministic = true",
                  "when a request ends is up to the host", "remove one of the two"});
  }
  for (size_t i = 0; i < config.disks.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const DiskSpec &one = config.disks[i], &other = config.disks[j];
      if (one.path.lexically_normal() != other.path.lexically_normal() ||
          (one.mode != DiskMode::kReadWrite && other.mode != DiskMode::kReadWrite)) {
        continue;
      }
      problems.Add(
          reader.DiskPlaces()[i],
          {fmt::format("disk{} and disk{} are the same image", j, i), "one of them writes to it",
           "write mode = \"ro\" or \"snapshot\" for both, or name another image"});
    }
  }
}

void CheckControl(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  const size_t length = config.control.native().size();
  if (!config.control_asked) return;
  if (length > kLongest) {
    problems.Add(reader.PlaceOf("control"),
                 {fmt::format("the path of the control socket has {} bytes", length),
                  fmt::format("that of a socket has at most {}", kLongest),
                  "name a shorter path, such as /run/vm.sock"});
  }
  for (const NamedConsole& console : ConsolesOf(config, reader)) {
    if (console.spec.path.lexically_normal() != config.control.lexically_normal()) continue;
    problems.Add(reader.PlaceOf("control"),
                 {fmt::format("control and {} are the same path", console.name),
                  "each needs a file of its own", "name another path for one of them"});
  }
}

void CheckDebugger(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  if (!config.gdb_wait || config.gdb.kind != GdbSpec::Kind::kNone) return;
  problems.Add(reader.PlaceOf("gdb_wait"),
               {"gdb_wait = true needs a place where the debugger connects",
                "the guest would never run", "write gdb = \"1234\" too, or remove gdb_wait"});
}

void CheckConsoles(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  using Kind = ConsoleSpec::Kind;
  const std::vector<Input> inputs = InputsOf(config, reader);
  const std::vector<NamedConsole> consoles = ConsolesOf(config, reader);
  for (auto console = consoles.begin(); console != consoles.end(); ++console) {
    const auto& [name, file, key, spec, place, is_given] = *console;
    for (auto other = consoles.begin(); other != console; ++other) {
      const bool both_stdio = spec.kind == Kind::kStdio && other->spec.kind == Kind::kStdio;
      const bool same_path =
          !spec.path.empty() && spec.path.lexically_normal() == other->spec.path.lexically_normal();
      if (!both_stdio && !same_path) continue;
      const std::string free_place = spec.kind == Kind::kUnix ? fmt::format("unix:{}.sock", file)
                                                              : fmt::format("file:{}.log", file);
      problems.Add(place,
                   {fmt::format("{} and {} lead to the same place", other->name, name),
                    other->is_given ? "their texts would mix"
                                    : fmt::format("{} leads to stdio by default", other->name),
                    both_stdio ? fmt::format("write {} = \"null\", or lead one of them elsewhere",
                                             other->key)
                               : fmt::format("write {} = \"{}\"", key, free_place)});
      break;
    }
    if (spec.kind != Kind::kFile) continue;
    for (const Input& input : inputs) {
      if (spec.path.lexically_normal() != input.path.lexically_normal()) continue;
      problems.Add(place, {fmt::format("{} would write into the {}", name, input.what),
                           "both name the same file", fmt::format("write \"file:{}.log\"", file)});
    }
  }
}

// Opens the file for reading, as the machine will. Adds its size to `total`.
void CheckInput(const Input& input, const Config& config, uint64_t& total,
                ConfigProblems& problems) {
  const std::string name = input.path.string();
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      const bool relative_to_file = input.place->option.empty() && !config.file.empty();
      problems.Add(*input.place,
                   {fmt::format("the {} {} does not exist", input.what, name),
                    relative_to_file ? "relative paths start at the directory of the file"
                                     : "relative paths start at the working directory",
                    "correct the path, or put the file there"},
                   ExitCode::kFileMissing);
      return;
    }
    const bool denied = error == EACCES || error == EPERM;
    problems.Add(*input.place,
                 {fmt::format("the {} {} can't be read", input.what, name), std::strerror(error),
                  denied ? fmt::format("allow it: chmod a+r {}", name) : "name another file"},
                 denied ? ExitCode::kNoPermission : ExitCode::kFileMissing);
    return;
  }
  struct stat status{};
  const bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  close(fd);
  if (!regular) {
    problems.Add(*input.place,
                 {fmt::format("the {} {} is no regular file", input.what, name),
                  "its size must be known before it is read", "name a file"},
                 ExitCode::kFileMissing);
    return;
  }
  if (status.st_size == 0) {
    problems.Add(*input.place,
                 {fmt::format("the {} {} is empty", input.what, name),
                  "there is nothing in it to load", "name the right file"},
                 ExitCode::kConfigInvalid);
    return;
  }
  total += static_cast<uint64_t>(status.st_size);
}

// An image may be a block device; what is in it is told when it is opened.
void CheckDisk(const DiskSpec& disk, size_t index, const Place& place, ConfigProblems& problems) {
  const std::string name = disk.path.string();
  const std::string what = fmt::format("the image of disk{}", index);
  struct stat status{};
  if (stat(name.c_str(), &status) != 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    problems.Add(place,
                 {fmt::format("{} {} {}", what, name, missing ? "does not exist" : "can't be read"),
                  std::strerror(error),
                  missing ? fmt::format("correct the path, or: vmm disk create {} 10G", name)
                          : "allow it, or name another image"},
                 missing ? ExitCode::kFileMissing : ExitCode::kNoPermission);
    return;
  }
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    problems.Add(place,
                 {fmt::format("{} {} is no file", what, name),
                  "an image is a file or a block device", "name an image"},
                 ExitCode::kFileMissing);
    return;
  }
  const bool writes = disk.mode == DiskMode::kReadWrite;
  if (access(name.c_str(), writes ? R_OK | W_OK : R_OK) != 0) {
    problems.Add(place,
                 {fmt::format("{} {} can't be {}", what, name, writes ? "written" : "read"),
                  std::strerror(errno),
                  writes ? "write mode = \"ro\" or \"snapshot\", or allow it"
                         : fmt::format("allow it: chmod a+r {}", name)},
                 ExitCode::kNoPermission);
  }
}

void CheckFit(const Config& config, const ConfigReader& reader, uint64_t total,
              ConfigProblems& problems) {
  if (total < config.memory) return;
  const uint64_t wanted = (total / (64 * kMiB) + 2) * 64 * kMiB;
  problems.Add(reader.PlaceOf(reader.IsGiven("memory") ? "memory" : "kernel"),
               {fmt::format("kernel, initrd and modules have {} MiB, the guest's memory {} MiB",
                            (total + kMiB - 1) / kMiB, config.memory / kMiB),
                "the guest could not hold them",
                fmt::format("write memory = \"{}M\" or more", wanted / kMiB)});
}

void CheckConsolePath(const NamedConsole& console, const Place& place, ConfigProblems& problems) {
  const ConsoleSpec& spec = console.spec;
  const std::filesystem::path parent =
      spec.path.has_parent_path() ? spec.path.parent_path() : std::filesystem::path(".");
  struct stat status{};
  if (stat(parent.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    problems.Add(place,
                 {fmt::format("{} can't be made in {}", console.name, parent.string()),
                  "there is no such directory", fmt::format("mkdir -p {}", parent.string())},
                 ExitCode::kConsoleLost);
    return;
  }
  if (stat(spec.path.c_str(), &status) != 0) return;
  const bool is_socket = S_ISSOCK(status.st_mode);
  if (spec.kind == ConsoleSpec::Kind::kUnix && !is_socket) {
    problems.Add(place,
                 {fmt::format("{} is there already and is no socket", spec.path.string()),
                  "it would have to be deleted", "name another path"},
                 ExitCode::kConsoleLost);
  } else if (spec.kind == ConsoleSpec::Kind::kFile && (is_socket || S_ISDIR(status.st_mode))) {
    problems.Add(place,
                 {fmt::format("{} is a {}", spec.path.string(), is_socket ? "socket" : "directory"),
                  "a console can't be written to it",
                  is_socket ? "write \"unix:PATH\", or name another path" : "name a file in it"},
                 ExitCode::kConsoleLost);
  }
}

// What starts: one thing, and what goes with it.
void CheckStart(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  struct Start {
    std::string_view key;
    const std::filesystem::path& path;
  };
  const Start starts[] = {{"kernel", config.kernel},
                          {"boot_sector", config.boot_sector},
                          {"firmware", config.firmware}};
  const Start* first = nullptr;
  for (const Start& start : starts) {
    if (start.path.empty()) continue;
    if (first != nullptr) {
      problems.Add(reader.PlaceOf(start.key),
                   {fmt::format("{} does not go with {}", start.key, first->key),
                    "a machine starts one of them", "remove one of the two"});
    } else {
      first = &start;
    }
  }
  if (first == nullptr) {
    problems.Add({}, {"there is nothing to boot", "no kernel is given",
                      problems.has_file() ? "write kernel = \"vmlinuz\", the path of a kernel"
                                          : "give --kernel FILE, or --config FILE"});
    return;
  }
  if (!config.kernel.empty()) return;
  const auto needs_kernel = [&](std::string_view key, bool given) {
    if (!given) return;
    problems.Add(reader.PlaceOf(key), {fmt::format("{} does not go with {}", key, first->key),
                                       "only a kernel gets it", fmt::format("remove {}", key)});
  };
  needs_kernel("initrd", !config.initrd.empty());
  needs_kernel("append", !config.append.empty());
  needs_kernel("modules", !config.modules.empty());
  needs_kernel("entry", config.entry != KernelEntry::kAuto);
}

}  // namespace

void CheckCombinations(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  CheckStart(config, reader, problems);
  CheckEngine(config, reader, problems);
  CheckConsoles(config, reader, problems);
  CheckDebugger(config, reader, problems);
  CheckControl(config, reader, problems);
  CheckDisks(config, reader, problems);
  CheckNets(config, reader, problems);
  CheckShares(config, reader, problems);
  CheckRng(config, reader, problems);
  CheckPorts(config, reader, problems);
}

void CheckFiles(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  uint64_t total = 0;
  for (const Input& input : InputsOf(config, reader)) {
    CheckInput(input, config, total, problems);
  }
  for (size_t i = 0; i < config.disks.size(); ++i) {
    CheckDisk(config.disks[i], i, reader.DiskPlaces()[i], problems);
  }
  CheckShareFiles(config, reader, problems);
  // Of an image only the part that fits is loaded; ROM is no RAM.
  if (!config.kernel.empty()) CheckFit(config, reader, total, problems);
  for (const NamedConsole& console : ConsolesOf(config, reader)) {
    if (console.spec.path.empty()) continue;
    CheckConsolePath(console, console.place, problems);
  }
}

}  // namespace vmm
