// The command line as plain data. Only command_line.cc includes CLI11.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "vmm/cli/ctl_options.h"
#include "vmm/cli/disk_options.h"
#include "vmm/cli/new_options.h"
#include "vmm/cli/test_options.h"
#include "vmm/config/load_config.h"
#include "vmm/core/base/log.h"
#include "vmm/core/base/result.h"

namespace vmm {

struct CommandLine {
  enum class Command : uint8_t {
    kRun,
    kCheck,
    kInspect,
    kProbe,
    kConfig,
    kDisk,
    kCtl,
    kNew,
    kTest,
    kShowText
  };

  Command command = Command::kRun;
  std::string program = "vmm";     // as it was called
  std::filesystem::path config;    // vm.toml; empty: everything is in `settings`
  std::vector<Override> settings;  // as given, in the order of the table of keys
  std::filesystem::path result;    // of run and test; empty: none
  bool discard_state = false;      // of run: delete the suspended machine and start afresh
  std::filesystem::path dtb;       // of inspect; empty: none
  TraceOptions trace;              // of run
  bool statistics = false;         // of run
  bool perf_map = false;           // of run
  bool lockstep = false;           // of run
  bool json = false;               // of probe
  std::string explain;             // of config: a key; empty: all
  DiskOptions disk;                // of disk
  CtlOptions ctl;                  // of ctl
  NewOptions making;               // of new
  TestOptions testing;             // of test
  LogLevel log_level = LogLevel::kInfo;
  std::string text;  // of kShowText: --help or --version
};

// `arguments` without the name of the program. Options without a command are those of run. Error:
// kUsage, with the nearest right spelling.
Result<CommandLine> ParseCommandLine(std::span<const char* const> arguments);

// The file of `--result`, found even in a command line that is wrong otherwise.
std::filesystem::path FindResultPath(std::span<const char* const> arguments);

}  // namespace vmm
