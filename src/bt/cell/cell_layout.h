// What a cell and its monitor share: one memfd, which the monitor writes, and of which the cell
// sees each part with no more rights than its code needs. Where the bell is the cell has the pages
// of that (bell.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "bt/interp/flags.h"
#include "bt/interp/op.h"
#include "bt/translator/jump_tables.h"
#include "bt/translator/translation.h"
#include "vmm/core/base/types.h"
#include "vmm/core/state/cpu_state.h"

namespace bt {

// What the cell may write: the guest's user can write it as well, so nothing of it is believed that
// was there before the guest's code ran last. It is overwritten before that runs again.
struct CellState {
  // The processor, as translated code names it.
  uint64_t r[kSlots] = {};
  Flags flags = 0;
  uint64_t seg_base[7] = {};
  uint64_t rflags = 0;
  uint64_t instructions = 0;  // counted, where somebody asks
  CodeState code;
  alignas(64) vmm::XsaveArea fpu;

  // ---- The hand-over: a futex, and what each side has to say.
  enum class Turn : uint32_t { kMonitor, kCell };
  enum class Event : uint32_t {
    kLeft,   // `code.exit` says why
    kFault,  // the host found one at `fault_rip`; goes on at `entry`
  };
  struct Call {  // of the host's kernel
    uint64_t number = 0;
    uint64_t argument[6] = {};
    uint64_t result = 0;
  };
  static constexpr unsigned kCalls = 32;

  std::atomic<uint32_t> turn{static_cast<uint32_t>(Turn::kMonitor)};
  uint32_t event = 0;
  uint64_t entry = 0;  // where to go on; 0: nowhere, hands back
  uint32_t calls = 0;  // to be made before that
  Call call[kCalls];
  uint64_t fault_rip = 0, fault_address = 0, fault_vector = 0, fault_error = 0;
};

// What the cell only reads.
struct CellControl {
  uint64_t jumps = 0;  // the JumpTable of the running key, as the cell sees it
};

// Offsets and sizes in the shared memory, in bytes.
struct CellLayout {
  static constexpr size_t kState = 0, kStateBytes = 64 * 1024;  // with the stack of signals
  static constexpr size_t kControl = kState + kStateBytes, kControlBytes = vmm::kPageSize;
  static constexpr size_t kBell = kControl + kControlBytes, kBellBytes = 2 * vmm::kPageSize;
  static constexpr size_t kTables = kBell + kBellBytes;
  static constexpr size_t kTablesBytes = JumpTables::kSpaces * sizeof(JumpTable);
  static constexpr size_t kCode = 4 * vmm::kMiB, kCodeBytes = 16 * vmm::kMiB;
  static constexpr size_t kBytes = kCode + kCodeBytes;
};
static_assert(CellLayout::kTables + CellLayout::kTablesBytes <= CellLayout::kCode);
static_assert(sizeof(CellState) <= 8 * vmm::kPageSize);

}  // namespace bt
