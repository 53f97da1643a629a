// What page tables of long mode say, without the effects of a walk.
#include <algorithm>

#include "bt/interp/cpu.h"
#include "bt/interp/host_ops.h"
#include "bt/interp/interpreter.h"
#include "bt/interp/page_entry.h"

namespace bt {

bool Cpu::MayBeMapped(uint64_t first, uint64_t size) const {
  const auto read = [this](uint64_t table, uint64_t index) {
    const uint8_t* host =
        memory_.Host(vmm::GuestPhys((table & kAddressMask) + index * 8), sizeof(uint64_t));
    return host ? LoadHost<uint64_t>(host) : 0;
  };
  constexpr unsigned kTop = 39, kNext = 30, kMiddle = 21;
  const auto index = [](uint64_t linear, unsigned shift) { return linear >> shift & 511; };
  constexpr uint64_t kStep = 1ull << kMiddle;
  for (uint64_t at = first & ~(kStep - 1); at < first + size; at += kStep) {
    const uint64_t top = read(cr3_, index(at, kTop));
    if (!(top & kPresent)) {
      at |= (1ull << kTop) - kStep;  // nor is anything else there
      continue;
    }
    const uint64_t next = read(top, index(at, kNext));
    if (!(next & kPresent)) {
      at |= (1ull << kNext) - kStep;
      continue;
    }
    if ((next & kLarge) || (read(next, index(at, kMiddle)) & kPresent)) return true;
  }
  return false;
}

bool Cpu::PeekPage(uint64_t linear, PeekedPage* page) const {
  uint64_t table = cr3_ & kAddressMask;
  uint64_t allowed = kPresent | kWritable | kUser | kAccessed;
  for (const PageLevel& level : kLong) {
    const uint64_t index = (linear >> level.shift) & ((1u << level.bits) - 1);
    const uint64_t at = (table + index * 8) & vm_.address_mask();
    const uint8_t* host = memory_.Host(vmm::GuestPhys(at), 8);
    if (!host) return false;
    const uint64_t entry = LoadHost<uint64_t>(host);
    allowed &= entry;
    if ((allowed & (kPresent | kAccessed)) != (kPresent | kAccessed)) return false;
    if (level.shift > 12 && !(entry & kLarge)) {
      table = entry & kAddressMask;
      continue;
    }
    const uint64_t offset_mask = (1ull << level.shift) - 1;
    if (level.shift > 12 && (entry & offset_mask & 0xffffffffffffe000)) return false;
    if (entry & reserved_address_bits_ & kAddressMask) return false;
    page->phys = ((entry & kAddressMask & ~offset_mask) | (linear & offset_mask & kPageMask)) &
                 vm_.address_mask();
    page->user = (allowed & kUser) != 0;
    page->writable = (allowed & kWritable) && (entry & kDirty);
    page->global = (entry & kGlobal) && (cr4_ & cr4::PGE);
    page->shift = level.shift;
    return true;
  }
  return false;
}

// Looked for only behind some fills, so that a guest which often invalidates everything pays little
// for it.
void Cpu::LearnRange(uint64_t linear) {
  constexpr uint32_t kFills = 4;
  constexpr unsigned kMostPages = 2048;
  TlbBank& bank = banks_.bank(View::kSupervisor);
  const unsigned which = TlbBank::RangeOf(linear);
  LinearRange& range = bank.ranges[which];
  if (range.Holds(linear) || ++bank.fills[which] < kFills) return;
  bank.fills[which] = 0;
  if (!LongMode() || debug_.data() || debugger_.looks_closely()) return;
  PeekedPage page;
  const auto fits = [&](uint64_t at) {
    return Canonical(at) && PeekPage(at, &page) && page.global && !page.user &&
           TlbBank::RangeOf(at) == which;
  };
  if (!fits(linear)) return;
  const vmm::RamRegion* region = nullptr;
  for (const vmm::RamRegion& one : memory_.regions()) {
    if (page.phys - one.start.value < one.size) region = &one;
  }
  if (!region) return;
  const uint64_t distance = page.phys - (linear & kPageMask);
  const auto goes_on = [&](uint64_t at) {
    return fits(at) && page.phys - (at & kPageMask) == distance &&
           page.phys - region->start.value < region->size;
  };
  uint64_t first = linear & kPageMask, last = linear | ~kPageMask;
  for (unsigned pages = 0; pages < kMostPages && goes_on(last + 1); ++pages)
    last = (last + 1) | ((1ull << page.shift) - 1);
  for (unsigned pages = 0; pages < kMostPages && goes_on(first - 1); ++pages)
    first = (first - 1) & ~((1ull << page.shift) - 1);
  const uint64_t lowest = region->start.value - distance, highest = lowest + region->size - 1;
  first = std::max(first, lowest);
  const uint64_t bytes = std::min(last, highest) - first + 1;
  if (bytes <= LinearRange::kWidest || bytes <= range.size) return;
  bank.used = true;
  range = {first, bytes - LinearRange::kWidest,
           reinterpret_cast<uint64_t>(region->host) + (first - lowest)};
}

}  // namespace bt
