// Far JMP, CALL, RET and IRET: the transfers that may change mode or privilege.
// [SDM 3A] 5.8, [SDM 2A] the instructions' pages
#include "bt/interp/cpu.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

uint64_t Truncate(uint64_t value, unsigned bits) {
  return bits == 64 ? value : value & ((1ull << bits) - 1);
}

constexpr unsigned kCallGate16 = 4, kTaskGate = 5, kCallGate32 = 12;

}  // namespace

// A far JMP or CALL: straight to a code segment, or through a call gate.
struct FarTarget {
  vmm::SegmentState cs;
  uint64_t low = 0;
  uint64_t offset = 0;
  unsigned frame_bits = 0;  // width of what is pushed
  unsigned parameters = 0;  // of a call gate
  bool gate = false;
  bool task = false;  // cs.selector is that of a TSS
};

namespace {

bool IsCode(const vmm::SegmentState& state) {
  return state.s() && (state.type() & 8);
}

bool ResolveGate(Cpu& cpu, uint16_t selector, uint64_t low, FarTarget& target) {
  const uint16_t error = selector & 0xfffc;
  const vmm::SegmentState gate = Cpu::ParseDescriptor(selector, low);
  const bool wide = gate.type() == kCallGate32;
  const bool tss = (gate.type() & 7) == 1, task_gate = gate.type() == kTaskGate;
  const bool legacy = gate.type() == kCallGate16 || tss || task_gate;
  if (!wide && (!legacy || cpu.LongMode())) return cpu.Raise(kGP, error);
  if (gate.dpl() < cpu.cpl_ || gate.dpl() < (selector & 3)) return cpu.Raise(kGP, error);
  if (tss) {  // whether it is present is the switch's business
    target.task = true;
    target.cs.selector = selector;
    return true;
  }
  if (!gate.present()) return cpu.Raise(kNP, error);
  const uint16_t code_selector = static_cast<uint16_t>(low >> 16);
  if (task_gate) {
    target.task = true;
    target.cs.selector = code_selector;
    return true;
  }
  target.gate = true;
  target.offset = (low & 0xffff) | (wide ? (low >> 32) & 0xffff0000 : 0);
  target.parameters = (low >> 32) & 0x1f;
  target.frame_bits = wide ? 32 : 16;
  if (cpu.LongMode()) {  // 16-byte gates, 64-bit targets only
    uint64_t high;
    if (!cpu.FetchDescriptor(selector, low, &high, kGP)) return false;
    if (high & 0x1f0000000000) return cpu.Raise(kGP, error);
    target.offset |= high << 32;
    target.frame_bits = 64;
    target.parameters = 0;
  }
  if ((code_selector & 0xfffc) == 0) return cpu.Raise(kGP, 0);
  if (!cpu.FetchDescriptor(code_selector, target.low, nullptr, kGP)) return false;
  target.cs = Cpu::ParseDescriptor(code_selector, target.low);
  if (!IsCode(target.cs) || target.cs.dpl() > cpu.cpl_) {
    return cpu.Raise(kGP, code_selector & 0xfffc);
  }
  if (cpu.LongMode() && (!target.cs.l() || target.cs.db())) {
    return cpu.Raise(kGP, code_selector & 0xfffc);
  }
  if (!target.cs.present()) return cpu.Raise(kNP, code_selector & 0xfffc);
  return true;
}

bool ResolveFar(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned operand_bits,
                FarTarget& target) {
  const uint16_t error = selector & 0xfffc;
  if (error == 0) return cpu.Raise(kGP, 0);
  uint64_t low;
  if (!cpu.FetchDescriptor(selector, low, nullptr, kGP)) return false;
  vmm::SegmentState state = Cpu::ParseDescriptor(selector, low);
  if (!state.s()) return ResolveGate(cpu, selector, low, target);
  if (!IsCode(state)) return cpu.Raise(kGP, error);
  const bool conforming = state.type() & 4;
  if (conforming ? state.dpl() > cpu.cpl_ : (selector & 3) > cpu.cpl_ || state.dpl() != cpu.cpl_) {
    return cpu.Raise(kGP, error);
  }
  if (cpu.LongMode() && state.l() && state.db()) return cpu.Raise(kGP, error);
  if (!state.present()) return cpu.Raise(kNP, error);
  target = {state, low, Truncate(offset, operand_bits), operand_bits, 0, false, false};
  return true;
}

bool TargetInLimit(const Cpu& cpu, const vmm::SegmentState& cs, uint64_t offset) {
  if (cpu.LongMode() && cs.l()) return Canonical(offset);
  return offset <= cs.limit;
}

void EnterCode(Cpu& cpu, vmm::SegmentState cs, unsigned cpl, uint64_t offset) {
  cs.selector = static_cast<uint16_t>((cs.selector & 0xfffc) | cpl);
  cs.access |= 1;
  cpu.cpl_ = static_cast<uint8_t>(cpl);
  cpu.SetSegment(vmm::Seg::CS, cs);
  cpu.r[kRip] = offset;
}

}  // namespace

