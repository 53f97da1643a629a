#include "vmm/machine/board_nets.h"

#include <fmt/format.h>

#include "vmm/snapshot/sections.h"

namespace vmm {
namespace {

constexpr uint32_t kEthernet = 0x020000;  // [PCI] appendix D

}  // namespace

NetSlot::NetSlot(uint8_t device, size_t index, const BoardNet& net,
                 const virtio::VirtioDevice::Host& host, const PciEndpoint::Socket& socket)
    : BoardSlot(device),
      net_(fmt::format("net{}", index), *net.backend, {.mac = net.mac, .mtu = net.mtu}, host,
           [this] { thread_.Ring(); }),
      pci_(net_, kEthernet, socket),
      thread_(net_.name() + "-queues", [this] { return net_.Work(); }) {
  pci_.SetBell(thread_.bell());
}

NetSlot::~NetSlot() {
  Pause();
}

void NetSlot::Save(Sections& out) {
  out.Put(name(), NetSlotState{.net = net_.SaveNet(), .pci = pci_.SaveState()});
}

Result<void> NetSlot::Load(Sections& in) {
  return in.LoadInto<NetSlotState>(name(), *this);
}

Result<void> NetSlot::Load(const NetSlotState& state) {
  if (state.version != NetSlotState::kVersion) {
    return Fail(ExitCode::kConfigInvalid, name() + ": the saved state is of another version");
  }
  return pci_.LoadState(state.pci).and_then([&] { return net_.LoadNet(state.net); });
}

}  // namespace vmm
