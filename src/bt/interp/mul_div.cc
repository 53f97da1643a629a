// MUL IMUL DIV IDIV.
#include "bt/interp/families.h"

namespace bt {
namespace {

constexpr uint8_t kAx = 0, kDx = 2 * 8;

// One-operand forms: (D)A times the operand, as the host's instruction, flags included.
template <class T, bool kSigned>
void WideMultiply(T a, T b, T& low, T& high, Flags& flags) {
  if constexpr (sizeof(T) == 1) {
    uint16_t product = a;
    if constexpr (kSigned)
      asm("imul %2\n\tmov %%ax, %%dx\n\tlahf\n\tseto %%al\n\txchg %%ax, %%dx"
          : "+a"(product), "=&d"(flags)
          : "q"(b)
          : "cc");
    else
      asm("mul %2\n\tmov %%ax, %%dx\n\tlahf\n\tseto %%al\n\txchg %%ax, %%dx"
          : "+a"(product), "=&d"(flags)
          : "q"(b)
          : "cc");
    low = static_cast<T>(product);
    high = static_cast<T>(product >> 8);
  } else {
    uint64_t result;
    if constexpr (kSigned)
      asm("imul %4\n\tmov %%rax, %1\n\tlahf\n\tseto %%al\n\tmov %%ax, %2"
          : "+a"(a), "=&r"(result), "=&r"(flags), "+d"(high)
          : "r"(b)
          : "cc");
    else
      asm("mul %4\n\tmov %%rax, %1\n\tlahf\n\tseto %%al\n\tmov %%ax, %2"
          : "+a"(a), "=&r"(result), "=&r"(flags), "+d"(high)
          : "r"(b)
          : "cc");
    low = static_cast<T>(result);
  }
}

template <bool kSigned>
struct Wide {
  template <class T, Source kSource>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      T b, low, high = 0;
      // The single operand stands first, so a register is in dst.
      if constexpr (kSource == Source::kReg)
        b = cpu.Reg<T>(op.dst);
      else if (!cpu.LoadOperand(op, b))
        return false;
      WideMultiply<T, kSigned>(cpu.Reg<T>(kAx), b, low, high, cpu.flags_);
      if constexpr (sizeof(T) == 1) {
        cpu.SetReg<uint16_t>(kAx, static_cast<uint16_t>(low | high << 8));
      } else {
        cpu.SetReg<T>(kAx, low);
        cpu.SetReg<T>(kDx, high);
      }
      return true;
    }
  };
};

