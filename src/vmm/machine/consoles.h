// The host side of the four serial lines and of the debug console: what the config names, with the
// panic watcher reading along and the escape key on a terminal.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>

#include "vmm/config/config.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_backends.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/machine/console_tap.h"
#include "vmm/machine/escape_keys.h"

namespace vmm {

class Consoles {
 public:
  struct Hooks {
    // Each byte that the guest prints; on the vCPU's thread.
    std::function<void(unsigned console, std::span<const uint8_t>)> on_output;
    // The escape key; on the I/O thread.
    std::function<void()> on_stop;
    std::function<void()> on_power_button;
    std::function<void()> on_suspend;
  };
  using Backends = std::array<CharBackend*, Config::kSerialPorts>;

  // Opens what config.serial says; says on the log where a pty is. Errors name the line.
  static Result<std::unique_ptr<Consoles>> Create(const Config& config, EventLoop& loop,
                                                  Hooks hooks);

  // The guest prints nothing more: waits until readers that read have got all, but not for long.
  // kConsoleLost when the host refused output of one.
  Result<void> Finish();

  const Backends& backends() const { return backends_; }
  CharBackend& debug_console();
  // Where line `index` is found on the host, as CharBackend::Where(); the debug console is last.
  std::string WhereIs(unsigned index) const;

 private:
  struct Line {  // in the order from the host to the guest
    std::unique_ptr<CharBackend> host;
    std::unique_ptr<EscapeKeys> keys;  // null unless it is the user's terminal
    std::unique_ptr<ConsoleTap> tap;
  };
  static CharBackend& Outermost(Line& line);
  static Result<Line> Open(const ConsoleSpec& spec, std::string name, EventLoop& loop,
                           const Hooks& hooks);

  class Nobody final : public CharReceiver {
    size_t OnInput(std::span<const uint8_t> data) override { return data.size(); }
  };
  Nobody nobody_;  // takes what is typed to the debug console, which has no input
  std::array<Line, Config::kSerialPorts> lines_;
  Line debug_;  // nobody reads along
  Backends backends_{};
};

}  // namespace vmm
