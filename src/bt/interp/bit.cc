// BT BTS BTR BTC, BSF BSR LZCNT TZCNT POPCNT, CRC32.
#include "bt/interp/families.h"

namespace bt {
namespace {

enum class BitOp : uint8_t { kTest, kSet, kReset, kComplement };

// Only CF is defined; the others stay as they were. [SDM 2A] BT
template <class T, BitOp kOp>
T Change(T value, unsigned bit, Flags& flags) {
  const T mask = static_cast<T>(T{1} << bit);
  flags = static_cast<Flags>((flags & ~kCarry) | ((value & mask) ? kCarry : 0));
  switch (kOp) {
    case BitOp::kTest:
      return value;
    case BitOp::kSet:
      return value | mask;
    case BitOp::kReset:
      return value & static_cast<T>(~mask);
    case BitOp::kComplement:
      return value ^ mask;
  }
  return value;
}

template <class T, BitOp kOp, bool kImm>
bool BitReg(Cpu& cpu, const Op& op) {
  const uint64_t index = kImm ? op.imm : cpu.Reg<T>(op.src);
  const T result = Change<T, kOp>(cpu.Reg<T>(op.dst), index & (sizeof(T) * 8 - 1), cpu.flags_);
  if constexpr (kOp != BitOp::kTest) cpu.SetReg<T>(op.dst, result);
  return true;
}

// A register index reaches beyond the operand: a bit string of 2^N bits around it.
template <class T, BitOp kOp, bool kImm>
bool BitMem(Cpu& cpu, const Op& op) {
  Op at = op;
  unsigned bit;
  uint64_t linear;
  if constexpr (kImm) {
    bit = op.imm & (sizeof(T) * 8 - 1);
    if (!cpu.Address(op, sizeof(T), Access::kRead, linear)) return false;
  } else {
    const auto index = static_cast<int64_t>(static_cast<std::make_signed_t<T>>(cpu.Reg<T>(op.src)));
    bit = static_cast<unsigned>(index) & (sizeof(T) * 8 - 1);
    const int64_t bytes = (index >> (sizeof(T) == 8   ? 6
                                     : sizeof(T) == 4 ? 5
                                                      : 4)) *
                          static_cast<int64_t>(sizeof(T));
    const uint64_t ea = cpu.Effective(op) + static_cast<uint64_t>(bytes);
    if (!cpu.AddressAt(at, ea, sizeof(T), kOp == BitOp::kTest ? Access::kRead : Access::kWrite,
                       linear)) {
      return false;
    }
  }
  if constexpr (kOp == BitOp::kTest) {
    T value;
    if (!cpu.Load(linear, value, op.mode & Op::kStack)) return false;
    Change<T, kOp>(value, bit, cpu.flags_);
    return true;
  } else {
    return cpu.Modify<T>(linear, op.mode & Op::kLock, op.mode & Op::kStack,
                         [&](T value) { return Change<T, kOp>(value, bit, cpu.flags_); });
  }
}

template <BitOp kOp>
Handler ChooseBit(const Insn& insn) {
  const bool mem = IsMem(insn.operand[0]), imm = IsImm(insn.operand[1]);
  return BySize(insn.operand[0].bits, [mem, imm](auto z) -> Handler {
    using T = decltype(z);
    if constexpr (sizeof(T) == 1)
      return nullptr;
    else if (mem)
      return imm ? &BitMem<T, kOp, true> : &BitMem<T, kOp, false>;
    else
      return imm ? &BitReg<T, kOp, true> : &BitReg<T, kOp, false>;
  });
}

// The scans run as the host's: what a zero source leaves behind is the host's as well.
#define VMM_HOST_SCAN(name, mnemonic)                                                              \
  struct name {                                                                                    \
    template <class T>                                                                             \
    static void Do(uint64_t& to, T from, Flags& flags) {                                           \
      if constexpr (sizeof(T) == 8) {                                                              \
        asm(mnemonic " %2, %0\n\tlahf\n\tseto %%al" : "+r"(to), "=&a"(flags) : "r"(from) : "cc");  \
      } else if constexpr (sizeof(T) == 4) {                                                       \
        asm(mnemonic " %2, %k0\n\tlahf\n\tseto %%al" : "+r"(to), "=&a"(flags) : "r"(from) : "cc"); \
      } else if constexpr (sizeof(T) == 2) {                                                       \
        asm(mnemonic " %2, %w0\n\tlahf\n\tseto %%al" : "+r"(to), "=&a"(flags) : "r"(from) : "cc"); \
      }                                                                                            \
    }                                                                                              \
  };
VMM_HOST_SCAN(OpBsf, "bsf")
VMM_HOST_SCAN(OpBsr, "bsr")
#undef VMM_HOST_SCAN

template <class T>
Flags ScanFlags(bool carry, bool zero, Flags before) {
  return static_cast<Flags>((before & ~(kCarry | kZeroFlag)) | (carry ? kCarry : 0) |
                            (zero ? kZeroFlag : 0));
}

// LZCNT, TZCNT and POPCNT are written out: the host need not have them.
struct OpLzcnt {
  template <class T>
  static void Do(uint64_t& to, T from, Flags& flags) {
    const T count =
        static_cast<T>(from ? __builtin_clzll(from) - (64 - 8 * static_cast<int>(sizeof(T)))
                            : 8 * static_cast<int>(sizeof(T)));
    flags = ScanFlags<T>(from == 0, count == 0, flags);
    to = sizeof(T) == 2 ? (to & ~0xffffull) | count : count;
  }
};
struct OpTzcnt {
  template <class T>
  static void Do(uint64_t& to, T from, Flags& flags) {
    const T count = static_cast<T>(from ? __builtin_ctzll(from) : 8 * static_cast<int>(sizeof(T)));
    flags = ScanFlags<T>(from == 0, count == 0, flags);
    to = sizeof(T) == 2 ? (to & ~0xffffull) | count : count;
  }
};
struct OpPopcnt {
  template <class T>
  static void Do(uint64_t& to, T from, Flags& flags) {
    const uint64_t count = static_cast<uint64_t>(__builtin_popcountll(from));
    flags = from == 0 ? kZeroFlag : 0;
    to = sizeof(T) == 2 ? (to & ~0xffffull) | count : count;
  }
};

template <class Operation>
struct Scan {
  template <class T, Source kSource>
  struct Handler {
    static bool Run(Cpu& cpu, const Op& op) {
      T from;
      if (!ReadSource<T, kSource>(cpu, op, from)) return false;
      Operation::template Do<T>(cpu.r[op.dst / 8], from, cpu.flags_);
      return true;
    }
  };
};

template <class Operation>
bool UseScan(const Insn& insn, Op& op) {
  return insn.operand[0].bits >= 16 &&
         Use(op, BySizeAndSource<Scan<Operation>::template Handler>(insn.operand[0].bits,
                                                                    SourceOf(insn.operand[1])));
}

// CRC32C, polynomial 0x11EDC6F41, reflected. [SDM 2A] CRC32
template <class T, Source kSource>
struct Crc32 {
  static bool Run(Cpu& cpu, const Op& op) {
    T from;
    if (!ReadSource<T, kSource>(cpu, op, from)) return false;
    uint32_t crc = cpu.Reg<uint32_t>(op.dst);
    for (unsigned byte = 0; byte < sizeof(T); ++byte) {
      crc ^= static_cast<uint8_t>(from >> (8 * byte));
      for (unsigned bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    cpu.SetReg<uint32_t>(op.dst, crc);
    return true;
  }
};

}  // namespace

bool SelectBit(const Insn& insn, Op& op) {
  switch (insn.mnemonic) {
    case Mnemonic::BT:
      return Use(op, ChooseBit<BitOp::kTest>(insn));
    case Mnemonic::BTS:
      return Use(op, ChooseBit<BitOp::kSet>(insn));
    case Mnemonic::BTR:
      return Use(op, ChooseBit<BitOp::kReset>(insn));
    case Mnemonic::BTC:
      return Use(op, ChooseBit<BitOp::kComplement>(insn));
    case Mnemonic::BSF:
      return UseScan<OpBsf>(insn, op);
    case Mnemonic::BSR:
      return UseScan<OpBsr>(insn, op);
    case Mnemonic::LZCNT:
      return UseScan<OpLzcnt>(insn, op);
    case Mnemonic::TZCNT:
      return UseScan<OpTzcnt>(insn, op);
    case Mnemonic::POPCNT:
      return UseScan<OpPopcnt>(insn, op);
    case Mnemonic::CRC32:
      return Use(op, BySizeAndSource<Crc32>(insn.operand[1].bits, SourceOf(insn.operand[1])));
    default:
      return false;
  }
}

}  // namespace bt
