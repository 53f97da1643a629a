// Near and far JMP, CALL, RET; JCXZ and the LOOPs. [SDM 2A]
#include "bt/interp/families.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

// A jump out of the segment, or to an address that is not canonical, faults before it is made.
template <class T>
bool InLimit(Cpu& cpu, T target) {
  if constexpr (sizeof(T) == 8) {
    if (Canonical(target)) return true;
  } else {
    if (target <= cpu.seg_[1].limit) return true;
  }
  return cpu.Raise(kGP, 0);
}

template <class T>
bool JumpRelative(Cpu& cpu, const Op& op) {
  const T target = static_cast<T>(cpu.r[kRip] + op.imm);
  if (sizeof(T) < 8 && !InLimit(cpu, target)) return false;
  cpu.r[kRip] = target;
  return false;
}

template <class T, bool kMem>
bool JumpIndirect(Cpu& cpu, const Op& op) {
  T target;
  if constexpr (kMem) {
    if (!cpu.LoadOperand(op, target)) return false;
  } else {
    target = cpu.Reg<T>(op.dst);
  }
  if (!InLimit(cpu, target)) return false;
  cpu.r[kRip] = target;
  return false;
}

template <class T>
bool PushReturn(Cpu& cpu) {
  if (cpu.In64() && sizeof(T) == 8) {
    const uint64_t sp = cpu.r[4] - 8;
    if (!cpu.Store<uint64_t>(sp, cpu.r[kRip], true)) return false;
    cpu.r[4] = sp;
    return true;
  }
  return cpu.Push(cpu.r[kRip], sizeof(T));
}

template <class T>
bool CallRelative(Cpu& cpu, const Op& op) {
  const T target = static_cast<T>(cpu.r[kRip] + op.imm);
  if (!InLimit(cpu, target) || !PushReturn<T>(cpu)) return false;
  cpu.r[kRip] = target;
  return false;
}

template <class T, bool kMem>
bool CallIndirect(Cpu& cpu, const Op& op) {
  T target;
  if constexpr (kMem) {
    if (!cpu.LoadOperand(op, target)) return false;
  } else {
    target = cpu.Reg<T>(op.dst);
  }
  if (!InLimit(cpu, target) || !PushReturn<T>(cpu)) return false;
  cpu.r[kRip] = target;
  return false;
}

template <class T>
bool Return(Cpu& cpu, const Op& op) {
  if (sizeof(T) == 8) {
    uint64_t target;
    if (!cpu.Load(cpu.r[4], target, true) || !InLimit(cpu, target)) return false;
    cpu.r[4] += 8 + op.imm;
    cpu.r[kRip] = target;
    return false;
  }
  const uint64_t old_sp = cpu.r[4];
  uint64_t target;
  if (!cpu.Pop(target, sizeof(T))) return false;
  if (!InLimit(cpu, static_cast<T>(target))) {
    cpu.r[4] = old_sp;
    return false;
  }
  cpu.r[4] = cpu.StackOffset(static_cast<int64_t>(op.imm));
  cpu.r[kRip] = target;
  return false;
}

// aux: operand size in bits.
bool JumpFar(Cpu& cpu, const Op& op) {
  return cpu.FarJump(static_cast<uint16_t>(op.imm >> 32), static_cast<uint32_t>(op.imm), op.aux);
}
bool CallFar(Cpu& cpu, const Op& op) {
  return cpu.FarCall(static_cast<uint16_t>(op.imm >> 32), static_cast<uint32_t>(op.imm), op.aux);
}

template <bool kCall>
bool FarIndirect(Cpu& cpu, const Op& op) {
  const unsigned bytes = op.aux / 8;
  uint64_t linear, offset = 0;
  uint16_t selector;
  if (!cpu.Address(op, bytes + 2, Access::kRead, linear)) return false;
  if (!cpu.LoadSlow(linear, &offset, bytes, op.mode & Op::kStack, cpu.view_) ||
      !cpu.Load(linear + bytes, selector, op.mode & Op::kStack)) {
    return false;
  }
  return kCall ? cpu.FarCall(selector, offset, op.aux) : cpu.FarJump(selector, offset, op.aux);
}

bool ReturnFar(Cpu& cpu, const Op& op) {
  return cpu.FarReturn(op.aux, static_cast<unsigned>(op.imm));
}

// JCXZ and LOOP count in CX, ECX or RCX by the address size.
template <class C, class T>
bool JumpIfZero(Cpu& cpu, const Op& op) {
  if (cpu.Reg<C>(1 * 8) == 0) cpu.r[kRip] = static_cast<T>(cpu.r[kRip] + op.imm);
  return false;
}

