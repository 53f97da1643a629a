// ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD. [SDM 2B]
#include "bt/interp/families.h"
#include "bt/interp/host_ops.h"

namespace bt {
namespace {

template <class T>
constexpr uint8_t CountMask() {
  return sizeof(T) == 8 ? 0x3f : 0x1f;
}

#define VMM_SHIFT_OPERATION(name, function, rotates) \
  struct name {                                      \
    static constexpr bool kRotates = rotates;        \
    template <class T>                               \
    static T Do(T a, uint8_t count, Flags& flags) {  \
      return host::function(a, count, flags);        \
    }                                                \
  };
VMM_SHIFT_OPERATION(OpRol, Rol, true)
VMM_SHIFT_OPERATION(OpRor, Ror, true)
VMM_SHIFT_OPERATION(OpRcl, Rcl, true)
VMM_SHIFT_OPERATION(OpRcr, Rcr, true)
VMM_SHIFT_OPERATION(OpShl, Shl, false)
VMM_SHIFT_OPERATION(OpShr, Shr, false)
VMM_SHIFT_OPERATION(OpSar, Sar, false)
#undef VMM_SHIFT_OPERATION

// A masked count of zero changes no flag; rotates change CF and OF only. [SDM 2B] RCL, SAL
template <class Operation, class T>
T Apply(T a, uint8_t count, Flags& flags) {
  if (count == 0) return a;
  const Flags before = flags;
  const T result = Operation::template Do<T>(a, count, flags);
  if constexpr (Operation::kRotates) {
    constexpr Flags kRotated = kCarry | kOverflow;
    flags = static_cast<Flags>((before & ~kRotated) | (flags & kRotated));
  }
  return result;
}

template <class Operation, class T, Source kCount>
uint8_t Count(Cpu& cpu, const Op& op) {
  const uint8_t count =
      kCount == Source::kImm ? static_cast<uint8_t>(op.imm) : cpu.Reg<uint8_t>(1 * 8);
  return count & CountMask<T>();
}

template <class Operation>
struct InReg {
  template <class T, Source kCount>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      const uint8_t count = Count<Operation, T, kCount>(cpu, op);
      cpu.SetReg<T>(op.dst, Apply<Operation, T>(cpu.Reg<T>(op.dst), count, cpu.flags_));
      return true;
    }
  };
};

template <class Operation>
struct InMem {
  template <class T, Source kCount>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      const uint8_t count = Count<Operation, T, kCount>(cpu, op);
      uint64_t linear;
      return cpu.Address(op, sizeof(T), Access::kWrite, linear) &&
             cpu.Modify<T>(linear, false, op.mode & Op::kStack,
                           [&](T a) { return Apply<Operation, T>(a, count, cpu.flags_); });
    }
  };
};

template <class Operation>
Handler Choose(const Insn& insn) {
  const Source count = IsImm(insn.operand[1]) ? Source::kImm : Source::kReg;
  const unsigned bits = insn.operand[0].bits;
  if (IsMem(insn.operand[0]))
    return BySizeAndSource<InMem<Operation>::template Handler>(bits, count);
  return BySizeAndSource<InReg<Operation>::template Handler>(bits, count);
}

template <class T, bool kLeft>
T DoubleShift(T a, T b, uint8_t count, Flags& flags) {
  if (count == 0) return a;
  return kLeft ? host::Shld(a, b, count, flags) : host::Shrd(a, b, count, flags);
}

template <class T, bool kLeft, bool kMem, bool kImmCount>
bool DoubleShiftHandler(Cpu& cpu, const Op& op) {
  const uint8_t raw = kImmCount ? static_cast<uint8_t>(op.imm) : cpu.Reg<uint8_t>(1 * 8);
  const uint8_t count = raw & CountMask<T>();
  const T b = cpu.Reg<T>(op.src);
  if constexpr (kMem) {
    uint64_t linear;
    return cpu.Address(op, sizeof(T), Access::kWrite, linear) &&
           cpu.Modify<T>(linear, false, op.mode & Op::kStack,
                         [&](T a) { return DoubleShift<T, kLeft>(a, b, count, cpu.flags_); });
  } else {
    cpu.SetReg<T>(op.dst, DoubleShift<T, kLeft>(cpu.Reg<T>(op.dst), b, count, cpu.flags_));
    return true;
  }
}

template <bool kLeft>
Handler ChooseDouble(const Insn& insn) {
  const bool mem = IsMem(insn.operand[0]), imm = IsImm(insn.operand[2]);
  return BySize(insn.operand[0].bits, [mem, imm](auto zero) -> Handler {
    using T = decltype(zero);
    if constexpr (sizeof(T) == 1)
      return nullptr;
    else if (mem)
      return imm ? &DoubleShiftHandler<T, kLeft, true, true>
                 : &DoubleShiftHandler<T, kLeft, true, false>;
    else
      return imm ? &DoubleShiftHandler<T, kLeft, false, true>
                 : &DoubleShiftHandler<T, kLeft, false, false>;
  });
}

}  // namespace

bool SelectShift(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::ROL:
      return Use(op, Choose<OpRol>(insn));
    case Mnemonic::ROR:
      return Use(op, Choose<OpRor>(insn));
    case Mnemonic::RCL:
      return Use(op, Choose<OpRcl>(insn));
    case Mnemonic::RCR:
      return Use(op, Choose<OpRcr>(insn));
    case Mnemonic::SHL:
      return Use(op, Choose<OpShl>(insn));
    case Mnemonic::SHR:
      return Use(op, Choose<OpShr>(insn));
    case Mnemonic::SAR:
      return Use(op, Choose<OpSar>(insn));
    case Mnemonic::SHLD:
      return Use(op, ChooseDouble<true>(insn));
    case Mnemonic::SHRD:
      return Use(op, ChooseDouble<false>(insn));
    default:
      return false;
  }
}

}  // namespace bt
