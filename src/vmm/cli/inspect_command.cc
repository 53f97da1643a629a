#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/cli/commands.h"
#include "vmm/cli/inspect_text.h"
#include "vmm/cli/output.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/machine/device_tree.h"
#include "vmm/machine/machine.h"

namespace vmm {
namespace {

Result<void> WriteFile(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  const auto failed = [&](int error) {
    Error failure =
        FailErrno(ExitCode::kCannotCreate, fmt::format("can't write {}", path.string()), error)
            .value();
    if (failure.code == ExitCode::kFileMissing) failure.code = ExitCode::kCannotCreate;
    return tl::unexpected(std::move(failure));
  };
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd) return failed(errno);
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return failed(errno);
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
  return {};
}

// The machine without its ties to the host: looking at it opens no terminal and makes no socket,
// and any engine will do.
Config ForInspection(Config config) {
  for (ConsoleSpec& spec : config.serial) spec = ConsoleSpec{};
  config.control.clear();
  config.accel = AccelChoice::kInterpreter;
  config.accel_move.reset();
  return config;
}

}  // namespace

RunOutcome InspectCommand(const CommandLine& line) {
  const Result<Config> config = ConfigOf(line);
  if (!config) return OutcomeOf(config.error());
  auto machine = Machine::Create(ForInspection(*config));
  if (!machine) return OutcomeOf(std::move(machine.error()));
  const MachineDescription description = (*machine)->Describe();
  if (!line.dtb.empty()) {
    const auto blob = BuildDeviceTree(description);
    if (!blob) return OutcomeOf(blob.error());
    if (const auto wrote = WriteFile(line.dtb, *blob); !wrote) return OutcomeOf(wrote.error());
  }
  return OutcomeOf(PrintText(InspectText(description)));
}

}  // namespace vmm
