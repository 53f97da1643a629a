// Software interrupts, IRET, and the fast system calls. [SDM 2A] INT, SYSCALL, SYSENTER
#include "bt/interp/families.h"
#include "bt/interp/flat_segments.h"
#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

bool Interrupt(Cpu& cpu, uint8_t vector, EventKind kind) {
  cpu.DeliverEvent(vector, kind, false, 0);
  return false;
}

bool IntN(Cpu& cpu, const Op& op) {
  return Interrupt(cpu, static_cast<uint8_t>(op.imm), EventKind::kIntN);
}
bool Int3(Cpu& cpu, const Op&) {
  return Interrupt(cpu, kBP, EventKind::kSoftTrap);
}
// Its #DB is the one that tells of breakpoints that MOV SS held back; a single step of MOV SS is
// lost.
bool Int1(Cpu& cpu, const Op&) {
  cpu.MergeDebugTraps();
  return Interrupt(cpu, kDB, EventKind::kTrap);
}
bool Into(Cpu& cpu, const Op&) {
  return (cpu.flags_ & kOverflow) ? Interrupt(cpu, kOF, EventKind::kSoftTrap) : false;
}

bool Iret(Cpu& cpu, const Op& op) {
  return cpu.InterruptReturn(op.aux);
}

template <class T>
bool Bound(Cpu& cpu, const Op& op) {
  std::make_unsigned_t<T> low, high;
  uint64_t linear;
  if (!cpu.Address(op, 2 * sizeof(T), Access::kRead, linear) || !cpu.Load(linear, low) ||
      !cpu.Load(linear + sizeof(T), high)) {
    return false;
  }
  const T index = static_cast<T>(cpu.Reg<std::make_unsigned_t<T>>(op.dst));
  if (index < static_cast<T>(low) || index > static_cast<T>(high)) return cpu.Raise(kBR);
  return false;
}

bool Undefined(Cpu& cpu, const Op&) {
  return cpu.Raise(kUD);
}

void EnterFlat(Cpu& cpu, const vmm::SegmentState& cs, const vmm::SegmentState& ss, uint8_t cpl) {
  cpu.cpl_ = cpl;
  cpu.SetSegment(vmm::Seg::CS, cs);
  cpu.SetSegment(vmm::Seg::SS, ss);
}

// Where the vendors' fast calls differ. [SDM 2B] SYSCALL, [APM 3] SYSCALL
bool IntelStyle(const Cpu& cpu) {
  return cpu.vm_.parts().cpuid.intel_style();
}

bool Syscall(Cpu& cpu, const Op&) {
  if (!(cpu.efer_ & efer::SCE) || !cpu.ProtectedMode()) return cpu.Raise(kUD);
  if (IntelStyle(cpu) && !cpu.In64()) return cpu.Raise(kUD);
  const uint16_t selector = static_cast<uint16_t>(cpu.msr_.star >> 32) & 0xfffc;
  const uint64_t return_address = cpu.r[kRip];
  if (!cpu.LongMode()) {  // AMD's legacy form
    cpu.r[1] = static_cast<uint32_t>(return_address);
    cpu.rflags_ &= ~(eflags::VM | eflags::IF | eflags::RF);
    EnterFlat(cpu, FlatCode(selector, false, 0), FlatData(selector + 8, 0), 0);
    cpu.r[kRip] = static_cast<uint32_t>(cpu.msr_.star);
    return false;
  }
  const bool from_64 = cpu.In64();
  cpu.r[1] = return_address;
  cpu.r[11] = cpu.Rflags() & ~eflags::RF;
  cpu.SetRflags(cpu.Rflags() & ~(cpu.msr_.sfmask | eflags::RF));
  const auto stack = static_cast<uint16_t>((cpu.msr_.star >> 32) + 8);  // not masked
  EnterFlat(cpu, FlatCode(selector, true, 0), FlatData(stack, 0), 0);
  if (cpu.stepping()) cpu.SetStepTrap(cpu.rflags_ & eflags::TF);  // unless FMASK cleared it
  cpu.r[kRip] = from_64 ? cpu.msr_.lstar : cpu.msr_.cstar;
  return false;
}

