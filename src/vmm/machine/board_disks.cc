#include "vmm/machine/board_disks.h"

#include <fmt/format.h>

#include "vmm/snapshot/sections.h"

namespace vmm {
namespace {

constexpr uint32_t kMassStorage = 0x010000;  // [PCI] appendix D: of no more special kind

}  // namespace

DiskSlot::DiskSlot(uint8_t device, size_t index, const BoardDisk& disk,
                   const virtio::VirtioDevice::Host& host, const PciEndpoint::Socket& socket)
    : BoardSlot(device),
      blk_(fmt::format("disk{}", index), *disk.disk,
           {.queues = disk.queues, .serial = disk.serial, .read_only = disk.read_only}, host,
           [this] { thread_.Ring(); }),
      pci_(blk_, kMassStorage, socket),
      thread_(blk_.name() + "-queues", [this] {
        blk_.Work();
        return PollThread::Wait{};
      }) {
  pci_.SetBell(thread_.bell());
}

DiskSlot::~DiskSlot() {
  Pause();
}

void DiskSlot::Save(Sections& out) {
  out.Put(name(), DiskSlotState{.disk = blk_.SaveDisk(), .pci = pci_.SaveState()});
}

Result<void> DiskSlot::Load(Sections& in) {
  return in.LoadInto<DiskSlotState>(name(), *this);
}

Result<void> DiskSlot::Load(const DiskSlotState& state) {
  if (state.version != DiskSlotState::kVersion) {
    return Fail(ExitCode::kConfigInvalid, name() + ": the saved state is of another version");
  }
  return blk_.LoadDisk(state.disk).and_then([&] { return pci_.LoadState(state.pci); });
}

}  // namespace vmm
