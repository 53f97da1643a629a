// Delivery of exceptions and interrupts through the IVT and the IDT. [SDM 3A] 6
#include <utility>

#include "bt/interp/cpu.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

// Faults that make a double fault of a fault during delivery. [SDM 3A] table 6-5
bool Contributory(uint8_t vector) {
  return vector == kDE || (vector >= kTS && vector <= kGP);
}

// With whose rights a handler's stack is written.
View ViewOf(unsigned cpl) {
  return cpl == 3 ? View::kUser : View::kSupervisor;
}

constexpr uint32_t kExternalEvent = 1;  // EXT bit of an error code
constexpr unsigned kTaskGate = 5, kInterruptGate16 = 6, kTrapGate16 = 7, kInterruptGate32 = 14,
                   kTrapGate32 = 15;

}  // namespace

bool Cpu::DeliverFault() {
  Fault first = fault_;
  pending_debug_ = 0;  // of the instruction that comes to nothing
  for (;;) {
    fault_.active = false;
    // Faults push RF set, so that a restart skips instruction breakpoints; only these themselves
    // push it as it is. [SDM 3B] 17.3.1.1
    if (first.vector != kDB) rflags_ |= eflags::RF;
    if (DeliverEvent(first.vector, EventKind::kFault, first.has_error, first.error)) return true;
    const Fault second = fault_;
    if (first.vector == kDF) return false;
    const bool to_double =
        (Contributory(first.vector) && Contributory(second.vector)) ||
        (first.vector == kPF && (second.vector == kPF || Contributory(second.vector)));
    first = to_double ? Fault{true, kDF, true, 0} : second;
  }
}

// Whatever else may have changed, DeliverFault() does once more.
bool Cpu::TryDeliverFault() {
  const Fault first = std::exchange(fault_, {});
  const uint64_t cr2 = cr2_;
  pending_debug_ = 0;
  if (first.vector != kDB) rflags_ |= eflags::RF;
  if (DeliverEvent(first.vector, EventKind::kFault, first.has_error, first.error)) return true;
  fault_ = first;
  cr2_ = cr2;
  return false;
}

bool Cpu::DeliverEvent(uint8_t vector, EventKind kind, bool has_error, uint32_t error) {
  halted_ = false;
  const uint64_t saved_rip = r[kRip];
  bool done;
  if (RealMode())
    done = DeliverReal(vector);
  else if (LongMode())
    done = DeliverLong(vector, kind, has_error, error);
  else
    done = DeliverProtected(vector, kind, has_error, error);
  if (!done) {
    if (!fault_.in_new_task) r[kRip] = saved_rip;
    if (fault_.has_error && !IsSoftware(kind) && fault_.vector != kPF && fault_.vector != kDF) {
      fault_.error |= kExternalEvent;
    }
  }
  if (vector == kDB && !IsSoftware(kind)) debug_.SetDr7(debug_.dr7() & ~dr7::GD);
  step_trap_ = false;  // TF was cleared with the transfer
  sti_shadow_ = mov_ss_shadow_ = false;
  return done;
}

bool Cpu::DeliverReal(uint8_t vector) {
  if (vector * 4u + 3 > idtr_.limit) return Raise(vector == kDF ? kDF : kGP, 0);
  uint32_t target;
  if (!LoadSystem(idtr_.base + vector * 4u, target)) return false;
  const uint64_t old_sp = r[4];
  if (!Push(Rflags() & 0xffff, 2) || !Push(seg_[1].selector, 2) || !Push(r[kRip], 2)) {
    r[4] = old_sp;
    return false;
  }
  rflags_ &= ~(eflags::IF | eflags::TF | eflags::AC | eflags::RF);
  LoadRealSegment(vmm::Seg::CS, static_cast<uint16_t>(target >> 16));
  r[kRip] = target & 0xffff;
  return true;
}

// Gate, code segment and privilege checks shared by protected and long mode. [SDM 3A] 6.12
bool Cpu::ResolveInterruptGate(uint8_t vector, EventKind kind, InterruptGate& gate) {
  const unsigned entry_size = LongMode() ? 16 : 8;
  const uint32_t error = vector * 8u + 2;
  uint64_t low, high = 0;
  if (vector * entry_size + entry_size - 1 > idtr_.limit) return Raise(kGP, error);
  if (!LoadSystem(idtr_.base + vector * entry_size, low)) return false;
  if (LongMode() && !LoadSystem(idtr_.base + vector * entry_size + 8, high)) return false;
  const vmm::SegmentState state = ParseDescriptor(0, low);
  const unsigned type = (state.s() ? 0x10 : 0) | state.type();
  const bool wide = type == kInterruptGate32 || type == kTrapGate32;
  const bool narrow = type == kInterruptGate16 || type == kTrapGate16;
  if (!wide && !(narrow && !LongMode()) && !(type == kTaskGate && !LongMode()))
    return Raise(kGP, error);
  if (IsSoftware(kind) && state.dpl() < cpl_) return Raise(kGP, error);
  if (!state.present()) return Raise(kNP, error);
  if (type == kTaskGate) {
    gate.task = true;
    gate.cs.selector = static_cast<uint16_t>(low >> 16);
    return true;
  }
  gate.interrupt = type == kInterruptGate16 || type == kInterruptGate32;
  gate.bytes = LongMode() ? 8 : wide ? 4 : 2;
  gate.ist = LongMode() ? (low >> 32) & 7 : 0;
  gate.offset = (low & 0xffff) | (wide ? (low >> 32) & 0xffff0000 : 0) | (high << 32);
  const uint16_t selector = static_cast<uint16_t>(low >> 16);
  if ((selector & 0xfffc) == 0) return Raise(kGP, 0);
  if (!FetchDescriptor(selector, gate.cs_low, nullptr, kGP)) return false;
  gate.cs = ParseDescriptor(selector, gate.cs_low);
  if (!gate.cs.s() || !(gate.cs.type() & 8) || gate.cs.dpl() > cpl_)
    return Raise(kGP, selector & 0xfffc);
  if (LongMode() && (!gate.cs.l() || gate.cs.db())) return Raise(kGP, selector & 0xfffc);
  if (!gate.cs.present()) return Raise(kNP, selector & 0xfffc);
  gate.cpl = (gate.cs.type() & 4) ? cpl_ : gate.cs.dpl();
  if (V86() && gate.cpl != 0) return Raise(kGP, selector & 0xfffc);
  return true;
}

