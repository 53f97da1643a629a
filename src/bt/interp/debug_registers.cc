#include "bt/interp/debug_registers.h"

#include "bt/interp/cpu.h"

namespace bt {

void DebugRegisters::Load(const std::array<uint64_t, 4>& addresses, uint64_t dr6, uint64_t dr7,
                          bool debugging_extensions) {
  address_ = addresses;
  extensions_ = debugging_extensions;
  SetDr6(dr6);
  SetDr7(dr7);
}

void DebugRegisters::SetAddress(unsigned index, uint64_t value) {
  address_[index] = value;
  Update();
}

void DebugRegisters::SetDr7(uint64_t value) {
  dr7_ = (value & dr7::WRITABLE) | dr7::FIXED;
  Update();
}

void DebugRegisters::SetDebuggingExtensions(bool on) {
  extensions_ = on;
  Update();
}

// Ranges from the length fields: 1, 2, 8, 4 bytes, the address aligned to them. [SDM 3B] 17.2.4
void DebugRegisters::Update() {
  code_ = data_ = io_ = false;
  for (unsigned i = 0; i < 4; ++i) {
    constexpr uint64_t kLength[] = {1, 2, 8, 4};
    Breakpoint& breakpoint = breakpoint_[i];
    breakpoint = {};
    if (!(dr7_ >> (2 * i) & 3)) continue;  // neither L nor G
    switch (dr7_ >> (16 + 4 * i) & 3) {
      case 0:
        breakpoint.kind = Kind::kCode;
        break;
      case 1:
        breakpoint.kind = Kind::kWrite;
        break;
      case 2:  // undefined without CR4.DE; it matches nothing here
        breakpoint.kind = extensions_ ? Kind::kIo : Kind::kOff;
        break;
      case 3:
        breakpoint.kind = Kind::kAccess;
        break;
    }
    const uint64_t length = breakpoint.kind == Kind::kCode ? 1 : kLength[dr7_ >> (18 + 4 * i) & 3];
    breakpoint.first = address_[i] & ~(length - 1);
    breakpoint.last = breakpoint.first + length - 1;
    code_ |= breakpoint.kind == Kind::kCode;
    data_ |= breakpoint.kind == Kind::kWrite || breakpoint.kind == Kind::kAccess;
    io_ |= breakpoint.kind == Kind::kIo;
  }
}

template <class F>
uint64_t DebugRegisters::Hits(uint64_t first, uint64_t last, F&& of_kind) const {
  uint64_t hits = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const Breakpoint& at = breakpoint_[i];
    if (of_kind(at.kind) && at.first <= last && first <= at.last) hits |= dr6::B0 << i;
  }
  return hits;
}

uint64_t DebugRegisters::CodeHits(uint64_t linear) const {
  return Hits(linear, linear, [](Kind kind) { return kind == Kind::kCode; });
}

uint64_t DebugRegisters::DataHits(uint64_t linear, unsigned size, bool write) const {
  return Hits(linear, linear + size - 1, [write](Kind kind) {
    return kind == Kind::kAccess || (write && kind == Kind::kWrite);
  });
}

uint64_t DebugRegisters::IoHits(uint16_t port, unsigned size) const {
  return Hits(port, port + size - 1u, [](Kind kind) { return kind == Kind::kIo; });
}

bool DebugRegisters::WatchesPage(uint64_t page, bool write) const {
  return data_ && DataHits(page, vmm::kPageSize, write);
}

// ---- The processor's side

// After anything that breakpoints depend on has changed. Pages with watched data leave the TLB, so
// that every access to them takes the slow path, which looks.
void Cpu::UpdateBreakpoints(bool watched_before) {
  careful_ &= ~(kBreakpoints | kDebugger);
  if (debug_.any()) careful_ |= kBreakpoints;
  if (debugger_.active()) careful_ |= kDebugger;
  if (watched_before || debug_.data()) FlushTlb();
}

// CR4.DE makes DR4 and DR5 unknown; else they are DR6 and DR7. [SDM 3B] 17.2.2
bool Cpu::DebugRegisterUsable(unsigned index) {
  if (cpl_ != 0) return Raise(kGP, 0);
  if ((index == 4 || index == 5) && (cr4_ & cr4::DE)) return Raise(kUD);
  if (!debug_.general_detect()) return true;
  rflags_ |= eflags::RF;  // a fault other than an instruction breakpoint
  return RaiseDebugFault(dr6::BD);
}

bool Cpu::ReadDebugRegister(unsigned index, uint64_t& value) {
  if (!DebugRegisterUsable(index)) return false;
  if (index < 4)
    value = debug_.address(index);
  else
    value = index == 4 || index == 6 ? debug_.dr6() : debug_.dr7();
  return true;
}

