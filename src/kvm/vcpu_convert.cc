#include <algorithm>
#include <cstring>

#include "kvm/vcpu_state.h"

namespace kvm {
namespace {

using vmm::Activity;
using vmm::CpuState;
using vmm::Gpr;
using vmm::SegmentState;

// Bits of SegmentState::access. [SDM 3C] 24.4.1
enum Access : unsigned { kS = 4, kDpl = 5, kP = 7, kAvl = 12, kL = 13, kDb = 14, kG = 15 };

kvm_dtable ToKvm(const vmm::DescriptorTable& table) {
  kvm_dtable out{};
  out.base = table.base;
  out.limit = table.limit;
  return out;
}

// The fields of kvm_regs in the order of Gpr.
constexpr __u64 kvm_regs::* kGprs[16] = {
    &kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx, &kvm_regs::rsp, &kvm_regs::rbp,
    &kvm_regs::rsi, &kvm_regs::rdi, &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
    &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

// The fields of kvm_sregs in the order of Seg.
constexpr kvm_segment kvm_sregs::* kSegments[6] = {&kvm_sregs::es, &kvm_sregs::cs, &kvm_sregs::ss,
                                                   &kvm_sregs::ds, &kvm_sregs::fs, &kvm_sregs::gs};

// Registers of the APIC page, by their dword. [SDM 3A] table 10-1
constexpr unsigned kVersion = 0x030 / 4, kLvtTimer = 0x320 / 4, kInitialCount = 0x380 / 4,
                   kCurrentCount = 0x390 / 4, kDivide = 0x3e0 / 4;
constexpr uint32_t kEoiSuppression = 1u << 24;  // [SDM 3A] 10.4.8
constexpr uint32_t kTimerModeMask = 3u << 17, kTscDeadlineMode = 2u << 17;

// Nanoseconds a count: KVM's APIC bus runs at 1 GHz. Bits 3, 1, 0: 0 = by 2 ... 6 = by 128,
// 7 = by 1. [SDM 3A] figure 10-10
unsigned Divider(uint32_t divide_configuration) {
  const unsigned code = (divide_configuration & 3) | ((divide_configuration & 8) >> 1);
  return 1u << ((code + 1) & 7);
}

}  // namespace

kvm_segment ToKvm(const SegmentState& segment) {
  kvm_segment out{};
  out.base = segment.base;
  out.limit = segment.limit;
  out.selector = segment.selector;
  out.type = segment.type();
  out.present = segment.present();
  out.dpl = segment.dpl();
  out.db = segment.db();
  out.s = segment.s();
  out.l = segment.l();
  out.g = segment.g();
  out.avl = (segment.access >> kAvl) & 1;
  out.unusable = segment.unusable();
  return out;
}

SegmentState FromKvm(const kvm_segment& segment) {
  SegmentState out;
  out.base = segment.base;
  out.limit = segment.limit;
  out.selector = segment.selector;
  out.access = (segment.type & 0xfu) | (segment.s & 1u) << kS | (segment.dpl & 3u) << kDpl |
               (segment.present & 1u) << kP | (segment.avl & 1u) << kAvl | (segment.l & 1u) << kL |
               (segment.db & 1u) << kDb | (segment.g & 1u) << kG;
  if (segment.unusable) out.access |= SegmentState::kUnusable;
  return out;
}

kvm_regs ToKvmRegs(const CpuState& state) {
  kvm_regs out{};
  for (unsigned i = 0; i < 16; ++i) out.*kGprs[i] = state.gpr[i];
  out.rip = state.rip;
  out.rflags = state.rflags;
  return out;
}

void FromKvm(const kvm_regs& regs, CpuState& state) {
  for (unsigned i = 0; i < 16; ++i) state.gpr[i] = regs.*kGprs[i];
  state.rip = regs.rip;
  state.rflags = regs.rflags;
}

kvm_sregs ToKvmSregs(const CpuState& state) {
  kvm_sregs out{};
  for (unsigned i = 0; i < 6; ++i) out.*kSegments[i] = ToKvm(state.seg[i]);
  out.tr = ToKvm(state.tr);
  out.ldt = ToKvm(state.ldtr);
  out.gdt = ToKvm(state.gdtr);
  out.idt = ToKvm(state.idtr);
  out.cr0 = state.cr0;
  out.cr2 = state.cr2;
  out.cr3 = state.cr3;
  out.cr4 = state.cr4;
  out.cr8 = state.cr8;
  out.efer = state.msr.efer;
  out.apic_base = state.msr.apic_base;
  return out;  // interrupt_bitmap stays empty: see kvm_vcpu_events
}

void FromKvm(const kvm_sregs& sregs, CpuState& state) {
  for (unsigned i = 0; i < 6; ++i) state.seg[i] = FromKvm(sregs.*kSegments[i]);
  state.tr = FromKvm(sregs.tr);
  state.ldtr = FromKvm(sregs.ldt);
  state.gdtr = {sregs.gdt.base, sregs.gdt.limit};
  state.idtr = {sregs.idt.base, sregs.idt.limit};
  state.cr0 = sregs.cr0;
  state.cr2 = sregs.cr2;
  state.cr3 = sregs.cr3;
  state.cr4 = sregs.cr4;
  state.cr8 = sregs.cr8;
  state.msr.efer = sregs.efer;
  state.msr.apic_base = sregs.apic_base;
}

kvm_debugregs ToKvmDebugregs(const CpuState& state) {
  kvm_debugregs out{};
  for (unsigned i = 0; i < 4; ++i) out.db[i] = state.dr[i];
  out.dr6 = state.dr6;
  out.dr7 = state.dr7;
  return out;
}

void FromKvm(const kvm_debugregs& regs, CpuState& state) {
  for (unsigned i = 0; i < 4; ++i) state.dr[i] = regs.db[i];
  state.dr6 = regs.dr6;
  state.dr7 = regs.dr7;
}

kvm_lapic_state ToKvmLapic(const vmm::LocalApicState& apic) {
  kvm_lapic_state out{};
  static_assert(sizeof out.regs == sizeof apic.regs);
  std::array<uint32_t, 256> regs = apic.regs;
  // KVM starts the timer from the current count. [KVM API] 4.57
  const bool counts = (regs[kLvtTimer] & kTimerModeMask) != kTscDeadlineMode;
  const int64_t remaining = apic.timer_remaining_ns;
  regs[kCurrentCount] = 0;
  if (counts && remaining >= 0) {
    const uint64_t count = static_cast<uint64_t>(remaining) / Divider(regs[kDivide]);
    regs[kCurrentCount] = std::clamp<uint64_t>(count, 1, 0xffffffff);
  }
  std::memcpy(out.regs, regs.data(), sizeof out.regs);
  return out;
}

void FromKvm(const kvm_lapic_state& lapic, vmm::LocalApicState& apic) {
  std::memcpy(apic.regs.data(), lapic.regs, sizeof lapic.regs);
  // KVM answers for itself and ignores what is loaded; bit 24 (EOI broadcasts can be suppressed)
  // comes and goes with its settings and is in nobody else's APIC.
  apic.regs[kVersion] &= ~kEoiSuppression;
  const bool counts = (apic.regs[kLvtTimer] & kTimerModeMask) != kTscDeadlineMode;
  const uint32_t count = apic.regs[kCurrentCount];
  const bool running = counts && apic.regs[kInitialCount] != 0 && count != 0;
  apic.timer_remaining_ns = running ? int64_t{count} * Divider(apic.regs[kDivide]) : -1;
}

kvm_vcpu_events ToKvmEvents(const CpuState::Events& events) {
  kvm_vcpu_events out{};
  out.exception.injected = events.exception_pending;
  out.exception.nr = events.exception_vector;
  out.exception.has_error_code = events.exception_has_error;
  out.exception.error_code = events.exception_error;
  out.interrupt.injected = events.interrupt_pending;
  out.interrupt.nr = events.interrupt_vector;
  out.interrupt.shadow = (events.mov_ss_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0) |
                         (events.sti_shadow ? KVM_X86_SHADOW_INT_STI : 0);
  out.nmi.pending = events.nmi_pending;
  out.nmi.masked = events.nmi_masked;
  out.sipi_vector = events.sipi_vector;
  out.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
              KVM_VCPUEVENT_VALID_SHADOW;
  return out;
}

CpuState::Events FromKvm(const kvm_vcpu_events& events) {
  CpuState::Events out;
  out.exception_pending = events.exception.injected || events.exception.pending;
  out.exception_vector = events.exception.nr;
  out.exception_has_error = events.exception.has_error_code;
  out.exception_error = events.exception.error_code;
  // A software interrupt is executed again: RIP still points at it.
  out.interrupt_pending = events.interrupt.injected && !events.interrupt.soft;
  out.interrupt_vector = events.interrupt.nr;
  out.mov_ss_shadow = events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
  out.sti_shadow = events.interrupt.shadow & KVM_X86_SHADOW_INT_STI;
  out.nmi_pending = events.nmi.pending || events.nmi.injected;
  out.nmi_masked = events.nmi.masked && !events.nmi.injected;
  out.smi_masked = events.smi.smm;
  out.sipi_vector = events.sipi_vector;
  return out;
}

uint32_t ToKvm(Activity activity) {
  switch (activity) {
    case Activity::kRunning:
      return KVM_MP_STATE_RUNNABLE;
    case Activity::kHalted:
      return KVM_MP_STATE_HALTED;
    case Activity::kWaitForSipi:
      break;
  }
  return KVM_MP_STATE_INIT_RECEIVED;
}

Activity ActivityFromKvm(uint32_t mp_state) {
  switch (mp_state) {
    case KVM_MP_STATE_HALTED:
      return Activity::kHalted;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED:
      return Activity::kWaitForSipi;
    default:
      return Activity::kRunning;
  }
}

}  // namespace kvm
