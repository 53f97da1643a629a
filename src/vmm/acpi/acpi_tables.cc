#include "vmm/acpi/acpi_tables.h"

#include <fmt/format.h>

#include <cstring>
#include <initializer_list>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "legacy-devices/hpet.h"
#include "vmm/acpi/aml.h"
#include "vmm/acpi/dsdt.h"
#include "vmm/acpi/fadt_regs.h"
#include "vmm/boot/memory_map.h"
#include "vmm/core/base/check.h"

namespace vmm {
namespace {

using fadt::Field;

constexpr uint64_t kHeaderSize = 36;  // of every table. [ACPI] 5.2.6
constexpr uint64_t kChecksumAt = 9;
constexpr uint64_t kRsdpSize = 36, kRsdpV1Size = 20;
constexpr uint64_t kFacsSize = 64, kFacsAlignment = 64;
constexpr uint64_t kTableAlignment = 16;

// A table under construction: the common header, then what is put or appended.
class Table {
 public:
  Table(std::string_view signature, uint8_t revision) : bytes_(kHeaderSize) {
    PutText(0, signature);
    Put<uint8_t>(8, revision);
    PutText(10, "VMM   ");
    PutText(16, "VMMPC   ");
    Put<uint32_t>(24, 1);
    PutText(28, "VMM ");
    Put<uint32_t>(32, 1);
  }

  template <class Int>
  void Put(uint64_t offset, Int value) {
    if (bytes_.size() < offset + sizeof(value)) bytes_.resize(offset + sizeof(value));
    std::memcpy(bytes_.data() + offset, &value, sizeof(value));
  }
  template <class Int>
  void Append(Int value) {
    Put(bytes_.size(), value);
  }
  void AppendBytes(std::span<const uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  // Length and checksum set: the table as it goes into memory.
  std::vector<uint8_t> Finish() && {
    Put<uint32_t>(4, static_cast<uint32_t>(bytes_.size()));
    bytes_[kChecksumAt] = 0;
    bytes_[kChecksumAt] = static_cast<uint8_t>(-std::accumulate(bytes_.begin(), bytes_.end(), 0));
    return std::move(bytes_);
  }

 private:
  void PutText(uint64_t offset, std::string_view text) {
    std::memcpy(bytes_.data() + offset, text.data(), text.size());
  }
  std::vector<uint8_t> bytes_;
};

// Puts finished tables into the BIOS area one after another.
class Area {
 public:
  explicit Area(GuestMemory& memory) : memory_(memory) {}

  uint64_t Add(std::span<const uint8_t> bytes, uint64_t alignment = kTableAlignment) {
    next_ = (next_ + alignment - 1) & ~(alignment - 1);
    const uint64_t address = next_;
    next_ += bytes.size();
    CHECK(next_ <= kHighMemoryStart.value);
    CHECK(memory_.Write(GuestPhys(address), bytes));
    return address;
  }

