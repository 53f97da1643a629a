#include "bt/cell/cell_pages.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"

namespace bt {
namespace {

// What a process can have at all: see mmap_min_addr, and the end of the user half.
constexpr uint64_t kFirst = 64 * 1024, kEnd = 0x7ffffffff000;
constexpr uint64_t kRegion = 4 * vmm::kMiB;

}  // namespace

// By the page tables, or, as they may have changed since, by the TLB.
bool CellPages::Find(uint64_t page, Wanted* wanted) {
  const auto of_host = [this, wanted](const uint8_t* host, bool writable) {
    for (const vmm::RamRegion& region : cpu_.memory_.regions()) {
      const auto offset = static_cast<uint64_t>(host - region.host);
      if (host < region.host || offset >= region.size) continue;
      *wanted = {region.file_offset + offset, writable};
      return true;
    }
    return false;
  };
  PeekedPage peeked;
  if (cpu_.PeekPage(page, &peeked) && peeked.user) {
    const uint8_t* host = cpu_.memory_.Ram(vmm::GuestPhys(peeked.phys), vmm::kPageSize);
    if (!host) return false;
    if (peeked.shift > 12) cpu_.banks_.NoteLargePage(page, peeked.shift);
    return of_host(host, peeked.writable && cpu_.vm_.MayWrite(cpu_.id_, peeked.phys));
  }
  TlbBank& bank = cpu_.banks_.bank(View::kUser);
  const bool write = bank.write.Holds(page);
  if (!write && !bank.read.Holds(page)) return false;
  const TlbEntry& entry = write ? bank.write.At(page) : bank.read.At(page);
  return of_host(reinterpret_cast<const uint8_t*>(entry.page), write);
}

bool CellPages::Map(uint64_t linear, bool write) {
  const uint64_t page = linear & kPageMask;
  const uint64_t band = process_.address(), band_end = band + CellLayout::kBytes;
  const auto possible = [&](uint64_t at) {
    return at >= kFirst && at < kEnd && (at < band || at >= band_end);
  };
  const auto there = [this](uint64_t at, bool writable) {
    const auto found = pages_.find(at);
    return found != pages_.end() && (found->second.writable || !writable);
  };
  Wanted wanted;
  if (!possible(page) || there(page, write)) return false;
  if (!Find(page, &wanted) || (write && !wanted.writable)) return false;
  if (pages_.size() >= kMost) Flush();

  // Neighbours that can be had at once.
  constexpr uint64_t kWindow = kAround * vmm::kPageSize;
  const uint64_t window = page & ~(kWindow - 1);
  struct Run {
    uint64_t begin = 0, end = 0;
    Wanted first;
  } run;
  const auto flush_run = [&] {
    if (run.begin == run.end) return;
    Queue({SYS_mmap,
           {run.begin, run.end - run.begin,
            static_cast<uint64_t>(run.first.writable ? PROT_READ | PROT_WRITE : PROT_READ),
            MAP_SHARED | MAP_FIXED, static_cast<uint64_t>(cpu_.memory_.fd()),
            run.first.file_offset}});
    run = {};
  };
  for (uint64_t at = window; at < window + kWindow; at += vmm::kPageSize) {
    Wanted one = wanted;
    if (at != page && (!possible(at) || !Find(at, &one))) {
      flush_run();
      continue;
    }
    if (there(at, one.writable)) {
      flush_run();
      continue;
    }
    const bool goes_on = run.begin != run.end && one.writable == run.first.writable &&
                         one.file_offset == run.first.file_offset + (at - run.begin);
    if (!goes_on) {
      flush_run();
      run = {at, at, one};
    }
    run.end = at + vmm::kPageSize;
    pages_.insert_or_assign(at, Page{one.file_offset, one.writable});
    if (one.writable) writable_.emplace(one.file_offset, at);
  }
  flush_run();
  return true;
}

void CellPages::Queue(const CellState::Call& call) {
  if (process_.Queue(call)) return;
  process_.MakeCalls();
  failed_ |= process_.refused();
  process_.Queue(call);
}

void CellPages::Unmap(uint64_t begin, uint64_t end) {
  Queue({SYS_munmap, {begin, end - begin}});
}

void CellPages::Forget(uint64_t page) {
  const auto found = pages_.find(page);
  if (found == pages_.end()) return;
  if (found->second.writable) {
    auto [first, last] = writable_.equal_range(found->second.file_offset);
    while (first != last && first->second != page) ++first;
    if (first != last) writable_.erase(first);
  }
  pages_.erase(found);
}

void CellPages::Flush() {
  if (pages_.empty()) return;
  pages_.clear();
  writable_.clear();
  Unmap(0, process_.address());
  Unmap(process_.address() + CellLayout::kBytes, kEnd);
}

void CellPages::FlushPage(uint64_t linear, bool large) {
  if (pages_.empty()) return;
  const uint64_t begin = linear & (large ? ~(kRegion - 1) : kPageMask);
  const uint64_t end = begin + (large ? kRegion : vmm::kPageSize);
  bool any = false;
  for (uint64_t page = begin; page < end; page += vmm::kPageSize) {
    any |= pages_.contains(page);
    Forget(page);
  }
  if (!any) return;
  const uint64_t band = process_.address(), band_end = band + CellLayout::kBytes;
  if (begin < band) Unmap(begin, std::min(end, band));
  if (end > band_end) Unmap(std::max(begin, band_end), end);
}

void CellPages::DropWriteEntries(uint64_t host_page) {
  for (const vmm::RamRegion& region : cpu_.memory_.regions()) {
    const uint64_t offset = host_page - reinterpret_cast<uint64_t>(region.host);
    if (offset >= region.size) continue;
    for (;;) {
      const auto found = writable_.find(region.file_offset + offset);
      if (found == writable_.end()) return;
      const uint64_t page = found->second;
      Forget(page);
      Unmap(page, page + vmm::kPageSize);
    }
  }
}

}  // namespace bt
