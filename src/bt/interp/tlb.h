// The software TLB: linear page to host address, one bank for each way memory may be looked at.
// Entries follow the rules of an x86 TLB: a stale one is legal until the guest invalidates it.
// [SDM 3A] 4.10
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "vmm/core/base/types.h"

namespace bt {

struct TlbEntry {
  uint64_t tag;   // linear address of the page; the xor with an address in it is the offset
  uint64_t page;  // where the page is: its host address (exec entries: its guest-physical one)

  // An entry that holds nothing has the tag of a page that belongs to its neighbour: no address
  // that is looked for there can match it, canonical or not.
  static constexpr TlbEntry Empty(size_t index) {
    return {static_cast<uint64_t>(index ^ 1) * vmm::kPageSize, 0};
  }
};

struct TlbBank {
  TlbBank() { Clear(); }

  static constexpr unsigned kEntries = 1024, kExecEntries = 1024;
  TlbEntry read[kEntries];
  TlbEntry write[kEntries];  // only pages that are dirty already and hold no decoded code
  TlbEntry exec[kExecEntries];
  bool used = false;
  // Pages that code was fetched from since the bank was empty, as a hash: invalidating any other
  // leaves what was found by linear address as it is.
  std::array<uint64_t, 64> fetched;

  static constexpr unsigned Index(uint64_t linear) { return (linear >> 12) & (kEntries - 1); }
  static constexpr unsigned ExecIndex(uint64_t linear) {
    return (linear >> 12) & (kExecEntries - 1);
  }

  // Code of the page of `linear` was found by its linear address.
  void NoteFetch(uint64_t linear) {
    fetched[FetchWord(linear)] |= FetchBit(linear);
    used = true;
  }
  bool MayHaveFetched(uint64_t linear) const {
    return fetched[FetchWord(linear)] & FetchBit(linear);
  }

  void Flush();
  void FlushPage(uint64_t linear);
  void FlushLargePage(uint64_t linear);  // everything in the same 4 MiB

 private:
  static unsigned FetchWord(uint64_t linear) { return ((linear >> 18) ^ (linear >> 24)) & 63; }
  static uint64_t FetchBit(uint64_t linear) { return 1ull << ((linear >> 12) & 63); }
  void Clear();
};

// Who looks: CPL 3; CPL 3 with alignment checking on; CPL 0-2; CPL 0-2 with EFLAGS.AC set under
// SMAP (may touch user pages). With alignment checking no data access may be fast.
enum class View : uint8_t { kUser, kUserAligned, kSupervisor, kSupervisorAc };
inline constexpr unsigned kViews = 4;
constexpr bool IsUser(View view) {
  return view <= View::kUserAligned;
}

enum class Access : uint8_t { kRead, kWrite, kExecute };

// The banks of the address spaces (PCIDs) that were used last. What is thrown away may be more than
// the guest asked for, never less.
class Tlb {
 public:
  static constexpr unsigned kContexts = 8;

  // Of the current address space.
  TlbBank& bank(View view) { return Bank(contexts_[current_], view); }
  // Changes whenever a translation that was looked up by linear address may not be used any more;
  // no two address spaces have the same one.
  uint64_t epoch() const { return contexts_[current_].epoch; }

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

 private:
  struct Context {
    uint16_t pcid = 0;
    bool valid = false;
    uint64_t epoch = 0, last_used = 0;
    std::array<std::unique_ptr<TlbBank>, kViews> banks;
  };
  static TlbBank& Bank(Context& context, View view) {
    std::unique_ptr<TlbBank>& bank = context.banks[static_cast<unsigned>(view)];
    if (!bank) bank = std::make_unique<TlbBank>();
    return *bank;
  }
  void FlushBanks(Context& context);
  void FlushPageOf(Context& context, uint64_t linear);
  // Regions of 4 MiB in which large pages were seen since the last Flush(), as a hash: where there
  // were none, one entry a bank is all that can hold a page.
  static unsigned LargeWord(uint64_t linear) { return (linear >> 28) & 63; }
  static uint64_t LargeBit(uint64_t linear) { return 1ull << ((linear >> 22) & 63); }
  Context* Find(uint16_t pcid);

  std::array<Context, kContexts> contexts_;
  unsigned current_ = 0;
  uint64_t next_epoch_ = 1, uses_ = 0;
  bool gigabyte_pages_ = false;
  std::array<uint64_t, 64> large_pages_{};
};

}  // namespace bt
