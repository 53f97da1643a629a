// XADD CMPXCHG CMPXCHG8B CMPXCHG16B.
#include "bt/interp/families.h"
#include "bt/interp/host_ops.h"

namespace bt {
namespace {

template <class T>
bool XaddReg(Cpu& cpu, const Op& op) {
  const T a = cpu.Reg<T>(op.dst), b = cpu.Reg<T>(op.src);
  const T sum = host::Add(a, b, cpu.flags_);
  cpu.SetReg<T>(op.src, a);
  cpu.SetReg<T>(op.dst, sum);
  return true;
}

template <class T>
bool XaddMem(Cpu& cpu, const Op& op) {
  const T b = cpu.Reg<T>(op.src);
  T before = 0;
  uint64_t linear;
  if (!cpu.Address(op, sizeof(T), Access::kWrite, linear) ||
      !cpu.Modify<T>(linear, op.mode & Op::kLock, op.mode & Op::kStack, [&](T a) {
        before = a;
        return host::Add(a, b, cpu.flags_);
      })) {
    return false;
  }
  cpu.SetReg<T>(op.src, before);
  return true;
}

// The accumulator is compared with `a`; memory is written back either way. [SDM 2A] CMPXCHG
template <class T>
bool CmpxchgReg(Cpu& cpu, const Op& op) {
  const T accumulator = cpu.Reg<T>(0), a = cpu.Reg<T>(op.dst);
  host::Sub(accumulator, a, cpu.flags_);
  if (accumulator == a)
    cpu.SetReg<T>(op.dst, cpu.Reg<T>(op.src));
  else
    cpu.SetReg<T>(0, a);
  return true;
}

template <class T>
bool CmpxchgMem(Cpu& cpu, const Op& op) {
  const T accumulator = cpu.Reg<T>(0), b = cpu.Reg<T>(op.src);
  T before = 0;
  uint64_t linear;
  if (!cpu.Address(op, sizeof(T), Access::kWrite, linear) ||
      !cpu.Modify<T>(linear, op.mode & Op::kLock, op.mode & Op::kStack, [&](T a) {
        before = a;
        return a == accumulator ? b : a;
      })) {
    return false;
  }
  host::Sub(accumulator, before, cpu.flags_);
  if (before != accumulator) cpu.SetReg<T>(0, before);
  return true;
}

constexpr uint8_t kA = 0, kC = 1 * 8, kD = 2 * 8, kB = 3 * 8;

void SetZero(Cpu& cpu, bool zero) {
  cpu.flags_ = static_cast<Flags>((cpu.flags_ & ~kZeroFlag) | (zero ? kZeroFlag : 0));
}

bool Cmpxchg8b(Cpu& cpu, const Op& op) {
  const uint64_t expected =
      static_cast<uint64_t>(cpu.Reg<uint32_t>(kD)) << 32 | cpu.Reg<uint32_t>(kA);
  const uint64_t wanted =
      static_cast<uint64_t>(cpu.Reg<uint32_t>(kC)) << 32 | cpu.Reg<uint32_t>(kB);
  uint64_t before = 0, linear;
  if (!cpu.Address(op, 8, Access::kWrite, linear) ||
      !cpu.Modify<uint64_t>(linear, op.mode & Op::kLock, op.mode & Op::kStack, [&](uint64_t a) {
        before = a;
        return a == expected ? wanted : a;
      })) {
    return false;
  }
  SetZero(cpu, before == expected);
  if (before != expected) {
    cpu.SetReg<uint32_t>(kA, static_cast<uint32_t>(before));
    cpu.SetReg<uint32_t>(kD, static_cast<uint32_t>(before >> 32));
  }
  return true;
}

// Must be aligned to 16 bytes, so it never crosses a page. Every x86-64 host that runs SMP guests
// has it.
bool Cmpxchg16b(Cpu& cpu, const Op& op) {
  uint64_t linear;
  if (!cpu.Address(op, 16, Access::kWrite, linear)) return false;
  if (linear & 15) return cpu.Raise(kGP, 0);
  void* host = cpu.WritePointer(linear, 16);
  if (!host) {
    // First touch: a store of what is there brings in the page, or faults; a page with code stays
    // out.
    Bytes16 value;
    const Bytes16 expected{cpu.Reg<uint64_t>(kA), cpu.Reg<uint64_t>(kD)};
    const Bytes16 wanted{cpu.Reg<uint64_t>(kB), cpu.Reg<uint64_t>(kC)};
    bool equal = false;
    if (!cpu.Modify<Bytes16>(
            linear, op.mode & Op::kLock, op.mode & Op::kStack, [&](Bytes16 old_value) {
              value = old_value;
              equal = old_value.low == expected.low && old_value.high == expected.high;
              return equal ? wanted : old_value;
            })) {
      return false;
    }
    SetZero(cpu, equal);
    if (!equal) {
      cpu.SetReg<uint64_t>(kA, value.low);
      cpu.SetReg<uint64_t>(kD, value.high);
    }
    return true;
  }
  uint64_t low = cpu.Reg<uint64_t>(kA), high = cpu.Reg<uint64_t>(kD);
  bool equal;
  asm volatile("lock cmpxchg16b %1"
               : "=@ccz"(equal), "+m"(*static_cast<Bytes16*>(host)), "+a"(low), "+d"(high)
               : "b"(cpu.Reg<uint64_t>(kB)), "c"(cpu.Reg<uint64_t>(kC))
               : "memory");
  SetZero(cpu, equal);
  if (!equal) {
    cpu.SetReg<uint64_t>(kA, low);
    cpu.SetReg<uint64_t>(kD, high);
  }
  return true;
}

}  // namespace

bool SelectAtomic(const Insn& insn, Op& op) {
  const bool mem = IsMem(insn.operand[0]);
  switch (insn.mnemonic) {
    case Mnemonic::XADD:
      return Use(op, BySize(insn.operand[0].bits, [mem](auto z) -> Handler {
                   return mem ? &XaddMem<decltype(z)> : &XaddReg<decltype(z)>;
                 }));
    case Mnemonic::CMPXCHG:
      return Use(op, BySize(insn.operand[0].bits, [mem](auto z) -> Handler {
                   return mem ? &CmpxchgMem<decltype(z)> : &CmpxchgReg<decltype(z)>;
                 }));
    case Mnemonic::CMPXCHG8B:
      return Use(op, &Cmpxchg8b);
    case Mnemonic::CMPXCHG16B:
      return Use(op, &Cmpxchg16b);
    default:
      return false;
  }
}

}  // namespace bt
