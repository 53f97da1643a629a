// The software TLB: linear page to host address, one bank for each way memory may be looked at.
// Entries follow the rules of an x86 TLB: a stale one is legal until the guest invalidates it.
// [SDM 3A] 4.10
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/core/base/types.h"

namespace bt {

struct TlbEntry {
  uint64_t tag;     // linear address of the page; the xor with an address in it is the offset
  uint64_t addend;  // host address minus linear address (exec entries: guest-physical page)

  // An entry that holds nothing has the tag of a page that belongs to its neighbour: no address
  // that is looked for there can match it, canonical or not.
  static constexpr TlbEntry Empty(size_t index) {
    return {static_cast<uint64_t>(index ^ 1) * vmm::kPageSize, 0};
  }
};

struct TlbBank {
  TlbBank() { Clear(); }

  static constexpr unsigned kEntries = 1024, kExecEntries = 256;
  TlbEntry read[kEntries];
  TlbEntry write[kEntries];  // only pages that are dirty already and hold no decoded code
  TlbEntry exec[kExecEntries];
  bool used = false;

  static constexpr unsigned Index(uint64_t linear) { return (linear >> 12) & (kEntries - 1); }
  static constexpr unsigned ExecIndex(uint64_t linear) {
    return (linear >> 12) & (kExecEntries - 1);
  }

  void Flush();
  // And everything in the same 2 MiB: large pages are cached in pieces.
  void FlushPage(uint64_t linear);

 private:
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

}  // namespace bt