bool Cpu::FarJump(uint16_t selector, uint64_t offset, unsigned operand_bits) {
  if (!ProtectedMode()) {
    offset = Truncate(offset, operand_bits);
    if (offset > 0xffff && offset > seg_[1].limit) return Raise(kGP, 0);
    LoadRealSegment(vmm::Seg::CS, selector);
    r[kRip] = offset;
    return false;
  }
  FarTarget target;
  if (!ResolveFar(*this, selector, offset, operand_bits, target)) return false;
  if (target.task) {
    SwitchTask(target.cs.selector, TaskSwitch::kJump, false, 0);
    return false;
  }
  const bool conforming = target.cs.type() & 4;
  if (target.gate && !conforming && target.cs.dpl() != cpl_) {
    return Raise(kGP, target.cs.selector & 0xfffc);  // JMP can't change privilege
  }
  if (!TargetInLimit(*this, target.cs, target.offset)) return Raise(kGP, 0);
  if (!SetAccessed(target.cs.selector, target.low)) return false;
  EnterCode(*this, target.cs, cpl_, target.offset);
  return false;
}

bool Cpu::FarCall(uint16_t selector, uint64_t offset, unsigned operand_bits) {
  const unsigned bytes = operand_bits / 8;
  const uint64_t return_offset = r[kRip];
  const uint16_t return_cs = seg_[1].selector;
  const uint64_t old_sp = r[4];
  if (!ProtectedMode()) {
    offset = Truncate(offset, operand_bits);
    if (offset > seg_[1].limit) return Raise(kGP, 0);
    if (!Push(return_cs, bytes)) return false;
    if (!Push(return_offset, bytes)) {
      r[4] = old_sp;
      return false;
    }
    LoadRealSegment(vmm::Seg::CS, selector);
    r[kRip] = offset;
    return false;
  }
  FarTarget target;
  if (!ResolveFar(*this, selector, offset, operand_bits, target)) return false;
  if (target.task) {
    SwitchTask(target.cs.selector, TaskSwitch::kCall, false, 0);
    return false;
  }
  const bool conforming = target.cs.type() & 4;
  const unsigned frame = target.frame_bits / 8;
  if (target.gate && !conforming && target.cs.dpl() < cpl_) {
    return CallInward(target.cs, target.low, target.offset, frame, target.parameters);
  }
  if (!TargetInLimit(*this, target.cs, target.offset)) return Raise(kGP, 0);
  if (!Push(return_cs, frame)) return false;
  if (!Push(return_offset, frame) || !SetAccessed(target.cs.selector, target.low)) {
    r[4] = old_sp;
    return false;
  }
  EnterCode(*this, target.cs, cpl_, target.offset);
  return false;
}

