// BMI1, BMI2, ADX: written out, since the host need not have them. [SDM 2A-2B]
#include "bt/interp/families.h"

namespace bt {
namespace {

template <class T>
inline constexpr unsigned kBits = sizeof(T) * 8;

// SF and ZF of the result, CF as given, OF clear; AF and PF, which the manual leaves undefined,
// clear.
template <class T>
Flags ResultFlags(T result, bool carry) {
  return static_cast<Flags>((result >> (kBits<T> - 1) ? kSign : 0) | (result == 0 ? kZeroFlag : 0) |
                            (carry ? kCarry : 0));
}

// Each takes two sources and gives the result; `flags` changes where the instruction's do.
struct OpAndn {
  template <class T>
  static T Do(T a, T b, Flags& flags) {
    const T result = static_cast<T>(~a) & b;
    flags = ResultFlags(result, false);
    return result;
  }
};
struct OpBextr {
  template <class T>
  static T Do(T from, T control, Flags& flags) {
    const unsigned start = control & 0xff, length = (control >> 8) & 0xff;
    T result = start < kBits<T> ? from >> start : 0;
    if (length < kBits<T>) result &= static_cast<T>((T{1} << length) - 1);
    flags = result == 0 ? kZeroFlag : 0;
    return result;
  }
};
struct OpBzhi {
  template <class T>
  static T Do(T from, T control, Flags& flags) {
    const unsigned index = control & 0xff;
    const bool beyond = index >= kBits<T>;
    const T result = beyond ? from : from & static_cast<T>((T{1} << index) - 1);
    flags = ResultFlags(result, beyond);
    return result;
  }
};
struct OpPdep {
  template <class T>
  static T Do(T from, T mask, Flags&) {
    T result = 0;
    for (T bit = 1; mask; bit = static_cast<T>(bit << 1)) {
      const T lowest = mask & (~mask + 1);
      if (from & bit) result |= lowest;
      mask ^= lowest;
    }
    return result;
  }
};
struct OpPext {
  template <class T>
  static T Do(T from, T mask, Flags&) {
    T result = 0;
    for (T bit = 1; mask; bit = static_cast<T>(bit << 1)) {
      const T lowest = mask & (~mask + 1);
      if (from & lowest) result |= bit;
      mask ^= lowest;
    }
    return result;
  }
};
struct OpSarx {
  template <class T>
  static T Do(T from, T count, Flags&) {
    return static_cast<T>(static_cast<std::make_signed_t<T>>(from) >> (count & (kBits<T> - 1)));
  }
};
struct OpShlx {
  template <class T>
  static T Do(T from, T count, Flags&) {
    return from << (count & (kBits<T> - 1));
  }
};
struct OpShrx {
  template <class T>
  static T Do(T from, T count, Flags&) {
    return from >> (count & (kBits<T> - 1));
  }
};
struct OpRorx {
  template <class T>
  static T Do(T from, T count, Flags&) {
    const unsigned by = count & (kBits<T> - 1);
    return by ? from >> by | from << (kBits<T> - by) : from;
  }
};
struct OpBlsi {
  template <class T>
  static T Do(T from, T, Flags& flags) {
    const T result = from & (~from + 1);
    flags = ResultFlags(result, from != 0);
    return result;
  }
};
struct OpBlsmsk {
  template <class T>
  static T Do(T from, T, Flags& flags) {
    const T result = from ^ (from - 1);
    flags = ResultFlags(result, from == 0);
    return result;
  }
};
struct OpBlsr {
  template <class T>
  static T Do(T from, T, Flags& flags) {
    const T result = from & (from - 1);
    flags = ResultFlags(result, from == 0);
    return result;
  }
};

// VEX is not recognised in real and V86 mode, where it would be LDS or LES of a register.
bool VexMode(Cpu& cpu) {
  return cpu.ProtectedMode() || cpu.Raise(kUD);
}

// r, r/m, other or r, other, r/m: kMem, and kSwap when the memory operand is the second source.
template <class Operation, class T, bool kMem, bool kSwap, bool kImm>
bool Run(Cpu& cpu, const Op& op) {
  if (!VexMode(cpu)) return false;
  T first, second;
  if constexpr (kMem) {
    T value;
    if (!cpu.LoadOperand(op, value)) return false;
    first = kSwap ? cpu.Reg<T>(op.src) : value;
    second = kSwap ? value : kImm ? static_cast<T>(op.imm) : cpu.Reg<T>(op.src2);
  } else {
    first = cpu.Reg<T>(op.src);
    second = kImm ? static_cast<T>(op.imm) : cpu.Reg<T>(op.src2);
  }
  cpu.SetReg<T>(op.dst, Operation::template Do<T>(first, second, cpu.flags_));
  return true;
}

template <class Operation>
bool UseBmi(const Insn& insn, Op& op) {
  const bool memory_first = IsMem(insn.operand[1]);
  const bool memory_second = insn.operand_count > 2 && IsMem(insn.operand[2]);
  const bool imm = insn.operand_count > 2 && IsImm(insn.operand[2]);
  const auto choose = [&](auto zero) -> Handler {
    using T = decltype(zero);
    if (memory_second) return &Run<Operation, T, true, true, false>;
    if (memory_first)
      return imm ? &Run<Operation, T, true, false, true> : &Run<Operation, T, true, false, false>;
    return imm ? &Run<Operation, T, false, false, true> : &Run<Operation, T, false, false, false>;
  };
  return Use(op, insn.operand[0].bits == 64 ? choose(uint64_t{}) : choose(uint32_t{}));
}

// The high half last: it wins when both go to one register.
template <class T, bool kMem>
bool Mulx(Cpu& cpu, const Op& op) {
  if (!VexMode(cpu)) return false;
  T factor;
  if constexpr (kMem) {
    if (!cpu.LoadOperand(op, factor)) return false;
  } else {
    factor = cpu.Reg<T>(op.src2);
  }
  const auto product =
      static_cast<unsigned __int128>(cpu.Reg<T>(2 * 8)) * factor;  // RDX is the other factor
  cpu.SetReg<T>(op.src, static_cast<T>(product));
  cpu.SetReg<T>(op.dst, static_cast<T>(product >> kBits<T>));
  return true;
}

// ADCX and ADOX: an addition with its carry in, and only in, one flag.
template <class T, Flags kFlag, bool kMem>
bool AddCarry(Cpu& cpu, const Op& op) {
  T other;
  if constexpr (kMem) {
    if (!cpu.LoadOperand(op, other)) return false;
  } else {
    other = cpu.Reg<T>(op.src);
  }
  const auto sum =
      static_cast<unsigned __int128>(cpu.Reg<T>(op.dst)) + other + ((cpu.flags_ & kFlag) ? 1u : 0u);
  cpu.SetReg<T>(op.dst, static_cast<T>(sum));
  cpu.flags_ = static_cast<Flags>((cpu.flags_ & ~kFlag) | ((sum >> kBits<T>) ? kFlag : 0));
  return true;
}

template <Flags kFlag>
bool UseAddCarry(const Insn& insn, Op& op) {
  const bool mem = IsMem(insn.operand[1]);
  if (insn.operand[0].bits == 64)
    return Use(op, mem ? &AddCarry<uint64_t, kFlag, true> : &AddCarry<uint64_t, kFlag, false>);
  return Use(op, mem ? &AddCarry<uint32_t, kFlag, true> : &AddCarry<uint32_t, kFlag, false>);
}

bool UseMulx(const Insn& insn, Op& op) {
  const bool mem = IsMem(insn.operand[2]);
  if (insn.operand[0].bits == 64)
    return Use(op, mem ? &Mulx<uint64_t, true> : &Mulx<uint64_t, false>);
  return Use(op, mem ? &Mulx<uint32_t, true> : &Mulx<uint32_t, false>);
}

}  // namespace

bool SelectBmi(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::ANDN:
      return UseBmi<OpAndn>(insn, op);
    case Mnemonic::BEXTR:
      return UseBmi<OpBextr>(insn, op);
    case Mnemonic::BLSI:
      return UseBmi<OpBlsi>(insn, op);
    case Mnemonic::BLSMSK:
      return UseBmi<OpBlsmsk>(insn, op);
    case Mnemonic::BLSR:
      return UseBmi<OpBlsr>(insn, op);
    case Mnemonic::BZHI:
      return UseBmi<OpBzhi>(insn, op);
    case Mnemonic::PDEP:
      return UseBmi<OpPdep>(insn, op);
    case Mnemonic::PEXT:
      return UseBmi<OpPext>(insn, op);
    case Mnemonic::RORX:
      return UseBmi<OpRorx>(insn, op);
    case Mnemonic::SARX:
      return UseBmi<OpSarx>(insn, op);
    case Mnemonic::SHLX:
      return UseBmi<OpShlx>(insn, op);
    case Mnemonic::SHRX:
      return UseBmi<OpShrx>(insn, op);
    case Mnemonic::MULX:
      return UseMulx(insn, op);
    case Mnemonic::ADCX:
      return UseAddCarry<kCarry>(insn, op);
    case Mnemonic::ADOX:
      return UseAddCarry<kOverflow>(insn, op);
    default:
      return false;
  }
}

}  // namespace bt
