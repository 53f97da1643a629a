// Data movement: MOV in all its forms, MOVZX MOVSX LEA XCHG BSWAP MOVBE XLAT, sign extensions.
#include "bt/interp/families.h"

namespace bt {
namespace {

template <class T, Source kSource>
struct MovToReg {
  static bool Run(Cpu& cpu, const Op& op) {
    T value;
    if (!ReadSource<T, kSource>(cpu, op, value)) return false;
    cpu.SetReg<T>(op.dst, value);
    return true;
  }
};

template <class T, Source kSource>
struct MovToMem {
  static bool Run(Cpu& cpu, const Op& op) {
    return cpu.StoreOperand<T>(
        op, kSource == Source::kImm ? static_cast<T>(op.imm) : cpu.Reg<T>(op.src));
  }
};

// To: the destination's type; From: the (signed or unsigned) source's.
template <class To, class From, bool kMem>
bool Extend(Cpu& cpu, const Op& op) {
  std::make_unsigned_t<From> raw;
  if constexpr (kMem) {
    if (!cpu.LoadOperand(op, raw)) return false;
  } else {
    raw = cpu.Reg<std::make_unsigned_t<From>>(op.src);
  }
  cpu.SetReg<To>(op.dst, static_cast<To>(static_cast<From>(raw)));
  return true;
}

template <bool kSigned>
Handler ChooseExtend(const Insn& insn) {
  const unsigned from = insn.operand[1].bits;
  const bool mem = IsMem(insn.operand[1]);
  return BySize(insn.operand[0].bits, [from, mem](auto zero) -> Handler {
    using To = decltype(zero);
    using F8 = std::conditional_t<kSigned, int8_t, uint8_t>;
    using F16 = std::conditional_t<kSigned, int16_t, uint16_t>;
    using F32 = std::conditional_t<kSigned, int32_t, uint32_t>;
    switch (from) {
      case 8:
        return mem ? &Extend<To, F8, true> : &Extend<To, F8, false>;
      case 16:
        return mem ? &Extend<To, F16, true> : &Extend<To, F16, false>;
      case 32:
        return mem ? &Extend<To, F32, true> : &Extend<To, F32, false>;
      default:
        return nullptr;
    }
  });
}

template <class T>
bool Lea(Cpu& cpu, const Op& op) {
  uint64_t ea = cpu.Effective(op);
  if (op.mode & Op::kAddr32) ea &= 0xffffffff;
  if (op.mode & Op::kAddr16) ea &= 0xffff;
  cpu.SetReg<T>(op.dst, static_cast<T>(ea));
  return true;
}

template <class T>
bool XchgReg(Cpu& cpu, const Op& op) {
  const T a = cpu.Reg<T>(op.dst), b = cpu.Reg<T>(op.src);
  cpu.SetReg<T>(op.dst, b);
  cpu.SetReg<T>(op.src, a);
  return true;
}

// XCHG with memory is locked with or without the prefix. kFirst: memory is operand 0.
template <class T, bool kFirst>
bool XchgMem(Cpu& cpu, const Op& op) {
  const uint8_t reg = kFirst ? op.src : op.dst;
  const T mine = cpu.Reg<T>(reg);
  T theirs = 0;
  uint64_t linear;
  if (!cpu.Address(op, sizeof(T), Access::kWrite, linear)) return false;
  if (void* host = cpu.WritePointer(linear, sizeof(T))) {
    theirs = __atomic_exchange_n(static_cast<T*>(host), mine, __ATOMIC_SEQ_CST);
  } else if (!cpu.Modify<T>(linear, true, op.mode & Op::kStack, [&](T old_value) {
               theirs = old_value;
               return mine;
             })) {
    return false;
  }
  cpu.SetReg<T>(reg, theirs);
  return true;
}

template <class T>
T Swap(T value) {
  if constexpr (sizeof(T) == 2)
    return __builtin_bswap16(value);
  else if constexpr (sizeof(T) == 4)
    return __builtin_bswap32(value);
  else
    return __builtin_bswap64(value);
}

template <class T>
bool Bswap(Cpu& cpu, const Op& op) {
  // With a 16-bit operand the result is undefined; processors give zero. [SDM 2A] BSWAP
  if constexpr (sizeof(T) == 2)
    cpu.SetReg<T>(op.dst, 0);
  else if constexpr (sizeof(T) > 2)
    cpu.SetReg<T>(op.dst, Swap(cpu.Reg<T>(op.dst)));
  return true;
}

template <class T>
bool MovbeLoad(Cpu& cpu, const Op& op) {
  T value;
  if (!cpu.LoadOperand(op, value)) return false;
  if constexpr (sizeof(T) > 1) cpu.SetReg<T>(op.dst, Swap(value));
  return true;
}
template <class T>
bool MovbeStore(Cpu& cpu, const Op& op) {
  if constexpr (sizeof(T) > 1)
    return cpu.StoreOperand<T>(op, Swap(cpu.Reg<T>(op.src)));
  else
    return true;
}

bool Xlat(Cpu& cpu, const Op& op) {
  const uint64_t ea = cpu.Effective(op) + cpu.Reg<uint8_t>(0);
  uint64_t linear;
  uint8_t value;
  if (!cpu.AddressAt(op, ea, 1, Access::kRead, linear) ||
      !cpu.Load(linear, value, op.mode & Op::kStack)) {
    return false;
  }
  cpu.SetReg<uint8_t>(0, value);
  return true;
}

// CBW CWDE CDQE: the accumulator's lower half is extended into it.
template <class To, class From>
bool ExtendAccumulator(Cpu& cpu, const Op&) {
  cpu.SetReg<To>(0, static_cast<To>(static_cast<From>(cpu.Reg<std::make_unsigned_t<From>>(0))));
  return true;
}
// CWD CDQ CQO: the sign of the accumulator fills DX.
template <class T>
bool SignToDx(Cpu& cpu, const Op&) {
  const bool negative = cpu.Reg<T>(0) >> (sizeof(T) * 8 - 1);
  cpu.SetReg<T>(2 * 8, negative ? static_cast<T>(~T{0}) : T{0});
  return true;
}

// ---- Segment registers

template <class T>
bool SegmentToReg(Cpu& cpu, const Op& op) {
  cpu.SetReg<T>(op.dst, cpu.seg_[op.aux].selector);
  return true;
}
bool SegmentToMem(Cpu& cpu, const Op& op) {
  return cpu.StoreOperand<uint16_t>(op, cpu.seg_[op.aux].selector);
}
template <Source kSource>
bool ToSegment(Cpu& cpu, const Op& op) {
  uint16_t selector;
  if (!ReadSource<uint16_t, kSource>(cpu, op, selector)) return false;
  const auto segment = static_cast<vmm::Seg>(op.aux);
  if (!cpu.LoadSegment(segment, selector)) return false;
  if (segment == vmm::Seg::SS) cpu.InhibitInterrupts(true);
  return false;  // what follows may be decoded for another mode
}

// ---- Control and debug registers. [SDM 2B] MOV-1, MOV-2

bool FromControl(Cpu& cpu, const Op& op) {
  if (cpu.cpl_ != 0) return cpu.Raise(kGP, 0);
  uint64_t value = 0;
  switch (op.aux) {
    case 0:
      value = cpu.cr0_;
      break;
    case 2:
      value = cpu.cr2_;
      break;
    case 3:
      value = cpu.cr3_;
      break;
    case 4:
      value = cpu.cr4_;
      break;
    case 8:
      value = cpu.apic().cr8();
      break;
  }
  if (cpu.In64())
    cpu.SetReg<uint64_t>(op.dst, value);
  else
    cpu.SetReg<uint32_t>(op.dst, static_cast<uint32_t>(value));
  return true;
}

bool ToControl(Cpu& cpu, const Op& op) {
  if (cpu.cpl_ != 0) return cpu.Raise(kGP, 0);
  const uint64_t value = cpu.In64() ? cpu.Reg<uint64_t>(op.src) : cpu.Reg<uint32_t>(op.src);
  switch (op.aux) {
    case 0:
      cpu.WriteCr0(value);
      break;
    case 2:
      cpu.cr2_ = value;
      break;
    case 3:
      cpu.WriteCr3(value);
      break;
    case 4:
      cpu.WriteCr4(value);
      break;
    case 8:
      if (value & ~15ull) return cpu.Raise(kGP, 0);
      cpu.apic().set_cr8(static_cast<uint8_t>(value));
      cpu.RecheckInterrupts();
      break;
  }
  return false;
}

bool FromDebug(Cpu& cpu, const Op& op) {
  uint64_t value;
  if (!cpu.ReadDebugRegister(op.aux, value)) return false;
  if (cpu.In64())
    cpu.SetReg<uint64_t>(op.dst, value);
  else
    cpu.SetReg<uint32_t>(op.dst, static_cast<uint32_t>(value));
  return true;
}

bool ToDebug(Cpu& cpu, const Op& op) {
  cpu.WriteDebugRegister(op.aux,
                         cpu.In64() ? cpu.Reg<uint64_t>(op.src) : cpu.Reg<uint32_t>(op.src));
  return false;
}

bool SelectMove(const Insn& insn, Op& op) {
  const Operand& to = insn.operand[0];
  const Operand& from = insn.operand[1];
  const auto class_of = [](const Operand& operand) {
    return IsReg(operand) ? operand.reg_class : RegClass::kNone;
  };
  const bool to_mem = IsMem(to), from_mem = IsMem(from);
  if (class_of(from) == RegClass::kSegment) {
    op.aux = from.reg;
    if (to_mem) return Use(op, &SegmentToMem);
    return Use(op, to.bits == 16   ? &SegmentToReg<uint16_t>
                   : to.bits == 32 ? &SegmentToReg<uint32_t>
                                   : &SegmentToReg<uint64_t>);
  }
  if (class_of(to) == RegClass::kSegment) {
    op.aux = to.reg;
    if (to.reg == static_cast<uint8_t>(vmm::Seg::CS)) return false;
    return Use(op, from_mem ? &ToSegment<Source::kMem> : &ToSegment<Source::kReg>);
  }
  if (class_of(from) == RegClass::kControl || class_of(to) == RegClass::kControl) {
    const bool reading = class_of(from) == RegClass::kControl;
    op.aux = reading ? from.reg : to.reg;
    if (op.aux != 0 && op.aux != 2 && op.aux != 3 && op.aux != 4 && op.aux != 8) return false;
    return Use(op, reading ? &FromControl : &ToControl);
  }
  if (class_of(from) == RegClass::kDebug) {
    op.aux = from.reg;
    return from.reg < 8 && Use(op, &FromDebug);
  }
  if (class_of(to) == RegClass::kDebug) {
    op.aux = to.reg;
    return to.reg < 8 && Use(op, &ToDebug);
  }
  if (to_mem) return Use(op, BySizeAndSource<MovToMem>(to.bits, SourceOf(from)));
  return Use(op, BySizeAndSource<MovToReg>(to.bits, SourceOf(from)));
}

}  // namespace

bool SelectMov(const Insn& insn, Op& op) {
  const Operand& to = insn.operand[0];
  const unsigned bits = to.bits;
  switch (insn.mnemonic) {
    case Mnemonic::MOV:
    case Mnemonic::MOVNTI:
      return SelectMove(insn, op);
    case Mnemonic::MOVZX:
      return Use(op, ChooseExtend<false>(insn));
    case Mnemonic::MOVSX:
    case Mnemonic::MOVSXD:
      return Use(op, ChooseExtend<true>(insn));
    case Mnemonic::LEA:
      return Use(op, BySize(bits, [](auto z) -> Handler { return &Lea<decltype(z)>; }));
    case Mnemonic::BSWAP:
      return Use(op, BySize(bits, [](auto z) -> Handler { return &Bswap<decltype(z)>; }));
    case Mnemonic::XLAT:
      FillImplicitAddress(insn, static_cast<uint8_t>(vmm::Gpr::RBX), op);
      return Use(op, &Xlat);
    case Mnemonic::CBW:
      return Use(op, &ExtendAccumulator<uint16_t, int8_t>);
    case Mnemonic::CWDE:
      return Use(op, &ExtendAccumulator<uint32_t, int16_t>);
    case Mnemonic::CDQE:
      return Use(op, &ExtendAccumulator<uint64_t, int32_t>);
    case Mnemonic::CWD:
      return Use(op, &SignToDx<uint16_t>);
    case Mnemonic::CDQ:
      return Use(op, &SignToDx<uint32_t>);
    case Mnemonic::CQO:
      return Use(op, &SignToDx<uint64_t>);
    case Mnemonic::XCHG: {
      const bool first = IsMem(to), second = IsMem(insn.operand[1]);
      return Use(op, BySize(bits, [first, second](auto z) -> Handler {
                   using T = decltype(z);
                   return first ? &XchgMem<T, true> : second ? &XchgMem<T, false> : &XchgReg<T>;
                 }));
    }
    case Mnemonic::MOVBE: {
      const bool store = IsMem(to);
      return Use(op, BySize(bits, [store](auto z) -> Handler {
                   return store ? &MovbeStore<decltype(z)> : &MovbeLoad<decltype(z)>;
                 }));
    }
    default:
      return false;
  }
}

}  // namespace bt
