// Linear to physical: page walks, the soft TLB's slow path, physical accesses. [SDM 3A] 4
#include <algorithm>
#include <atomic>

#include "bt/interp/cpu.h"
#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

// Page-fault error code. [SDM 3A] 4.7
constexpr uint32_t kErrPresent = 1, kErrWrite = 2, kErrUser = 4, kErrReserved = 8, kErrFetch = 16;

constexpr PageLevel kPae[] = {{21, 9, 8, true}, {12, 9, 8, false}};
constexpr PageLevel kLegacy[] = {{22, 10, 4, true}, {12, 10, 4, false}};

}  // namespace

// The four PDPTEs are loaded with CR3, not walked. [SDM 3A] 4.4.1
bool Cpu::LoadPdptes(uint64_t cr3) {
  std::array<uint64_t, 4> entries{};
  PhysicalRead(cr3 & 0xffffffe0 & vm_.address_mask(), entries.data(), sizeof(entries));
  for (uint64_t entry : entries) {
    constexpr uint64_t kReserved = 0x1e6;
    if ((entry & kPresent) && (entry & (kReserved | reserved_address_bits_))) return Raise(kGP, 0);
  }
  pdpte_ = entries;
  return true;
}

bool Cpu::Walk(uint64_t linear, Access access, View view, uint64_t* phys, bool* global_page) {
  ++tlb_misses_;
  const bool user = IsUser(view);
  const bool nx = (efer_ & efer::NXE) && (cr4_ & cr4::PAE);
  const bool write_protect = user || (cr0_ & cr0::WP);
  uint32_t error = (access == Access::kWrite ? kErrWrite : 0) | (user ? kErrUser : 0);
  if (access == Access::kExecute && (nx || (cr4_ & cr4::SMEP))) error |= kErrFetch;

  const PageLevel* level = kLong;
  unsigned levels = 4;
  uint64_t table = cr3_ & kAddressMask;
  uint64_t allowed = kWritable | kUser;
  bool no_execute = false;
  if (!LongMode()) {
    linear &= 0xffffffff;
    if (cr4_ & cr4::PAE) {
      const uint64_t pdpte = pdpte_[linear >> 30];
      if (!(pdpte & kPresent)) return RaisePageFault(linear, error);
      level = kPae;
      table = pdpte & kAddressMask;
    } else {
      level = kLegacy;
      table = cr3_ & 0xfffff000;
    }
    levels = 2;
  }
  const bool pse = LongMode() || (cr4_ & (cr4::PAE | cr4::PSE));

  for (unsigned depth = 0;; ++depth, ++level) {
    const uint64_t index = (linear >> level->shift) & ((1u << level->bits) - 1);
    const uint64_t at = (table + index * level->entry_size) & vm_.address_mask();
    uint8_t* host = memory_.Host(vmm::GuestPhys(at), level->entry_size);
    if (!host) return RaisePageFault(linear, error);
    uint64_t entry = level->entry_size == 8 ? LoadHost<uint64_t>(host) : LoadHost<uint32_t>(host);
    for (;;) {
      if (!(entry & kPresent)) return RaisePageFault(linear, error);
      const bool leaf = depth + 1 == levels || (level->may_be_large && pse && (entry & kLarge));
      uint64_t reserved = 0;
      if (level->entry_size == 8) {
        reserved = reserved_address_bits_ & kAddressMask;
        if (!nx) reserved |= kNoExecute;
        if (!LongMode()) reserved |= 0x7ff0000000000000;
        if (leaf && level->shift > 12)
          reserved |= ((1ull << level->shift) - 1) & 0xffffffffffffe000;
        if (LongMode() && depth == 0) reserved |= kLarge;
      } else if (leaf && level->shift > 12) {
        reserved = 1 << 21;  // PSE-36 gives bits 20:13 a meaning
      }
      if (entry & reserved) return RaisePageFault(linear, error | kErrPresent | kErrReserved);
      const uint64_t rights = allowed & entry;
      const bool never_execute =
          no_execute || (nx && level->entry_size == 8 && (entry & kNoExecute));
      if (leaf) {
        const bool user_page = rights & kUser;
        bool bad = user && !user_page;
        if (access == Access::kWrite) bad |= write_protect && !(rights & kWritable);
        if (access == Access::kExecute) {
          bad |= never_execute || (!user && user_page && (cr4_ & cr4::SMEP));
        } else {
          bad |= view == View::kSupervisor && user_page && (cr4_ & cr4::SMAP);
        }
        if (bad) return RaisePageFault(linear, error | kErrPresent);
      }
      const uint64_t wanted = entry | kAccessed | (leaf && access == Access::kWrite ? kDirty : 0);
      // In ROM nothing is kept; the walk goes on all the same.
      bool stored = wanted == entry || !memory_.Ram(vmm::GuestPhys(at), level->entry_size);
      if (!stored) {
        if (level->entry_size == 8) {
          stored = __atomic_compare_exchange_n(reinterpret_cast<uint64_t*>(host), &entry, wanted,
                                               false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        } else {
          uint32_t old32 = static_cast<uint32_t>(entry);
          stored = __atomic_compare_exchange_n(reinterpret_cast<uint32_t*>(host), &old32,
                                               static_cast<uint32_t>(wanted), false,
                                               __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
          if (!stored) entry = old32;
        }
      }
      if (!stored) continue;  // another processor changed the entry: look at it again
      allowed = rights;
      no_execute = never_execute;
      if (!leaf) break;
      const uint64_t offset_mask = (1ull << level->shift) - 1;
      if (level->shift > 12) banks_.NoteLargePage(linear, level->shift);
      uint64_t frame = entry & kAddressMask & ~offset_mask;
      if (level->entry_size == 4 && level->shift == 22) {
        frame = (entry & 0xffc00000) | ((entry & 0x1fe000) << 19);  // PSE-36. [SDM 3A] 4.3
      }
      *phys = frame | (linear & offset_mask);
      if (global_page) *global_page = (entry & kGlobal) && (cr4_ & cr4::PGE);
      return true;
    }
    table = entry & (level->entry_size == 8 ? kAddressMask : 0xfffff000);
  }
}

bool Cpu::Translate(uint64_t linear, Access access, View view, uint64_t* phys, bool* global_page) {
  if (!(cr0_ & cr0::PG)) {
    *phys = linear & 0xffffffff & vm_.address_mask();
    return true;
  }
  if (!Walk(linear, access, view, phys, global_page)) return false;
  *phys &= vm_.address_mask();
  return true;
}

bool Cpu::TranslateCanonical(uint64_t linear, Access access, bool stack, View view,
                             uint64_t* phys) {
  if (LongMode() && In64() && !Canonical(linear)) return Raise(stack ? kSS : kGP, 0);
  return Translate(linear, access, view, phys, nullptr);
}

uint8_t* Cpu::InstallTlb(uint64_t linear, uint64_t phys, Access access, View view, bool global) {
  if (!LongMode()) linear &= 0xffffffff;
  const uint64_t page = linear & kPageMask, frame = phys & kPageMask;
  const bool write = access == Access::kWrite;
  if (view == View::kUserAligned || debug_.WatchesPage(page, write) ||
      debugger_.points().WatchesPage(page, write)) {
    return nullptr;
  }
  uint8_t* host = write ? memory_.Ram(vmm::GuestPhys(frame), vmm::kPageSize)
                        : memory_.Host(vmm::GuestPhys(frame), vmm::kPageSize);
  if (!host || (write && !vm_.MayWrite(id_, frame))) return nullptr;
  banks_.NotePage(view, page, global);
  TlbBank& bank = banks_.bank(view);
  if (write)
    bank.SetWrite(page, reinterpret_cast<uint64_t>(host));
  else
    bank.SetRead(page, reinterpret_cast<uint64_t>(host));
  if (!write && global && view == View::kSupervisor) LearnRange(page);
  return host;
}

void Cpu::PhysicalRead(uint64_t phys, void* data, unsigned size) {
  if (const uint8_t* host = memory_.Host(vmm::GuestPhys(phys), size)) {
    std::memcpy(data, host, size);
    return;
  }
  const std::span<uint8_t> bytes(static_cast<uint8_t*>(data), size);
  const uint64_t apic_offset = phys - (apic_->apic_base() & kAddressMask);
  if (apic_offset < vmm::kPageSize) return apic_->Read(apic_offset, bytes);
  for (unsigned done = 0; done < size;) {
    const unsigned part = std::min(8u, std::bit_floor(size - done));
    vm_.parts().mmio.Read(phys + done, bytes.subspan(done, part));
    done += part;
  }
}

// Whole where the guest's store is whole.
void Cpu::StoreBytes(uint8_t* host, const void* data, unsigned size) {
  switch (size) {
    case 2:
      return StoreHost(host, *static_cast<const uint16_t*>(data));
    case 4:
      return StoreHost(host, *static_cast<const uint32_t*>(data));
    case 8:
      return StoreHost(host, *static_cast<const uint64_t*>(data));
    default:
      std::memcpy(host, data, size);
  }
}

void Cpu::PhysicalWrite(uint64_t phys, const void* data, unsigned size) {
  if (uint8_t* host = memory_.Ram(vmm::GuestPhys(phys), size)) {
    StoreBytes(host, data, size);
    return NoteRamWrite(phys, size);
  }
  const std::span<const uint8_t> bytes(static_cast<const uint8_t*>(data), size);
  const uint64_t apic_offset = phys - (apic_->apic_base() & kAddressMask);
  if (apic_offset < vmm::kPageSize) return apic_->Write(apic_offset, bytes);
  for (unsigned done = 0; done < size;) {
    const unsigned part = std::min(8u, std::bit_floor(size - done));
    vm_.parts().mmio.Write(phys + done, bytes.subspan(done, part));
    done += part;
  }
}

// RAM was written outside the fast path: decoded code there is stale, here and elsewhere.
void Cpu::NoteRamWrite(uint64_t phys, unsigned size) {
  // Another vCPU that marks the page now must either find the new bytes or be found in the mask;
  // MarkCode() does not stop the world where no TLB lets the page be written.
  if (vm_.parts().cpu_count > 1) std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint8_t mask = vm_.CodeMask(phys);
  if (mask == 0) return;
  if (mask & (1u << id_)) {
    blocks_.Invalidate(phys, size);
    if (!blocks_.HasCode(phys & kPageMask)) vm_.UnmarkCode(*this, phys);
  }
  vm_.CodeWritten(this, phys, size);
}

bool Cpu::AccessPage(uint64_t linear, void* data, unsigned size, Access access, View view) {
  uint64_t phys;
  bool global = false;
  if (!Translate(linear, access, view, &phys, &global)) return false;
  if (uint8_t* page = InstallTlb(linear, phys, access, view, global)) {  // as the fast path
    uint8_t* host = page + (phys & ~kPageMask);
    if (access == Access::kWrite)
      StoreBytes(host, data, size);
    else
      std::memcpy(data, host, size);
    return true;
  }
  if (access == Access::kWrite)
    PhysicalWrite(phys, data, size);
  else
    PhysicalRead(phys, data, size);
  NoteAccess(linear, size, access == Access::kWrite);
  return true;
}

// Alignment checking, which looks at operands of up to 10 bytes; larger ones have rules of their
// own. A page fault comes first. [SDM 3A] 6.15, interrupt 17
bool Cpu::Aligned(uint64_t linear, unsigned size, Access access) {
  constexpr uint8_t kMask[] = {0, 0, 1, 0, 3, 0, 3, 0, 7, 0, 7};
  if (size >= std::size(kMask) || !(linear & kMask[size])) return true;
  uint64_t phys;
  return Translate(linear, access, view_, &phys, nullptr) &&
         Translate(linear + size - 1, access, view_, &phys, nullptr) && Raise(kAC, 0);
}

bool Cpu::LoadSlow(uint64_t linear, void* out, unsigned size, bool stack, View view) {
  const unsigned first = std::min<uint64_t>(size, vmm::kPageSize - (linear & ~kPageMask));
  if (LongMode() && In64() && (!Canonical(linear) || !Canonical(linear + size - 1))) {
    return Raise(stack ? kSS : kGP, 0);
  }
  if (view == View::kUserAligned && !Aligned(linear, size, Access::kRead)) return false;
  if (first == size) return AccessPage(linear, out, size, Access::kRead, view);
  uint8_t bytes[1024];  // the largest operand is an XSAVE image
  if (!AccessPage(linear, bytes, first, Access::kRead, view) ||
      !AccessPage(linear + first, bytes + first, size - first, Access::kRead, view)) {
    return false;
  }
  std::memcpy(out, bytes, size);
  return true;
}

bool Cpu::StoreSlow(uint64_t linear, const void* in, unsigned size, bool stack, View view) {
  const unsigned first = std::min<uint64_t>(size, vmm::kPageSize - (linear & ~kPageMask));
  if (LongMode() && In64() && (!Canonical(linear) || !Canonical(linear + size - 1))) {
    return Raise(stack ? kSS : kGP, 0);
  }
  if (view == View::kUserAligned && !Aligned(linear, size, Access::kWrite)) return false;
  void* data = const_cast<void*>(in);
  if (first == size) return AccessPage(linear, data, size, Access::kWrite, view);
  uint64_t phys[2];  // both pages are checked before either is written
  if (!Translate(linear, Access::kWrite, view, &phys[0], nullptr) ||
      !Translate(linear + first, Access::kWrite, view, &phys[1], nullptr)) {
    return false;
  }
  PhysicalWrite(phys[0], data, first);
  PhysicalWrite(phys[1], static_cast<uint8_t*>(data) + first, size - first);
  NoteAccess(linear, size, true);
  return true;
}

bool Cpu::PrepareModify(uint64_t linear, unsigned size, bool stack) {
  if (LongMode() && In64() && (!Canonical(linear) || !Canonical(linear + size - 1))) {
    return Raise(stack ? kSS : kGP, 0);
  }
  if (view_ == View::kUserAligned && !Aligned(linear, size, Access::kWrite)) return false;
  uint64_t phys;
  if ((linear & ~kPageMask) + size > vmm::kPageSize) return true;
  bool global = false;
  if (!Translate(linear, Access::kWrite, view_, &phys, &global)) return false;
  InstallTlb(linear, phys, Access::kWrite, view_, global);
  return true;
}

// A read-modify-write that no write TLB entry can cover: code on the page, a device, or a page
// crossing. A locked one stops the world.
bool Cpu::ModifySlow(uint64_t linear, unsigned size, void* value,
                     void (*change)(void* context, void* value), void* context, bool lock) {
  const unsigned first = std::min<uint64_t>(size, vmm::kPageSize - (linear & ~kPageMask));
  uint64_t phys[2];
  if (!Translate(linear, Access::kWrite, view_, &phys[0], nullptr)) return false;
  if (first < size && !Translate(linear + first, Access::kWrite, view_, &phys[1], nullptr)) {
    return false;
  }
  const auto modify = [&] {
    auto* bytes = static_cast<uint8_t*>(value);
    PhysicalRead(phys[0], bytes, first);
    if (first < size) PhysicalRead(phys[1], bytes + first, size - first);
    change(context, value);
    PhysicalWrite(phys[0], bytes, first);
    if (first < size) PhysicalWrite(phys[1], bytes + first, size - first);
  };
  if (lock && vm_.parts().cpu_count > 1) {
    vm_.Exclusive(*this, modify);
  } else {
    modify();
  }
  NoteAccess(linear, size, true);
  return true;
}

bool Cpu::LoadSystem(uint64_t linear, void* out, unsigned size) {
  const TlbEntry& entry = banks_.bank(View::kSupervisor).read.At(linear);
  if ((linear ^ entry.tag) <= vmm::kPageSize - size) {
    std::memcpy(out, reinterpret_cast<const void*>(entry.page + (linear ^ entry.tag)), size);
    return true;
  }
  return LoadSlow(linear, out, size, false, View::kSupervisor);
}

bool Cpu::StoreSystem(uint64_t linear, const void* in, unsigned size) {
  const TlbEntry& entry = banks_.bank(View::kSupervisor).write.At(linear);
  if ((linear ^ entry.tag) <= vmm::kPageSize - size) {
    std::memcpy(reinterpret_cast<void*>(entry.page + (linear ^ entry.tag)), in, size);
    return true;
  }
  return StoreSlow(linear, in, size, true, View::kSupervisor);
}

bool Cpu::AddressSlow(const Op& op, uint64_t ea, unsigned size, Access access, uint64_t& linear) {
  if (op.mode & Op::kDisp64) ea = r[op.base] + op.imm;
  if (op.mode & Op::kAddr16)
    ea &= 0xffff;
  else if (op.mode & Op::kAddr32)
    ea &= 0xffffffff;
  if (In64()) {
    linear = ea + seg_base_[op.seg];
    return true;
  }
  return SegmentAddress(static_cast<vmm::Seg>(op.seg), ea, size, access, linear);
}

// Limit, type and present checks of a segmented access. [SDM 3A] 5.3, 5.5
bool Cpu::SegmentAddress(vmm::Seg segment, uint64_t offset, unsigned size, Access access,
                         uint64_t& linear) {
  const vmm::SegmentState& state = seg_[static_cast<unsigned>(segment)];
  if (In64()) {
    linear = offset + (segment >= vmm::Seg::FS ? state.base : 0);
    return true;
  }
  const uint8_t vector = segment == vmm::Seg::SS ? kSS : kGP;
  const uint64_t last = offset + size - 1;
  const bool code = state.type() & 8;
  bool bad = state.unusable();
  if (ProtectedMode()) {
    if (access == Access::kWrite) bad |= code || !(state.type() & 2);
    if (access == Access::kRead) bad |= code && !(state.type() & 2);
  }
  if (!code && (state.type() & 4)) {  // expand-down
    const uint64_t top = state.db() ? 0xffffffff : 0xffff;
    bad |= offset <= state.limit || last > top;
  } else {
    bad |= last > state.limit;
  }
  if (bad) return Raise(vector, 0);
  linear = (state.base + offset) & 0xffffffff;
  return true;
}

}  // namespace bt
