// Instructions about segments and descriptor tables: LDS.., LAR LSL VERR VERW ARPL, LGDT.. STR,
// SWAPGS, FSGSBASE.
#include "bt/interp/families.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

// aux: segment register | operand bytes are T.
template <class T>
bool LoadFarPointer(Cpu& cpu, const Op& op) {
  T offset;
  uint16_t selector;
  uint64_t linear;
  if (!cpu.Address(op, sizeof(T) + 2, Access::kRead, linear) || !cpu.Load(linear, offset) ||
      !cpu.Load(linear + sizeof(T), selector) ||
      !cpu.LoadSegment(static_cast<vmm::Seg>(op.aux), selector)) {
    return false;
  }
  cpu.SetReg<T>(op.dst, offset);
  return false;
}

void SetZero(Cpu& cpu, bool zero) {
  cpu.flags_ = static_cast<Flags>((cpu.flags_ & ~kZeroFlag) | (zero ? kZeroFlag : 0));
}

// Reads the descriptor without raising anything but page faults; false in *found beyond a table.
bool Peek(Cpu& cpu, uint16_t selector, bool* found, uint64_t& low) {
  *found = false;
  if ((selector & 0xfffc) == 0) return true;
  const bool local = selector & 4;
  if (local && cpu.ldtr_.unusable()) return true;
  const uint64_t base = local ? cpu.ldtr_.base : cpu.gdtr_.base;
  const uint32_t limit = local ? cpu.ldtr_.limit : cpu.gdtr_.limit;
  if ((selector & 0xfff8u) + 7 > limit) return true;
  if (!cpu.LoadSystem(base + (selector & 0xfff8), low)) return false;
  *found = true;
  return true;
}

bool Visible(const Cpu& cpu, uint16_t selector, const vmm::SegmentState& state) {
  const bool conforming = state.s() && (state.type() & 12) == 12;
  return conforming || (state.dpl() >= cpu.cpl_ && state.dpl() >= (selector & 3));
}

// Which system descriptors LAR and LSL take. [SDM 2A] tables 3-53, 3-56
bool SystemTypeValid(const Cpu& cpu, unsigned type, bool limit) {
  if (cpu.LongMode()) return type == 2 || type == 9 || type == 11 || (!limit && type == 12);
  const unsigned with_limit = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
  const unsigned gates = 1 << 4 | 1 << 5 | 1 << 12;
  return (with_limit | (limit ? 0 : gates)) >> type & 1;
}

bool ReadSelector(Cpu& cpu, const Op& op, bool second, uint16_t& selector) {
  if (op.aux) return cpu.LoadOperand(op, selector);
  selector = cpu.Reg<uint16_t>(second ? op.src : op.dst);
  return true;
}

template <class T, bool kLimit>
bool LarOrLsl(Cpu& cpu, const Op& op) {
  if (!cpu.ProtectedMode()) return cpu.Raise(kUD);
  uint16_t selector;
  uint64_t low = 0;
  bool found;
  if (!ReadSelector(cpu, op, true, selector) || !Peek(cpu, selector, &found, low)) return false;
  const vmm::SegmentState state = Cpu::ParseDescriptor(selector, low);
  const bool good = found && Visible(cpu, selector, state) &&
                    (state.s() || SystemTypeValid(cpu, state.type(), kLimit));
  SetZero(cpu, good);
  if (good) cpu.SetReg<T>(op.dst, static_cast<T>(kLimit ? state.limit : (low >> 32) & 0xf0ff00));
  return false;
}

template <bool kWrite>
bool Verify(Cpu& cpu, const Op& op) {
  if (!cpu.ProtectedMode()) return cpu.Raise(kUD);
  uint16_t selector;
  uint64_t low = 0;
  bool found;
  if (!ReadSelector(cpu, op, false, selector) || !Peek(cpu, selector, &found, low)) return false;
  const vmm::SegmentState state = Cpu::ParseDescriptor(selector, low);
  const bool code = state.type() & 8;
  const bool right = kWrite ? !code && (state.type() & 2) : !code || (state.type() & 2);
  SetZero(cpu, found && state.s() && right && Visible(cpu, selector, state));
  return false;
}

