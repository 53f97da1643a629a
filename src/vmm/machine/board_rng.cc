#include "vmm/machine/board_rng.h"

#include "vmm/snapshot/sections.h"

namespace vmm {
namespace {

constexpr uint32_t kNoClass = 0xFF0000;  // [PCI] appendix D: fits in no class

}  // namespace

RngSlot::RngSlot(const virtio::VirtioDevice::Host& host, const PciEndpoint::Socket& socket)
    : BoardSlot(kRng),
      rng_("rng", virtio::VirtioRng::HostRandom, host, [this] { thread_.Ring(); }),
      pci_(rng_, kNoClass, socket),
      thread_("rng", [this] { rng_.Work(); }) {}

RngSlot::~RngSlot() {
  Pause();
}

void RngSlot::Save(Sections& out) {
  out.Put(name(), RngSlotState{.pci = pci_.SaveState()});
}

Result<void> RngSlot::Load(Sections& in) {
  return in.LoadInto<RngSlotState>(name(), *this);
}

Result<void> RngSlot::Load(const RngSlotState& state) {
  if (state.version != RngSlotState::kVersion) {
    return Fail(ExitCode::kConfigInvalid, name() + ": the saved state is of another version");
  }
  return pci_.LoadState(state.pci);
}

}  // namespace vmm