// The stack for privilege level `cpl` from the TSS. In long mode SS becomes null.
bool Cpu::InnerStack(unsigned cpl, unsigned ist, vmm::SegmentState& ss, uint64_t& sp) {
  if (LongMode()) {
    const uint64_t at = ist ? 28 + ist * 8 : 4 + cpl * 8;  // [SDM 3A] figure 7-11
    if (at + 7 > tr_.limit) return Raise(kTS, tr_.selector & 0xfffc);
    if (!LoadSystem(tr_.base + at, sp)) return false;
    if (!Canonical(sp)) return Raise(kSS, 0);
    ss = vmm::SegmentState{};
    ss.selector = static_cast<uint16_t>(cpl);
    ss.access = vmm::SegmentState::kUnusable | cpl << 5 | 0x4000;
    return true;
  }
  uint16_t selector;
  const bool tss32 = tr_.type() & 8;
  if (tss32) {
    if (cpl * 8 + 4 + 5 > tr_.limit) return Raise(kTS, tr_.selector & 0xfffc);
    uint32_t esp;
    if (!LoadSystem(tr_.base + cpl * 8 + 4, esp) || !LoadSystem(tr_.base + cpl * 8 + 8, selector)) {
      return false;
    }
    sp = esp;
  } else {
    if (cpl * 4 + 2 + 3 > tr_.limit) return Raise(kTS, tr_.selector & 0xfffc);
    uint16_t sp16;
    if (!LoadSystem(tr_.base + cpl * 4 + 2, sp16) ||
        !LoadSystem(tr_.base + cpl * 4 + 4, selector)) {
      return false;
    }
    sp = sp16;
  }
  const uint16_t error = selector & 0xfffc;
  if (error == 0) return Raise(kTS, 0);
  uint64_t low;
  if (!FetchDescriptor(selector, low, nullptr, kTS)) return false;
  ss = ParseDescriptor(selector, low);
  if ((selector & 3) != cpl || ss.dpl() != cpl || !ss.s() || (ss.type() & 8) || !(ss.type() & 2)) {
    return Raise(kTS, error);
  }
  if (!ss.present()) return Raise(kSS, error);
  if (!SetAccessed(selector, low)) return false;
  ss.access |= 1;
  return true;
}

// CALL through a gate to more privileged code. [SDM 3A] 5.8.5
bool Cpu::CallInward(vmm::SegmentState cs, uint64_t cs_low, uint64_t offset, unsigned frame,
                     unsigned parameters) {
  const unsigned cpl = cs.dpl();
  vmm::SegmentState ss;
  uint64_t sp;
  if (!InnerStack(cpl, 0, ss, sp)) return false;
  const uint64_t mask = LongMode() ? ~0ull : ss.db() ? 0xffffffff : 0xffff;
  StackFrame stack{*this, ss, sp, mask, frame, static_cast<uint16_t>(ss.selector & 0xfffc)};
  if (!stack.HasRoom(4 + parameters)) return false;
  if (!TargetInLimit(*this, cs, offset)) return Raise(kGP, 0);
  uint32_t arguments[32];
  for (unsigned i = 0; i < parameters; ++i) {
    uint64_t linear;
    arguments[i] = 0;
    if (!StackAddress(StackOffset(i * frame), frame, Access::kRead, linear)) return false;
    if (!(frame == 2 ? LoadSlow(linear, &arguments[i], 2, true, view_)
                     : LoadSlow(linear, &arguments[i], 4, true, view_))) {
      return false;
    }
  }
  bool pushed = stack.Push(seg_[2].selector) && stack.Push(r[4]);
  for (unsigned i = parameters; pushed && i-- > 0;) pushed = stack.Push(arguments[i]);
  pushed = pushed && stack.Push(seg_[1].selector) && stack.Push(r[kRip]);
  if (!pushed || !SetAccessed(cs.selector, cs_low)) return false;
  cpl_ = static_cast<uint8_t>(cpl);
  SetSegment(vmm::Seg::SS, ss);
  EnterCode(*this, cs, cpl, offset);
  SetStackPointer(stack.sp);
  return false;
}

// Pushes onto a stack that is not yet the current one.
bool Cpu::StackFrame::InLimit(uint64_t offset) const {
  const uint64_t last = offset + bytes - 1;
  if (!(ss.type() & 4)) return last <= ss.limit;
  return offset > ss.limit && last <= (ss.db() ? 0xffffffff : 0xffff);
}

bool Cpu::StackFrame::HasRoom(unsigned count) {
  if (cpu.LongMode()) return true;
  for (uint64_t at = sp; count > 0; --count) {
    at -= bytes;
    if (!InLimit(at & mask)) return cpu.Raise(kSS, error);
  }
  return true;
}

