#include "bt/interp/tlb.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <span>
#include <utility>

#include "bt/interp/cpu.h"
#include "bt/interp/page_entry.h"
#include "vmm/core/memory/map_ahead.h"

namespace bt {

void* TlbBank::operator new(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, size, MADV_NOHUGEPAGE);
  return memory;
}

void TlbBank::operator delete(void* memory) {
  munmap(memory, sizeof(TlbBank));
}

// Of the supervisor's, nearly all is used.
Tlb::Tlb() : system_(std::make_unique<TlbBank>()) {
  vmm::MapAhead(system_.get(), sizeof(TlbBank));
}

void TlbBank::Flush() {
  if (!used) return;
  touched[0] |= read.FilledPages();
  touched[1] |= write.FilledPages();
  read.Clear();
  write.Clear();
  exec.Clear();
  for (unsigned i = 0; i < kRanges; ++i) {
    ranges[i] = {};
    fills[i] = 0;
  }
  std::fill_n(&fetched[0][0], sizeof(fetched) / sizeof(uint64_t), 0);
  used = false;
  if (std::popcount(touched[0]) + std::popcount(touched[1]) > static_cast<int>(kKeptPages))
    Release();
}

// Gives memory back, where whole pages of the host are.
void TlbBank::Release() {
  const auto release = [](std::span<TlbEntry> entries) {
    const auto begin = reinterpret_cast<uint64_t>(entries.data());
    const uint64_t first = (begin + vmm::kPageSize - 1) & ~(vmm::kPageSize - 1);
    const uint64_t last = (begin + entries.size_bytes()) & ~(vmm::kPageSize - 1);
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  };
  release(read.entries);
  release(write.entries);
  read.Create();
  write.Create();
  touched[0] = touched[1] = 0;
}

bool TlbBank::MayHaveFetchedNear(uint64_t linear) const {
  const uint64_t region = linear & ~(4 * vmm::kMiB - 1);
  constexpr uint64_t kStep = 1 << 18;  // of a word
  uint64_t any = 0;
  for (uint64_t at = region; at - region < 4 * vmm::kMiB; at += kStep)  // it may be the last one
    any |= fetched[at >> 63][FetchWord(at)];
  return any != 0;
}

void TlbBank::FlushPage(uint64_t linear) {
  if (!used) return;
  DropRange(linear);
  read.Drop(linear);
  write.Drop(linear);
  exec.Drop(linear);
}

void TlbBank::FlushLargePage(uint64_t linear) {
  if (!used) return;
  DropRange(linear);
  read.DropRegion(linear);
  write.DropRegion(linear);
  exec.DropRegion(linear);
}

void Tlb::FlushBanks(Context& context) {
  for (std::unique_ptr<TlbBank>& bank : context.banks) {
    if (bank) bank->Flush();
  }
  if (context.mirror) context.mirror->Flush();
  context.epoch = next_epoch_++;
}

void Tlb::FlushSystem() {
  system_->Flush();
  system_epoch_ = next_epoch_++;
  locals_ = 0;
  local_code_ = false;
}

// Of system_, what is not global.
void Tlb::DropLocal() {
  if (locals_ > kLocals) return FlushSystem();
  for (unsigned i = 0; i < locals_; ++i) system_->FlushPage(local_pages_[i]);
  locals_ = 0;
  if (std::exchange(local_code_, false)) system_epoch_ = next_epoch_++;
}

void Tlb::Flush() {
  for (Context& context : contexts_) FlushBanks(context);
  FlushSystem();
  gigabyte_pages_ = false;
  large_pages_ = {};
}

void Tlb::FlushPageOf(Context& context, uint64_t linear) {
  const bool large = large_pages_[LargeWord(linear)] & LargeBit(linear);
  bool fetched = false;
  for (std::unique_ptr<TlbBank>& bank : context.banks) {
    if (bank) fetched |= FlushPageOf(*bank, linear, large);
  }
  if (context.mirror) context.mirror->FlushPage(linear, large);
  if (fetched) context.epoch = next_epoch_++;
}

// True: code may have been found there by its linear address.
bool Tlb::FlushPageOf(TlbBank& bank, uint64_t linear, bool large) {
  if (!bank.used) return false;
  if (!large) {
    bank.FlushPage(linear);
    return bank.MayHaveFetched(linear);
  }
  bank.FlushLargePage(linear);
  return bank.MayHaveFetchedNear(linear);
}

