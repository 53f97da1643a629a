// MOVS CMPS STOS LODS SCAS INS OUTS with their repeat prefixes. [SDM 1] 7.3.9
//
// A repeated instruction runs at most kChunk iterations, then leaves the block with RIP still on
// it, so that interrupts are looked at; RCX, RSI and RDI always say how far it has come.
#include "bt/interp/families.h"
#include "bt/interp/host_ops.h"

namespace bt {
namespace {

constexpr unsigned kChunk = 4096;
constexpr uint8_t kCx = 1 * 8, kSi = 6 * 8, kDi = 7 * 8;

// The operands of one iteration. A: the unsigned type of the address size.
template <class A>
struct Pointers {
  Cpu& cpu;
  const Op& op;

  A Count() const { return cpu.Reg<A>(kCx); }
  void SetCount(A count) { cpu.SetReg<A>(kCx, count); }
  int64_t Step(unsigned size) const {
    return cpu.rflags_ & eflags::DF ? -static_cast<int64_t>(size) : static_cast<int64_t>(size);
  }
  void Advance(uint8_t reg, unsigned size) {
    cpu.SetReg<A>(reg, static_cast<A>(cpu.Reg<A>(reg) + Step(size)));
  }
  bool Source(unsigned size, uint64_t& linear) {
    return Linear(op.seg, kSi, size, Access::kRead, linear);
  }
  bool Destination(unsigned size, Access access, uint64_t& linear) {
    return Linear(static_cast<uint8_t>(vmm::Seg::ES), kDi, size, access, linear);
  }

 private:
  bool Linear(uint8_t seg, uint8_t reg, unsigned size, Access access, uint64_t& linear) {
    const uint64_t offset = cpu.Reg<A>(reg);
    if (cpu.In64()) {
      linear = offset + (seg >= static_cast<uint8_t>(vmm::Seg::FS) ? cpu.seg_base_[seg] : 0);
      return true;
    }
    return cpu.SegmentAddress(static_cast<vmm::Seg>(seg), offset, size, access, linear);
  }
};

// How many whole elements from `linear` on lie in its page, going up or down.
template <class T>
uint64_t RunLength(uint64_t linear, bool down = false) {
  const uint64_t offset = linear & (vmm::kPageSize - 1);
  const uint64_t up = (vmm::kPageSize - offset) / sizeof(T);
  return down && up != 0 ? offset / sizeof(T) + 1 : up;
}

// As the guest does it, element by element, so that overlapping copies replicate the same way.
template <class T>
void MoveDown(uint8_t* to, const uint8_t* from, uint64_t count) {
  if constexpr (sizeof(T) == 1)
    asm volatile("std; rep movsb; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory", "cc");
  else if constexpr (sizeof(T) == 2)
    asm volatile("std; rep movsw; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory", "cc");
  else if constexpr (sizeof(T) == 4)
    asm volatile("std; rep movsl; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory", "cc");
  else
    asm volatile("std; rep movsq; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory", "cc");
}

struct Movs {
  static constexpr bool kCompares = false;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    uint64_t from, to;
    T value;
    if (!at.Source(sizeof(T), from) || !at.cpu.Load(from, value) ||
        !at.Destination(sizeof(T), Access::kWrite, to) || !at.cpu.Store(to, value)) {
      return false;
    }
    at.Advance(kSi, sizeof(T));
    at.Advance(kDi, sizeof(T));
    return true;
  }
  // Many at once where both pages are in the TLB.
  template <class T, class A>
  static uint64_t Bulk(Pointers<A>& at, uint64_t limit) {
    uint64_t from, to;
    if (!at.cpu.In64()) return 0;
    if (!at.Source(sizeof(T), from) || !at.Destination(sizeof(T), Access::kWrite, to)) return 0;
    const bool down = at.cpu.rflags_ & eflags::DF;
    const uint64_t count = std::min({limit, RunLength<T>(from, down), RunLength<T>(to, down)});
    const TlbEntry& read = at.cpu.tlb_->read.At(from);
    void* host_to = at.cpu.WritePointer(to, sizeof(T));
    if (count == 0 || (from ^ read.tag) >= vmm::kPageSize || !host_to) return 0;
    const auto* source = reinterpret_cast<const uint8_t*>(read.page + (from ^ read.tag));
    auto* out = static_cast<uint8_t*>(host_to);
    // A destination less than an element ahead: a copy by bytes would not do what one by elements
    // does.
    const auto ahead = out - source;
    if (!down && ahead > 0 && ahead < static_cast<ptrdiff_t>(sizeof(T))) return 0;
    uint64_t left = count * sizeof(T);
    const uint64_t below = down ? left - sizeof(T) : 0;
    if (ahead >= static_cast<ptrdiff_t>(left) || -ahead >= static_cast<ptrdiff_t>(left))
      std::memcpy(out - below, source - below, left);
    else if (down)
      MoveDown<T>(out, source, count);
    else
      asm volatile("rep movsb" : "+S"(source), "+D"(out), "+c"(left) : : "memory");
    for (uint8_t reg : {kSi, kDi})
      at.cpu.template SetReg<A>(reg,
                                static_cast<A>(at.cpu.template Reg<A>(reg) +
                                               count * static_cast<uint64_t>(at.Step(sizeof(T)))));
    return count;
  }
};

struct Stos {
  static constexpr bool kCompares = false;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    uint64_t to;
    if (!at.Destination(sizeof(T), Access::kWrite, to) ||
        !at.cpu.Store(to, at.cpu.template Reg<T>(0))) {
      return false;
    }
    at.Advance(kDi, sizeof(T));
    return true;
  }
  template <class T>
  static void Fill(void* host, T value, uint64_t count) {
    if constexpr (sizeof(T) == 1)
      asm volatile("rep stosb" : "+D"(host), "+c"(count) : "a"(value) : "memory");
    else if constexpr (sizeof(T) == 2)
      asm volatile("rep stosw" : "+D"(host), "+c"(count) : "a"(value) : "memory");
    else if constexpr (sizeof(T) == 4)
      asm volatile("rep stosl" : "+D"(host), "+c"(count) : "a"(value) : "memory");
    else
      asm volatile("rep stosq" : "+D"(host), "+c"(count) : "a"(value) : "memory");
  }
  template <class T, class A>
  static uint64_t Bulk(Pointers<A>& at, uint64_t limit) {
    uint64_t to;
    if (at.cpu.rflags_ & eflags::DF || !at.cpu.In64()) return 0;
    if (!at.Destination(sizeof(T), Access::kWrite, to)) return 0;
    const uint64_t count = std::min(limit, RunLength<T>(to));
    void* host = at.cpu.WritePointer(to, sizeof(T));
    if (count == 0 || !host) return 0;
    Fill(host, at.cpu.template Reg<T>(0), count);
    at.cpu.template SetReg<A>(kDi, static_cast<A>(at.cpu.template Reg<A>(kDi) + count * sizeof(T)));
    return count;
  }
};