bool Sysret(Cpu& cpu, const Op& op) {
  if (!(cpu.efer_ & efer::SCE) || !cpu.ProtectedMode()) return cpu.Raise(kUD);
  if (IntelStyle(cpu) && !cpu.In64()) return cpu.Raise(kUD);
  if (cpu.cpl_ != 0) return cpu.Raise(kGP, 0);
  const uint16_t base = static_cast<uint16_t>(cpu.msr_.star >> 48);
  const bool wide = op.aux == 64;
  const uint64_t target = wide ? cpu.r[1] : static_cast<uint32_t>(cpu.r[1]);
  // Intel's faults at CPL 0, AMD's at CPL 3 when the target is fetched. [SDM 2B] SYSRET
  if (wide && !Canonical(target) && IntelStyle(cpu)) return cpu.Raise(kGP, 0);
  if (cpu.LongMode())
    cpu.SetRflags((cpu.r[11] & ~(eflags::RF | eflags::VM)) | 2);
  else
    cpu.SetRflags(cpu.Rflags() | eflags::IF);
  const uint16_t cs = static_cast<uint16_t>((base + (wide ? 16 : 0)) | 3);
  EnterFlat(cpu, FlatCode(cs, wide, 3), FlatData(static_cast<uint16_t>((base + 8) | 3), 3), 3);
  cpu.r[kRip] = target;
  cpu.SetStepTrap(cpu.rflags_ & eflags::TF);  // at once, not after the next instruction
  return false;
}

bool Sysenter(Cpu& cpu, const Op&) {
  if (!IntelStyle(cpu) && cpu.LongMode()) return cpu.Raise(kUD);  // [APM 3] SYSENTER
  const uint16_t selector = static_cast<uint16_t>(cpu.msr_.sysenter_cs) & 0xfffc;
  if (!cpu.ProtectedMode() && !cpu.V86()) return cpu.Raise(kGP, 0);
  if (selector == 0) return cpu.Raise(kGP, 0);
  const bool wide = cpu.LongMode();
  cpu.SetRflags(cpu.Rflags() & ~(eflags::VM | eflags::IF | eflags::RF));
  EnterFlat(cpu, FlatCode(selector, wide, 0), FlatData(selector + 8, 0), 0);
  cpu.r[4] = wide ? cpu.msr_.sysenter_esp : static_cast<uint32_t>(cpu.msr_.sysenter_esp);
  cpu.r[kRip] = wide ? cpu.msr_.sysenter_eip : static_cast<uint32_t>(cpu.msr_.sysenter_eip);
  return false;
}

bool Sysexit(Cpu& cpu, const Op& op) {
  if (!IntelStyle(cpu) && cpu.LongMode()) return cpu.Raise(kUD);
  const uint16_t base = static_cast<uint16_t>(cpu.msr_.sysenter_cs) & 0xfffc;
  if (!cpu.ProtectedMode() || base == 0 || cpu.cpl_ != 0) return cpu.Raise(kGP, 0);
  const bool wide = op.aux == 64;
  const uint64_t target = cpu.r[2], stack = cpu.r[1];
  if (wide && (!Canonical(target) || !Canonical(stack))) return cpu.Raise(kGP, 0);
  const uint16_t cs = static_cast<uint16_t>((base + (wide ? 32 : 16)) | 3);
  EnterFlat(cpu, FlatCode(cs, wide, 3), FlatData(static_cast<uint16_t>((cs + 8) | 3), 3), 3);
  cpu.r[4] = wide ? stack : static_cast<uint32_t>(stack);
  cpu.r[kRip] = wide ? target : static_cast<uint32_t>(target);
  return false;
}

}  // namespace

bool SelectFar(const Insn& insn, Op& op) {
  op.aux = insn.operand_bits;
  switch (insn.mnemonic) {
    case Mnemonic::INT:
      return Use(op, &IntN);
    case Mnemonic::INT3:
      return Use(op, &Int3);
    case Mnemonic::INT1:
      return Use(op, &Int1);
    case Mnemonic::INTO:
      return Use(op, &Into);
    case Mnemonic::IRET:
    case Mnemonic::IRETD:
    case Mnemonic::IRETQ:
      return Use(op, &Iret);
    case Mnemonic::BOUND:
      return Use(op, insn.operand_bits == 16 ? &Bound<int16_t> : &Bound<int32_t>);
    case Mnemonic::UD0:
    case Mnemonic::UD1:
    case Mnemonic::UD2:
      return Use(op, &Undefined);
    case Mnemonic::SYSCALL:
      return Use(op, &Syscall);
    case Mnemonic::SYSRET:
      op.aux = insn.rex_w ? 64 : 32;
      return Use(op, &Sysret);
    case Mnemonic::SYSENTER:
      return Use(op, &Sysenter);
    case Mnemonic::SYSEXIT:
      op.aux = insn.rex_w ? 64 : 32;
      return Use(op, &Sysexit);
    default:
      return false;
  }
}

}  // namespace bt
