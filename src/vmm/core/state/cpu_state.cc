#include "vmm/core/state/cpu_state.h"

#include <cstring>

namespace vmm {
namespace {

// Local APIC register offsets in the 4 KiB page. [SDM 3A] table 10-1 (local APIC address map)
enum ApicOffset : unsigned {
  kId = 0x020,
  kVersion = 0x030,
  kDestinationFormat = 0x0e0,
  kSpuriousVector = 0x0f0,
  kLvtCmci = 0x2f0,
  kLvtTimer = 0x320,
  kLvtLint0 = 0x350,
  kLvtError = 0x370,
};
constexpr uint32_t kApicVersion = 0x00050014;  // integrated APIC, six LVT entries. [SDM 3A] 10.4.8
constexpr uint32_t kLvtMasked = 0x00010000;
constexpr uint32_t kLvtExtInt = 0x00000700;

// Byte offsets in the legacy region and header of the XSAVE area. [SDM 1] 13.4.1, 13.4.2
enum XsaveOffset : unsigned { kFcw = 0, kFtw = 4, kMxcsr = 24, kMxcsrMask = 28, kXstateBv = 512 };

template <class T>
void Put(XsaveArea& area, unsigned offset, T value) {
  std::memcpy(area.bytes.data() + offset, &value, sizeof value);
}

SegmentState RealModeSegment(uint16_t selector, uint64_t base, uint32_t access) {
  return {.selector = selector, .access = access, .limit = 0xffff, .base = base};
}

// What RESET# and INIT have in common. [SDM 3A] table 9-1
void SetCommon(CpuState& state, uint32_t signature) {
  state.gpr = {};
  state.gpr[static_cast<unsigned>(Gpr::RDX)] = signature;
  state.rip = 0xfff0;
  state.rflags = 2;
  for (SegmentState& segment : state.seg) segment = RealModeSegment(0, 0, 0x93);
  state.seg[static_cast<unsigned>(Seg::CS)] = RealModeSegment(0xf000, 0xffff0000, 0x9b);
  state.ldtr = RealModeSegment(0, 0, 0x82);
  state.tr = RealModeSegment(0, 0, 0x8b);
  state.gdtr = state.idtr = {.base = 0, .limit = 0xffff};
  state.cr2 = state.cr3 = state.cr4 = state.cr8 = 0;
  state.dr = {};
  state.dr6 = 0xffff0ff0;
  state.dr7 = 0x400;
  state.msr.efer = 0;
  state.events = {};
}

// [SDM 3A] 10.4.7.1 (after power-up or reset), 10.4.7.3 (after INIT: the same but for the ID)
void ResetApic(LocalApicState& apic, uint32_t id_register, bool boot_cpu) {
  apic = {};
  const auto set = [&apic](unsigned offset, uint32_t value) { apic.regs[offset / 4] = value; };
  set(kId, id_register);
  set(kVersion, kApicVersion);
  set(kDestinationFormat, 0xffffffff);
  set(kSpuriousVector, 0x000000ff);
  set(kLvtCmci, kLvtMasked);
  for (unsigned offset = kLvtTimer; offset <= kLvtError; offset += 0x10) set(offset, kLvtMasked);
  // Virtual wire mode, as firmware leaves the boot processor ([MP 1.4] 3.6.2.2): a kernel that is
  // loaded without firmware gets its 8259 interrupts. KVM resets its own APIC so too.
  if (boot_cpu) set(kLvtLint0, kLvtExtInt);
}

}  // namespace

void ResetCpuState(CpuState& state, uint32_t apic_id, uint32_t signature) {
  const bool boot_cpu = apic_id == 0;
  state = {};
  SetCommon(state, signature);
  state.cr0 = 0x60000010;                                               // CD, NW, ET
  state.msr.apic_base = 0xfee00000 | 0x800 | (boot_cpu ? 0x100u : 0u);  // enabled; bit 8 = BSP
  // x87 after RESET#, not as FNINIT leaves it: FCW 0040H, all tags "zero" (valid, so the abridged
  // byte has every bit set).
  Put<uint16_t>(state.xsave, kFcw, 0x0040);
  Put<uint8_t>(state.xsave, kFtw, 0xff);
  Put<uint32_t>(state.xsave, kMxcsr, 0x1f80);
  Put<uint32_t>(state.xsave, kMxcsrMask, 0xffff);
  Put<uint64_t>(state.xsave, kXstateBv, 3);  // x87 and SSE are not in their initial configuration
  ResetApic(state.apic, apic_id << 24, boot_cpu);
  state.activity = boot_cpu ? Activity::kRunning : Activity::kWaitForSipi;
}

void InitCpuState(CpuState& state, uint32_t signature) {
  const bool boot_cpu = state.msr.apic_base & 0x100;
  const uint64_t kept_cr0 = state.cr0 & 0x60000000;  // CD and NW stay as they were
  SetCommon(state, signature);
  state.cr0 = kept_cr0 | 0x10;
  ResetApic(state.apic, state.apic.regs[kId / 4], boot_cpu);
  state.activity = boot_cpu ? Activity::kRunning : Activity::kWaitForSipi;
}

}  // namespace vmm
