// Any text as a vm.toml, and as the value of every option: a Config that keeps its promises, or
// errors that name the place and the fix.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/config/config_keys.h"
#include "vmm/config/load_config.h"
#include "vmm/core/base/check.h"

namespace {

constexpr size_t kLongestOption = 256;

void CheckPromises(const vmm::Config& config) {
  CHECK(!config.kernel.empty() || !config.boot_sector.empty() || !config.firmware.empty());
  CHECK(!config.name.empty() && config.name.size() <= 64);
  CHECK(config.cpus >= 1 && config.cpus <= vmm::Config::kMaxCpus);
  CHECK(config.memory >= 2 * vmm::kMiB && config.memory % vmm::kPageSize == 0);
  CHECK(config.append.find('\n') == std::string::npos);
  CHECK(config.stop_timeout.count() >= 0);
  CHECK(config.limits.wall.count() >= 0 && config.limits.idle.count() >= 0);
  for (const vmm::ConsoleSpec& spec : config.serial) {
    using Kind = vmm::ConsoleSpec::Kind;
    const bool has_path = spec.kind == Kind::kUnix || spec.kind == Kind::kFile;
    CHECK(has_path == !spec.path.empty());
  }
}

void CheckResult(const vmm::Result<vmm::Config>& config, std::string_view start) {
  if (config) return CheckPromises(*config);
  CHECK(config.error().code == vmm::ExitCode::kConfigInvalid ||
        config.error().code == vmm::ExitCode::kUsage);
  std::string_view rest = config.error().message;
  CHECK(!rest.empty());
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.starts_with("... and ")) continue;
    CHECK(line.starts_with(start) && line.find("; fix: ") != std::string_view::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  CheckResult(vmm::ParseConfig(text, "fuzz.toml", {}, false), "fuzz.toml:");
  if (size > kLongestOption) return 0;
  for (const vmm::ConfigKey& key : vmm::ConfigKeys()) {
    const vmm::Override settings[] = {{"kernel", "kernel", "--kernel"},
                                      {key.name, text, std::string(key.option)}};
    const auto config = vmm::ParseConfig("", "fuzz.toml", settings, false);
    // An empty kernel leaves nothing to boot, which is a matter of the whole file.
    CheckResult(config, key.name == "kernel" && text.empty() ? "fuzz.toml:" : "-");
  }
  return 0;
}
