// Single flags: CLC STC CMC CLD STD CLI STI LAHF SAHF CLAC STAC; and what does nothing: NOP, PAUSE,
// prefetches, fences, cache-line write-back.
#include <atomic>

#include "bt/interp/families.h"

namespace bt {
namespace {

template <Flags kClear, Flags kSet, Flags kFlip>
bool ChangeFlags(Cpu& cpu, const Op&) {
  cpu.flags_ = static_cast<Flags>(((cpu.flags_ & ~kClear) | kSet) ^ kFlip);
  return true;
}

template <bool kUp>
bool SetDirection(Cpu& cpu, const Op&) {
  cpu.rflags_ = kUp ? cpu.rflags_ & ~eflags::DF : cpu.rflags_ | eflags::DF;
  return true;
}

bool Cli(Cpu& cpu, const Op&) {
  return cpu.ClearIf();
}

bool Sti(Cpu& cpu, const Op&) {
  return cpu.SetIf() && false;
}

bool Lahf(Cpu& cpu, const Op&) {
  cpu.SetReg<uint8_t>(1, static_cast<uint8_t>((cpu.flags_ >> 8 & 0xd5) | 2));
  return true;
}
bool Sahf(Cpu& cpu, const Op&) {
  cpu.flags_ = static_cast<Flags>((cpu.flags_ & kOverflow) | (cpu.Reg<uint8_t>(1) & 0xd5) << 8);
  return true;
}

template <bool kSet>
bool SetAc(Cpu& cpu, const Op&) {
  if (cpu.cpl_ != 0) return cpu.Raise(kUD);  // whatever CR4.SMAP says. [SDM 2A] CLAC
  cpu.rflags_ = kSet ? cpu.rflags_ | eflags::AC : cpu.rflags_ & ~eflags::AC;
  cpu.UpdateMode();
  return true;
}

bool Nothing(Cpu&, const Op&) {
  return true;
}

// A processor that spins lets others run, and looks at what has come in. [SDM 2B] PAUSE
bool Pause(Cpu& cpu, const Op&) {
  cpu.Spin();
  return false;
}

bool Fence(Cpu&, const Op&) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return true;
}

// CLFLUSH and its kin write a line back, which we have no need to; they fault as a load does.
bool FlushLine(Cpu& cpu, const Op& op) {
  uint8_t byte;
  return cpu.LoadOperand(op, byte);
}

}  // namespace

bool SelectFlag(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::CLC:
      return Use(op, &ChangeFlags<kCarry, 0, 0>);
    case Mnemonic::STC:
      return Use(op, &ChangeFlags<0, kCarry, 0>);
    case Mnemonic::CMC:
      return Use(op, &ChangeFlags<0, 0, kCarry>);
    case Mnemonic::CLD:
      return Use(op, &SetDirection<true>);
    case Mnemonic::STD:
      return Use(op, &SetDirection<false>);
    case Mnemonic::CLI:
      return Use(op, &Cli);
    case Mnemonic::STI:
      return Use(op, &Sti);
    case Mnemonic::LAHF:
      return Use(op, &Lahf);
    case Mnemonic::SAHF:
      return Use(op, &Sahf);
    case Mnemonic::CLAC:
      return Use(op, &SetAc<false>);
    case Mnemonic::STAC:
      return Use(op, &SetAc<true>);
    default:
      return false;
  }
}

bool SelectNop(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::PAUSE:
      return Use(op, &Pause);
    case Mnemonic::MFENCE:
      return Use(op, &Fence);
    case Mnemonic::CLFLUSH:
    case Mnemonic::CLFLUSHOPT:
    case Mnemonic::CLWB:
      return Use(op, &FlushLine);
    default:
      return Use(op, &Nothing);
  }
}

}  // namespace bt
