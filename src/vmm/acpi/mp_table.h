// The MultiProcessor table: processors, IOAPIC and interrupt wires for guests without ACPI.
// [MP 1.4] 4
#pragma once

#include "vmm/acpi/acpi_tables.h"
#include "vmm/core/memory/guest_memory.h"

namespace vmm {

// Where the floating pointer stands, the configuration table behind it: in the BIOS ROM's range,
// which guests search.
inline constexpr GuestPhys kMpTable{0xf0000};

// Says the same as the ACPI tables of `config`, which BuildAcpiTables() has taken.
void WriteMpTable(const AcpiConfig& config, GuestMemory& memory);

}  // namespace vmm
