// `vmm ctl ...` as plain data. Only ctl_command_line.cc knows how it is typed.
#pragma once

#include <filesystem>
#include <string>

#include "vmm/control/request.h"

namespace CLI {
class App;
}

namespace vmm {

struct CtlOptions {
  enum class Action : uint8_t { kNone, kAsk, kAttach };

  Action action = Action::kNone;
  control::Request request;         // of kAsk
  std::string console = "serial0";  // of kAttach
  std::filesystem::path socket;     // empty: that of `config`
  std::filesystem::path config;     // empty: the vm.toml in the working directory
  bool json = false;
  bool wait = false;  // after powerdown, stop or suspend: until the machine is gone
};

// Adds status, pause, ... to the command `ctl`.
void AddCtlActions(CLI::App& ctl, CtlOptions* options);

}  // namespace vmm
