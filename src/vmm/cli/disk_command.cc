#include "vmm/cli/commands.h"
#include "vmm/cli/disk_parts.h"

namespace vmm {

RunOutcome DiskCommand(const CommandLine& line) {
  using Action = DiskOptions::Action;
  switch (line.disk.action) {
    case Action::kCreate:
      return OutcomeOf(CreateDisk(line.disk));
    case Action::kInfo:
      return OutcomeOf(DescribeDisk(line.disk));
    case Action::kCheck:
      return OutcomeOf(CheckDisk(line.disk));
    case Action::kConvert:
      return OutcomeOf(ConvertDisk(line.disk));
    case Action::kResize:
      return OutcomeOf(ResizeDisk(line.disk));
    case Action::kNone:
      break;
  }
  return OutcomeOf({ExitCode::kUsage, "disk needs to know what to do; fix: see vmm disk --help"});
}

}  // namespace vmm