 private:
  GuestMemory& memory_;
  uint64_t next_ = kBiosAreaStart.value;
};

// A register in port space. [ACPI] 5.2.3.2
void PutPort(Table& table, Field field, uint16_t port, uint8_t bits) {
  constexpr uint8_t kSystemIo = 1;
  const uint64_t at = static_cast<uint64_t>(field);
  const auto access_size = static_cast<uint8_t>(bits == 8 ? 1 : bits == 16 ? 2 : 3);
  table.Put<uint8_t>(at, kSystemIo);
  table.Put<uint8_t>(at + 1, bits);
  table.Put<uint8_t>(at + 2, 0);
  table.Put<uint8_t>(at + 3, access_size);
  table.Put<uint64_t>(at + 4, port);
}

template <class Enum>
constexpr std::underlying_type_t<Enum> AllOf(std::initializer_list<Enum> bits) {
  std::underlying_type_t<Enum> all = 0;
  for (Enum bit : bits) all |= static_cast<std::underlying_type_t<Enum>>(bit);
  return all;
}

std::vector<uint8_t> BuildFadt(const AcpiConfig& config, uint64_t facs, uint64_t dsdt) {
  using fadt::BootArch;
  using fadt::Flags;
  // The PM block as the PIIX4 has it. [PIIX4] PMBASE
  const auto pm1_event = config.pm_base;
  const auto pm1_control = static_cast<uint16_t>(config.pm_base + 4);
  const auto pm_timer = static_cast<uint16_t>(config.pm_base + 8);
  constexpr uint16_t kResetPort = 0xcf9;  // [PIIX3] RC
  constexpr uint8_t kResetValue = 0x06;
  constexpr uint8_t kGpe0Bytes = 4;

  Table table("FACP", fadt::kRevision);
  table.Put<uint64_t>(fadt::kSize - 8, 0);
  const auto put = [&table]<class Int>(Field field, Int value) {
    table.Put(static_cast<uint64_t>(field), value);
  };
  put(Field::FIRMWARE_CTRL, static_cast<uint32_t>(facs));
  put(Field::DSDT, static_cast<uint32_t>(dsdt));
  put(Field::X_DSDT, dsdt);
  put(Field::SCI_INT, uint16_t{config.sci_irq});
  put(Field::SMI_CMD, uint32_t{config.smi_command_port});
  put(Field::ACPI_ENABLE, config.acpi_enable);
  put(Field::ACPI_DISABLE, config.acpi_disable);
  put(Field::PM1A_EVT_BLK, uint32_t{pm1_event});
  put(Field::PM1A_CNT_BLK, uint32_t{pm1_control});
  put(Field::PM_TMR_BLK, uint32_t{pm_timer});
  put(Field::GPE0_BLK, uint32_t{config.gpe0_base});
  put(Field::PM1_EVT_LEN, uint8_t{4});
  put(Field::PM1_CNT_LEN, uint8_t{2});
  put(Field::PM_TMR_LEN, uint8_t{4});
  put(Field::GPE0_BLK_LEN, kGpe0Bytes);
  put(Field::P_LVL2_LAT, fadt::kNoC2);
  put(Field::P_LVL3_LAT, fadt::kNoC3);
  put(Field::CENTURY, config.century_register);
  put(Field::IAPC_BOOT_ARCH,
      AllOf({BootArch::LEGACY_DEVICES, BootArch::I8042, BootArch::VGA_NOT_PRESENT}));
  uint32_t flags = AllOf({Flags::WBINVD, Flags::PROC_C1, Flags::SLP_BUTTON, Flags::FIX_RTC,
                          Flags::RESET_REG_SUP, Flags::USE_PLATFORM_CLOCK});
  if (config.pm_timer_32bit) flags |= AllOf({Flags::TMR_VAL_EXT});
  put(Field::FLAGS, flags);
  PutPort(table, Field::RESET_REG, kResetPort, 8);
  put(Field::RESET_VALUE, kResetValue);
  PutPort(table, Field::X_PM1A_EVT_BLK, pm1_event, 32);
  PutPort(table, Field::X_PM1A_CNT_BLK, pm1_control, 16);
  PutPort(table, Field::X_PM_TMR_BLK, pm_timer, 32);
  PutPort(table, Field::X_GPE0_BLK, config.gpe0_base, 8 * kGpe0Bytes);
  return std::move(table).Finish();
}

// [ACPI] 5.2.12
std::vector<uint8_t> BuildMadt(const AcpiConfig& config) {
  enum Type : uint8_t { kLocalApic = 0, kIoApic = 1, kSourceOverride = 2, kLocalApicNmi = 4 };
  constexpr uint8_t kRevision = 3;
  constexpr uint32_t kPcAtCompatible = 1, kEnabled = 1;
  constexpr uint8_t kAllProcessors = 0xff, kIsa = 0, kLint1 = 1;
  constexpr uint16_t kAsTheBusSays = 0, kLevelActiveHigh = 0xd;
  constexpr uint32_t kTimerInput = 2;

  Table table("APIC", kRevision);
  table.Append(static_cast<uint32_t>(config.local_apic.value));
  table.Append(kPcAtCompatible);
  const auto start = [&table](Type type, uint8_t length) {
    table.Append<uint8_t>(type);
    table.Append(length);
  };
  for (unsigned cpu = 0; cpu < config.cpu_count; ++cpu) {
    start(kLocalApic, 8);
    table.Append(static_cast<uint8_t>(cpu));  // _UID of the processor
    table.Append(static_cast<uint8_t>(cpu));  // APIC ID
    table.Append(kEnabled);
  }
  start(kIoApic, 12);
  table.Append(config.ioapic_id);
  table.Append<uint8_t>(0);
  table.Append(static_cast<uint32_t>(config.ioapic.value));
  table.Append<uint32_t>(0);  // its input 0 is GSI 0
  const auto override_irq = [&](uint8_t irq, uint32_t gsi, uint16_t flags) {
    start(kSourceOverride, 10);
    table.Append(kIsa);
    table.Append(irq);
    table.Append(gsi);
    table.Append(flags);
  };
  override_irq(0, kTimerInput, kAsTheBusSays);
  override_irq(config.sci_irq, config.sci_irq, kLevelActiveHigh);
  start(kLocalApicNmi, 6);
  table.Append(kAllProcessors);
  table.Append(kAsTheBusSays);
  table.Append(kLint1);
  return std::move(table).Finish();
}

// [HPET] 3.2.4
std::vector<uint8_t> BuildHpet(const AcpiConfig& config) {
  constexpr uint8_t kSystemMemory = 0, kRegisterBits = 64;
  Table table("HPET", 1);
  table.Append(legacy::hpet::kCapabilities);
  table.Append(kSystemMemory);
  table.Append(kRegisterBits);
  table.Append<uint16_t>(0);
  table.Append(config.hpet.value);
  table.Append<uint8_t>(0);  // the first and only one
  table.Append(static_cast<uint16_t>(legacy::Hpet::kMinInterval.count() / legacy::hpet::kTickNs));
  table.Append<uint8_t>(0);
  return std::move(table).Finish();
}

// A processor device for each local APIC of the MADT. [ACPI] 8.4
std::vector<uint8_t> BuildProcessors(unsigned cpu_count) {
  aml::Code devices;
  for (unsigned cpu = 0; cpu < cpu_count; ++cpu) {
    devices = aml::Join({devices, aml::Device(fmt::format("C{:03X}", cpu),
                                              aml::Join({aml::NameText("_HID", "ACPI0007"),
                                                         aml::NameInteger("_UID", cpu)}))});
  }
  Table table("SSDT", 2);
  table.AppendBytes(aml::Scope("\\_SB_", devices));
  return std::move(table).Finish();
}

// RSDT and XSDT: the same list with addresses of 4 and of 8 bytes. [ACPI] 5.2.7, 5.2.8
template <class Address>
std::vector<uint8_t> BuildRoot(std::string_view signature, std::initializer_list<uint64_t> tables) {
  Table table(signature, 1);
  for (uint64_t address : tables) table.Append(static_cast<Address>(address));
  return std::move(table).Finish();
}

std::vector<uint8_t> BuildFacs() {
  std::vector<uint8_t> facs(kFacsSize);  // [ACPI] 5.2.10
  std::memcpy(facs.data(), "FACS", 4);
  facs[4] = kFacsSize;
  facs[32] = 2;  // version
  return facs;
}

std::vector<uint8_t> BuildRsdp(uint64_t rsdt, uint64_t xsdt) {
  std::vector<uint8_t> rsdp(kRsdpSize);  // [ACPI] 5.2.5.3
  const auto put = [&rsdp](uint64_t offset, auto value) {
    std::memcpy(rsdp.data() + offset, &value, sizeof(value));
  };
  const auto sum = [&rsdp](uint64_t size) {
    return static_cast<uint8_t>(
        -std::accumulate(rsdp.begin(), rsdp.begin() + static_cast<ptrdiff_t>(size), 0));
  };
  std::memcpy(rsdp.data(), "RSD PTR ", 8);
  std::memcpy(rsdp.data() + 9, "VMM   ", 6);
  put(15, uint8_t{2});
  put(16, static_cast<uint32_t>(rsdt));
  put(20, static_cast<uint32_t>(kRsdpSize));
  put(24, xsdt);
  put(8, sum(kRsdpV1Size));
  put(32, sum(kRsdpSize));
  return rsdp;
}

}  // namespace

Result<GuestPhys> BuildAcpiTables(const AcpiConfig& config, GuestMemory& memory) {
  if (config.cpu_count == 0 || config.cpu_count > AcpiConfig::kMaxCpus) {
    return Fail(ExitCode::kInternal, fmt::format("ACPI tables for {} CPUs", config.cpu_count));
  }
  Area area(memory);
  // The pointer comes first, where a guest that searches finds it at once; its content comes last.
  const uint64_t rsdp = area.Add(std::vector<uint8_t>(kRsdpSize));
  const uint64_t facs = area.Add(BuildFacs(), kFacsAlignment);
  const uint64_t dsdt = area.Add(DsdtAml());
  const uint64_t fadt = area.Add(BuildFadt(config, facs, dsdt));
  const uint64_t madt = area.Add(BuildMadt(config));
  const uint64_t hpet = area.Add(BuildHpet(config));
  const uint64_t processors = area.Add(BuildProcessors(config.cpu_count));
  const uint64_t rsdt = area.Add(BuildRoot<uint32_t>("RSDT", {fadt, madt, hpet, processors}));
  const uint64_t xsdt = area.Add(BuildRoot<uint64_t>("XSDT", {fadt, madt, hpet, processors}));
  CHECK(memory.Write(GuestPhys(rsdp), BuildRsdp(rsdt, xsdt)));
  return GuestPhys(rsdp);
}

}  // namespace vmm
