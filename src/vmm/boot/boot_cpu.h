// The boot CPU as the boot protocols want to find it, and what firmware leaves behind on every CPU.
#pragma once

#include "vmm/boot/boot_request.h"
#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"

namespace vmm {

// Selectors of the GDT that WriteBootGdt() makes. [LINUX-BOOT] "32-bit Boot Protocol"
inline constexpr uint16_t kBootCs = 0x10;
inline constexpr uint16_t kBootDs = 0x18;
inline constexpr uint16_t kBootTss = 0x20;

inline constexpr unsigned kBootGdtEntries = 5;
inline constexpr uint64_t kBootGdtSize = kBootGdtEntries * 8;
// One page of PML4, one of PDPT, four of page directories with 2 MiB pages: the first 4 GiB.
inline constexpr uint64_t kIdentityTablesSize = 6 * kPageSize;

// `table` has kBootGdtSize bytes. The code segment suits `mode`.
void WriteBootGdt(uint8_t* table, EntryMode mode);
// `tables` has kIdentityTablesSize bytes, at guest-physical `address`.
void WriteIdentityTables(uint8_t* tables, GuestPhys address);

// Real mode at segment:offset, all data segments and SS at `segment`, interrupts off.
void EnterReal16(CpuState& state, uint16_t segment, uint16_t offset, uint16_t stack);
// Protected mode, flat 4 GiB segments, no paging, interrupts off.
void EnterProtected32(CpuState& state, GuestPhys entry, GuestPhys gdt);
// Long mode on the identity tables, interrupts off.
void EnterLong64(CpuState& state, GuestPhys entry, GuestPhys gdt, GuestPhys page_tables);

// What firmware leaves in each CPU after reset: memory is write-back everywhere (MTRRs); on the
// boot CPU the local APIC is in virtual-wire mode: on, LINT0 lets the 8259s through, LINT1 is NMI.
// LoadKernel does it for the boot CPU; the machine calls it for the others. [MP] 3.6.2.2,
// [SDM 3A] 11.11.2.1
void ApplyFirmwareCpuState(CpuState& state, bool boot_cpu);

// The words of the BIOS data area that kernels read: where the EBDA starts, and how much
// conventional memory there is.
void WriteBiosDataArea(GuestMemory& memory);

}  // namespace vmm
