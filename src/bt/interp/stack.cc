// PUSH POP PUSHA POPA PUSHF POPF ENTER LEAVE. [SDM 2B]
#include "bt/interp/families.h"

namespace bt {
namespace {

// aux: operand size in bytes, what the stack pointer moves by.

bool PushReg64(Cpu& cpu, const Op& op) {
  const uint64_t sp = cpu.r[4] - 8;
  if (!cpu.Store<uint64_t>(sp, cpu.Reg<uint64_t>(op.dst), true)) return false;
  cpu.r[4] = sp;
  return true;
}
bool PopReg64(Cpu& cpu, const Op& op) {
  uint64_t value;
  if (!cpu.Load(cpu.r[4], value, true)) return false;
  cpu.r[4] += 8;
  cpu.SetReg<uint64_t>(op.dst, value);  // after the increment: POP RSP gives the value read
  return true;
}
bool PushReg(Cpu& cpu, const Op& op) {
  return cpu.Push(cpu.Reg<uint64_t>(op.dst), op.aux);
}
bool PushImm(Cpu& cpu, const Op& op) {
  return cpu.Push(op.imm, op.aux);
}
bool PushSegment(Cpu& cpu, const Op& op) {
  // With a 32- or 64-bit operand only 16 bits are defined; the rest is zero here.
  return cpu.Push(cpu.seg_[op.dst].selector, op.aux);
}

template <class T>
bool PushMem(Cpu& cpu, const Op& op) {
  T value;
  return cpu.LoadOperand(op, value) && cpu.Push(value, sizeof(T));
}

template <class T>
bool PopReg(Cpu& cpu, const Op& op) {
  uint64_t value;
  if (!cpu.Pop(value, sizeof(T))) return false;
  cpu.SetReg<T>(op.dst, static_cast<T>(value));
  return true;
}

// The destination's address is worked out with the stack pointer already moved.
template <class T>
bool PopMem(Cpu& cpu, const Op& op) {
  const uint64_t old_sp = cpu.r[4];
  uint64_t value;
  if (!cpu.Pop(value, sizeof(T))) return false;
  if (cpu.StoreOperand<T>(op, static_cast<T>(value))) return true;
  cpu.r[4] = old_sp;
  return false;
}

bool PopSegment(Cpu& cpu, const Op& op) {
  const uint64_t old_sp = cpu.r[4];
  uint64_t value;
  if (!cpu.Pop(value, op.aux)) return false;
  const auto segment = static_cast<vmm::Seg>(op.dst);
  if (!cpu.LoadSegment(segment, static_cast<uint16_t>(value))) {
    cpu.r[4] = old_sp;
    return false;
  }
  if (segment == vmm::Seg::SS) cpu.InhibitInterrupts(true);
  return false;
}

bool PushAll(Cpu& cpu, const Op& op) {
  const uint64_t old_sp = cpu.r[4];
  for (unsigned reg = 0; reg < 8; ++reg) {
    if (!cpu.Push(reg == 4 ? old_sp : cpu.r[reg], op.aux)) {
      cpu.r[4] = old_sp;
      return false;
    }
  }
  return true;
}

bool PopAll(Cpu& cpu, const Op& op) {
  const uint64_t old_sp = cpu.r[4];
  uint64_t values[8];
  for (int reg = 7; reg >= 0; --reg) {
    if (!cpu.Pop(values[reg], op.aux)) {
      cpu.r[4] = old_sp;
      return false;
    }
  }
  for (unsigned reg = 0; reg < 8; ++reg) {
    if (reg == 4) continue;
    if (op.aux == 2)
      cpu.SetReg<uint16_t>(static_cast<uint8_t>(reg * 8), static_cast<uint16_t>(values[reg]));
    else
      cpu.SetReg<uint32_t>(static_cast<uint8_t>(reg * 8), static_cast<uint32_t>(values[reg]));
  }
  return true;
}

bool PushFlags(Cpu& cpu, const Op& op) {
  if (!cpu.VirtualFlagsAllowed(op.aux)) return false;
  const bool own = !cpu.V86() || cpu.Iopl() == 3;
  return cpu.Push((own ? cpu.Rflags() : cpu.VirtualFlags()) & ~(eflags::VM | eflags::RF), op.aux);
}

bool PopFlags(Cpu& cpu, const Op& op) {
  if (!cpu.VirtualFlagsAllowed(op.aux)) return false;
  const uint64_t old_sp = cpu.r[4];
  uint64_t value;
  if (!cpu.Pop(value, op.aux)) return false;
  if (cpu.V86() && cpu.Iopl() < 3) {
    if (!cpu.SetVirtualFlags(value)) cpu.r[4] = old_sp;
    return false;
  }
  uint64_t mask = kArithmeticFlags | eflags::TF | eflags::DF | eflags::NT | eflags::AC | eflags::ID;
  if (cpu.cpl_ <= cpu.Iopl()) mask |= eflags::IF;
  if (cpu.cpl_ == 0) mask |= eflags::IOPL;
  if (op.aux == 2) mask &= 0xffff;
  const uint64_t before = cpu.Rflags() & ~eflags::RF;
  cpu.SetRflags((before & ~mask) | (value & mask));
  return false;
}

// imm: allocation | nesting level << 16
bool Enter(Cpu& cpu, const Op& op) {
  const unsigned bytes = op.aux, level = (op.imm >> 16) & 31;
  const uint64_t old_sp = cpu.r[4];
  const auto undo = [&] {
    cpu.r[4] = old_sp;
    return false;
  };
  if (!cpu.Push(cpu.r[5], bytes)) return false;
  const uint64_t frame = cpu.r[4];
  uint64_t bp = cpu.r[5];
  for (unsigned i = 1; i < level; ++i) {
    bp = (bp & ~cpu.sp_mask_) | ((bp - bytes) & cpu.sp_mask_);
    uint64_t linear, value = 0;
    if (!cpu.StackAddress(bp, bytes, Access::kRead, linear) ||
        !cpu.LoadSlow(linear, &value, bytes, true, cpu.view_) || !cpu.Push(value, bytes)) {
      return undo();
    }
  }
  if (level > 0 && !cpu.Push(frame, bytes)) return undo();
  const uint64_t sp = cpu.StackOffset(-static_cast<int64_t>(op.imm & 0xffff));
  uint64_t linear;  // the new top must be writable. [SDM 2A] ENTER
  if (!cpu.StackAddress(sp, bytes, Access::kWrite, linear) ||
      !cpu.Modify<uint16_t>(linear, false, true, [](uint16_t same) { return same; })) {
    return undo();
  }
  if (bytes == 2)
    cpu.SetReg<uint16_t>(5 * 8, static_cast<uint16_t>(frame));
  else if (bytes == 4)
    cpu.SetReg<uint32_t>(5 * 8, static_cast<uint32_t>(frame));
  else
    cpu.r[5] = frame;
  cpu.r[4] = sp;
  return true;
}

bool Leave(Cpu& cpu, const Op& op) {
  const uint64_t old_sp = cpu.r[4];
  cpu.SetStackPointer(cpu.r[5]);
  uint64_t value;
  if (!cpu.Pop(value, op.aux)) {
    cpu.r[4] = old_sp;
    return false;
  }
  if (op.aux == 2)
    cpu.SetReg<uint16_t>(5 * 8, static_cast<uint16_t>(value));
  else if (op.aux == 4)
    cpu.SetReg<uint32_t>(5 * 8, static_cast<uint32_t>(value));
  else
    cpu.r[5] = value;
  return true;
}

bool SelectPush(const Insn& insn, Op& op) {
  const Operand& operand = insn.operand[0];
  if (IsImm(operand)) return Use(op, &PushImm);
  if (IsReg(operand) && operand.reg_class == RegClass::kSegment) {
    op.dst = operand.reg;
    return Use(op, &PushSegment);
  }
  if (IsReg(operand)) return Use(op, op.aux == 8 ? &PushReg64 : &PushReg);
  return Use(op, op.aux == 8   ? &PushMem<uint64_t>
                 : op.aux == 4 ? &PushMem<uint32_t>
                               : &PushMem<uint16_t>);
}

bool SelectPop(const Insn& insn, Op& op) {
  const Operand& operand = insn.operand[0];
  if (IsReg(operand) && operand.reg_class == RegClass::kSegment) {
    op.dst = operand.reg;
    return Use(op, &PopSegment);
  }
  if (IsReg(operand)) {
    return Use(op, op.aux == 8 ? &PopReg64 : op.aux == 4 ? &PopReg<uint32_t> : &PopReg<uint16_t>);
  }
  return Use(op, op.aux == 8   ? &PopMem<uint64_t>
                 : op.aux == 4 ? &PopMem<uint32_t>
                               : &PopMem<uint16_t>);
}

}  // namespace

bool SelectStack(const Insn& insn, Op& op) {
  // In 64-bit mode stack instructions are 64 bits wide, or 16 with a 66 prefix. [SDM 1] 6.2.2
  op.aux = insn.operand_bits / 8;
  if (insn.code_size == CodeSize::k64 && op.aux == 4) op.aux = 8;
  switch (insn.mnemonic) {
    case Mnemonic::PUSH:
      return SelectPush(insn, op);
    case Mnemonic::POP:
      return SelectPop(insn, op);
    case Mnemonic::PUSHA:
    case Mnemonic::PUSHAD:
      return Use(op, &PushAll);
    case Mnemonic::POPA:
    case Mnemonic::POPAD:
      return Use(op, &PopAll);
    case Mnemonic::PUSHF:
    case Mnemonic::PUSHFD:
    case Mnemonic::PUSHFQ:
      return Use(op, &PushFlags);
    case Mnemonic::POPF:
    case Mnemonic::POPFD:
    case Mnemonic::POPFQ:
      return Use(op, &PopFlags);
    case Mnemonic::ENTER:
      op.imm = (insn.operand[0].imm & 0xffff) | (insn.operand[1].imm & 0xff) << 16;
      return Use(op, &Enter);
    case Mnemonic::LEAVE:
      return Use(op, &Leave);
    default:
      return false;
  }
}

}  // namespace bt
