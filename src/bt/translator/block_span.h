// Spans: accesses of one block whose addresses differ by constants only. One look-up serves all of
// them, at the first or before.
#pragma once

#include <span>
#include <vector>

#include "bt/translator/block_step.h"

namespace bt {

struct Span {
  uint32_t bytes = 0;
  uint32_t alignment = 1;  // of its beginning, for the sake of those that must be aligned
  bool write = false;      // at least one of them writes
  uint8_t slot = 0;        // of CodeState::span, no other's at the same time
  uint16_t members = 0;
  uint16_t first = 0, last = 0;  // steps: it is looked up before the one, used last in the other
  MemoryOperand begin;           // as the registers are before `first`; kRip: of the block's page
};

// More would often reach into the next page, where a span is of no use.
inline constexpr int64_t kMaxSpan = 512;
inline constexpr unsigned kSpanSlots = 8;

// Finds the spans of a block and tells its steps their places in them. Two accesses are in one when
//
// - the values of base and index at both are known to differ by constants, and segment and scale
//   are the same;
// - no step between them may change how memory is looked up;
// - the whole is not longer than kMaxSpan, and those that must be aligned are so together.
//
// A look-up destroys the flags, which the guest may see if an access faults. So one that would come
// behind an instruction that makes flags is done together with an earlier one, if the address is
// known there, or at the beginning of the block; then there may be a single access behind it.
std::vector<Span> FindSpans(std::span<BlockStep> steps);

}  // namespace bt
