#include "vmm/machine/board_disks.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/core/pci/piix3_isa.h"
#include "vmm/machine/board.h"

namespace vmm {
namespace {

constexpr uint32_t kMassStorage = 0x010000;  // [PCI] appendix D: of no more special kind

}  // namespace

DiskSlot::DiskSlot(std::string name, const BoardDisk& disk, const virtio::VirtioDevice::Host& host,
                   const PciEndpoint::Socket& socket)
    : blk_(std::move(name), *disk.disk,
           {.queues = disk.queues, .serial = disk.serial, .read_only = disk.read_only}, host,
           [this] { thread_.Ring(); }),
      pci_(blk_, kMassStorage, socket),
      thread_(blk_.name() + "-queues", [this] { blk_.Work(); }) {}

DiskSlot::~DiskSlot() {
  Pause();
}

DiskSlotState DiskSlot::Save() const {
  return {.disk = blk_.SaveDisk(), .pci = pci_.SaveState()};
}

Result<void> DiskSlot::Load(const DiskSlotState& state) {
  if (state.version != DiskSlotState::kVersion) {
    return Fail(ExitCode::kConfigInvalid, name() + ": the saved state is of another version");
  }
  return blk_.LoadDisk(state.disk).and_then([&] { return pci_.LoadState(state.pci); });
}

void Board::MakeDisks(const Parts& parts) {
  for (const BoardDisk& disk : parts.disks) {
    const size_t index = disks_.size();
    const PciSlot slot = DiskSlot::SlotOf(index);
    disks_.push_back(std::make_unique<DiskSlot>(
        fmt::format("disk{}", index), disk, virtio::VirtioDevice::Host{parts.memory, plug_},
        PciEndpoint::Socket{decoder_, pirqs_.Pin(slot, 0), plug_}));
  }
}

Result<void> Board::AttachDisks() {
  PciAddressPlan plan;
  for (size_t index = 0; index < disks_.size(); ++index) {
    virtio::VirtioPci& function = disks_[index]->function();
    const PciSlot slot = DiskSlot::SlotOf(index);
    const auto route = piix3_isa_.RouteOf(PirqRouter::PirqOf(slot, 0));
    const auto line = static_cast<uint8_t>(route ? route->value : 0);
    auto attached = function.AssignResources(plan, line).and_then([&] {
      return host_bridge_.Add(slot, function);
    });
    if (!attached) return attached;
  }
  LevelTriggerPirqs();
  return {};
}

// A BIOS makes levels of the ISA interrupts that PIRQs go to. [PIIX3] ELCR2
void Board::LevelTriggerPirqs() {
  if (disks_.empty()) return;
  uint16_t levels = 0;
  for (unsigned pirq = 0; pirq < Piix3Isa::kPirqs; ++pirq) {
    if (const auto route = piix3_isa_.RouteOf(pirq))
      levels |= static_cast<uint16_t>(1 << route->value);
  }
  const uint8_t bytes[] = {static_cast<uint8_t>(levels), static_cast<uint8_t>(levels >> 8)};
  pic_.elcr().Write(0, {&bytes[0], 1});
  pic_.elcr().Write(1, {&bytes[1], 1});
}

void Board::PauseDisks() {
  for (const auto& disk : disks_) disk->Pause();
}

void Board::ResumeDisks() {
  for (const auto& disk : disks_) disk->Resume();
}

}  // namespace vmm