struct NoBulk {
  template <class T, class A>
  static uint64_t Bulk(Pointers<A>&, uint64_t) {
    return 0;
  }
};

struct Lods : NoBulk {
  static constexpr bool kCompares = false;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    uint64_t from;
    T value;
    if (!at.Source(sizeof(T), from) || !at.cpu.Load(from, value)) return false;
    at.cpu.SetReg(0, value);
    at.Advance(kSi, sizeof(T));
    return true;
  }
};

struct Scas : NoBulk {
  static constexpr bool kCompares = true;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    uint64_t from;
    T value;
    if (!at.Destination(sizeof(T), Access::kRead, from) || !at.cpu.Load(from, value)) return false;
    host::Sub(at.cpu.template Reg<T>(0), value, at.cpu.flags_);
    at.Advance(kDi, sizeof(T));
    return true;
  }
};

struct Cmps : NoBulk {
  static constexpr bool kCompares = true;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    uint64_t first, second;
    T a, b;
    if (!at.Source(sizeof(T), first) || !at.cpu.Load(first, a) ||
        !at.Destination(sizeof(T), Access::kRead, second) || !at.cpu.Load(second, b)) {
      return false;
    }
    host::Sub(a, b, at.cpu.flags_);
    at.Advance(kSi, sizeof(T));
    at.Advance(kDi, sizeof(T));
    return true;
  }
};

struct Ins : NoBulk {
  static constexpr bool kCompares = false;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    const uint16_t port = at.cpu.template Reg<uint16_t>(2 * 8);
    uint64_t to;
    T value = 0;
    if (!at.cpu.IoAllowed(port, sizeof(T)) || !at.Destination(sizeof(T), Access::kWrite, to))
      return false;
    // The page must be writable before the device is read: reading may change it.
    if (!at.cpu.template Modify<T>(to, false, false, [](T same) { return same; })) return false;
    at.cpu.PortRead(port, &value, sizeof(T));
    if (!at.cpu.Store(to, value)) return false;
    at.Advance(kDi, sizeof(T));
    return true;
  }
};

struct Outs : NoBulk {
  static constexpr bool kCompares = false;
  template <class T, class A>
  static bool Once(Pointers<A>& at) {
    const uint16_t port = at.cpu.template Reg<uint16_t>(2 * 8);
    uint64_t from;
    T value;
    if (!at.cpu.IoAllowed(port, sizeof(T)) || !at.Source(sizeof(T), from) ||
        !at.cpu.Load(from, value)) {
      return false;
    }
    at.cpu.PortWrite(port, &value, sizeof(T));
    at.Advance(kSi, sizeof(T));
    return true;
  }
};

template <class Operation, class T, class A>
bool RunOnce(Cpu& cpu, const Op& op) {
  Pointers<A> at{cpu, op};
  return Operation::template Once<T>(at);
}