template <class T>
T Multiply(T a, T b, Flags& flags) {
  asm("imul %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "=&a"(flags) : "r"(b) : "cc");
  return a;
}

template <class T, Source kSource>
struct Imul2 {
  static bool Run(Cpu& cpu, const Op& op) {
    T b;
    if (!ReadSource<T, kSource>(cpu, op, b)) return false;
    if constexpr (sizeof(T) > 1) cpu.SetReg<T>(op.dst, Multiply(cpu.Reg<T>(op.dst), b, cpu.flags_));
    return true;
  }
};

template <class T, Source kSource>
struct Imul3 {
  static bool Run(Cpu& cpu, const Op& op) {
    T a;
    if constexpr (kSource == Source::kMem) {
      if (!cpu.LoadOperand(op, a)) return false;
    } else {
      a = cpu.Reg<T>(op.src);
    }
    if constexpr (sizeof(T) > 1)
      cpu.SetReg<T>(op.dst, Multiply(a, static_cast<T>(op.imm), cpu.flags_));
    return true;
  }
};

// Twice the width of T, signed or not.
template <class T>
struct WideTypes;
template <>
struct WideTypes<uint8_t> {
  using U = uint16_t;
  using S = int16_t;
};
template <>
struct WideTypes<uint16_t> {
  using U = uint32_t;
  using S = int32_t;
};
template <>
struct WideTypes<uint32_t> {
  using U = uint64_t;
  using S = int64_t;
};
template <>
struct WideTypes<uint64_t> {
  using U = unsigned __int128;
  using S = __int128;
};

// False: #DE, a zero divisor or a quotient that does not fit. Flags are undefined and stay.
template <class T, bool kSigned>
bool Divide(typename WideTypes<T>::U dividend, T divisor, T& quotient, T& remainder) {
  using U = typename WideTypes<T>::U;
  using S = typename WideTypes<T>::S;
  if (divisor == 0) return false;
  if constexpr (kSigned) {
    using ST = std::make_signed_t<T>;
    const S signed_dividend = static_cast<S>(dividend);
    const S signed_divisor = static_cast<ST>(divisor);
    // The one quotient that the wide type itself can't hold.
    if (signed_divisor == -1 && dividend == U{1} << (sizeof(U) * 8 - 1)) return false;
    const S result = signed_dividend / signed_divisor;
    if (result != static_cast<ST>(result)) return false;
    quotient = static_cast<T>(result);
    remainder = static_cast<T>(signed_dividend % signed_divisor);
  } else {
    if (static_cast<T>(dividend >> (sizeof(T) * 8)) >= divisor) return false;
    if constexpr (sizeof(T) == 8) {
      T low = static_cast<T>(dividend), high = static_cast<T>(dividend >> 64);
      asm("div %2" : "+a"(low), "+d"(high) : "r"(divisor) : "cc");
      quotient = low;
      remainder = high;
    } else {
      quotient = static_cast<T>(dividend / divisor);
      remainder = static_cast<T>(dividend % divisor);
    }
  }
  return true;
}

template <bool kSigned>
struct Div {
  template <class T, Source kSource>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      using U = typename WideTypes<T>::U;
      T divisor, quotient, remainder;
      if constexpr (kSource == Source::kReg)
        divisor = cpu.Reg<T>(op.dst);
      else if (!cpu.LoadOperand(op, divisor))
        return false;
      U dividend;
      if constexpr (sizeof(T) == 1)
        dividend = cpu.Reg<uint16_t>(kAx);
      else
        dividend = static_cast<U>(cpu.Reg<T>(kDx)) << (sizeof(T) * 8) | cpu.Reg<T>(kAx);
      if (!Divide<T, kSigned>(dividend, divisor, quotient, remainder)) return cpu.Raise(kDE);
      if constexpr (sizeof(T) == 1) {
        cpu.SetReg<uint16_t>(kAx, static_cast<uint16_t>(quotient | remainder << 8));
      } else {
        cpu.SetReg<T>(kAx, quotient);
        cpu.SetReg<T>(kDx, remainder);
      }
      return true;
    }
  };
};

template <template <class, Source> class H>
bool UseOneOperand(const Insn& insn, Op& op) {
  return Use(op, BySizeAndSource<H>(insn.operand[0].bits, SourceOf(insn.operand[0])));
}

// Whether the ModRM form is one of group 3 (F6, F7): one operand.
bool OneOperand(const Insn& insn) {
  return insn.opcode_map == 0 && (insn.opcode == 0xf6 || insn.opcode == 0xf7);
}

}  // namespace

bool SelectMulDiv(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::MUL:
      return UseOneOperand<Wide<false>::Handler>(insn, op);
    case Mnemonic::DIV:
      return UseOneOperand<Div<false>::Handler>(insn, op);
    case Mnemonic::IDIV:
      return UseOneOperand<Div<true>::Handler>(insn, op);
    case Mnemonic::IMUL:
      if (OneOperand(insn)) return UseOneOperand<Wide<true>::Handler>(insn, op);
      if (IsImm(insn.operand[2])) {
        return Use(op, BySizeAndSource<Imul3>(insn.operand[0].bits, SourceOf(insn.operand[1])));
      }
      return Use(op, BySizeAndSource<Imul2>(insn.operand[0].bits, SourceOf(insn.operand[1])));
    default:
      return false;
  }
}

}  // namespace bt
