#include "vmm/machine/board.h"

#include <fmt/format.h>

#include <algorithm>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

// COM1 to COM4. [PC-AT] serial adapter
struct SerialPlace {
  uint16_t port;
  uint32_t irq;
};
constexpr std::array<SerialPlace, Config::kSerialPorts> kSerialPlaces{
    {{0x3F8, 4}, {0x2F8, 3}, {0x3E8, 4}, {0x2E8, 3}}};
constexpr uint64_t kSerialSize = 8;

constexpr PciSlot kHostBridgeSlot{0, 0};
constexpr PciSlot kIsaBridgeSlot{1, 0};
constexpr PciSlot kPowerManagementSlot{1, 3};

legacy::CmosConfig CmosOf(const Board::Parts& parts) {
  legacy::CmosConfig cmos;
  for (const RamRegion& region : parts.memory.regions()) {
    (region.start.value < 4 * kGiB ? cmos.memory_below_4g : cmos.memory_above_4g) += region.size;
  }
  cmos.cpu_count = parts.config.cpus;
  return cmos;
}

}  // namespace

Result<std::unique_ptr<Board>> Board::Create(const Parts& parts, Events events) {
  std::unique_ptr<Board> board(new Board(parts, std::move(events)));
  if (auto attached = board->Attach(); !attached) {
    return tl::unexpected(std::move(attached.error()));
  }
  return board;
}

Board::Board(const Parts& parts, Events events)
    : pic_(plug_),
      ioapic_(plug_),
      router_(pic_, ioapic_),
      irq0_(router_.Line(Gsi(legacy::pit::kIrq))),
      irq8_(router_.Line(Gsi(legacy::rtc::kIrq))),
      pirqs_(router_),
      decoder_(ports_, mmio_),
      pit_(irq0_.first(), parts.clock, parts.timers),
      rtc_(irq8_.first(), parts.clock, parts.timers, CmosOf(parts)),
      hpet_(HpetWires(), parts.clock, parts.timers),
      pm_(router_.Line(Gsi(legacy::acpi_pm::kSciIrq)), parts.clock, parts.timers,
          std::move(events.power_off)),
      a20_([this](bool open) { plug_.SetA20(open); }),
      reset_control_(events.reset, a20_),
      i8042_(router_.Line(Gsi(legacy::i8042::kKeyboardIrq)),
             router_.Line(Gsi(legacy::i8042::kAuxIrq)), events.reset, a20_),
      debug_exit_(std::move(events.debug_exit)),
      pvpanic_([panic = std::move(events.panic)](legacy::PvPanic::Events reported) {
        if (reported.Has(legacy::PvPanic::Event::Panicked)) panic();
      }),
      debug_console_("debug-console", parts.debug_console),
      firmware_console_("firmware-console", parts.debug_console),
      host_bridge_(&reset_control_.reset_control()),
      piix3_isa_([this](unsigned pirq, Piix3Isa::Route route) { pirqs_.Route(pirq, route); }),
      piix4_pm_([this](Piix4Pm::Block block, Piix4Pm::Placement placement) {
        MovePmBlock(block, placement);
      }) {
  for (unsigned pirq = 0; pirq < Piix3Isa::kPirqs; ++pirq) {
    pirqs_.Route(pirq, piix3_isa_.RouteOf(pirq));
  }
  if (parts.config.testdev) {
    legacy::TestDevice::Lines lines{};
    for (unsigned gsi = 0; gsi < lines.size(); ++gsi) {
      if (gsi != pic8259::kCascadePin) lines[gsi] = &router_.Line(Gsi(gsi));
    }
    test_device_ = std::make_unique<legacy::TestDevice>(lines, std::move(events.flush_page));
  }
  for (unsigned i = 0; i < serial_.size(); ++i) {
    IrqLine& irq = router_.Line(Gsi(kSerialPlaces[i].irq));
    serial_[i] = std::make_unique<legacy::Uart16550>(fmt::format("serial{}", i), irq,
                                                     *parts.serial[i], parts.clock, parts.timers);
  }
  MakeSlots(parts);
}

legacy::Hpet::Wires Board::HpetWires() {
  legacy::Hpet::Wires wires{.pins = {}, .irq0 = irq0_, .irq8 = irq8_};
  for (auto& timer : wires.pins) {
    for (unsigned i = 0; i < timer.size(); ++i) {
      timer[i] = &router_.Line(Gsi(legacy::hpet::kFirstRoute + i));
    }
  }
  return wires;
}