bool Arpl(Cpu& cpu, const Op& op) {
  if (!cpu.ProtectedMode()) return cpu.Raise(kUD);
  const uint16_t rpl = cpu.Reg<uint16_t>(op.src) & 3;
  bool raised = false;
  const auto adjust = [&](uint16_t value) {
    raised = (value & 3) < rpl;
    return static_cast<uint16_t>(raised ? (value & ~3) | rpl : value);
  };
  if (op.aux) {
    uint64_t linear;
    uint16_t value;
    const bool stack = op.mode & Op::kStack;
    if (!cpu.Address(op, 2, Access::kRead, linear) || !cpu.Load(linear, value, stack)) return false;
    const uint16_t adjusted = adjust(value);  // nothing is written when nothing changes
    if (raised && !cpu.StoreOperand(op, adjusted)) return false;
  } else {
    cpu.SetReg<uint16_t>(op.dst, adjust(cpu.Reg<uint16_t>(op.dst)));
  }
  SetZero(cpu, raised);
  return false;
}

bool Privileged(Cpu& cpu) {
  return cpu.cpl_ == 0 || cpu.Raise(kGP, 0);
}
bool UmipAllows(Cpu& cpu) {
  return cpu.cpl_ == 0 || !(cpu.cr4_ & cr4::UMIP) || cpu.Raise(kGP, 0);
}

// aux: 1 = IDT; src2: base bytes kept for a 16-bit operand (24 bits).
template <bool kIdt>
bool LoadTable(Cpu& cpu, const Op& op) {
  if (!Privileged(cpu)) return false;
  const unsigned base_bytes = cpu.In64() ? 8 : 4;
  uint64_t linear, base = 0;
  uint16_t limit;
  if (!cpu.Address(op, 2 + base_bytes, Access::kRead, linear) || !cpu.Load(linear, limit) ||
      !cpu.LoadSlow(linear + 2, &base, base_bytes, false, cpu.view_)) {
    return false;
  }
  if (!cpu.In64() && op.aux == 16) base &= 0xffffff;
  if (!Canonical(base)) return cpu.Raise(kGP, 0);
  (kIdt ? cpu.idtr_ : cpu.gdtr_) = {base, limit};
  return false;
}

template <bool kIdt>
bool StoreTable(Cpu& cpu, const Op& op) {
  if (!UmipAllows(cpu)) return false;
  const vmm::DescriptorTable& table = kIdt ? cpu.idtr_ : cpu.gdtr_;
  const unsigned size = cpu.In64() ? 10 : 6;
  uint8_t image[10];
  std::memcpy(image, &table.limit, 2);
  std::memcpy(image + 2, &table.base, 8);
  uint64_t linear;
  return cpu.Address(op, size, Access::kWrite, linear) &&
         cpu.StoreSlow(linear, image, size, op.mode & Op::kStack, cpu.view_) && false;
}

