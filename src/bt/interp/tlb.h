// The software TLB: linear page to host address, one bank for each way memory may be looked at.
// Entries follow the rules of an x86 TLB: a stale one is legal until the guest invalidates it.
// [SDM 3A] 4.10
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>

#include "vmm/core/base/types.h"

namespace bt {

struct TlbEntry {
  uint64_t tag;   // linear address of the page; the xor with an address in it is the offset
  uint64_t page;  // where the page is: its host address (exec entries: its guest-physical one)
};

// Direct-mapped. Memory that is all zero is an empty table but for its first entry: page 0 belongs
// there and nowhere else. So a large table costs only the memory that was used, and a clear one
// the groups that were filled.
template <unsigned N>
struct TlbTable {
  static constexpr unsigned kEntries = N, kGroup = 16;
  static constexpr uint64_t kRegion = 4 * vmm::kMiB;

  TlbEntry entries[N];
  uint64_t filled[N / kGroup / 64];  // a bit for each group that may hold something

  static constexpr unsigned Index(uint64_t linear) { return (linear >> 12) & (N - 1); }
  // The tag of a page that belongs elsewhere: no address that is looked for here can match it,
  // canonical or not.
  static constexpr TlbEntry Empty(size_t index) { return {index == 0 ? vmm::kPageSize : 0, 0}; }

  // Of memory that is all zero.
  void Create() { entries[0] = Empty(0); }
  const TlbEntry& At(uint64_t linear) const { return entries[Index(linear)]; }
  bool Holds(uint64_t linear) const { return (At(linear).tag ^ linear) < vmm::kPageSize; }
  void Set(uint64_t linear, uint64_t page) {
    const unsigned index = Index(linear);
    entries[index] = {linear & ~(vmm::kPageSize - 1), page};
    filled[index / kGroup / 64] |= 1ull << (index / kGroup % 64);
  }
  void Drop(uint64_t linear) {
    if (Holds(linear)) entries[Index(linear)] = Empty(Index(linear));
  }
  void Clear() {
    ForEachGroup([this](unsigned first) {
      for (unsigned i = first; i < first + kGroup; ++i) entries[i] = Empty(i);
    });
    for (uint64_t& word : filled) word = 0;
  }
  // A bit for each of 64 parts of the table that may hold something.
  uint64_t FilledPages() const {
    constexpr unsigned kGroups = N / kGroup / 64;  // of a part
    uint64_t pages = 0;
    for (unsigned part = 0; part < 64; ++part) {
      const unsigned at = part * kGroups;
      const uint64_t groups = filled[at / 64] >> (at % 64) & ((1ull << kGroups) - 1);
      pages |= static_cast<uint64_t>(groups != 0) << part;
    }
    return pages;
  }
  // Empties the entries for which `which(entry)` is true.
  template <class F>
  void DropIf(F&& which) {
    ForEachGroup([&](unsigned first) {
      for (unsigned i = first; i < first + kGroup; ++i) {
        if (which(entries[i])) entries[i] = Empty(i);
      }
    });
  }
  // Everything in the same 4 MiB.
  void DropRegion(uint64_t linear) {
    DropIf(
        [linear](const TlbEntry& entry) { return ((entry.tag ^ linear) & ~(kRegion - 1)) == 0; });
  }

 private:
  template <class F>
  void ForEachGroup(F&& visit) {
    for (unsigned word = 0; word < std::size(filled); ++word) {
      for (uint64_t left = filled[word]; left; left &= left - 1) {
        visit((word * 64 + static_cast<unsigned>(std::countr_zero(left))) * kGroup);
      }
    }
  }
};

// Linear memory that lies in one piece in the host, page for page: what a kernel has of its global
// pages, to read without an entry for each. See Cpu::LearnRange.
struct LinearRange {
  static constexpr uint64_t kWidest = 64;  // bytes of an access
  uint64_t begin, size;  // where an access may begin; it ends within kWidest bytes more
  uint64_t host;         // address of the beginning