bool Cpu::StackFrame::Push(uint64_t value) {
  const uint64_t next = Next();
  uint64_t linear = next;
  if (!cpu.LongMode()) {
    if (!InLimit(next & mask)) return cpu.Raise(kSS, error);
    linear = (ss.base + (next & mask)) & 0xffffffff;
  }
  const bool stored = view == View::kSupervisor ? cpu.StoreSystem(linear, &value, bytes)
                                                : cpu.StoreSlow(linear, &value, bytes, true, view);
  if (!stored) return false;
  sp = next;
  return true;
}

// Common to RET far and IRET: the checks on a CS that is returned to. [SDM 2A] RET
bool Cpu::CheckReturnCode(uint16_t selector, vmm::SegmentState& cs, uint64_t& low) {
  const uint16_t error = selector & 0xfffc;
  const unsigned rpl = selector & 3;
  if (error == 0) return Raise(kGP, 0);
  if (!FetchDescriptor(selector, low, nullptr, kGP)) return false;
  cs = ParseDescriptor(selector, low);
  const bool conforming = cs.type() & 4;
  if (!IsCode(cs) || rpl < cpl_ || (conforming ? cs.dpl() > rpl : cs.dpl() != rpl) ||
      (LongMode() && cs.l() && cs.db())) {
    return Raise(kGP, error);
  }
  if (!cs.present()) return Raise(kNP, error);
  return true;
}

bool Cpu::CheckReturnStack(uint16_t selector, unsigned rpl, bool to_64, vmm::SegmentState& ss) {
  const uint16_t error = selector & 0xfffc;
  ss = vmm::SegmentState{};
  if (error == 0) {
    if (!to_64 || rpl == 3 || (selector & 3) != rpl) return Raise(kGP, 0);
    ss.selector = selector;
    ss.access = vmm::SegmentState::kUnusable | rpl << 5 | 0x4000;
    return true;
  }
  uint64_t low;
  if (!FetchDescriptor(selector, low, nullptr, kGP)) return false;
  ss = ParseDescriptor(selector, low);
  if ((selector & 3) != rpl || ss.dpl() != rpl || !ss.s() || (ss.type() & 8) || !(ss.type() & 2)) {
    return Raise(kGP, error);
  }
  if (!ss.present()) return Raise(kSS, error);
  if (!SetAccessed(selector, low)) return false;
  ss.access |= 1;
  return true;
}

// Data segments that the outer level may not see become null. [SDM 3A] 5.8.6
void Cpu::DropInnerSegments() {
  for (vmm::Seg segment : {vmm::Seg::ES, vmm::Seg::DS, vmm::Seg::FS, vmm::Seg::GS}) {
    vmm::SegmentState state = seg_[static_cast<unsigned>(segment)];
    const bool conforming_code = (state.type() & 12) == 12;
    if (!state.unusable() && state.dpl() < cpl_ && !conforming_code) {
      state.selector = 0;
      state.access = vmm::SegmentState::kUnusable;
      state.base = 0;
      SetSegment(segment, state);
    }
  }
}

bool Cpu::FarReturn(unsigned operand_bits, unsigned release) {
  const unsigned bytes = operand_bits / 8;
  uint64_t offset = 0, selector64 = 0;
  if (!PeekStack(0, bytes, offset) || !PeekStack(bytes, bytes, selector64)) return false;
  const uint16_t selector = static_cast<uint16_t>(selector64);
  if (!ProtectedMode()) {
    if (offset > seg_[1].limit && offset > 0xffff) return Raise(kGP, 0);
    r[4] = StackOffset(2 * bytes + release);
    LoadRealSegment(vmm::Seg::CS, selector);
    r[kRip] = offset;
    return false;
  }
  vmm::SegmentState cs;
  uint64_t low;
  if (!CheckReturnCode(selector, cs, low)) return false;
  const unsigned rpl = selector & 3;
  if (!TargetInLimit(*this, cs, offset)) return Raise(kGP, 0);
  if (rpl == cpl_) {
    if (!SetAccessed(selector, low)) return false;
    r[4] = StackOffset(2 * bytes + release);
    EnterCode(*this, cs, rpl, offset);
    return false;
  }
  uint64_t sp = 0, ss64 = 0;
  if (!PeekStack(2 * bytes + release, bytes, sp) || !PeekStack(3 * bytes + release, bytes, ss64)) {
    return false;
  }
  vmm::SegmentState ss;
  if (!CheckReturnStack(static_cast<uint16_t>(ss64), rpl, LongMode() && cs.l(), ss)) return false;
  if (!SetAccessed(selector, low)) return false;
  EnterCode(*this, cs, rpl, offset);
  SetSegment(vmm::Seg::SS, ss);
  SetStackPointer(sp + release);
  DropInnerSegments();
  return false;
}

