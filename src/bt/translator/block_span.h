// Spans: accesses of one block whose addresses differ by constants only. The first looks up all of
// them at once, the others need no check of their own.
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
  uint16_t first = 0, last = 0;  // steps with the first and the last access
};

// More would often reach into the next page, where a span is of no use.
inline constexpr int64_t kMaxSpan = 512;
inline constexpr unsigned kSpanSlots = 4;

// Finds the spans of a block and tells its steps their places in them. Two accesses are in one when
//
// - the values of base and index at both are known to differ by constants, and segment and scale
//   are the same;
// - no step between them may change how memory is looked up;
// - the whole is not longer than kMaxSpan, and those that must be aligned are so together.
std::vector<Span> FindSpans(std::span<BlockStep> steps);

}  // namespace bt
