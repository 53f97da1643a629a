// The board's virtio devices, of any kind, in their PCI slots.
#include "vmm/machine/board.h"
#include "vmm/machine/board_console.h"
#include "vmm/machine/board_disks.h"
#include "vmm/machine/board_nets.h"
#include "vmm/machine/board_rng.h"
#include "vmm/machine/board_shares.h"

namespace vmm {

void Board::MakeSlots(const Parts& parts) {
  const virtio::VirtioDevice::Host host{parts.memory, plug_};
  const auto socket_of = [this](uint8_t device, uint8_t function = 0) {
    return PciEndpoint::Socket{decoder_, pirqs_.Pin({device, function}, 0), plug_, &plug_};
  };
  for (size_t i = 0; i < parts.disks.size(); ++i) {
    const auto device = static_cast<uint8_t>(BoardSlot::kFirstDisk + i);
    slots_.push_back(
        std::make_unique<DiskSlot>(device, i, parts.disks[i], host, socket_of(device)));
  }
  for (size_t i = 0; i < parts.nets.size(); ++i) {
    const auto device = static_cast<uint8_t>(BoardSlot::kFirstNic + i);
    auto slot = std::make_unique<NetSlot>(device, i, parts.nets[i], host, socket_of(device));
    nets_.push_back(slot.get());
    slots_.push_back(std::move(slot));
  }
  if (!parts.ports.empty()) {
    slots_.push_back(
        std::make_unique<ConsoleSlot>(parts.ports, host, socket_of(BoardSlot::kConsole)));
  }
  if (parts.config.rng) {
    slots_.push_back(std::make_unique<RngSlot>(host, socket_of(BoardSlot::kRng)));
  }
  for (size_t i = 0; i < parts.shares.size(); ++i) {
    const auto function = static_cast<uint8_t>(i);
    slots_.push_back(std::make_unique<ShareSlot>(i, parts.shares[i], host,
                                                 socket_of(BoardSlot::kShares, function)));
  }
}

Result<void> Board::AttachSlots() {
  PciAddressPlan plan;
  for (const auto& slot : slots_) {
    const auto route = piix3_isa_.RouteOf(PirqRouter::PirqOf(slot->place(), 0));
    const auto line = static_cast<uint8_t>(route ? route->value : 0);
    virtio::VirtioPci& function = slot->function();
    auto attached = function.AssignResources(plan, line).and_then([&] {
      return host_bridge_.Add(slot->place(), function);
    });
    if (!attached) return attached;
  }
  LevelTriggerPirqs();
  return {};
}

// A BIOS makes levels of the ISA interrupts that PIRQs go to. [PIIX3] ELCR2
void Board::LevelTriggerPirqs() {
  if (slots_.empty()) return;
  uint16_t levels = 0;
  for (unsigned pirq = 0; pirq < Piix3Isa::kPirqs; ++pirq) {
    if (const auto route = piix3_isa_.RouteOf(pirq))
      levels |= static_cast<uint16_t>(1 << route->value);
  }
  const uint8_t bytes[] = {static_cast<uint8_t>(levels), static_cast<uint8_t>(levels >> 8)};
  pic_.elcr().Write(0, {&bytes[0], 1});
  pic_.elcr().Write(1, {&bytes[1], 1});
}

void Board::HandOut() {
  for (const auto& slot : slots_) slot->HandOut();
}

void Board::OnWindowChange() {
  for (const auto& slot : slots_) slot->OnWindowChange();
}

void Board::PauseDevices() {
  for (const auto& slot : slots_) slot->Pause();
}

void Board::ResumeDevices() {
  for (const auto& slot : slots_) slot->Resume();
}

}  // namespace vmm
