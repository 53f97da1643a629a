// Interrupts in virtual-8086 mode and the virtual interrupt flag. [SDM 3B] 20.3, 20.4
#include "bt/interp/cpu.h"

namespace bt {

// V86 mode below IOPL 3 with CR4.VME, or CPL 3 below IOPL 3 with CR4.PVI: IF is VIF.
bool Cpu::VirtualIf() const {
  if (RealMode() || Iopl() == 3 || cpl_ != 3) return false;
  return cr4_ & (V86() ? cr4::VME : cr4::PVI);
}

bool Cpu::ClearIf() {
  if (VirtualIf()) {
    rflags_ &= ~eflags::VIF;
    return true;
  }
  if (cpl_ > Iopl()) return Raise(kGP, 0);  // V86 mode is CPL 3
  rflags_ &= ~eflags::IF;
  return true;
}

bool Cpu::SetIf() {
  if (VirtualIf()) {
    if (rflags_ & eflags::VIP) return Raise(kGP, 0);
    rflags_ |= eflags::VIF;
    return true;
  }
  if (cpl_ > Iopl()) return Raise(kGP, 0);
  if (!(rflags_ & eflags::IF)) {
    rflags_ |= eflags::IF;
    InhibitInterrupts(false);
  }
  return true;
}

// PUSHF, POPF and IRET below IOPL 3: only with VME, and only with 16-bit operands.
bool Cpu::VirtualFlagsAllowed(unsigned bytes) {
  return !V86() || Iopl() == 3 || ((cr4_ & cr4::VME) && bytes == 2) || Raise(kGP, 0);
}

// FLAGS as an 8086 program below IOPL 3 sees them: IF is VIF, IOPL is 3.
uint64_t Cpu::VirtualFlags() const {
  const uint64_t flags = (Rflags() & ~eflags::IF) | eflags::IOPL;
  return rflags_ & eflags::VIF ? flags | eflags::IF : flags;
}

// And as it sets them. The caller puts the stack pointer back on a fault.
bool Cpu::SetVirtualFlags(uint64_t value) {
  if ((value & eflags::TF) || ((value & eflags::IF) && (rflags_ & eflags::VIP))) {
    return Raise(kGP, 0);
  }
  constexpr uint64_t kMask = kArithmeticFlags | eflags::DF | eflags::NT | eflags::TF;
  const uint64_t kept = Rflags() & ~(kMask | eflags::VIF | eflags::RF);
  SetRflags(kept | (value & kMask) | (value & eflags::IF ? eflags::VIF : 0));
  return true;
}

// INT n in V86 mode: the 8086 program's own handler if the TSS's bitmap has a 0 for it. Else the
// IDT, which takes IOPL 3. [SDM 3B] table 20-2
bool Cpu::RedirectInterrupt(uint8_t vector, bool* redirected) {
  *redirected = false;
  if (cr4_ & cr4::VME) {
    if (!(tr_.type() & 8) || tr_.unusable() || tr_.limit < 103) return Raise(kGP, 0);
    uint16_t map_base;
    uint8_t bits;
    if (!LoadSystem(tr_.base + 102, map_base)) return false;
    const uint32_t at = map_base - 32u + vector / 8u;  // the 32 bytes below the I/O bitmap
    if (at > tr_.limit) return Raise(kGP, 0);
    if (!LoadSystem(tr_.base + at, bits)) return false;
    *redirected = !(bits >> (vector % 8) & 1);
  }
  if (!*redirected) return Iopl() == 3 || Raise(kGP, 0);

  const bool own_if = Iopl() == 3;
  uint32_t target;
  if (!LoadSystem(vector * 4u, target)) return false;
  const uint64_t old_sp = r[4];
  if (!Push(own_if ? Rflags() : VirtualFlags(), 2) || !Push(seg_[1].selector, 2) ||
      !Push(r[kRip], 2)) {
    r[4] = old_sp;
    return false;
  }
  rflags_ &= ~(eflags::TF | eflags::NT | eflags::RF | (own_if ? eflags::IF : eflags::VIF));
  LoadRealSegment(vmm::Seg::CS, static_cast<uint16_t>(target >> 16));
  r[kRip] = target & 0xffff;
  return true;
}

// IRET to an 8086 program, from CPL 0. [SDM 2A] IRET, RETURN-TO-VIRTUAL-8086-MODE
bool Cpu::ReturnToV86(uint64_t offset, uint16_t cs, uint64_t flags) {
  uint64_t frame[6];  // ESP, SS, ES, DS, FS, GS
  for (unsigned i = 0; i < 6; ++i) {
    if (!PeekStack(12 + 4 * i, 4, frame[i])) return false;
  }
  if (offset > 0xffff) return Raise(kGP, 0);
  cpl_ = 3;
  SetRflags(flags);
  LoadRealSegment(vmm::Seg::CS, cs);
  LoadRealSegment(vmm::Seg::SS, static_cast<uint16_t>(frame[1]));
  LoadRealSegment(vmm::Seg::ES, static_cast<uint16_t>(frame[2]));
  LoadRealSegment(vmm::Seg::DS, static_cast<uint16_t>(frame[3]));
  LoadRealSegment(vmm::Seg::FS, static_cast<uint16_t>(frame[4]));
  LoadRealSegment(vmm::Seg::GS, static_cast<uint16_t>(frame[5]));
  r[4] = frame[0];
  r[kRip] = offset;
  return false;
}

// IRET of an 8086 program to itself.
bool Cpu::ReturnInV86(unsigned bytes, uint64_t offset, uint16_t cs, uint64_t flags) {
  if (!VirtualFlagsAllowed(bytes)) return false;
  if (offset > 0xffff) return Raise(kGP, 0);
  if (Iopl() < 3) {
    if (!SetVirtualFlags(flags)) return false;
  } else {
    uint64_t mask = kArithmeticFlags | eflags::TF | eflags::IF | eflags::DF | eflags::NT |
                    eflags::RF | eflags::AC | eflags::ID;
    if (bytes == 2) mask &= 0xffff;
    SetRflags((Rflags() & ~mask) | (flags & mask));
  }
  r[4] = StackOffset(3 * bytes);
  LoadRealSegment(vmm::Seg::CS, cs);
  r[kRip] = offset;
  return false;
}

}  // namespace bt
