// The ACPI tables of the machine, written into guest RAM at 0xE0000-0xFFFFF.
#pragma once

#include <cstdint>

#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"
#include "vmm/core/memory/guest_memory.h"

namespace vmm {

// What the tables say about the machine; the defaults are the board's. The DSDT
// (firmware/acpi/dsdt.asl) repeats the fixed ones.
struct AcpiConfig {
  unsigned cpu_count = 1;       // local APIC IDs 0 to cpu_count - 1; at most kMaxCpus
  uint16_t pm_base = 0x600;     // PM1 event +0, PM1 control +4, PM timer +8
  uint16_t gpe0_base = 0xafe0;  // two bytes of status, two of enable
  uint8_t sci_irq = 9;          // level-triggered, active high
  uint16_t smi_command_port = 0xb2;
  uint8_t acpi_enable = 0xf1;  // written to the port above: PM1_CNT.SCI_EN is set
  uint8_t acpi_disable = 0xf0;
  GuestPhys ioapic{0xfec00000};
  uint8_t ioapic_id = 0;
  GuestPhys local_apic{0xfee00000};
  GuestPhys hpet{0xfed00000};
  uint8_t century_register = 0x32;  // CMOS index; 0: the RTC has none
  bool pm_timer_32bit = true;       // else 24 bits

  static constexpr unsigned kMaxCpus = 64;
};

// Writes RSDP, RSDT, XSDT, FADT, FACS, MADT, DSDT and an SSDT with the processors. Gives the
// address of the RSDP. The memory map keeps the guest from the area. kInternal when the
// configuration is out of range.
Result<GuestPhys> BuildAcpiTables(const AcpiConfig& config, GuestMemory& memory);

}  // namespace vmm