  bool Holds(uint64_t linear) const { return size != 0 && linear - begin < size + kWidest; }
};

// Lives in memory of its own, which is zero until it is used.
struct TlbBank {
  TlbBank() {
    read.Create();
    write.Create();
    exec.Create();
  }
  static void* operator new(size_t size);
  static void operator delete(void* memory);

  // Of the bank that supervisors share: below and in the last 2 GiB, where kernels have their
  // image.
  static constexpr unsigned kRanges = 2;
  LinearRange ranges[kRanges];
  uint32_t fills[kRanges];  // read entries there since a range was looked for, or there was none
  alignas(64) TlbTable<16384> read;  // 64 MiB
  TlbTable<16384> write;             // only pages that are dirty already and hold no decoded code
  TlbTable<1024> exec;
  // Pages that code was fetched from since the bank was empty, as a hash: invalidating any other
  // leaves what was found by linear address as it is.
  uint64_t fetched[2]
                  [64];  // by the half of the address space: what users unmap is not the kernel's
  bool used;             // something was put in
  uint64_t touched[2];   // host pages of `read` and `write` that are no longer zero, it may be

  void SetRead(uint64_t linear, uint64_t host) {
    read.Set(linear, host);
    used = true;
  }
  void SetWrite(uint64_t linear, uint64_t host) {
    write.Set(linear, host);
    used = true;
  }
  void SetExec(uint64_t linear, uint64_t phys) {
    exec.Set(linear, phys);
    used = true;
  }
  // Code of the page of `linear` was found by its linear address.
  void NoteFetch(uint64_t linear) {
    fetched[linear >> 63][FetchWord(linear)] |= FetchBit(linear);
    used = true;
  }
  bool MayHaveFetched(uint64_t linear) const {
    return fetched[linear >> 63][FetchWord(linear)] & FetchBit(linear);
  }
  bool MayHaveFetchedNear(uint64_t linear) const;  // from the same 4 MiB

  static constexpr unsigned RangeOf(uint64_t linear) { return linear >= 0xffffffff80000000; }

  void Flush();
  void FlushPage(uint64_t linear);
  void FlushLargePage(uint64_t linear);  // everything in the same 4 MiB

 private:
  static unsigned FetchWord(uint64_t linear) { return ((linear >> 18) ^ (linear >> 24)) & 63; }
  static uint64_t FetchBit(uint64_t linear) { return 1ull << ((linear >> 12) & 63); }
  void Release();
  void DropRange(uint64_t linear) {
    LinearRange& range = ranges[RangeOf(linear)];
    if (range.Holds(linear)) range = {};
  }

  // The most memory of the host that a bank keeps when it is emptied: processes are at other
  // addresses each time, so that in the end they would have touched it all.
  static constexpr unsigned kKeptPages = 24;
};

// Who looks: CPL 3; CPL 3 with alignment checking on; CPL 0-2; CPL 0-2 with EFLAGS.AC set under
// SMAP (may touch user pages). With alignment checking no data access may be fast.
enum class View : uint8_t { kUser, kUserAligned, kSupervisor, kSupervisorAc };
inline constexpr unsigned kViews = 4;
constexpr bool IsUser(View view) {
  return view <= View::kUserAligned;
}

enum class Access : uint8_t { kRead, kWrite, kExecute };

// Follows what one address space's users may see: something besides the banks that maps their
// pages. Calls come on the vCPU's thread, or while it stands.
class TlbMirror {
 public:
  virtual ~TlbMirror() = default;
  virtual void Flush() = 0;                                 // everything
  virtual void FlushPage(uint64_t linear, bool large) = 0;  // or all in the same 4 MiB
  virtual void DropWriteEntries(uint64_t host_page) = 0;    // may not be written unseen any more
};

// The banks of the address spaces (PCIDs) that were used last, and one for View::kSupervisor that
// all share: what a kernel looks at is mostly global. What is not is listed, and goes when another
// address space comes. What is thrown away may be more than the guest asked for, never less.
class Tlb {
 public:
  Tlb();

  static constexpr unsigned kContexts = 8;

