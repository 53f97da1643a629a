// ADD OR ADC SBB AND SUB XOR CMP TEST; INC DEC NEG NOT. The model of an instruction family: an
// operation as a template, the shapes of its operands as templates around it, one selector.
#include "bt/interp/families.h"
#include "bt/interp/host_ops.h"

namespace bt {
namespace {

// The operations: what is computed, and whether the result is written.
#define VMM_ALU_OPERATION(name, function, writes) \
  struct name {                                   \
    static constexpr bool kWrites = writes;       \
    template <class T>                            \
    static T Do(T a, T b, Flags& flags) {         \
      return host::function(a, b, flags);         \
    }                                             \
  };
VMM_ALU_OPERATION(OpAdd, Add, true)
VMM_ALU_OPERATION(OpOr, Or, true)
VMM_ALU_OPERATION(OpAdc, Adc, true)
VMM_ALU_OPERATION(OpSbb, Sbb, true)
VMM_ALU_OPERATION(OpAnd, And, true)
VMM_ALU_OPERATION(OpSub, Sub, true)
VMM_ALU_OPERATION(OpXor, Xor, true)
VMM_ALU_OPERATION(OpCmp, Sub, false)
VMM_ALU_OPERATION(OpTest, And, false)
#undef VMM_ALU_OPERATION

// Register destination.
template <class Operation>
struct ToReg {
  template <class T, Source kSource>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      T b;
      if (!ReadSource<T, kSource>(cpu, op, b)) return false;
      const T result = Operation::template Do<T>(cpu.Reg<T>(op.dst), b, cpu.flags_);
      if constexpr (Operation::kWrites) cpu.SetReg<T>(op.dst, result);
      return true;
    }
  };
};

// Memory destination; the source is a register or an immediate.
template <class Operation>
struct ToMem {
  template <class T, Source kSource>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      const T b = kSource == Source::kImm ? static_cast<T>(op.imm) : cpu.Reg<T>(op.src);
      uint64_t linear;
      if constexpr (Operation::kWrites) {
        if (!cpu.Address(op, sizeof(T), Access::kWrite, linear)) return false;
        return cpu.Modify<T>(linear, op.mode & Op::kLock, op.mode & Op::kStack,
                             [&](T a) { return Operation::template Do<T>(a, b, cpu.flags_); });
      } else {
        T a;
        if (!cpu.LoadOperand(op, a)) return false;
        Operation::template Do<T>(a, b, cpu.flags_);
        return true;
      }
    }
  };
};

template <class Operation>
Handler Choose(const Insn& insn) {
  const Operand& to = insn.operand[0];
  const Source source = SourceOf(insn.operand[1]);
  if (IsMem(to)) return BySizeAndSource<ToMem<Operation>::template Handler>(to.bits, source);
  return BySizeAndSource<ToReg<Operation>::template Handler>(to.bits, source);
}

// INC and DEC leave the carry alone.
template <class T>
T DoInc(T a, Flags& flags) {
  const Flags carry = flags & kCarry;
  const T result = host::Inc(a, flags);
  flags = static_cast<Flags>((flags & ~kCarry) | carry);
  return result;
}
template <class T>
T DoDec(T a, Flags& flags) {
  const Flags carry = flags & kCarry;
  const T result = host::Dec(a, flags);
  flags = static_cast<Flags>((flags & ~kCarry) | carry);
  return result;
}
template <class T>
T DoNeg(T a, Flags& flags) {
  return host::Neg(a, flags);
}
template <class T>
T DoNot(T a, Flags&) {
  return static_cast<T>(~a);
}

template <class T, T (*kDo)(T, Flags&)>
bool UnaryReg(Cpu& cpu, const Op& op) {
  cpu.SetReg<T>(op.dst, kDo(cpu.Reg<T>(op.dst), cpu.flags_));
  return true;
}

template <class T, T (*kDo)(T, Flags&)>
bool UnaryMem(Cpu& cpu, const Op& op) {
  uint64_t linear;
  return cpu.Address(op, sizeof(T), Access::kWrite, linear) &&
         cpu.Modify<T>(linear, op.mode & Op::kLock, op.mode & Op::kStack,
                       [&](T a) { return kDo(a, cpu.flags_); });
}

template <class T, T (*kDo)(T, Flags&)>
Handler Unary(const Insn& insn) {
  return IsMem(insn.operand[0]) ? &UnaryMem<T, kDo> : &UnaryReg<T, kDo>;
}

}  // namespace

bool SelectAlu(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::ADD:
      return Use(op, Choose<OpAdd>(insn));
    case Mnemonic::OR:
      return Use(op, Choose<OpOr>(insn));
    case Mnemonic::ADC:
      return Use(op, Choose<OpAdc>(insn));
    case Mnemonic::SBB:
      return Use(op, Choose<OpSbb>(insn));
    case Mnemonic::AND:
      return Use(op, Choose<OpAnd>(insn));
    case Mnemonic::SUB:
      return Use(op, Choose<OpSub>(insn));
    case Mnemonic::XOR:
      return Use(op, Choose<OpXor>(insn));
    case Mnemonic::CMP:
      return Use(op, Choose<OpCmp>(insn));
    case Mnemonic::TEST:
      return Use(op, Choose<OpTest>(insn));
    default:
      return false;
  }
}

bool SelectUnary(const Insn& insn, Op& op) {
  return Use(op, BySize(insn.operand[0].bits, [&insn](auto zero) -> Handler {
               using T = decltype(zero);
               switch (insn.mnemonic) {
                 case Mnemonic::INC:
                   return Unary<T, DoInc<T>>(insn);
                 case Mnemonic::DEC:
                   return Unary<T, DoDec<T>>(insn);
                 case Mnemonic::NEG:
                   return Unary<T, DoNeg<T>>(insn);
                 case Mnemonic::NOT:
                   return Unary<T, DoNot<T>>(insn);
                 default:
                   return nullptr;
               }
             }));
}

}  // namespace bt