bool Cpu::WriteDebugRegister(unsigned index, uint64_t value) {
  if (!DebugRegisterUsable(index)) return false;
  if (index >= 4 && (value >> 32)) return Raise(kGP, 0);
  const bool watched = debug_.data();
  if (index < 4)
    debug_.SetAddress(index, value);
  else if (index == 4 || index == 6)
    debug_.SetDr6(value);
  else
    debug_.SetDr7(value);
  UpdateBreakpoints(watched);
  return true;
}

bool Cpu::RaiseDebugFault(uint64_t dr6_bits) {
  debug_.Report(dr6_bits);
  return Raise(kDB);
}

void Cpu::PostDebugTrap(uint64_t dr6_bits) {
  pending_debug_ |= dr6_bits;
  recheck_ |= dr6_bits != 0;
}

void Cpu::MergeDebugTraps() {
  if (const uint64_t breakpoints = pending_debug_ & dr6::B) debug_.Report(breakpoints);
  pending_debug_ = 0;
}

// Traps of the instruction that has ended. [SDM 3B] 17.3
void Cpu::DeliverDebugTrap() {
  debug_.Report(pending_debug_);
  pending_debug_ = 0;
  last_block_ = nullptr;
  dead_halt_told_ = false;
  DeliverEvent(kDB, EventKind::kTrap, false, 0);
}

// An instruction is done, or came to a fault that is delivered before the debugger hears of it.
void Cpu::EndDebuggerStep() {
  if (!(careful_ & kDebugger)) return;
  if (fault_.active) debugger_.OnFault();
  debugger_.OnInstruction(!fault_.active && (rflags_ & eflags::RF));
  if (debugger_.steps()) debugger_.OnStepEnd();
  recheck_ |= debugger_.stop_due();
}

void Cpu::SetDebugStep(vmm::DebugStep step) {
  debugger_.SetStep(step);
  UpdateBreakpoints(false);
}

void Cpu::OnDebugPointsChanged() {
  FlushTlb();
  UpdateBreakpoints(false);
}

// What Run() does when something may end an instruction early or make it special: EFLAGS.TF or RF,
// the shadow of STI or MOV SS, breakpoints, a debugger, counted time, the end of the code segment.
void Cpu::RunCarefully() {
  const auto linear = [this] { return In64() ? r[kRip] : (seg_base_[1] + r[kRip]) & 0xffffffff; };
  const auto code_hits = [&] { return debug_.CodeHits(linear()); };
  // What MOV SS holds back comes first. [SDM 3A] 6.8.3
  if ((careful_ & kDebugger) && !pending_debug_ && !debugger_.MayBegin(linear())) {
    recheck_ = true;
    return;
  }
  // Before the instruction is fetched, which may fault. The shadow of MOV SS hides breakpoints on
  // the next instruction as RF does. [SDM 3B] 17.3.1.1
  after_mov_ss_ = mov_ss_shadow_;
  if (debug_.code() && !(rflags_ & eflags::RF) && !after_mov_ss_) {
    if (const uint64_t hits = code_hits()) {
      RaiseDebugFault(hits);
      return;
    }
  }
  Block* block = NextBlock();
  if (block && !EnsureOps(*block)) block = nullptr;
  if (!block) {
    if (fault_.active) return EndDebuggerStep();
    debugger_.OnInstruction(true);  // nothing has begun: it is to be looked up once more
    return;
  }
  step_trap_ = rflags_ & eflags::TF;
  const bool single = step_trap_ || (careful_ & kOneInstruction) || debugger_.steps();
  rflags_ &= ~eflags::RF;
  careful_ &= ~(kOneInstruction | kNearLimit);
  sti_shadow_ = mov_ss_shadow_ = false;
  last_block_ = single ? nullptr : block;
  for (const Op* op = block->ops; op->length != 0; ++op) {  // the last one only falls through
    r[kRip] += op->length;
    if (!In64() && r[kRip] - 1 > seg_[1].limit) {
      Raise(kGP, 0);
      Rewind(*op);
      break;
    }
    const bool more = op->fn(*this, *op);
    if (fault_.active) {
      Rewind(*op);
      break;
    }
    if (!incomplete_) ++instructions_;
    incomplete_ = false;
    if (!more || single || debug_trap_pending()) break;
    if (turn_end_ != ~0ull && CountedStop()) break;
    if (debug_.code() && code_hits()) break;
    if (debugger_.points().CodeAt(linear())) break;
  }
  after_mov_ss_ = false;
  EndDebuggerStep();
  if (fault_.active) {
    step_trap_ = false;
    return;
  }
  if (step_trap_) PostDebugTrap(dr6::BS);  // [SDM 3B] 17.3.1.4
  step_trap_ = false;
  recheck_ |= single | (instructions_ >= turn_end_);
}

}  // namespace bt