// RIP is put back on the instruction while iterations remain, so a fault and an interrupt alike
// find it there. Always the last of its block.
template <class Operation, class T, class A>
bool RunRepeated(Cpu& cpu, const Op& op) {
  Pointers<A> at{cpu, op};
  const bool until_unequal = op.mode & Op::kRep;
  const unsigned chunk = cpu.stepping() ? 1 : kChunk;
  for (unsigned i = 0; i < chunk; ++i) {
    const A count = at.Count();
    if (count == 0) return true;
    if (chunk > 1) {
      if (const uint64_t done = Operation::template Bulk<T>(at, count)) {
        at.SetCount(static_cast<A>(count - done));
        i += 64;
        continue;
      }
    }
    if (!Operation::template Once<T>(at)) return false;
    at.SetCount(static_cast<A>(count - 1));
    if constexpr (Operation::kCompares) {
      if (static_cast<bool>(cpu.flags_ & kZeroFlag) != until_unequal) return true;
    }
    if (cpu.debug_trap_pending()) break;
  }
  if (at.Count() == 0) return true;
  cpu.r[kRip] -= op.length;
  cpu.incomplete_ = true;
  cpu.rflags_ |= eflags::RF;  // going on with it is not meeting it again. [SDM 3B] 17.3.1.1
  return false;
}

template <class Operation>
Handler Choose(const Insn& insn, unsigned bits) {
  const bool repeated = insn.rep || insn.repne;
  return BySize(bits, [&](auto z) -> Handler {
    using T = decltype(z);
    return BySize(insn.address_bits, [&](auto a) -> Handler {
      using A = decltype(a);
      if constexpr (sizeof(A) == 1)
        return nullptr;
      else
        return repeated ? &RunRepeated<Operation, T, A> : &RunOnce<Operation, T, A>;
    });
  });
}

}  // namespace

bool SelectString(const Insn& insn, Op& op) {
  // The source's segment is DS, or what a prefix says; Zydis gives it with the memory operand.
  switch (insn.mnemonic) {
    case Mnemonic::MOVSB:
    case Mnemonic::MOVSW:
    case Mnemonic::MOVS_D:
    case Mnemonic::MOVSQ:
    case Mnemonic::LODSB:
    case Mnemonic::LODSW:
    case Mnemonic::LODSD:
    case Mnemonic::LODSQ:
    case Mnemonic::CMPSB:
    case Mnemonic::CMPSW:
    case Mnemonic::CMPS_D:
    case Mnemonic::CMPSQ:
    case Mnemonic::OUTSB:
    case Mnemonic::OUTSW:
    case Mnemonic::OUTSD:
      op.seg = insn.string_segment;
      break;
    default:
      break;
  }
  switch (insn.mnemonic) {
    case Mnemonic::MOVSB:
      return Use(op, Choose<Movs>(insn, 8));
    case Mnemonic::MOVSW:
      return Use(op, Choose<Movs>(insn, 16));
    case Mnemonic::MOVS_D:
      return Use(op, Choose<Movs>(insn, 32));
    case Mnemonic::MOVSQ:
      return Use(op, Choose<Movs>(insn, 64));
    case Mnemonic::STOSB:
      return Use(op, Choose<Stos>(insn, 8));
    case Mnemonic::STOSW:
      return Use(op, Choose<Stos>(insn, 16));
    case Mnemonic::STOSD:
      return Use(op, Choose<Stos>(insn, 32));
    case Mnemonic::STOSQ:
      return Use(op, Choose<Stos>(insn, 64));
    case Mnemonic::LODSB:
      return Use(op, Choose<Lods>(insn, 8));
    case Mnemonic::LODSW:
      return Use(op, Choose<Lods>(insn, 16));
    case Mnemonic::LODSD:
      return Use(op, Choose<Lods>(insn, 32));
    case Mnemonic::LODSQ:
      return Use(op, Choose<Lods>(insn, 64));
    case Mnemonic::SCASB:
      return Use(op, Choose<Scas>(insn, 8));
    case Mnemonic::SCASW:
      return Use(op, Choose<Scas>(insn, 16));
    case Mnemonic::SCASD:
      return Use(op, Choose<Scas>(insn, 32));
    case Mnemonic::SCASQ:
      return Use(op, Choose<Scas>(insn, 64));
    case Mnemonic::CMPSB:
      return Use(op, Choose<Cmps>(insn, 8));
    case Mnemonic::CMPSW:
      return Use(op, Choose<Cmps>(insn, 16));
    case Mnemonic::CMPS_D:
      return Use(op, Choose<Cmps>(insn, 32));
    case Mnemonic::CMPSQ:
      return Use(op, Choose<Cmps>(insn, 64));
    case Mnemonic::INSB:
      return Use(op, Choose<Ins>(insn, 8));
    case Mnemonic::INSW:
      return Use(op, Choose<Ins>(insn, 16));
    case Mnemonic::INSD:
      return Use(op, Choose<Ins>(insn, 32));
    case Mnemonic::OUTSB:
      return Use(op, Choose<Outs>(insn, 8));
    case Mnemonic::OUTSW:
      return Use(op, Choose<Outs>(insn, 16));
    case Mnemonic::OUTSD:
      return Use(op, Choose<Outs>(insn, 32));
    default:
      return false;
  }
}

}  // namespace bt