void Tlb::FlushSystemPage(uint64_t linear) {
  const bool large = large_pages_[LargeWord(linear)] & LargeBit(linear);
  if (FlushPageOf(*system_, linear, large)) system_epoch_ = next_epoch_++;
}

void Tlb::FlushPage(uint64_t linear) {
  if (gigabyte_pages_) return Flush();
  for (Context& context : contexts_) FlushPageOf(context, linear);
  FlushSystemPage(linear);
}

Tlb::Context* Tlb::Find(uint16_t pcid) {
  const auto found = std::find_if(contexts_.begin(), contexts_.end(), [pcid](const Context& at) {
    return at.valid && at.pcid == pcid;
  });
  return found == contexts_.end() ? nullptr : &*found;
}

void Tlb::FlushContext(uint16_t pcid) {
  Context* context = Find(pcid);
  if (!context) return;
  FlushBanks(*context);
  if (context == &contexts_[current_]) DropLocal();
}

void Tlb::FlushContextPage(uint16_t pcid, uint64_t linear) {
  Context* context = Find(pcid);
  if (!context) return;
  if (gigabyte_pages_) {
    FlushBanks(*context);
    return FlushSystem();
  }
  FlushPageOf(*context, linear);
  FlushSystemPage(linear);
}

void Tlb::Select(uint16_t pcid, bool keep) {
  Context* context = Find(pcid);
  if (!context) {
    context = &*std::min_element(
        contexts_.begin(), contexts_.end(),
        [](const Context& a, const Context& b) { return a.last_used < b.last_used; });
    keep = false;
  }
  if (!keep) FlushBanks(*context);
  if (!keep || context != &contexts_[current_]) DropLocal();
  context->pcid = pcid;
  context->valid = true;
  context->last_used = ++uses_;
  current_ = static_cast<unsigned>(context - contexts_.data());
}

void Tlb::ForgetBlocks() {
  for (Context& context : contexts_) context.epoch = next_epoch_++;
  system_epoch_ = next_epoch_++;
}

void Tlb::DropWriteEntries(uint64_t host_page) {
  const auto here = [host_page](const TlbEntry& entry) { return entry.page == host_page; };
  system_->write.DropIf(here);
  for (Context& context : contexts_) {
    for (std::unique_ptr<TlbBank>& bank : context.banks) {
      if (bank && bank->used) bank->write.DropIf(here);
    }
    if (context.mirror) context.mirror->DropWriteEntries(host_page);
  }
}

void Tlb::SetMirror(TlbMirror* mirror) {
  for (Context& context : contexts_) {
    if (!context.mirror) continue;
    context.mirror->Flush();
    context.mirror = nullptr;
    context.epoch = next_epoch_++;
  }
  if (!mirror) return;
  contexts_[current_].mirror = mirror;
  contexts_[current_].epoch = next_epoch_++;
}

// ---- The processor's side

void Cpu::ForgetBlocks() {
  banks_.ForgetBlocks();
  UpdateKey();
}

void Cpu::FlushTlb() {
  banks_.Flush();
  UpdateKey();
}

void Cpu::FlushTlbPage(uint64_t linear) {
  banks_.FlushPage(linear);
  UpdateKey();
}

void Cpu::DropWriteEntries(uint64_t host_page) {
  banks_.DropWriteEntries(host_page);
}

// After CR3 was loaded. Bit 63 of what was written keeps the address space's entries. [SDM 3A]
// 4.10.4.1
void Cpu::SelectAddressSpace(bool keep) {
  const bool tagged = cr4_ & cr4::PCIDE;
  banks_.Select(tagged ? cr3_ & cr3::PCID : 0, tagged && keep);
  for (unsigned i = 0; i < kViews; ++i) views_[i] = &banks_.bank(static_cast<View>(i));
  UpdateMode();
}

// [SDM 2A] INVPCID
bool Cpu::InvalidatePcid(uint64_t type, uint64_t descriptor, uint64_t linear) {
  const uint16_t pcid = descriptor & cr3::PCID;
  if (type > 3) return Raise(kGP, 0);
  if (type < 2 && ((descriptor & ~cr3::PCID) || (pcid && !(cr4_ & cr4::PCIDE)))) {
    return Raise(kGP, 0);
  }
  switch (type) {
    case 0:
      if (!Canonical(linear)) return Raise(kGP, 0);
      banks_.FlushContextPage(pcid, linear);
      break;
    case 1:
      banks_.FlushContext(pcid);
      break;
    default:
      banks_.Flush();
      break;
  }
  UpdateKey();
  return true;
}

}  // namespace bt