bool Cpu::PeekStack(unsigned delta, unsigned bytes, uint64_t& value) {
  uint64_t linear;
  value = 0;
  if (!StackAddress(StackOffset(delta), bytes, Access::kRead, linear)) return false;
  return bytes == 8 ? Load(linear, value, true) : LoadSlow(linear, &value, bytes, true, view_);
}

// IRET in every mode. [SDM 2A] IRET
bool Cpu::InterruptReturn(unsigned operand_bits) {
  const unsigned bytes = operand_bits / 8;
  constexpr uint64_t kRealFlags = kArithmeticFlags | eflags::TF | eflags::IF | eflags::DF |
                                  eflags::IOPL | eflags::NT | eflags::RF | eflags::AC | eflags::ID;
  if (V86() && !VirtualFlagsAllowed(bytes)) return false;
  uint64_t offset, selector64, flags;
  if (ProtectedMode() && (rflags_ & eflags::NT)) {
    if (LongMode()) return Raise(kGP, 0);
    uint16_t link;
    if (!LoadSystem(tr_.base, link)) return false;
    if (nmi_masked_) RecheckInterrupts();
    nmi_masked_ = false;
    SwitchTask(link, TaskSwitch::kReturn, false, 0);
    return false;
  }
  if (!PeekStack(0, bytes, offset) || !PeekStack(bytes, bytes, selector64) ||
      !PeekStack(2 * bytes, bytes, flags)) {
    return false;
  }
  const uint16_t selector = static_cast<uint16_t>(selector64);
  if (nmi_masked_) RecheckInterrupts();  // one may be waiting
  nmi_masked_ = false;
  if (V86()) return ReturnInV86(bytes, offset, selector, flags);
  if (RealMode()) {
    if (offset > 0xffff && offset > seg_[1].limit) return Raise(kGP, 0);
    r[4] = StackOffset(3 * bytes);
    uint64_t mask = kRealFlags;
    if (operand_bits == 16) mask &= 0xffff;
    LoadRealSegment(vmm::Seg::CS, selector);
    r[kRip] = offset;
    SetRflags((Rflags() & ~mask) | (flags & mask));
    return false;
  }
  if (!LongMode() && (flags & eflags::VM) && cpl_ == 0 && operand_bits == 32) {
    return ReturnToV86(offset, selector, flags);
  }
  vmm::SegmentState cs;
  uint64_t low;
  if (!CheckReturnCode(selector, cs, low)) return false;
  if (!TargetInLimit(*this, cs, offset)) return Raise(kGP, 0);
  const unsigned rpl = selector & 3;
  uint64_t mask = kArithmeticFlags | eflags::TF | eflags::DF | eflags::NT | eflags::RF |
                  eflags::AC | eflags::ID;
  if (cpl_ <= Iopl()) mask |= eflags::IF;
  if (cpl_ == 0) mask |= eflags::IOPL | eflags::VIF | eflags::VIP;
  if (operand_bits == 16) mask &= 0xffff;
  uint64_t sp = 0, ss64 = 0;
  vmm::SegmentState ss;
  const bool outer = rpl != cpl_ || In64();
  if (outer) {
    if (!PeekStack(3 * bytes, bytes, sp) || !PeekStack(4 * bytes, bytes, ss64)) return false;
    if (!CheckReturnStack(static_cast<uint16_t>(ss64), rpl, LongMode() && cs.l(), ss)) return false;
  }
  if (!SetAccessed(selector, low)) return false;
  const bool inner_dropped = rpl != cpl_;
  const uint64_t same_level_sp = StackOffset(3 * bytes);
  SetRflags((Rflags() & ~mask) | (flags & mask));
  EnterCode(*this, cs, rpl, offset);
  if (outer) {
    SetSegment(vmm::Seg::SS, ss);
    SetStackPointer(sp);
  } else {
    r[4] = same_level_sp;
  }
  if (inner_dropped) DropInnerSegments();
  return false;
}

}  // namespace bt