void Cpu::EnterHandler(const InterruptGate& gate) {
  rflags_ &=
      ~(eflags::TF | eflags::NT | eflags::RF | eflags::VM | (gate.interrupt ? eflags::IF : 0));
  vmm::SegmentState cs = gate.cs;
  cs.selector = static_cast<uint16_t>((cs.selector & 0xfffc) | gate.cpl);
  cs.access |= 1;
  cpl_ = gate.cpl;
  SetSegment(vmm::Seg::CS, cs);
  r[kRip] = gate.offset;
}

bool Cpu::DeliverLong(uint8_t vector, EventKind kind, bool has_error, uint32_t error) {
  InterruptGate gate;
  if (!ResolveInterruptGate(vector, kind, gate)) return false;
  vmm::SegmentState ss = seg_[2];
  uint64_t sp = r[4];
  const bool new_stack = gate.cpl != cpl_ || gate.ist;
  if (new_stack) {
    vmm::SegmentState inner;
    if (!InnerStack(gate.cpl, gate.ist, inner, sp)) return false;
    if (gate.cpl != cpl_) ss = inner;
  }
  StackFrame stack{*this, ss, sp & ~15ull, ~0ull, 8, 0, ViewOf(gate.cpl)};
  if (!Canonical(gate.offset)) return Raise(kGP, 0);
  if (!stack.Push(seg_[2].selector) || !stack.Push(r[4]) || !stack.Push(Rflags()) ||
      !stack.Push(seg_[1].selector) || !stack.Push(r[kRip]) || (has_error && !stack.Push(error)) ||
      !SetAccessed(gate.cs.selector, gate.cs_low)) {
    return false;
  }
  if (gate.cpl != cpl_) SetSegment(vmm::Seg::SS, ss);
  EnterHandler(gate);
  r[4] = stack.sp;
  return true;
}

bool Cpu::DeliverProtected(uint8_t vector, EventKind kind, bool has_error, uint32_t error) {
  const bool from_v86 = V86();
  if (from_v86 && kind == EventKind::kIntN) {
    bool redirected;
    if (!RedirectInterrupt(vector, &redirected)) return false;
    if (redirected) return true;
  }
  InterruptGate gate;
  if (!ResolveInterruptGate(vector, kind, gate)) return false;
  if (gate.task) return SwitchTask(gate.cs.selector, TaskSwitch::kEvent, has_error, error);
  vmm::SegmentState ss = seg_[2];
  uint64_t sp = r[4];
  const bool inward = gate.cpl != cpl_;
  if (inward && !InnerStack(gate.cpl, 0, ss, sp)) return false;
  StackFrame stack{*this,
                   ss,
                   sp,
                   ss.db() ? 0xffffffffu : 0xffffu,
                   gate.bytes,
                   static_cast<uint16_t>(inward ? ss.selector & 0xfffc : 0),
                   ViewOf(gate.cpl)};
  if (!stack.HasRoom(3 + (inward ? 2 : 0) + (from_v86 ? 4 : 0) + has_error)) return false;
  if (gate.offset > gate.cs.limit) return Raise(kGP, 0);
  if (from_v86) {
    for (unsigned i : {5u, 4u, 3u, 0u}) {  // GS, FS, DS, ES
      if (!stack.Push(seg_[i].selector)) return false;
    }
  }
  if (inward && (!stack.Push(seg_[2].selector) || !stack.Push(r[4]))) return false;
  if (!stack.Push(Rflags()) || !stack.Push(seg_[1].selector) || !stack.Push(r[kRip]) ||
      (has_error && !stack.Push(error)) || !SetAccessed(gate.cs.selector, gate.cs_low)) {
    return false;
  }
  if (inward) {
    cpl_ = gate.cpl;
    rflags_ &= ~eflags::VM;
    SetSegment(vmm::Seg::SS, ss);
  }
  EnterHandler(gate);
  SetStackPointer(stack.sp);
  if (from_v86) {
    vmm::SegmentState null;
    null.access = vmm::SegmentState::kUnusable;
    for (vmm::Seg segment : {vmm::Seg::ES, vmm::Seg::DS, vmm::Seg::FS, vmm::Seg::GS}) {
      SetSegment(segment, null);
    }
  }
  return true;
}

}  // namespace bt
