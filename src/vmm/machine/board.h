// The board: buses, interrupt controllers and devices of a PC, wired. It knows no engine: the Vm is
// plugged in once it exists.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "legacy-devices/a20_gate.h"
#include "legacy-devices/acpi_pm.h"
#include "legacy-devices/debug_console.h"
#include "legacy-devices/debug_exit.h"
#include "legacy-devices/hpet.h"
#include "legacy-devices/i8042.h"
#include "legacy-devices/piix4_smbus.h"
#include "legacy-devices/pit8254.h"
#include "legacy-devices/post_port.h"
#include "legacy-devices/pvpanic.h"
#include "legacy-devices/reset_control.h"
#include "legacy-devices/rtc_mc146818.h"
#include "legacy-devices/test_device.h"
#include "legacy-devices/uart16550.h"
#include "vmm/config/config.h"
#include "vmm/core/accel/accelerator.h"
#include "vmm/core/bus/bus.h"
#include "vmm/core/host/char_backend.h"
#include "vmm/core/irq/ioapic.h"
#include "vmm/core/irq/irq_router.h"
#include "vmm/core/irq/irq_switch.h"
#include "vmm/core/irq/pic8259.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/pci/i440fx.h"
#include "vmm/core/pci/pci_decoder.h"
#include "vmm/core/pci/pci_host_bridge.h"
#include "vmm/core/pci/piix3_isa.h"
#include "vmm/core/pci/piix4_pm.h"
#include "vmm/core/pci/pirq_router.h"
#include "vmm/core/time/clock.h"
#include "vmm/machine/board_console.h"
#include "vmm/machine/board_disks.h"
#include "vmm/machine/board_nets.h"
#include "vmm/machine/board_shares.h"
#include "vmm/machine/board_slot.h"
#include "vmm/machine/machine_description.h"
#include "vmm/machine/vm_plug.h"

namespace vmm {

class Sections;

// Threads: guest accesses come from any vCPU thread through the buses; everything else from the I/O
// thread, Reset() with all vCPUs parked.
class Board {
 public:
  // What the guest does to the machine as a whole. On the vCPU's thread that did it.
  struct Events {
    std::function<void()> power_off;
    std::function<void(std::string_view source)> reset;
    std::function<void(uint32_t value)> debug_exit;
    std::function<void()> panic;
    std::function<void(GuestPhys page)> flush_page = {};  // the test device's
  };
  struct Parts {  // all outlive the board
    const Config& config;
    const GuestMemory& memory;
    const Clock& clock;
    TimerService& timers;
    std::array<CharBackend*, Config::kSerialPorts> serial;
    CharBackend& debug_console;
    std::vector<BoardDisk> disks = {};
    std::vector<BoardNet> nets = {};
    std::vector<BoardShare> shares = {};
    std::vector<BoardPort> ports = {};  // of the virtio console; none: there is no such device
  };

  static Result<std::unique_ptr<Board>> Create(const Parts& parts, Events events);
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  Bus& ports() { return ports_; }
  Bus& mmio() { return mmio_; }
  ExtIntSource& pic() { return pic_; }
  EoiListener& ioapic() { return ioapic_; }

  // From here on interrupts reach `vm`'s processors. Before any of them runs; null to unplug.
  void PlugIn(Vm* vm);

  void PressPowerButton() { pm_.PressPowerButton(); }
  // The guest has ended for good: what it sent goes out to readers that read.
  void HandOut();
  // A terminal of the host may have another size.
  void OnWindowChange();
  // Power-on state of everything on the board.
  void Reset();

  // No vCPU runs. Waits until no device has a request under way; none begins until ResumeDevices().
  // What is saved, moved to another engine or unplugged must be paused.
  void PauseDevices();
  void ResumeDevices();

  const std::vector<NetSlot*>& nets() const { return nets_; }

  // Everything that the guest can see of the board, a section a chip. All vCPUs are parked and the
  // clock stands. To load: the interrupt controllers, then the processors, then the devices, since
  // what each finds due goes on to those before. kConfigInvalid: the board is of no use any more.
  void SaveState(Sections& out);
  Result<void> LoadInterruptControllers(Sections& in);
  Result<void> LoadDevices(Sections& in);

  // Devices with ranges and interrupts, and PCI functions.
  void Describe(MachineDescription& out) const;

 private:
  Board(const Parts& parts, Events events);
  legacy::Hpet::Wires HpetWires();
  Result<void> AttachTestDevice();
  Result<void> Attach();
  // The interrupts are for Describe(); a device with several places is described as one.
  Result<void> AttachPorts(uint16_t first, uint64_t count, Device& device,
                           std::string_view description, std::vector<Gsi> irqs = {});
  void MakeSlots(const Parts& parts);
  Result<void> AttachSlots();
  void LevelTriggerPirqs();
  void MovePmBlock(Piix4Pm::Block block, Piix4Pm::Placement placement);

  // Every part that has a state, by the name of its section: visit(name, part).
  template <class Visit>
  void ForEachInterruptController(const Visit& visit) {
    visit("pic", pic_);
    visit("ioapic", ioapic_);
  }
  template <class Visit>
  void ForEachDevice(const Visit& visit) {
    visit("pit", pit_);
    visit("rtc", rtc_);
    visit("hpet", hpet_);
    visit("acpi-pm", pm_);
    visit("smbus", smbus_);
    visit("a20", a20_);
    visit("reset-control", reset_control_);
    visit("i8042", i8042_);
    for (const auto& serial : serial_) visit(serial->name(), *serial);
    if (test_device_) visit("testdev", *test_device_);
    visit("pci-host-bridge", host_bridge_);
    visit("i440fx", i440fx_);
    visit("piix3-isa", piix3_isa_);
    visit("piix4-pm", piix4_pm_);
  }
  template <class ForEach>
  Result<void> LoadParts(ForEach for_each, Sections& in);

  struct Described {
    const Device* device;
    std::string name;
    std::vector<Gsi> irqs;
  };

  Bus ports_{0x10000};
  Bus mmio_{uint64_t{1} << 52};
  VmPlug plug_;  // the way of interrupts to the engine
  Pic8259Pair pic_;
  Ioapic ioapic_;
  IrqRouter router_;
  IrqSwitch irq0_, irq8_;  // 8254 and RTC, or the HPET
  PirqRouter pirqs_;
  PciDecoder decoder_;

  legacy::Pit8254 pit_;
  legacy::RtcMc146818 rtc_;
  legacy::Hpet hpet_;
  legacy::AcpiPm pm_;
  legacy::Piix4Smbus smbus_;
  legacy::A20Gate a20_;
  legacy::ResetControl reset_control_;
  legacy::I8042 i8042_;
  legacy::DebugExit debug_exit_;
  legacy::PvPanic pvpanic_;
  legacy::PostPort post_;
  legacy::DebugConsole debug_console_, firmware_console_;
  std::unique_ptr<legacy::TestDevice> test_device_;  // null unless config.testdev
  std::array<std::unique_ptr<legacy::Uart16550>, Config::kSerialPorts> serial_;

  PciHostBridge host_bridge_;
  I440Fx i440fx_;
  Piix3Isa piix3_isa_;
  Piix4Pm piix4_pm_;
  std::array<uint16_t, 2> pm_bases_{};  // where MovePmBlock() attached them; 0: nowhere
  std::vector<Described> described_;
  std::vector<std::unique_ptr<BoardSlot>> slots_;
  std::vector<NetSlot*> nets_;  // among them
};

}  // namespace vmm