template <bool kTask>
bool LoadSystemSegment(Cpu& cpu, const Op& op) {
  if (!cpu.ProtectedMode()) return cpu.Raise(kUD);
  if (!Privileged(cpu)) return false;
  uint16_t selector;
  if (!ReadSelector(cpu, op, false, selector)) return false;
  const uint16_t error = selector & 0xfffc;
  if (error == 0) {
    if (kTask) return cpu.Raise(kGP, 0);
    cpu.ldtr_ = vmm::SegmentState{};
    cpu.ldtr_.selector = selector;
    cpu.ldtr_.access = vmm::SegmentState::kUnusable;
    return false;
  }
  if (selector & 4) return cpu.Raise(kGP, error);
  uint64_t low, high = 0;
  if (!cpu.FetchDescriptor(selector, low, cpu.LongMode() ? &high : nullptr, kGP)) return false;
  vmm::SegmentState state = Cpu::ParseDescriptor(selector, low);
  const unsigned type = state.type();
  const bool good_type = kTask ? type == 9 || (type == 1 && !cpu.LongMode()) : type == 2;
  if (state.s() || !good_type) return cpu.Raise(kGP, error);
  if (!state.present()) return cpu.Raise(kNP, error);
  state.base |= high << 32;
  if (!Canonical(state.base)) return cpu.Raise(kGP, error);
  if (kTask) {  // busy from now on
    const auto byte = static_cast<uint8_t>((low >> 40) | 2);
    if (!cpu.StoreSystem<uint8_t>(cpu.gdtr_.base + (selector & 0xfff8) + 5, byte)) return false;
    state.access |= 2;
  }
  (kTask ? cpu.tr_ : cpu.ldtr_) = state;
  return false;
}

template <bool kTask>
bool StoreSystemSegment(Cpu& cpu, const Op& op) {
  if (!cpu.ProtectedMode()) return cpu.Raise(kUD);
  if (!UmipAllows(cpu)) return false;
  const uint16_t selector = kTask ? cpu.tr_.selector : cpu.ldtr_.selector;
  if (op.aux == 1) return cpu.StoreOperand<uint16_t>(op, selector) && false;
  if (op.src2 == 16)
    cpu.SetReg<uint16_t>(op.dst, selector);
  else
    cpu.SetReg<uint64_t>(op.dst, selector);
  return false;
}

bool Smsw(Cpu& cpu, const Op& op) {
  if (!UmipAllows(cpu)) return false;
  if (op.aux == 1) return cpu.StoreOperand<uint16_t>(op, static_cast<uint16_t>(cpu.cr0_)) && false;
  if (op.src2 == 16)
    cpu.SetReg<uint16_t>(op.dst, static_cast<uint16_t>(cpu.cr0_));
  else if (op.src2 == 32)
    cpu.SetReg<uint32_t>(op.dst, static_cast<uint32_t>(cpu.cr0_));
  else
    cpu.SetReg<uint64_t>(op.dst, cpu.cr0_);
  return false;
}

bool Lmsw(Cpu& cpu, const Op& op) {
  if (!Privileged(cpu)) return false;
  uint16_t value;
  if (!ReadSelector(cpu, op, false, value)) return false;
  const uint64_t sticky = cpu.cr0_ & cr0::PE;  // LMSW can't clear PE
  cpu.WriteCr0((cpu.cr0_ & ~15ull) | (value & 15) | sticky);
  return false;
}

bool Swapgs(Cpu& cpu, const Op&) {
  if (!cpu.In64()) return cpu.Raise(kUD);
  if (!Privileged(cpu)) return false;
  vmm::SegmentState& gs = cpu.seg_[static_cast<unsigned>(vmm::Seg::GS)];
  std::swap(gs.base, cpu.msr_.kernel_gs_base);
  cpu.seg_base_[static_cast<unsigned>(vmm::Seg::GS)] = gs.base;
  return true;
}

template <class T, bool kWrite>
bool SegmentBase(Cpu& cpu, const Op& op) {
  if (!cpu.In64() || !(cpu.cr4_ & cr4::FSGSBASE)) return cpu.Raise(kUD);
  vmm::SegmentState& state = cpu.seg_[op.aux];
  if constexpr (kWrite) {
    const uint64_t base = cpu.Reg<T>(op.dst);
    if (!Canonical(base)) return cpu.Raise(kGP, 0);
    state.base = base;
    cpu.seg_base_[op.aux] = base;
  } else {
    cpu.SetReg<T>(op.dst, static_cast<T>(state.base));
  }
  return true;
}