Result<void> Board::AttachPorts(uint16_t first, uint64_t count, Device& device,
                                std::string_view description, std::vector<Gsi> irqs) {
  described_.push_back({&device, std::string(description), std::move(irqs)});
  return ports_.Attach(first, count, device);
}

Result<void> Board::Attach() {
  Result<void> attached;
  const auto put = [&](uint16_t first, uint64_t count, Device& device, std::string_view name,
                       std::vector<Gsi> irqs = {}) {
    if (attached) attached = AttachPorts(first, count, device, name, std::move(irqs));
  };
  put(Pic8259Pair::kMasterPort, 2, pic_.master(), "pic");
  put(Pic8259Pair::kSlavePort, 2, pic_.slave(), "pic");
  put(Pic8259Pair::kElcrPort, 2, pic_.elcr(), "pic");
  put(legacy::i8042::kDataPort, 1, i8042_.data_port(), "i8042",
      {Gsi(legacy::i8042::kKeyboardIrq), Gsi(legacy::i8042::kAuxIrq)});
  put(legacy::i8042::kCommandPort, 1, i8042_.command_port(), "i8042");
  put(legacy::pit::kPort, legacy::pit::kSize, pit_.counters(), "pit", {Gsi(legacy::pit::kIrq)});
  put(legacy::pit::kPortBPort, 1, pit_.port_b(), "pit");
  put(legacy::rtc::kPort, legacy::rtc::kPorts, rtc_, "rtc", {Gsi(legacy::rtc::kIrq)});
  put(legacy::PostPort::kPort, legacy::PostPort::kSize, post_, "post");
  put(legacy::reset_control::kPortAPort, 1, reset_control_.port_a(), "reset-control");
  put(legacy::acpi_pm::kApmBase, legacy::acpi_pm::kApmSize, pm_.apm_ports(), "acpi-pm",
      {Gsi(legacy::acpi_pm::kSciIrq)});
  put(legacy::acpi_pm::kDefaultGpe0Base, legacy::acpi_pm::kGpe0BlockSize, pm_.gpe0_block(),
      "acpi-pm");
  put(legacy::DebugExit::kPort, legacy::DebugExit::kSize, debug_exit_, "debug-exit");
  put(legacy::DebugConsole::kBochsPort, legacy::DebugConsole::kSize, debug_console_,
      "debug-console");
  put(legacy::DebugConsole::kFirmwarePort, legacy::DebugConsole::kSize, firmware_console_,
      "debug-console");
  put(legacy::PvPanic::kPort, legacy::PvPanic::kSize, pvpanic_, "pvpanic");
  put(PciHostBridge::kPort, PciHostBridge::kSize, host_bridge_, "pci-host-bridge");
  for (unsigned i = 0; i < serial_.size(); ++i) {
    put(kSerialPlaces[i].port, kSerialSize, *serial_[i], serial_[i]->name(),
        {Gsi(kSerialPlaces[i].irq)});
  }
  if (!attached) return attached;

  described_.push_back({&pm_.pm_block(), "acpi-pm", {}});
  described_.push_back({&smbus_, "smbus", {}});
  for (const auto block : {Piix4Pm::Block::kPowerManagement, Piix4Pm::Block::kSmbus}) {
    MovePmBlock(block, piix4_pm_.Where(block));
  }
  described_.push_back({&ioapic_, "ioapic", {}});
  described_.push_back({&hpet_, "hpet", {}});
  return mmio_.Attach(Ioapic::kDefaultBase.value, Ioapic::kSize, ioapic_)
      .and_then([&] { return mmio_.Attach(legacy::hpet::kBase, legacy::hpet::kSize, hpet_); })
      .and_then([&] { return AttachTestDevice(); })
      .and_then([&] { return host_bridge_.Add(kHostBridgeSlot, i440fx_); })
      .and_then([&] { return host_bridge_.Add(kIsaBridgeSlot, piix3_isa_); })
      .and_then([&] { return host_bridge_.Add(kPowerManagementSlot, piix4_pm_); })
      .and_then([&] { return AttachSlots(); });
}

