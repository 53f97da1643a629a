#include "vmm/acpi/mp_table.h"

#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

#include "vmm/core/base/check.h"

namespace vmm {
namespace {

constexpr uint64_t kPointerSize = 16, kHeaderSize = 44;
constexpr uint8_t kRevision = 4;  // 1.4
constexpr uint8_t kPciBus = 0, kIsaBus = 1;
constexpr uint8_t kAllApics = 0xff;

enum Entry : uint8_t {
  kProcessor = 0,
  kBus = 1,
  kIoApic = 2,
  kIoInterrupt = 3,
  kLocalInterrupt = 4
};
enum InterruptType : uint8_t { kInt = 0, kNmi = 1, kExtInt = 3 };
// Polarity in bits 1:0, trigger mode in bits 3:2.
constexpr uint16_t kAsTheBusSays = 0, kLevelActiveHigh = 0xd;

class Table {
 public:
  template <class Int>
  void Append(Int value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(value));
    std::memcpy(bytes_.data() + at, &value, sizeof(value));
  }
  void AppendText(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  template <class Int>
  void Put(size_t offset, Int value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(value));
  }
  void SetChecksum(size_t offset) {
    bytes_[offset] = 0;
    bytes_[offset] = static_cast<uint8_t>(-std::accumulate(bytes_.begin(), bytes_.end(), 0));
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// [MP 1.4] 4.1: the configuration is the default "none", so the table counts; no IMCR.
Table Pointer() {
  Table table;
  table.AppendText("_MP_");
  table.Append(static_cast<uint32_t>(kMpTable.value + kPointerSize));
  table.Append<uint8_t>(1);  // paragraphs
  table.Append(kRevision);
  table.Append<uint8_t>(0);  // checksum
  table.Append<uint8_t>(0);
  table.Append<uint32_t>(0);
  table.SetChecksum(10);
  return table;
}

// [MP 1.4] 4.3.4
void AppendInterrupt(Table& table, Entry entry, InterruptType type, uint16_t flags, uint8_t bus,
                     uint8_t bus_irq, uint8_t apic, uint8_t pin) {
  table.Append<uint8_t>(entry);
  table.Append<uint8_t>(type);
  table.Append(flags);
  table.Append(bus);
  table.Append(bus_irq);
  table.Append(apic);
  table.Append(pin);
}

// As the MADT and _PRT have them: ISA interrupts at their own pins but for the timer, PIRQA-PIRQD
// at 16-19.
void AppendInterrupts(Table& table, const AcpiConfig& config) {
  constexpr uint8_t kIsaIrqs = 16, kCascade = 2, kTimerPin = 2, kFirstPirqPin = 16, kPirqs = 4;
  constexpr uint8_t kPciSlots = 32;
  for (uint8_t irq = 0; irq < kIsaIrqs; ++irq) {
    if (irq == kCascade) continue;
    AppendInterrupt(table, kIoInterrupt, kInt,
                    irq == config.sci_irq ? kLevelActiveHigh : kAsTheBusSays, kIsaBus, irq,
                    config.ioapic_id, irq == 0 ? kTimerPin : irq);
  }
  for (uint8_t slot = 1; slot < kPciSlots; ++slot) {
    for (uint8_t pin = 0; pin < kPirqs; ++pin) {
      AppendInterrupt(table, kIoInterrupt, kInt, kAsTheBusSays, kPciBus,
                      static_cast<uint8_t>(slot << 2 | pin), config.ioapic_id,
                      static_cast<uint8_t>(kFirstPirqPin + (slot - 1 + pin) % kPirqs));
    }
  }
  AppendInterrupt(table, kLocalInterrupt, kExtInt, kAsTheBusSays, kIsaBus, 0, 0, 0);
  AppendInterrupt(table, kLocalInterrupt, kNmi, kAsTheBusSays, kIsaBus, 0, kAllApics, 1);
}

// [MP 1.4] 4.2, 4.3
Table Configuration(const AcpiConfig& config) {
  constexpr uint8_t kEnabled = 1, kBootProcessor = 2;
  constexpr uint8_t kIntegratedApic = 0x14, kIoApicVersion = 0x20;
  constexpr uint32_t kSignature = 0x600, kFpuAndApic = 0x201;  // family 6; CPUID.1:EDX bits 0, 9

  Table table;
  table.AppendText("PCMP");
  table.Append<uint16_t>(0);  // length, below
  table.Append(kRevision);
  table.Append<uint8_t>(0);  // checksum, below
  table.AppendText("VMM     PC          ");
  table.Append<uint32_t>(0);  // no OEM table
  table.Append<uint16_t>(0);
  table.Append<uint16_t>(0);  // entries, below
  table.Append(static_cast<uint32_t>(config.local_apic.value));
  table.Append<uint32_t>(0);  // nothing behind the entries
  CHECK(table.bytes().size() == kHeaderSize);

  uint16_t entries = 0;
  for (unsigned cpu = 0; cpu < config.cpu_count; ++cpu, ++entries) {
    table.Append<uint8_t>(kProcessor);
    table.Append(static_cast<uint8_t>(cpu));  // APIC ID
    table.Append(kIntegratedApic);
    table.Append<uint8_t>(cpu == 0 ? kEnabled | kBootProcessor : kEnabled);
    table.Append(kSignature);
    table.Append(kFpuAndApic);
    table.Append<uint64_t>(0);
  }
  for (const auto& [id, name] : {std::pair(kPciBus, "PCI   "), std::pair(kIsaBus, "ISA   ")}) {
    table.Append<uint8_t>(kBus);
    table.Append(id);
    table.AppendText(name);
    ++entries;
  }
  table.Append<uint8_t>(kIoApic);
  table.Append(config.ioapic_id);
  table.Append(kIoApicVersion);
  table.Append(kEnabled);
  table.Append(static_cast<uint32_t>(config.ioapic.value));
  ++entries;
  const size_t before = table.bytes().size();
  constexpr size_t kInterruptSize = 8;
  AppendInterrupts(table, config);
  entries = static_cast<uint16_t>(entries + (table.bytes().size() - before) / kInterruptSize);

  table.Put(4, static_cast<uint16_t>(table.bytes().size()));
  table.Put(34, entries);
  table.SetChecksum(7);
  return table;
}

}  // namespace

void WriteMpTable(const AcpiConfig& config, GuestMemory& memory) {
  CHECK(memory.Write(kMpTable, Pointer().bytes()));
  CHECK(memory.Write(GuestPhys(kMpTable.value + kPointerSize), Configuration(config).bytes()));
}

}  // namespace vmm