bool UseSegmentBase(const Insn& insn, Op& op, vmm::Seg segment, bool write) {
  op.aux = static_cast<uint8_t>(segment);
  if (insn.operand[0].bits == 64) {
    return Use(op, write ? &SegmentBase<uint64_t, true> : &SegmentBase<uint64_t, false>);
  }
  return Use(op, write ? &SegmentBase<uint32_t, true> : &SegmentBase<uint32_t, false>);
}

bool UseFarPointer(const Insn& insn, Op& op, vmm::Seg segment) {
  op.aux = static_cast<uint8_t>(segment);
  switch (insn.operand_bits) {
    case 16:
      return Use(op, &LoadFarPointer<uint16_t>);
    case 32:
      return Use(op, &LoadFarPointer<uint32_t>);
    default:
      return Use(op, &LoadFarPointer<uint64_t>);
  }
}

template <bool kLimit>
bool UseLarOrLsl(const Insn& insn, Op& op) {
  op.aux = IsMem(insn.operand[1]);
  return Use(op, BySize(insn.operand[0].bits,
                        [](auto z) -> Handler { return &LarOrLsl<decltype(z), kLimit>; }));
}

}  // namespace

bool SelectSegment(const Insn& insn, Op& op) {
  const Operand& first = insn.operand[0];
  op.aux = IsMem(first);
  switch (insn.mnemonic) {
    case Mnemonic::LES:
      return UseFarPointer(insn, op, vmm::Seg::ES);
    case Mnemonic::LDS:
      return UseFarPointer(insn, op, vmm::Seg::DS);
    case Mnemonic::LSS:
      return UseFarPointer(insn, op, vmm::Seg::SS);
    case Mnemonic::LFS:
      return UseFarPointer(insn, op, vmm::Seg::FS);
    case Mnemonic::LGS:
      return UseFarPointer(insn, op, vmm::Seg::GS);
    case Mnemonic::LAR:
      return UseLarOrLsl<false>(insn, op);
    case Mnemonic::LSL:
      return UseLarOrLsl<true>(insn, op);
    case Mnemonic::VERR:
      return Use(op, &Verify<false>);
    case Mnemonic::VERW:
      return Use(op, &Verify<true>);
    case Mnemonic::ARPL:
      return Use(op, &Arpl);
    case Mnemonic::LGDT:
      op.aux = insn.operand_bits;
      return Use(op, &LoadTable<false>);
    case Mnemonic::LIDT:
      op.aux = insn.operand_bits;
      return Use(op, &LoadTable<true>);
    case Mnemonic::SGDT:
      return Use(op, &StoreTable<false>);
    case Mnemonic::SIDT:
      return Use(op, &StoreTable<true>);
    case Mnemonic::LLDT:
      return Use(op, &LoadSystemSegment<false>);
    case Mnemonic::LTR:
      return Use(op, &LoadSystemSegment<true>);
    case Mnemonic::SLDT:
      op.src2 = insn.operand_bits;
      return Use(op, &StoreSystemSegment<false>);
    case Mnemonic::STR:
      op.src2 = insn.operand_bits;
      return Use(op, &StoreSystemSegment<true>);
    case Mnemonic::SMSW:
      op.src2 = insn.operand_bits;
      return Use(op, &Smsw);
    case Mnemonic::LMSW:
      return Use(op, &Lmsw);
    case Mnemonic::SWAPGS:
      return Use(op, &Swapgs);
    case Mnemonic::RDFSBASE:
      return UseSegmentBase(insn, op, vmm::Seg::FS, false);
    case Mnemonic::RDGSBASE:
      return UseSegmentBase(insn, op, vmm::Seg::GS, false);
    case Mnemonic::WRFSBASE:
      return UseSegmentBase(insn, op, vmm::Seg::FS, true);
    case Mnemonic::WRGSBASE:
      return UseSegmentBase(insn, op, vmm::Seg::GS, true);
    default:
      return false;
  }
}

}  // namespace bt