Result<void> Board::AttachTestDevice() {
  using namespace legacy::test_device;
  if (test_device_ == nullptr) return {};
  legacy::TestDevice& device = *test_device_;
  described_.push_back({&device.memory(), "testdev", {}});
  return AttachPorts(kLatchPort, kLatchSize, device.latch(), "testdev")
      .and_then([&] { return AttachPorts(kFlushPort, kLatchSize, device.flush(), "testdev"); })
      .and_then([&] { return AttachPorts(kByteLatchPort, 1, device.byte_latch(), "testdev"); })
      .and_then([&] { return AttachPorts(kLinesPort, kLines, device.lines(), "testdev"); })
      .and_then([&] { return mmio_.Attach(kMemory, kMemorySize, device.memory()); });
}

void Board::MovePmBlock(Piix4Pm::Block block, Piix4Pm::Placement placement) {
  const bool pm = block == Piix4Pm::Block::kPowerManagement;
  uint16_t& base = pm_bases_[pm ? 0 : 1];
  Device& device = pm ? pm_.pm_block() : smbus_;
  const uint64_t size = pm ? Piix4Pm::kPmSize : Piix4Pm::kSmbusSize;
  const uint16_t wanted = placement.enabled ? placement.base.value : 0;
  if (wanted == base) return;
  if (base != 0) ports_.Detach(base);
  base = 0;
  if (wanted == 0) return;
  if (ports_.Attach(wanted, size, device)) {
    base = wanted;
  } else {
    LogGuest(LogLevel::kWarning,
             fmt::format("the guest put {} on ports that are taken: {:#x}", device.name(), wanted));
  }
}

void Board::PlugIn(Vm* vm) {
  plug_.Set(vm);
  if (vm == nullptr) return;
  ioapic_.PublishRoutes();
  vm->SetA20(a20_.open());
}

void Board::Reset() {
  PauseDevices();
  pic_.Reset();
  ioapic_.Reset();
  pit_.Reset();
  rtc_.Reset();
  hpet_.Reset();
  pm_.Reset();
  smbus_.Reset();
  a20_.Reset();
  reset_control_.Reset();
  i8042_.Reset();
  for (auto& serial : serial_) serial->Reset();
  if (test_device_) test_device_->Reset();
  host_bridge_.Reset();
  for (PciFunction* function :
       std::initializer_list<PciFunction*>{&i440fx_, &piix3_isa_, &piix4_pm_}) {
    function->Reset();
  }
  for (const auto& slot : slots_) slot->Reset();
  LevelTriggerPirqs();
  ResumeDevices();
}

void Board::Describe(MachineDescription& out) const {
  out.level_irqs = {Gsi(legacy::acpi_pm::kSciIrq)};
  const auto entry_of = [&](const Device* device) -> MachineDescription::DeviceEntry& {
    const auto known = std::find_if(described_.begin(), described_.end(),
                                    [&](const Described& d) { return d.device == device; });
    const std::string name = known == described_.end() ? std::string(device->name()) : known->name;
    auto entry = std::find_if(out.devices.begin(), out.devices.end(),
                              [&](const auto& e) { return e.name == name; });
    if (entry == out.devices.end()) {
      out.devices.push_back({name, {}, {}, {}});
      entry = out.devices.end() - 1;
    }
    if (known != described_.end()) {
      for (const Gsi irq : known->irqs) {
        if (std::find(entry->irqs.begin(), entry->irqs.end(), irq) == entry->irqs.end()) {
          entry->irqs.push_back(irq);
        }
      }
    }
    return *entry;
  };
  std::array<Bus::Range, Bus::kMaxRanges> ranges;
  for (size_t i = 0, count = ports_.Ranges(ranges); i < count; ++i) {
    entry_of(ranges[i].device).ports.push_back({ranges[i].start, ranges[i].length});
  }
  for (size_t i = 0, count = mmio_.Ranges(ranges); i < count; ++i) {
    entry_of(ranges[i].device).mmio.push_back({ranges[i].start, ranges[i].length});
  }
  for (uint8_t device = 0; device < 32; ++device) {
    for (uint8_t number = 0; number < 8; ++number) {
      PciFunction* function = host_bridge_.Find({device, number});
      if (function == nullptr) continue;
      const auto get = [&](uint16_t offset, unsigned size) {
        uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
          uint8_t byte = 0;
          function->ReadConfig(static_cast<uint16_t>(offset + i), {&byte, 1});
          value |= uint32_t{byte} << (8 * i);
        }
        return value;
      };
      out.pci.push_back({device, number, static_cast<uint16_t>(get(pci::kVendorId, 2)),
                         static_cast<uint16_t>(get(pci::kDeviceId, 2)), get(pci::kClassCode, 3),
                         std::string(function->name())});
    }
  }
}

}  // namespace vmm
