// The host side of the four serial lines, of the debug console and of the virtio console's ports:
// what the config names, with the panic watcher reading along and the escape key on a terminal.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>

#include "vmm/config/config.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/host/char_backends.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/machine/board_console.h"
#include "vmm/machine/console_tap.h"
#include "vmm/machine/escape_keys.h"
#include "vmm/snapshot/sections.h"

namespace vmm {

class Consoles {
 public:
  struct Hooks {
    // Each byte that the guest prints; on the thread that writes. The serial lines are the first
    // consoles, then come those of the virtio device.
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

  // What has left each serial line towards the guest, which has not got it yet.
  using Ahead = std::array<std::string, Config::kSerialPorts>;
  // What has been typed and the guest has not taken, of each line that has some: `ahead`, then what
  // the line holds. On the I/O thread.
  void SaveInput(Sections& out, const Ahead& ahead);
  // Before the guest runs.
  Result<void> LoadInput(Sections& in);

  const Backends& backends() const { return backends_; }
  CharBackend& debug_console();
  // The ports of the virtio console, its consoles first; none: the config asks for none.
  std::vector<BoardPort> PortsForBoard();
  // What there is, by name: "serial0", "debug", "hvc0", and the ports.
  struct Entry {
    std::string name;
    ConsoleSpec::Kind kind;
    std::string where;  // on the host, as CharBackend::Where()
  };
  std::vector<Entry> List() const;

 private:
  struct Line {  // in the order from the host to the guest
    std::string name;
    ConsoleSpec::Kind kind = ConsoleSpec::Kind::kNull;
    std::unique_ptr<CharBackend> host;
    std::unique_ptr<EscapeKeys> keys;  // null unless it is the user's terminal
    std::unique_ptr<CharBackend> log;  // a copy of what the guest prints; null: none
    std::unique_ptr<ConsoleTap> tap;
  };
  static CharBackend& Outermost(Line& line);
  static Result<Line> Open(const ConsoleSpec& spec, std::string name, EventLoop& loop,
                           const Hooks& hooks);
  // With whoever reads along as console `number`. `log`: the file that keeps a copy; or empty.
  static Result<Line> OpenConsole(const ConsoleSpec& spec, std::string name, unsigned number,
                                  const std::string& log, EventLoop& loop, const Hooks& hooks);
  template <class Visit>
  static void ForEachLine(auto& consoles, const Visit& visit);

  class Nobody final : public CharReceiver {
    size_t OnInput(std::span<const uint8_t> data) override { return data.size(); }
  };
  Nobody nobody_;  // takes what is typed to the debug console, which has no input
  std::array<Line, Config::kSerialPorts> lines_;
  Line debug_;  // nobody reads along
  std::vector<Line> hvc_;
  std::vector<Line> ports_;  // likewise
  Backends backends_{};
};

}  // namespace vmm