  // Of the current address space.
  TlbBank& bank(View view) {
    return view == View::kSupervisor ? *system_ : Bank(contexts_[current_], view);
  }
  // Changes whenever a translation that was looked up by linear address may not be used any more;
  // no two address spaces have the same one, but for what supervisors find on global pages.
  uint64_t epoch(bool user) const { return user ? contexts_[current_].epoch : system_epoch_; }

  // The page was put in, or code of it found by its linear address; `global`: for all address
  // spaces. To be told before.
  void NotePage(View view, uint64_t linear, bool global) {
    if (view == View::kSupervisor && !global) NoteLocal(linear);
  }
  void NoteFetch(View view, uint64_t linear, bool global) {
    if (IsUser(view)) return Bank(contexts_[current_], view).NoteFetch(linear);
    system_->NoteFetch(linear);
    NotePage(View::kSupervisor, linear, global);
    local_code_ |= !global;
  }

  void Flush();                      // everything
  void FlushPage(uint64_t linear);   // INVLPG: of all address spaces, for it may be global
  void FlushContext(uint16_t pcid);  // what is not global there
  void FlushContextPage(uint16_t pcid, uint64_t linear);
  // `pcid` is the current address space from now on; `keep`: with what is known of it.
  void Select(uint16_t pcid, bool keep);
  // Decoded code is gone: no block that was found by linear address may be used.
  void ForgetBlocks();
  // The page of `linear` has 2^`shift` bytes. It is cached in pieces: invalidating any of its
  // addresses must take all of them away.
  void NoteLargePage(uint64_t linear, unsigned shift) {
    if (shift == 30)
      gigabyte_pages_ = true;
    else
      large_pages_[LargeWord(linear)] |= LargeBit(linear);
  }
  // Write entries for the page at `host_page` go. Also for another vCPU's thread, while this one
  // stands.
  void DropWriteEntries(uint64_t host_page);

  // From now on `mirror` follows the current address space, and no other one; null: nobody does.
  // Code that users' jumps led to has to be found anew.
  void SetMirror(TlbMirror* mirror);
  // Whether it follows the current address space.
  bool mirrored() const { return contexts_[current_].mirror != nullptr; }

 private:
  struct Context {
    uint16_t pcid = 0;
    bool valid = false;
    uint64_t epoch = 0, last_used = 0;
    std::array<std::unique_ptr<TlbBank>, kViews> banks;
    TlbMirror* mirror = nullptr;
  };
  static TlbBank& Bank(Context& context, View view) {
    std::unique_ptr<TlbBank>& bank = context.banks[static_cast<unsigned>(view)];
    if (!bank) bank = std::make_unique<TlbBank>();
    return *bank;
  }
  void FlushBanks(Context& context);
  void FlushSystem();
  void FlushPageOf(Context& context, uint64_t linear);
  static bool FlushPageOf(TlbBank& bank, uint64_t linear, bool large);
  void FlushSystemPage(uint64_t linear);
  void NoteLocal(uint64_t linear) {
    if (locals_ < kLocals) local_pages_[locals_] = linear;
    locals_ += locals_ <= kLocals;
  }
  void DropLocal();
  // Regions of 4 MiB in which large pages were seen since the last Flush(), as a hash: where there
  // were none, one entry a bank is all that can hold a page.
  static unsigned LargeWord(uint64_t linear) { return (linear >> 28) & 63; }
  static uint64_t LargeBit(uint64_t linear) { return 1ull << ((linear >> 22) & 63); }
  Context* Find(uint16_t pcid);

  std::array<Context, kContexts> contexts_;
  unsigned current_ = 0;
  uint64_t next_epoch_ = 1, uses_ = 0;
  const std::unique_ptr<TlbBank> system_;
  uint64_t system_epoch_ = 0;
  // Of system_: pages of the current address space only; kLocals + 1: too many to list.
  static constexpr unsigned kLocals = 64;
  std::array<uint64_t, kLocals> local_pages_{};
  unsigned locals_ = 0;
  bool local_code_ = false;
  bool gigabyte_pages_ = false;
  std::array<uint64_t, 64> large_pages_{};
};

}  // namespace bt
