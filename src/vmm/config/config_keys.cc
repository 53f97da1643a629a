#include "vmm/config/config_keys.h"

#include <fmt/format.h>

#include "vmm/config/spelling.h"
#include "vmm/config/value_parsers.h"

namespace vmm {
namespace {

constexpr uint64_t kMinMemory = 2 * kMiB;
constexpr uint64_t kMaxMemory = 1024 * kGiB;

template <unsigned kIndex>
void SetSerial(Config& config, const ConfigValue& value) {
  config.serial[kIndex] = value.console;
}

constexpr ConfigKey kKeys[] = {
    {.name = "name",
     .kind = ValueKind::kName,
     .default_text = "the name of the directory that holds vm.toml",
     .example = "\"web1\"",
     .option = "--name",
     .help = "What the machine is called in logs.",
     .set = [](Config& config, const ConfigValue& value) { config.name = value.text; },
     .aliases = "hostname|title|vm_name"},
    {.name = "machine",
     .kind = ValueKind::kChoice,
     .default_text = "\"pc\"",
     .example = "\"pc\"",
     .option = "--machine",
     .help = "The board: \"pc\" is an i440FX with PIIX3 and PIIX4 power management.",
     .set = [](Config& config,
               const ConfigValue& value) { config.machine = MachineKind(value.number); },
     .choices = "pc",
     .later = "micro",
     .aliases = "board|chipset|machine_type|type"},
    {.name = "cpus",
     .kind = ValueKind::kInteger,
     .default_text = "1",
     .example = "2",
     .option = "--cpus",
     .help = "How many processors the guest has.",
     .set = [](Config& config,
               const ConfigValue& value) { config.cpus = static_cast<unsigned>(value.number); },
     .aliases = "smp|vcpus|vcpu|cores|processors|cpu_count|ncpus|numvcpus",
     .min = 1,
     .max = Config::kMaxCpus},
    {.name = "memory",
     .kind = ValueKind::kSize,
     .default_text = "\"256M\"",
     .example = "\"512M\"",
     .option = "--memory",
     .help = "How much RAM the guest has. The host gives it page by page, as the guest touches it.",
     .set = [](Config& config, const ConfigValue& value) { config.memory = value.number; },
     .aliases = "mem|ram|memsize|memory_size|memory_mb",
     .min = kMinMemory,
     .max = kMaxMemory},
    {.name = "cpu",
     .kind = ValueKind::kChoice,
     .default_text = "\"host\"",
     .example = "\"host\"",
     .option = "--cpu",
     .help = "Which processor CPUID shows: \"host\" is what the engine can do on this host.",
     .set = [](Config& config, const ConfigValue& value) { config.cpu = CpuModel(value.number); },
     .choices = "host",
     .aliases = "cpu_model|model"},
    {.name = "accel",
     .kind = ValueKind::kChoice,
     .default_text = "\"auto\"",
     .example = "\"kvm\"",
     .option = "--accel",
     .help = "The engine: \"auto\" measures KVM and takes it when it is good; \"kvm\" fails "
             "without it; \"bt\" is the translator; \"interpreter\" is slow and needs nothing.",
     .set = [](Config& config,
               const ConfigValue& value) { config.accel = AccelChoice(value.number); },
     .choices = "auto|kvm|bt|interpreter",
     .aliases = "engine|accelerator|hypervisor|virt"},
    {.name = "accel_move",
     .kind = ValueKind::kBoolean,
     .default_text = "true with accel = \"auto\", else false",
     .example = "true",
     .option = "--accel-move",
     .help = "May the running machine move to another engine when KVM turns out to be bad?",
     .set = [](Config& config,
               const ConfigValue& value) { config.accel_move = value.number != 0; }},
    {.name = "kernel",
     .kind = ValueKind::kFile,
     .default_text = "must be given",
     .example = "\"vmlinuz\"",
     .option = "--kernel",
     .help = "What is booted: a Linux bzImage, a PVH ELF file or a Multiboot 1 ELF file.",
     .set = [](Config& config, const ConfigValue& value) { config.kernel = value.path; },
     .aliases = "vmlinuz|bzimage|image|kernel_image|kernel_path"},
    {.name = "initrd",
     .kind = ValueKind::kFile,
     .default_text = "none",
     .example = "\"initrd.img\"",
     .option = "--initrd",
     .help = "The initial RAM disk that the kernel gets.",
     .set = [](Config& config, const ConfigValue& value) { config.initrd = value.path; },
     .aliases = "initramfs|ramdisk|initrd_path"},
    {.name = "append",
     .kind = ValueKind::kText,
     .default_text = "\"\"",
     .example = "\"console=ttyS0\"",
     .option = "--append",
     .help = "The kernel's command line.",
     .set = [](Config& config, const ConfigValue& value) { config.append = value.text; },
     .aliases = "cmdline|args|kernel_args|command_line|boot_args|bootargs|kernel_cmdline"},
    {.name = "modules",
     .kind = ValueKind::kModules,
     .default_text = "[]",
     .example = "[{ path = \"init.elf\", args = \"verbose\" }]",
     .option = "--module",
     .help =
         "Files that a Multiboot or PVH kernel gets, each with a text. A plain string is a path.",
     .set = [](Config& config, const ConfigValue& value) { config.modules = value.modules; },
     .aliases = "module|multiboot_modules"},
    {.name = "on_reboot",
     .kind = ValueKind::kChoice,
     .default_text = "\"reset\"",
     .example = "\"exit\"",
     .option = "--on-reboot",
     .help = "When the guest resets itself: start it again, or end with exit code 86.",
     .set = [](Config& config,
               const ConfigValue& value) { config.on_reboot = OnReboot(value.number); },
     .choices = "reset|exit",
     .aliases = "reboot|no_reboot"},
    {.name = "on_panic",
     .kind = ValueKind::kChoice,
     .default_text = "\"exit\"",
     .example = "\"reset\"",
     .option = "--on-panic",
     .help = "When the guest's kernel panics: end with exit code 81, start again, or stand still.",
     .set = [](Config& config,
               const ConfigValue& value) { config.on_panic = OnPanic(value.number); },
     .choices = "exit|reset|pause",
     .aliases = "panic|on_crash"},
    {.name = "stop_timeout",
     .kind = ValueKind::kTime,
     .default_text = "\"30s\"",
     .example = "\"90s\"",
     .option = "--stop-timeout",
     .help = "How long the guest may take to power off after SIGTERM pressed its power button. "
             "\"0s\" ends it at once.",
     .set = [](Config& config, const ConfigValue& value) { config.stop_timeout = value.time; },
     .aliases = "grace|grace_time|shutdown_timeout|timeout"},
    {.name = "console.serial0",
     .kind = ValueKind::kConsole,
     .default_text = "\"stdio\"",
     .example = "\"unix:console.sock\"",
     .option = "--serial0",
     .help = "Where the first serial line (ttyS0, port 0x3F8) leads.",
     .set = SetSerial<0>,
     .aliases = "serial|com1|ttys0|console.serial"},
    {.name = "console.serial1",
     .kind = ValueKind::kConsole,
     .default_text = "\"null\"",
     .example = "\"file:boot.log\"",
     .option = "--serial1",
     .help = "Where the second serial line (ttyS1, port 0x2F8) leads.",
     .set = SetSerial<1>,
     .aliases = "com2|ttys1"},
    {.name = "console.serial2",
     .kind = ValueKind::kConsole,
     .default_text = "\"null\"",
     .example = "\"pty\"",
     .option = "--serial2",
     .help = "Where the third serial line (ttyS2, port 0x3E8) leads.",
     .set = SetSerial<2>,
     .aliases = "com3|ttys2"},
    {.name = "console.serial3",
     .kind = ValueKind::kConsole,
     .default_text = "\"null\"",
     .example = "\"null\"",
     .option = "--serial3",
     .help = "Where the fourth serial line (ttyS3, port 0x2E8) leads.",
     .set = SetSerial<3>,
     .aliases = "com4|ttys3"},
    {.name = "limits.wall",
     .kind = ValueKind::kTime,
     .default_text = "no limit",
     .example = "\"10m\"",
     .option = "--wall-limit",
     .help = "Ends the run with exit code 84 when it has lasted this long.",
     .set = [](Config& config, const ConfigValue& value) { config.limits.wall = value.time; },
     .aliases = "wall_timeout|max_time|limits.wall_time|limits.wall_timeout|limits.timeout",
     .min = 1},
    {.name = "limits.idle",
     .kind = ValueKind::kTime,
     .default_text = "no limit",
     .example = "\"60s\"",
     .option = "--idle-limit",
     .help = "Ends the run with exit code 85 when the guest wrote to no serial line for this long.",
     .set = [](Config& config, const ConfigValue& value) { config.limits.idle = value.time; },
     .aliases = "idle_timeout|limits.idle_time|limits.idle_timeout",
     .min = 1},
};

constexpr std::string_view kSections[] = {"console", "limits"};

constexpr LaterKey kLaterKeys[] = {
    {"disk", "put what the guest needs into its initrd"},
    {"net", "use a serial line to talk to the guest"},
    {"firmware", "name a kernel to boot without firmware"},
    {"nvram", "leave it out: there is no firmware that would use it"},
    {"hugepages", "leave it out: the host's own setting decides"},
    {"display", "use console.serial0"},
    {"vnc", "use console.serial0"},
    {"usb", "leave it out"},
    {"floppy", "put what the guest needs into its initrd"},
    {"cdrom", "put what the guest needs into its initrd"},
    {"share", "put what the guest needs into its initrd"},
    {"vsock", "use a serial line to talk to the guest"},
    {"rng", "leave it out: the guest may use RDRAND where the host has it"},
    {"balloon", "leave it out"},
    {"control", "leave it out: signals end the run"},
    {"sandbox", "leave it out"},
    {"tools", "leave it out"},
    {"snapshot", "leave it out"},
};

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
    case ValueKind::kConsole:
      return "console";
    case ValueKind::kModules:
      return "list of modules";
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

// Values in code style, words as they are.
std::string DefaultCell(std::string_view text) {
  const bool is_value = text.find(' ') == std::string_view::npos && text != "none";
  return is_value ? fmt::format("`{}`", text) : std::string(text);
}

}  // namespace

std::span<const ConfigKey> ConfigKeys() {
  return kKeys;
}
std::span<const std::string_view> ConfigSections() {
  return kSections;
}

const ConfigKey* FindConfigKey(std::string_view name) {
  for (const ConfigKey& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

const LaterKey* FindLaterKey(std::string_view name) {
  for (const LaterKey& key : kLaterKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

const ConfigKey* NearestConfigKey(std::string_view name) {
  const std::string_view word = LastWord(name);
  // The right word in the wrong section, then what other programs call it.
  for (const ConfigKey& key : kKeys) {
    if (LastWord(key.name) == word) return &key;
  }
  for (const ConfigKey& key : kKeys) {
    if (HasWord(key.aliases, name) || HasWord(key.aliases, word)) return &key;
  }
  std::vector<std::string_view> words;
  for (const ConfigKey& key : kKeys) words.push_back(LastWord(key.name));
  const std::string_view nearest = NearestSpelling(word, words);
  if (nearest.empty()) return nullptr;
  for (const ConfigKey& key : kKeys) {
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
    case ValueKind::kConsole:
      return "a place for a console, a string such as \"stdio\"";
    case ValueKind::kModules:
      return "a list of modules";
  }
  return "";
}

std::string ConfigKeysMarkdown() {
  std::string table = "| Key | Type | Default | Option | Meaning |\n|---|---|---|---|---|\n";
  for (const ConfigKey& key : kKeys) {
    table += fmt::format("| `{}` | {} | {} | `{}` | {} |\n", key.name, TypeCell(key),
                         DefaultCell(key.default_text), key.option, key.help);
  }
  return table;
}

}  // namespace vmm
