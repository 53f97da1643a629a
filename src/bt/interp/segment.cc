// Segment registers, descriptors and the mode that follows from them. [SDM 3A] 3.4, 5
#include "bt/interp/cpu.h"

namespace bt {

vmm::SegmentState Cpu::ParseDescriptor(uint16_t selector, uint64_t low) {
  vmm::SegmentState state;
  state.selector = selector;
  state.access = (low >> 40) & 0xf0ff;
  state.limit = (low & 0xffff) | ((low >> 32) & 0xf0000);
  if (state.g()) state.limit = (state.limit << 12) | 0xfff;
  state.base = ((low >> 16) & 0xffffff) | ((low >> 32) & 0xff000000);
  return state;
}

// Reads the 8-byte descriptor (16 bytes where `high` is wanted); raises `vector`(selector) beyond
// the table.
bool Cpu::FetchDescriptor(uint16_t selector, uint64_t& low, uint64_t* high, uint8_t vector) {
  const bool local = selector & 4;
  if (local && ldtr_.unusable()) return Raise(vector, selector & 0xfffc);
  const uint64_t base = local ? ldtr_.base : gdtr_.base;
  const uint32_t limit = local ? ldtr_.limit : gdtr_.limit;
  const unsigned offset = selector & 0xfff8;
  if (offset + (high ? 15 : 7) > limit) return Raise(vector, selector & 0xfffc);
  if (!LoadSystem(base + offset, low)) return false;
  return !high || LoadSystem(base + offset + 8, *high);
}

bool Cpu::SetAccessed(uint16_t selector, uint64_t low) {
  if (low & (1ull << 40)) return true;
  const uint64_t base = (selector & 4) ? ldtr_.base : gdtr_.base;
  return StoreSystem<uint8_t>(base + (selector & 0xfff8) + 5,
                              static_cast<uint8_t>((low >> 40) | 1));
}

void Cpu::SetSegment(vmm::Seg segment, const vmm::SegmentState& state) {
  const unsigned i = static_cast<unsigned>(segment);
  seg_[i] = state;
  seg_base_[i] = state.base;
  if (segment == vmm::Seg::CS || segment == vmm::Seg::SS) UpdateMode();
}

void Cpu::LoadRealSegment(vmm::Seg segment, uint16_t selector) {
  vmm::SegmentState state = seg_[static_cast<unsigned>(segment)];
  state.selector = selector;
  state.base = static_cast<uint64_t>(selector) << 4;
  if (V86()) {
    state.limit = 0xffff;
    state.access = 0xf3;
  } else if (segment == vmm::Seg::CS) {
    state.access = 0x93;  // limit and D stay as they were ("unreal" mode). [SDM 3A] 9.9.2
  } else {
    state.access = (state.access & 0xc000) | 0x93;
  }
  SetSegment(segment, state);
}

void Cpu::SetCpl(uint8_t cpl) {
  cpl_ = cpl;
  UpdateMode();
}

// Everything that is derived from control registers, CS, SS, CPL and AC.
void Cpu::UpdateMode() {
  const vmm::SegmentState& cs = seg_[static_cast<unsigned>(vmm::Seg::CS)];
  const vmm::SegmentState& ss = seg_[static_cast<unsigned>(vmm::Seg::SS)];
  if (LongMode() && cs.l())
    code_size_ = CodeSize::k64;
  else
    code_size_ = cs.db() && !V86() ? CodeSize::k32 : CodeSize::k16;
  if (In64())
    sp_mask_ = ~0ull;
  else
    sp_mask_ = ss.db() && !V86() ? 0xffffffff : 0xffff;
  if (cpl_ == 3)
    view_ = (cr0_ & cr0::AM) && (rflags_ & eflags::AC) ? View::kUserAligned : View::kUser;
  else
    view_ = (cr4_ & cr4::SMAP) && (rflags_ & eflags::AC) ? View::kSupervisorAc : View::kSupervisor;
  tlb_ = views_[static_cast<unsigned>(view_)];
  UpdateKey();
}

bool Cpu::LoadSegment(vmm::Seg segment, uint16_t selector) {
  if (!ProtectedMode()) {
    LoadRealSegment(segment, selector);
    return true;
  }
  const unsigned rpl = selector & 3;
  const bool stack = segment == vmm::Seg::SS;
  const uint16_t error = selector & 0xfffc;
  if (error == 0) {  // null selector
    if (stack && !(In64() && cpl_ < 3 && rpl == cpl_)) return Raise(kGP, 0);
    vmm::SegmentState null;
    null.selector = selector;
    null.access = vmm::SegmentState::kUnusable;
    if (stack) null.access |= static_cast<uint32_t>(cpl_) << 5 | 0x4000;
    // AMD keeps base and limit of a null-loaded segment; Intel clears them. [APM 2] 4.5.1
    SetSegment(segment, null);
    return true;
  }
  uint64_t low;
  if (!FetchDescriptor(selector, low, nullptr, kGP)) return false;
  vmm::SegmentState state = ParseDescriptor(selector, low);
  const bool code = state.type() & 8;
  if (stack) {
    if (rpl != cpl_ || !state.s() || code || !(state.type() & 2) || state.dpl() != cpl_) {
      return Raise(kGP, error);
    }
    if (!state.present()) return Raise(kSS, error);
  } else {
    if (!state.s() || (code && !(state.type() & 2))) return Raise(kGP, error);
    const bool conforming = code && (state.type() & 4);
    if (!conforming && (rpl > state.dpl() || cpl_ > state.dpl())) return Raise(kGP, error);
    if (!state.present()) return Raise(kNP, error);
  }
  if (!SetAccessed(selector, low)) return false;
  state.access |= 1;
  SetSegment(segment, state);
  return true;
}

void Cpu::SetRflags(uint64_t value) {
  const uint64_t before = rflags_;
  flags_ = EflagsToFlags(value);
  rflags_ = (value & eflags::KEPT) | 2;
  const uint64_t changed = before ^ rflags_;
  // What comes later sets attention_.
  if ((changed & rflags_ & eflags::IF) && apic_->HasDeliverable()) RecheckInterrupts();
  if (changed & (eflags::AC | eflags::VM)) UpdateMode();
}

// ---- Stack

bool Cpu::StackAddress(uint64_t offset, unsigned size, Access access, uint64_t& linear) {
  if (In64()) {
    linear = offset;
    return true;
  }
  return SegmentAddress(vmm::Seg::SS, offset & sp_mask_, size, access, linear);
}

bool Cpu::Push(uint64_t value, unsigned bytes) {
  const uint64_t sp = StackOffset(-static_cast<int64_t>(bytes));
  uint64_t linear;
  if (!StackAddress(sp, bytes, Access::kWrite, linear)) return false;
  bool stored;
  switch (bytes) {
    case 2:
      stored = Store<uint16_t>(linear, static_cast<uint16_t>(value), true);
      break;
    case 4:
      stored = Store<uint32_t>(linear, static_cast<uint32_t>(value), true);
      break;
    default:
      stored = Store<uint64_t>(linear, value, true);
      break;
  }
  if (stored) r[4] = sp;
  return stored;
}

bool Cpu::Pop(uint64_t& value, unsigned bytes) {
  uint64_t linear;
  if (!StackAddress(StackOffset(0), bytes, Access::kRead, linear)) return false;
  value = 0;
  bool loaded;
  switch (bytes) {
    case 2: {
      uint16_t part = 0;
      loaded = Load(linear, part, true);
      value = part;
      break;
    }
    case 4: {
      uint32_t part = 0;
      loaded = Load(linear, part, true);
      value = part;
      break;
    }
    default:
      loaded = Load(linear, value, true);
      break;
  }
  if (loaded) r[4] = StackOffset(bytes);
  return loaded;
}

}  // namespace bt
