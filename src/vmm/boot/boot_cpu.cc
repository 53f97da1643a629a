#include "vmm/boot/boot_cpu.h"

#include <array>
#include <cstring>

#include "vmm/core/base/check.h"
#include "vmm/core/irq/local_apic_regs.h"

namespace vmm {
namespace {

// Segment descriptors: base 0, limit 4 GiB, present, DPL 0. [SDM 3A] 3.4.5
constexpr uint64_t kCode64 = 0x00af9b000000ffff;
constexpr uint64_t kCode32 = 0x00cf9b000000ffff;
constexpr uint64_t kData = 0x00cf93000000ffff;
constexpr uint64_t kTss = 0x00008b0000000067;  // busy, base 0, 104 bytes

// The same as access rights.
constexpr uint32_t kCode64Access = 0xa09b;
constexpr uint32_t kCode32Access = 0xc09b;
constexpr uint32_t kDataAccess = 0xc093;
constexpr uint32_t kTssAccess = 0x8b;

constexpr uint64_t kCr0Pe = 1u << 0, kCr0Et = 1u << 4, kCr0Pg = 1u << 31;
constexpr uint64_t kCr4Pae = 1u << 5;
constexpr uint64_t kEferLme = 1u << 8, kEferLma = 1u << 10;

// Page table entries. [SDM 3A] 4.5
constexpr uint64_t kPresentWritable = 0x3, kLargePage = 0x80;

// IA32_MTRR_DEF_TYPE: enabled, write-back where no other register speaks. [SDM 3A] 11.11.2.1
constexpr uint64_t kMtrrAllWriteBack = 0x806;

void SetSegments(CpuState& state, uint32_t code_access, GuestPhys gdt) {
  const SegmentState data{
      .selector = kBootDs, .access = kDataAccess, .limit = 0xffffffff, .base = 0};
  state.seg.fill(data);
  state.seg[static_cast<size_t>(Seg::CS)] = {
      .selector = kBootCs, .access = code_access, .limit = 0xffffffff, .base = 0};
  state.tr = {.selector = kBootTss, .access = kTssAccess, .limit = 0x67, .base = 0};
  state.ldtr = {.selector = 0, .access = SegmentState::kUnusable, .limit = 0, .base = 0};
  state.gdtr = {.base = gdt.value, .limit = kBootGdtSize - 1};
  state.idtr = {.base = 0, .limit = 0};
}

void SetCommon(CpuState& state, GuestPhys entry) {
  state.gpr.fill(0);
  state.rip = entry.value;
  state.rflags = 2;
  state.activity = Activity::kRunning;
}

}  // namespace

void WriteBootGdt(uint8_t* table, EntryMode mode) {
  const uint64_t code = mode == EntryMode::kLong64 ? kCode64 : kCode32;
  const std::array<uint64_t, kBootGdtEntries> gdt{0, 0, code, kData, kTss};
  std::memcpy(table, gdt.data(), sizeof(gdt));
}

void WriteIdentityTables(uint8_t* tables, GuestPhys address) {
  constexpr unsigned kEntries = 512, kDirectories = 4;
  std::memset(tables, 0, kIdentityTablesSize);
  const auto put = [tables](uint64_t index, uint64_t entry) {
    std::memcpy(tables + index * sizeof(entry), &entry, sizeof(entry));
  };
  const uint64_t pdpt = address.value + kPageSize;
  put(0, pdpt | kPresentWritable);
  for (uint64_t i = 0; i < kDirectories; ++i) {
    put(kEntries + i, (pdpt + (1 + i) * kPageSize) | kPresentWritable);
  }
  for (uint64_t i = 0; i < kDirectories * kEntries; ++i) {
    put(2 * kEntries + i, i * 2 * kMiB | kLargePage | kPresentWritable);
  }
}

void EnterReal16(CpuState& state, uint16_t segment, uint16_t offset, uint16_t stack) {
  constexpr uint32_t kRealData = 0x93, kRealCode = 0x9b;
  SetCommon(state, GuestPhys(offset));
  const SegmentState data{
      .selector = segment, .access = kRealData, .limit = 0xffff, .base = uint64_t{segment} << 4};
  state.seg.fill(data);
  state.seg[static_cast<size_t>(Seg::CS)].access = kRealCode;
  state.idtr = {.base = 0, .limit = 0x3ff};
  state.gpr[static_cast<size_t>(Gpr::RSP)] = stack;
}

void EnterProtected32(CpuState& state, GuestPhys entry, GuestPhys gdt) {
  SetCommon(state, entry);
  SetSegments(state, kCode32Access, gdt);
  state.cr0 = kCr0Pe | kCr0Et;
  state.cr3 = 0;
  state.cr4 = 0;
  state.msr.efer = 0;
}

void EnterLong64(CpuState& state, GuestPhys entry, GuestPhys gdt, GuestPhys page_tables) {
  SetCommon(state, entry);
  SetSegments(state, kCode64Access, gdt);
  state.cr0 = kCr0Pg | kCr0Pe | kCr0Et;
  state.cr3 = page_tables.value;
  state.cr4 = kCr4Pae;
  state.msr.efer = kEferLme | kEferLma;
}

void ApplyFirmwareCpuState(CpuState& state, bool boot_cpu) {
  state.msr.mtrr_def_type = kMtrrAllWriteBack;
  if (!boot_cpu) return;  // INIT, which starts the others, resets their local APICs
  const auto reg = [&state](apic::Reg r) -> uint32_t& {
    return state.apic.regs[static_cast<uint32_t>(r) / 4];
  };
  const auto mode = [](apic::DeliveryMode m) { return static_cast<uint32_t>(m) << 8; };
  reg(apic::Reg::SVR) = apic::Bit(apic::Svr::ENABLE) | 0xff;
  reg(apic::Reg::LVT_LINT0) = mode(apic::DeliveryMode::kExtInt);
  reg(apic::Reg::LVT_LINT1) = mode(apic::DeliveryMode::kNmi);
}

void WriteBiosDataArea(GuestMemory& memory) {
  constexpr GuestPhys kEbdaSegment{0x40e}, kBaseMemoryKiB{0x413};
  const auto put = [&memory](GuestPhys address, uint16_t value) {
    const std::array<uint8_t, 2> bytes{static_cast<uint8_t>(value),
                                       static_cast<uint8_t>(value >> 8)};
    CHECK(memory.Write(address, bytes));
  };
  put(kEbdaSegment, static_cast<uint16_t>(kEbdaStart.value >> 4));
  put(kBaseMemoryKiB, static_cast<uint16_t>(kEbdaStart.value / kKiB));
}

}  // namespace vmm
