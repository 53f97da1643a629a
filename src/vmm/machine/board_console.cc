#include "vmm/machine/board_console.h"

#include "vmm/core/host/char_output.h"
#include "vmm/snapshot/sections.h"

namespace vmm {
namespace {

constexpr uint32_t kSerialController = 0x078000;  // [PCI] appendix D: of no more special kind

}  // namespace

ConsoleSlot::ConsoleSlot(const std::vector<BoardPort>& ports,
                         const virtio::VirtioDevice::Host& host, const PciEndpoint::Socket& socket)
    : BoardSlot(kConsole),
      console_("virtio-console", ports, host, [this] { thread_.Ring(); }),
      pci_(console_, kSerialController, socket),
      thread_("virtio-console", [this] { console_.Work(); }) {}

ConsoleSlot::~ConsoleSlot() {
  Pause();
}

void ConsoleSlot::HandOut() {
  console_.HandOut(CharOutput::kFinishIdle, CharOutput::kFinishTotal);
}

void ConsoleSlot::Save(Sections& out) {
  out.Put(name(), ConsoleSlotState{.console = console_.SaveConsole(), .pci = pci_.SaveState()});
}

Result<void> ConsoleSlot::Load(Sections& in) {
  return in.LoadInto<ConsoleSlotState>(name(), *this);
}

Result<void> ConsoleSlot::Load(const ConsoleSlotState& state) {
  if (state.version != ConsoleSlotState::kVersion) {
    return Fail(ExitCode::kConfigInvalid, name() + ": the saved state is of another version");
  }
  return pci_.LoadState(state.pci).and_then([&] { return console_.LoadConsole(state.console); });
}

}  // namespace vmm