// kWant: 0 any, 1 ZF set (LOOPE), 2 ZF clear (LOOPNE).
template <class C, class T, int kWant>
bool Loop(Cpu& cpu, const Op& op) {
  const C count = static_cast<C>(cpu.Reg<C>(1 * 8) - 1);
  cpu.SetReg<C>(1 * 8, count);
  const bool zero = cpu.flags_ & kZeroFlag;
  const bool go = count != 0 && (kWant == 0 || (kWant == 1) == zero);
  if (go) cpu.r[kRip] = static_cast<T>(cpu.r[kRip] + op.imm);
  return false;
}

// Calls `choose` with the counter's and the instruction pointer's type.
template <class F>
Handler ByCounter(const Insn& insn, F&& choose) {
  return BySize(insn.address_bits, [&](auto counter) -> Handler {
    if (insn.code_size == CodeSize::k64) return choose(counter, uint64_t{});
    if (insn.operand_bits == 16) return choose(counter, uint16_t{});
    return choose(counter, uint32_t{});
  });
}

enum class Form : uint8_t { kRelative, kReg, kMem, kFarPointer, kFarMem };

Form FormOf(const Insn& insn) {
  const Operand& operand = insn.operand[0];
  if (operand.kind == OperandKind::kFar) return Form::kFarPointer;
  if (IsImm(operand)) return Form::kRelative;
  if (IsReg(operand)) return Form::kReg;
  const unsigned reg_field = (insn.bytes[insn.modrm_offset] >> 3) & 7;  // FF /3 and /5 are far
  return reg_field == 3 || reg_field == 5 ? Form::kFarMem : Form::kMem;
}

template <bool kCall>
Handler ChooseNear(const Insn& insn, Form form) {
  const unsigned bits = insn.code_size == CodeSize::k64 ? 64 : insn.operand_bits;
  return BySize(bits, [form](auto z) -> Handler {
    using T = decltype(z);
    switch (form) {
      case Form::kRelative:
        return kCall ? &CallRelative<T> : &JumpRelative<T>;
      case Form::kReg:
        return kCall ? &CallIndirect<T, false> : &JumpIndirect<T, false>;
      case Form::kMem:
        return kCall ? &CallIndirect<T, true> : &JumpIndirect<T, true>;
      default:
        return nullptr;
    }
  });
}

bool SelectJumpOrCall(const Insn& insn, Op& op, bool call) {
  const Form form = FormOf(insn);
  op.aux = insn.operand_bits;
  if (form == Form::kFarPointer) {
    op.imm = static_cast<uint64_t>(insn.far_selector) << 32 | insn.far_offset;
    return Use(op, call ? &CallFar : &JumpFar);
  }
  if (form == Form::kFarMem) return Use(op, call ? &FarIndirect<true> : &FarIndirect<false>);
  return Use(op, call ? ChooseNear<true>(insn, form) : ChooseNear<false>(insn, form));
}

}  // namespace

bool SelectBranch(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::JMP:
      return SelectJumpOrCall(insn, op, false);
    case Mnemonic::CALL:
      return SelectJumpOrCall(insn, op, true);
    case Mnemonic::RET:
      op.aux = insn.operand_bits;
      if (insn.opcode == 0xca || insn.opcode == 0xcb) return Use(op, &ReturnFar);
      return Use(op, BySize(insn.code_size == CodeSize::k64 ? 64 : insn.operand_bits,
                            [](auto z) -> Handler { return &Return<decltype(z)>; }));
    case Mnemonic::JCXZ:
    case Mnemonic::JECXZ:
    case Mnemonic::JRCXZ:
      return Use(op, ByCounter(insn, [](auto c, auto t) -> Handler {
                   return &JumpIfZero<decltype(c), decltype(t)>;
                 }));
    case Mnemonic::LOOP:
      return Use(op, ByCounter(insn, [](auto c, auto t) -> Handler {
                   return &Loop<decltype(c), decltype(t), 0>;
                 }));
    case Mnemonic::LOOPE:
      return Use(op, ByCounter(insn, [](auto c, auto t) -> Handler {
                   return &Loop<decltype(c), decltype(t), 1>;
                 }));
    case Mnemonic::LOOPNE:
      return Use(op, ByCounter(insn, [](auto c, auto t) -> Handler {
                   return &Loop<decltype(c), decltype(t), 2>;
                 }));
    default:
      return false;
  }
}

}  // namespace bt
