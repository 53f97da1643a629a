// The architectural state of one vCPU: plain data that every engine loads and saves, so that a
// machine can be suspended under one engine and go on under the other.
#pragma once

#include <array>
#include <cstdint>

namespace vmm {

// Order of the general registers as ModRM encodes them. [SDM 2A] 2.1.5
enum class Gpr : uint8_t {
  RAX,
  RCX,
  RDX,
  RBX,
  RSP,
  RBP,
  RSI,
  RDI,
  R8,
  R9,
  R10,
  R11,
  R12,
  R13,
  R14,
  R15
};

// Order of the segment registers as instructions encode them. [SDM 2A] B.1.4.3
enum class Seg : uint8_t { ES, CS, SS, DS, FS, GS };

struct SegmentState {
  uint16_t selector = 0;
  // Access rights in VMCS form: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15,
  // unusable 16. [SDM 3C] 24.4.1
  uint32_t access = 0;
  uint32_t limit = 0;  // in bytes, granularity already applied
  uint64_t base = 0;

  static constexpr uint32_t kUnusable = 1u << 16;
  constexpr uint8_t type() const { return access & 0xf; }
  constexpr bool s() const { return access & 0x10; }
  constexpr uint8_t dpl() const { return (access >> 5) & 3; }
  constexpr bool present() const { return access & 0x80; }
  constexpr bool l() const { return access & 0x2000; }
  constexpr bool db() const { return access & 0x4000; }
  constexpr bool g() const { return access & 0x8000; }
  constexpr bool unusable() const { return access & kUnusable; }
};

struct DescriptorTable {
  uint64_t base = 0;
  uint16_t limit = 0;
};

// Saved form of a local APIC: the 4 KiB register page as the guest sees it through MMIO plus what
// the page does not show. The same layout as KVM_GET_LAPIC. [SDM 3A] 10.4.1
struct LocalApicState {
  std::array<uint32_t, 256>
      regs{};                 // dword at byte offset 4*i; only offsets 0x000-0x3f0 by 0x10 exist
  uint64_t tsc_deadline = 0;  // IA32_TSC_DEADLINE, 0 = disarmed
  int64_t timer_remaining_ns =
      -1;                        // one-shot/periodic timer: time to the next expiry, -1 = stopped
  uint32_t esr_pending = 0;      // errors since ESR was last written [SDM 3A] 10.5.3
  bool ext_int_message = false;  // an ExtINT message waits for its INTA cycle
};

enum class Activity : uint8_t { kRunning, kHalted, kWaitForSipi };

// The XSAVE area in standard (not compacted) form: 512 bytes legacy region, 64 bytes header,
// extended components at the offsets CPUID leaf 0xd gives on the host. [SDM 1] 13.4
struct alignas(64) XsaveArea {
  static constexpr unsigned kSize = 4096;
  std::array<uint8_t, kSize> bytes{};
};

struct CpuState {
  static constexpr uint32_t kVersion = 1;

  std::array<uint64_t, 16> gpr{};
  uint64_t rip = 0;
  uint64_t rflags = 2;

  std::array<SegmentState, 6> seg{};
  SegmentState ldtr, tr;
  DescriptorTable gdtr, idtr;

  uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0, xcr0 = 1;
  std::array<uint64_t, 4> dr{};
  uint64_t dr6 = 0xffff0ff0, dr7 = 0x400;

  struct Msrs {
    uint64_t efer = 0, star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0;
    uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
    uint64_t pat = 0x0007040600070406, apic_base = 0, misc_enable = 1, tsc_aux = 0, spec_ctrl = 0;
    uint64_t tsc = 0;  // the guest's counter at the moment of saving
    uint64_t tsc_adjust = 0;
    uint64_t mtrr_def_type = 0;
    std::array<uint64_t, 11> mtrr_fixed{};  // 64K_00000, 16K_80000, 16K_A0000, 4K_C0000 .. 4K_F8000
    std::array<uint64_t, 16> mtrr_variable{};  // base, mask pairs
    uint64_t kvm_wall_clock = 0, kvm_system_time = 0, kvm_async_pf = 0, kvm_steal_time = 0,
             kvm_pv_eoi = 0, kvm_poll_control = 1;
    uint64_t xss = 0;
  } msr;

  XsaveArea xsave;
  LocalApicState apic;

  // What is under way between two instructions. [SDM 3C] 24.4.2, 24.8.3
  struct Events {
    bool exception_pending = false;
    uint8_t exception_vector = 0;
    bool exception_has_error = false;
    uint32_t exception_error = 0;
    bool interrupt_pending = false;  // acknowledged at the controller, not yet delivered
    uint8_t interrupt_vector = 0;
    bool sti_shadow = false, mov_ss_shadow = false;
    bool nmi_pending = false, nmi_masked = false;
    bool smi_masked = false;
    uint8_t sipi_vector = 0;
  } events;
  Activity activity = Activity::kRunning;
};

// State after RESET#. [SDM 3A] table 9-1. APIC id 0 is the boot processor and runs, others wait for
// SIPI. `apic_id` goes into the APIC ID register; `signature` (CPUID.1:EAX) into RDX.
void ResetCpuState(CpuState& state, uint32_t apic_id, uint32_t signature);

// State after INIT. [SDM 3A] table 9-1: as RESET#, but x87, SSE, XCR0, the TSC, MTRRs and all other
// MSRs, CR0.CD/NW, the APIC's id and base address stay; the boot processor runs, others wait for
// SIPI. An APIC that was in x2APIC mode stays in it. [SDM 3A] 10.12.5.1
void InitCpuState(CpuState& state, uint32_t signature);

}  // namespace vmm
